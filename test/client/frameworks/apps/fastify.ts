import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { fastify, type FastifyReply, type FastifyRequest } from 'fastify';
import { rateLimit, type RateLimitOptions } from '../../../../src/client/frameworks/fastify.js';
import {
  errorBody,
  forFramework,
  PIECES,
  type Framework,
  type Handler,
  type LimiterOptions,
  type Seen,
} from './app.js';

const seen = (request: FastifyRequest, reply?: FastifyReply): Seen => ({
  header: (name) => (Object.hasOwn(request.headers, name) ? String(request.headers[name]) : undefined),
  status: () => reply!.statusCode,
});

function limiterOf(options: LimiterOptions): ReturnType<typeof rateLimit> {
  const { onDenied } = options;
  return rateLimit({
    ...(forFramework(options, seen) as RateLimitOptions),
    ...(onDenied && {
      onDenied: async (request, reply, decision, next) => {
        const wanted = await onDenied(seen(request, reply), decision);
        if (wanted === 'pass') next();
        else reply.code(wanted.status).send(wanted.text);
      },
    }),
  });
}

export function answerByFastify(reply: FastifyReply, decision: unknown, handler: Handler): unknown {
  switch (handler.kind) {
    case 'json':
      return reply
        .code(handler.status ?? 200)
        .type('application/json')
        .send(JSON.stringify(decision ?? null));
    case 'stream':
      return reply.send(Readable.from(PIECES));
    case 'endless':
      reply.hijack();
      return reply.raw.write(PIECES[0]!);
    case 'break':
      reply.hijack();
      return reply.raw.destroy();
    case 'throw':
      throw handler.error;
  }
}

export const fastifyApp: Framework = {
  name: 'Fastify 5',
  async start({ limiters, behindProxy = false, handler = { kind: 'json' }, onPass }) {
    const app = fastify({ trustProxy: behindProxy && '127.0.0.1', forceCloseConnections: true });
    for (const limiter of limiters) app.addHook('onRequest', limiterOf(limiter));
    app.setErrorHandler((error, _request, reply) => reply.code(500).send(errorBody(error)));
    app.get('/', (request, reply) => {
      onPass?.();
      answerByFastify(reply, request.rateLimit, handler);
    });
    await app.listen({ port: 0, host: '127.0.0.1' });
    return { port: (app.server.address() as AddressInfo).port, close: () => app.close() };
  },
};
