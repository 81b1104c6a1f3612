import type { Request as ExpressRequest, Response as ExpressResponse } from 'express';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Context as KoaContext } from 'koa';
import type { End, Exchange, ProblemAnswer, ProxyTrust } from '../middleware/exchange.js';
import { addressKey } from './common.js';

/** The response of `node:http`, or of `node:http2` in its place. */
export interface NodeResponse {
  readonly statusCode: number;
  readonly headersSent: boolean;
  /** `node:http2` has this of its stream alone. */
  readonly destroyed?: boolean;
  readonly stream?: { readonly destroyed: boolean; readonly aborted: boolean } | undefined;
  once(event: 'finish' | 'close', listener: () => void): unknown;
}

/** The exchange of a request, from its connection, under each framework of Node.js. */
export function ofConnection(res: NodeResponse): Pick<Exchange, 'isAnswered' | 'isGone' | 'signal' | 'onEnd'> {
  const onEnd = (listener: (end: End) => unknown): void => {
    let hasFinished = false;
    res.once('finish', () => (hasFinished = true));
    res.once('close', () =>
      // `node:http2` calls an answer finished that broke off.
      listener({ status: res.statusCode, isComplete: hasFinished && res.stream?.aborted !== true }),
    );
  };
  return {
    isAnswered: () => res.headersSent,
    isGone: () => (res.destroyed ?? res.stream?.destroyed) === true,
    onEnd,
    signal() {
      const gone = new AbortController();
      onEnd(() => gone.abort());
      return gone.signal;
    },
  };
}

export function ofExpress(req: ExpressRequest, res: ExpressResponse): Exchange {
  return {
    getHeader: (name) => res.getHeader(name),
    ...ofConnection(res),
    setHeader: (name, value) => res.setHeader(name, value),
    key: () => addressKey(req.ip ?? req.socket.remoteAddress),
    keep: (decision) => (res.locals['rateLimit'] = decision),
    proxyTrust() {
      const trust: unknown = (req as Partial<ExpressRequest>).app?.get('trust proxy');
      if (trust === undefined) return undefined;
      return {
        trusts: trust === false ? 'nobody' : trust === true ? 'anybody' : 'some',
        isForwarded: req.headers['x-forwarded-for'] !== undefined,
        setting: 'trust proxy',
        fix: 'app.set("trust proxy", 1)',
      };
    },
  };
}

export function ofFastify(request: FastifyRequest, reply: FastifyReply): Exchange {
  return {
    getHeader: (name) => reply.getHeader(name),
    ...ofConnection(reply.raw),
    isAnswered: () => reply.sent || reply.raw.headersSent,
    setHeader: (name, value) => reply.header(name, value),
    key: () => addressKey(request.ip),
    keep: (decision) => (request.rateLimit = decision),
    proxyTrust: (): ProxyTrust => ({
      // Fastify does not tell whom it trusts.
      trusts: request.ips === undefined ? 'nobody' : 'some',
      isForwarded: request.headers['x-forwarded-for'] !== undefined,
      setting: 'trustProxy',
      fix: 'fastify({ trustProxy: "10.0.0.1" })',
    }),
  };
}

export function ofKoa(ctx: KoaContext): Exchange {
  return {
    getHeader: (name) => ctx.res.getHeader(name),
    ...ofConnection(ctx.res),
    setHeader: (name, value) => ctx.set(name, value),
    key: () => addressKey(ctx.ip),
    keep: (decision) => (ctx.state['rateLimit'] = decision),
    proxyTrust(): ProxyTrust {
      // Koa trusts the last `maxIpsCount` addresses of that header, or all of them.
      const { proxy, maxIpsCount, proxyIpHeader } = ctx.app;
      return {
        trusts: !proxy ? 'nobody' : maxIpsCount > 0 ? 'some' : 'anybody',
        isForwarded: ctx.get(proxyIpHeader) !== '',
        setting: 'app.proxy',
        fix: 'app.proxy = true; app.maxIpsCount = 1',
      };
    },
  };
}

export function sendByExpress(res: ExpressResponse, { status, headers, body }: ProblemAnswer): void {
  res.writeHead(status, headers);
  res.end(body);
}

export function sendByFastify(reply: FastifyReply, { status, headers, body }: ProblemAnswer): void {
  reply.code(status).headers(headers).send(body);
}
