import type { Context, MiddlewareHandler, Next } from 'hono';
import type { Decision } from '../../limits/decide/decision.js';
import type { End, Exchange } from '../middleware/exchange.js';
import { RequestLimiter } from '../middleware/rate-limit.js';
import type { CommonOptions } from '../middleware/rate-limit-options.js';
import { ofConnection, type NodeResponse } from './exchanges.js';

export * from './common.js';

export interface RateLimitOptions extends CommonOptions<[c: Context]> {
  /**
   * Returns the client to limit: 1 to 256 bytes. Hono runs where there is no socket, so it has no default. For the
   * address of the caller, it is `addressKey` of what the runtime tells: `getConnInfo(c).remote.address` of
   * `@hono/node-server/conninfo`, `hono/bun`, or `hono/deno`, or a header that a trusted proxy sets.
   */
  readonly key: (c: Context) => string | Promise<string>;
  /**
   * Returns the answer to each denial, or `next()` to let it pass. The headers are already set, and errors go to Hono.
   * Default: 429, `application/problem+json`.
   */
  readonly onDenied?: (c: Context, decision: Decision, next: Next) => unknown;
}

const NEEDS_KEY = '(c) => addressKey(getConnInfo(c).remote.address)';
/** Nobody reads the answer to a caller who has gone. */
const CLIENT_CLOSED_REQUEST = 499;

/**
 * Creates Hono middleware that lets a request pass, or answers 429 with `Retry-After`. Both answers have
 * `RateLimit-Policy` and `RateLimit`. The decision is `c.var.rateLimit`.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function rateLimit(options: RateLimitOptions): MiddlewareHandler<{ Variables: { rateLimit: Decision } }> {
  const limiter = new RequestLimiter<[Context]>(options, { needsKey: NEEDS_KEY });
  return async (c, next) => {
    const { exchange, hasResponse } = ofHono(c);
    const passage = await limiter.limit(exchange, [c], next);
    switch (passage.kind) {
      case 'pass':
        await next();
        return hasResponse();
      case 'denied':
        return passage.result as Response | undefined;
      case 'answer': {
        const { status, headers, body } = passage.answer;
        return c.newResponse(body, status as 429 | 503, headers);
      }
      case 'over':
        return new Response(null, { status: CLIENT_CLOSED_REQUEST });
    }
  };
}

/** @returns the exchange, and a function to call once there is a response */
function ofHono(c: Context): { exchange: Exchange; hasResponse: () => void } {
  const { outgoing } = Object(c.env as unknown) as { outgoing?: Partial<NodeResponse> };
  const isNode = typeof outgoing?.once === 'function';
  const listeners: ((end: End) => unknown)[] = [];
  const ofRuntime = isNode
    ? ofConnection(outgoing as NodeResponse)
    : {
        isAnswered: () => false,
        isGone: () => c.req.raw.signal.aborted,
        signal: () => c.req.raw.signal,
        onEnd: (listener: (end: End) => unknown) => void listeners.push(listener),
      };
  const exchange: Exchange = {
    getHeader: (name) => c.res.headers.get(name),
    ...ofRuntime,
    setHeader: (name, value) => c.res.headers.set(name, value),
    // Not asked, as `key` is required.
    key: () => '',
    proxyTrust: () => undefined,
    keep: (decision) => c.set('rateLimit', decision),
  };
  const hasResponse = (): void => {
    if (listeners.length === 0) return;
    const over = new Promise((resolve) => {
      c.res = onBodyEnd(c.res, (end) => resolve(Promise.all(listeners.map((listener) => listener(end)))));
    });
    waitUntil(c, over);
  };
  return { exchange, hasResponse };
}

/** Asks an edge runtime to go on after the answer, until a promise settles. Other runtimes have no such context. */
function waitUntil(c: Context, promise: Promise<unknown>): void {
  try {
    c.executionCtx.waitUntil(promise);
  } catch {
    // Nothing ends with the request there.
  }
}

/**
 * Calls the listener once, when the body of a response has been read to its end, or its reader has given up. A runtime
 * without sockets tells nothing else about the end of an answer.
 * @returns the response to send in its place
 */
function onBodyEnd(response: Response, listener: (end: End) => void): Response {
  const { status, body } = response;
  let isOver = false;
  const end = (isComplete: boolean): void => {
    if (isOver) return;
    isOver = true;
    listener({ status, isComplete });
  };
  if (body === null) {
    end(true);
    return response;
  }
  const reader = (body as ReadableStream<Uint8Array>).getReader();
  const watched = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        end(true);
        controller.close();
      } catch (error) {
        end(false);
        controller.error(error);
      }
    },
    cancel(reason) {
      end(false);
      return reader.cancel(reason);
    },
  });
  return new Response(watched, response);
}
