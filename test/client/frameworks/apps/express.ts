import { Readable } from 'node:stream';
import express, { type ErrorRequestHandler, type Request, type Response } from 'express';
import { rateLimit, type RateLimitOptions } from '../../../../src/client/frameworks/express.js';
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

const seen = (req: Request, res?: Response): Seen => ({
  header: (name) => req.get(name),
  status: () => res!.statusCode,
});

function limiterOf(options: LimiterOptions): ReturnType<typeof rateLimit> {
  const { onDenied } = options;
  return rateLimit({
    ...(forFramework(options, seen) as RateLimitOptions),
    ...(onDenied && {
      onDenied: async (req, res, decision, next) => {
        const wanted = await onDenied(seen(req, res), decision);
        if (wanted === 'pass') next();
        else res.status(wanted.status).type('text').send(wanted.text);
      },
    }),
  });
}

export function answerByExpress(res: Response, decision: unknown, handler: Handler): unknown {
  switch (handler.kind) {
    case 'json':
      return res.status(handler.status ?? 200).json(decision ?? null);
    case 'stream':
      return Readable.from(PIECES).pipe(res);
    case 'endless':
      return res.write(PIECES[0]);
    case 'break':
      return res.destroy();
    case 'throw':
      throw handler.error;
  }
}

export const expressApp: Framework = {
  name: 'Express 5',
  async start({ limiters, behindProxy = false, handler = { kind: 'json' }, onPass }) {
    const app = express();
    if (behindProxy) app.set('trust proxy', 1);
    for (const limiter of limiters) app.use(limiterOf(limiter));
    app.get('/', (_req, res) => {
      onPass?.();
      answerByExpress(res, res.locals['rateLimit'], handler);
    });
    const onError: ErrorRequestHandler = (error: unknown, _req, res, next) => {
      if (res.headersSent) return next(error);
      res.status(500).json(errorBody(error));
    };
    app.use(onError);
    const server = app.listen(0, '127.0.0.1');
    return running(server);
  },
};
