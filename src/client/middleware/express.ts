import type { NextFunction, Request, Response } from 'express';
import { networkOf } from '../../core/address.js';
import type { Decision } from '../../core/decide/decision.js';
import { TokenringError } from '../../core/error.js';
import { seconds } from '../../core/request/rate-limit-headers.js';
import type { AllowRequest } from '../../core/request/request.js';
import { limitsOf, setLimitHeaders } from './limit-headers.js';
import { checkProxy } from './proxy-check.js';
import { rulesOf } from '../question.js';
import { checkRateLimitOptions, settlesLater } from './rate-limit-options.js';
import type { RateLimitOptions } from './rate-limit-options.js';
import { settleAfter } from './settle-after.js';

export type { Decision } from '../../core/decide/decision.js';
export type { Limiter } from '../../core/request/limiter.js';
export type { AllowRequest, Duration, LimitRequest } from '../../core/request/request.js';
export type { HeaderStyle } from './limit-headers.js';
export type { RateLimitOptions } from './rate-limit-options.js';

/** `Retry-After` when no node can decide. Nodes answer the same. */
const UNAVAILABLE_RETRY_SECONDS = '1';
const UNAVAILABLE_CODES: readonly unknown[] = ['no_answer', 'overloaded', 'unavailable', 'draining'];

/**
 * Creates Express middleware that lets a request pass, or answers 429 with `Retry-After`. Both answers have
 * `RateLimit-Policy` and `RateLimit`. The decision is `res.locals.rateLimit`.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function rateLimit(options: RateLimitOptions): (req: Request, res: Response, next: NextFunction) => void {
  checkRateLimitOptions(options);
  const { limiter, name, skip, wait, onDenied, unavailableStatus, load, headers = 'draft-11' } = options;
  const styles = headers === false ? [] : [headers].flat();
  const questionOf = createQuestions(options);
  const isFirst = createFirstDenials();
  const settle = settlesLater(options) ? limiter.settle!.bind(limiter) : undefined;

  function finish(req: Request, res: Response, next: NextFunction, question: AllowRequest, decision: Decision): void {
    // The caller may have gone, and another handler may have answered.
    if (res.headersSent || res.destroyed) return;
    // The node refused a question without rules, so there is no decision.
    const [rule] = rulesOf(question) ?? [];
    const limits = limitsOf(decision, rule, name, res);
    for (const style of styles) setLimitHeaders(res, style, decision, limits);
    res.locals['rateLimit'] = decision;
    if (decision.allowed) {
      const done = load?.begin();
      if (done !== undefined) res.once('close', () => done(res.statusCode < 500));
      if (settle !== undefined && decision.reservation !== undefined)
        settleAfter(settle, decision.reservation, options, req, res);
      return next();
    }
    if (decision.retryAfterMs !== null) res.setHeader('Retry-After', String(seconds(decision.retryAfterMs)));
    if (unavailableStatus !== undefined && decision.source === 'fallback') return sendUnavailable(res);
    const violated = limits.filter(({ isViolated }) => isViolated).map((one) => one.name);
    // A callback may be async. Its errors, now or later, go to Express.
    Promise.resolve()
      .then(async () => {
        if (options.onFirstDenied !== undefined && isFirst(question.clientId, rule?.windowMs, decision))
          await options.onFirstDenied(req, decision);
        if (onDenied === undefined) sendDenied(res, decision, violated);
        else await onDenied(req, res, decision, next);
      })
      .catch((error: unknown) => next(asFault(error)));
  }

  /** @returns `undefined` for a request that is skipped */
  async function ask(req: Request, res: Response): Promise<{ question: AllowRequest; decision: Decision } | undefined> {
    if ((await skip?.(req, res)) === true) return undefined;
    const question = await questionOf(req, res);
    if (wait === undefined) return { question, decision: await limiter.check(question) };
    const gone = new AbortController();
    res.once('close', () => gone.abort());
    return { question, decision: await limiter.acquire!(question, { wait, signal: gone.signal }) };
  }

  return (req, res, next) => {
    ask(req, res)
      .then(
        (asked) => (asked === undefined ? next() : finish(req, res, next, asked.question, asked.decision)),
        (error: unknown) => {
          const { code, name: kind } = Object(error) as { code?: unknown; name?: unknown };
          // The caller disconnected while it waited.
          if (kind === 'AbortError' && res.destroyed) return;
          const isUnavailable = unavailableStatus !== undefined && UNAVAILABLE_CODES.includes(code);
          if (isUnavailable && !res.headersSent) sendUnavailable(res);
          else next(asFault(error));
        },
      )
      .catch(next);
  };
}

