import type { Server } from 'node:http';
import { serve, type HttpBindings } from '@hono/node-server';
import { getConnInfo } from '@hono/node-server/conninfo';
import { Hono, type Context } from 'hono';
import { addressKey, rateLimit, type RateLimitOptions } from '../../../../src/client/frameworks/hono.js';
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

const seen = (c: Context): Seen => ({
  header: (name) => c.req.header(name),
  status: () => c.res.status,
});

function limiterOf(options: LimiterOptions, behindProxy: boolean): ReturnType<typeof rateLimit> {
  const { onDenied } = options;
  // Hono knows no address, so apps say where it is.
  const key = (c: Context): string =>
    addressKey(
      behindProxy ? c.req.header('x-forwarded-for')?.split(',').at(-1)?.trim() : getConnInfo(c).remote.address,
    );
  return rateLimit({
    key,
    ...(forFramework(options, seen) as Partial<RateLimitOptions> & Pick<RateLimitOptions, 'limiter'>),
    ...(onDenied && {
      onDenied: async (c, decision, next) => {
        const wanted = await onDenied(seen(c), decision);
        if (wanted === 'pass') return next();
        return c.text(wanted.text, wanted.status as 418);
      },
    }),
  });
}

type Env = { Bindings: HttpBindings; Variables: { rateLimit: unknown } };

function answer(c: Context<Env>, decision: unknown, handler: Handler): Response {
  switch (handler.kind) {
    case 'json':
      return c.json(decision ?? null, (handler.status ?? 200) as 200);
    case 'stream':
      return new Response(ReadableStream.from(PIECES.map((piece) => new TextEncoder().encode(piece))));
    case 'endless':
      return new Response(
        new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode(PIECES[0])) }),
      );
    case 'break':
      c.env.outgoing.destroy();
      return new Response(null);
    case 'throw':
      throw handler.error as Error;
  }
}

export const honoApp: Framework = {
  name: 'Hono 4 on @hono/node-server',
  async start({ limiters, behindProxy = false, handler = { kind: 'json' }, onPass }) {
    const app = new Hono<Env>();
    for (const limiter of limiters) app.use(limiterOf(limiter, behindProxy));
    app.get('/', (c) => {
      onPass?.();
      return answer(c, c.var.rateLimit, handler);
    });
    app.onError((error, c) => c.json(errorBody(error), 500));
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server;
    return running(server);
  },
};
