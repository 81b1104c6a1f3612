import { createServer, type RequestListener } from 'node:http';
import { Readable } from 'node:stream';
import Koa, { type Context } from 'koa';
import { rateLimit, type RateLimitOptions } from '../../../../src/client/frameworks/koa.js';
import {
  errorBody,
  forFramework,
  PIECES,
  running,
  type Framework,
  type Handler,
  type LimiterOptions,
  type Seen,
} from './app.js';

const seen = (ctx: Context): Seen => ({
  header: (name) => (Object.hasOwn(ctx.headers, name) ? ctx.get(name) : undefined),
  status: () => ctx.status,
});

function limiterOf(options: LimiterOptions): ReturnType<typeof rateLimit> {
  const { onDenied } = options;
  return rateLimit({
    ...(forFramework(options, seen) as RateLimitOptions),
    ...(onDenied && {
      onDenied: async (ctx, decision, next) => {
        const wanted = await onDenied(seen(ctx), decision);
        if (wanted === 'pass') return next() as Promise<void>;
        ctx.status = wanted.status;
        ctx.body = wanted.text;
      },
    }),
  });
}

function answer(ctx: Context, handler: Handler): void {
  switch (handler.kind) {
    case 'json':
      ctx.status = handler.status ?? 200;
      ctx.type = 'application/json';
      ctx.body = JSON.stringify(ctx.state['rateLimit'] ?? null);
      return;
    case 'stream':
      ctx.body = Readable.from(PIECES);
      return;
    case 'endless':
      ctx.respond = false;
      ctx.status = 200;
      ctx.res.write(PIECES[0]);
      return;
    case 'break':
      ctx.respond = false;
      ctx.res.destroy();
      return;
    case 'throw':
      throw handler.error;
  }
}

export const koaApp: Framework = {
  name: 'Koa 3',
  async start({ limiters, behindProxy = false, handler = { kind: 'json' }, onPass }) {
    const app = new Koa(behindProxy ? { proxy: true, maxIpsCount: 1 } : {});
    app.use(async (ctx, next) => {
      try {
        await next();
      } catch (error) {
        ctx.status = 500;
        ctx.body = errorBody(error);
      }
    });
    for (const limiter of limiters) app.use(limiterOf(limiter));
    app.use((ctx) => {
      onPass?.();
      answer(ctx, handler);
    });
    const server = createServer(app.callback() as RequestListener);
    server.listen(0, '127.0.0.1');
    return running(server);
  },
};