/** Number of limiters without a name, by node or client. */
const unnamed = new WeakMap<object, number>();

function createQuestions(options: RateLimitOptions): (req: Request, res: Response) => Promise<AllowRequest> {
  const { limiter, key, cost, limit, window, windowMs, burst, algorithm, limits, policy, name } = options;
  const prefix = prefixOf(limiter, name, policy !== undefined);
  const given = Object.entries({ limit, window, windowMs, burst, algorithm, limits, policy, cost });
  const fixed = Object.fromEntries(
    given.filter(([, value]) => value !== undefined && value !== true && typeof value !== 'function'),
  );
  const more = settlesLater(options) ? { reserve: true } : undefined;

  return async (req, res) => {
    if (key === undefined) checkProxy(req);
    const id: unknown = key === undefined ? addressKey(req.ip ?? req.socket.remoteAddress) : await key(req, res);
    if (typeof id !== 'string' || id === '')
      throw new TokenringError('invalid_request', {
        field: 'clientId',
        expected: 'a text of 1 to 256 bytes from `key`',
      });
    return {
      clientId: prefix + id,
      ...fixed,
      ...more,
      ...(typeof limit === 'function' && { limit: await limit(req, res) }),
      ...(typeof policy === 'function' && { policy: await policy(req, res) }),
      ...(typeof cost === 'function' && { cost: await cost(req, res) }),
    };
  };
}

/** Returns the prefix of the keys, so that limiters with equal limits do not share buckets. */
function prefixOf(limiter: object, name: string | undefined, hasPolicy: boolean): string {
  if (name !== undefined) return `${name}:`;
  if (hasPolicy) return '';
  const number = (unnamed.get(limiter) ?? 0) + 1;
  unnamed.set(limiter, number);
  return number === 1 ? '' : `${number}:`;
}

/** Bound of clients whose first denial is remembered. */
const MAX_FIRST_DENIALS = 10_000;

function createFirstDenials(): (clientId: string, windowMs: number | undefined, decision: Decision) => boolean {
  const untilMs = new Map<string, number>();
  return (clientId, windowMs, { resetMs }) => {
    const nowMs = performance.now();
    if (nowMs < (untilMs.get(clientId) ?? -Infinity)) return false;
    untilMs.delete(clientId);
    untilMs.set(clientId, nowMs + (windowMs ?? resetMs));
    if (untilMs.size > MAX_FIRST_DENIALS) untilMs.delete(untilMs.keys().next().value!);
    return true;
  };
}

/**
 * Returns a key for a caller who is known only by an address, such as `req.ip`. The key is the IPv4 address, or the /64
 * of an IPv6 address, as the holder of a /64 has all addresses in it. The key has no port.
 * @returns for example `ip:192.0.2.1` or `ip:2001:db8:1:2::/64`; `ip:unknown` without an address
 */
export function addressKey(address: string | undefined): string {
  return `ip:${networkOf(address ?? 'unknown')}`;
}

/** Answers with the problem type of draft-ietf-httpapi-ratelimit-headers-11. */
function sendDenied(res: Response, { retryAfterMs }: Decision, violated: readonly string[]): void {
  sendProblem(res, 429, {
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title: 'Request cannot be satisfied as assigned quota has been exceeded',
    status: 429,
    'violated-policies': violated,
    retryAfterMs,
  });
}

/**
 * Wraps an error for Express. Express would answer the status of a node's error, such as 401, as if the caller were at
 * fault.
 */
function asFault(error: unknown): unknown {
  // Express continues to the handler for `undefined`, `null`, and 'route'.
  if (!(error instanceof Error))
    return new Error('rateLimit: a callback has thrown something that is no error', { cause: error });
  if (!(error instanceof TokenringError)) return error;
  const { code, detail, field, expected } = error;
  return new TokenringError(code, { detail, field, expected, status: 500 }, { cause: error });
}

function sendUnavailable(res: Response): void {
  res.setHeader('Retry-After', UNAVAILABLE_RETRY_SECONDS);
  sendProblem(res, 503, { type: 'about:blank', title: 'Service Unavailable', status: 503 });
}

function sendProblem(res: Response, status: number, problem: object): void {
  const body = JSON.stringify(problem);
  res.writeHead(status, {
    'Content-Type': 'application/problem+json',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
  });
  res.end(body);
}
