import type { Context, Next } from 'koa';
import type { Decision } from '../../limits/decide/decision.js';
import { RequestLimiter } from '../middleware/rate-limit.js';
import type { CommonOptions } from '../middleware/rate-limit-options.js';
import { ofKoa } from './exchanges.js';

export * from './common.js';

export interface RateLimitOptions extends CommonOptions<[ctx: Context]> {
  /**
   * Answers each denial, or returns `next()` to let it pass. The headers are already set, and errors go to Koa. Default:
   * 429, `application/problem+json`.
   */
  readonly onDenied?: (ctx: Context, decision: Decision, next: Next) => unknown;
}

/**
 * Creates Koa middleware that lets a request pass, or answers 429 with `Retry-After`. Both answers have
 * `RateLimit-Policy` and `RateLimit`. The decision is `ctx.state.rateLimit`.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function rateLimit(options: RateLimitOptions): (ctx: Context, next: Next) => Promise<void> {
  const limiter = new RequestLimiter<[Context]>(options);
  return async (ctx, next) => {
    const exchange = ofKoa(ctx);
    const shown: Record<string, string> = {};
    const setHeader = (name: string, value: string): void => {
      shown[name] = value;
      exchange.setHeader(name, value);
    };
    try {
      const passage = await limiter.limit(Object.assign({}, exchange, { setHeader }), [ctx], next);
      if (passage.kind === 'pass') await next();
      if (passage.kind !== 'answer') return;
      const { status, headers, body } = passage.answer;
      ctx.status = status;
      ctx.set(headers);
      ctx.body = Buffer.from(body);
    } catch (error) {
      throw withHeaders(error, shown);
    }
  };
}

/** Koa removes all headers from the answer to an error, apart from those of the error. */
function withHeaders(error: unknown, shown: Readonly<Record<string, string>>): unknown {
  if (!(error instanceof Error) || !Object.isExtensible(error)) return error;
  const { headers } = error as { headers?: object };
  return Object.assign(error, { headers: { ...shown, ...headers } });
}
