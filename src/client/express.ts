import type { IncomingMessage, ServerResponse } from 'node:http';
import { networkOf } from '../core/address.js';
import type { Decision } from '../core/decision.js';
import { rateLimitHeaders } from '../core/rate-limit-headers.js';
import type { Limiter } from '../core/limiter.js';
import type { LimitRequest } from '../core/request.js';
import { TokenringError } from '../core/error.js';
import type { LoadWatch } from './load-watch.js';
import { rulesOf } from './question.js';

export type { Decision } from '../core/decision.js';
export type { Limiter } from '../core/limiter.js';
export type { AllowRequest, LimitRequest } from '../core/request.js';

/** Of an Express request, what is read here; any `IncomingMessage` will do. */
export type LimitedRequest = IncomingMessage & { readonly ip?: string | undefined };

export type Next = (error?: unknown) => void;

/** @typeParam Req Express's `Request`, where `key` and the other functions are to have it */
export interface RateLimitOptions<Req extends IncomingMessage = LimitedRequest> extends Partial<LimitRequest> {
  /** A node (`createNode`) or a client (`createClient`). */
  readonly limiter: Pick<Limiter, 'check'>;
  /** Several limits at once, instead of one. */
  readonly limits?: readonly LimitRequest[];
  /** A named policy, instead of any limit. */
  readonly policy?: string;
  /**
   * The client to limit: 1 to 256 bytes. Default: `addressKey(req.ip)`. Behind a proxy, set Express's `trust proxy`;
   * without it all callers are one client, and with `trust proxy` true a caller can claim any address.
   */
  readonly key?: (req: Req) => string | Promise<string>;
  /** Whole tokens, 1 to 1e9. Default 1. */
  readonly cost?: number | ((req: Req) => number);
  /** Requests that are let through uncounted. */
  readonly skip?: (req: Req) => boolean;
  /** Answers a denial, with the headers set already; what it throws goes to Express. Default: 429, `application/problem+json`. */
  readonly onDenied?: (req: Req, res: ServerResponse, decision: Decision, next: Next) => unknown;
  /**
   * The status where nobody could decide, with `Retry-After`: where `check` rejects with `no_answer` or `overloaded`, and where it denies without
   * having asked. Default: the error goes to Express, and such a denial is one like any other.
   */
  readonly unavailableStatus?: 503;
  /** Measures each request that is let through: how long its answer took, and whether its status was below 500. */
  readonly load?: Pick<LoadWatch, 'begin'>;
}

/** Answers that somebody is to wait for what no denial has told: as a node does. */
const UNAVAILABLE_RETRY_SECONDS = '1';
const UNAVAILABLE_CODES: readonly unknown[] = ['no_answer', 'overloaded', 'unavailable', 'draining'];

/**
 * Express middleware: lets a request through, or answers 429; both with `RateLimit-Policy` and `RateLimit`, and a denial with `Retry-After`. The
 * decision is `res.locals.rateLimit`.
 * @throws TypeError that names an option that is not valid, and what is expected
 */
export function rateLimit<Req extends IncomingMessage = LimitedRequest>(
  options: RateLimitOptions<Req>,
): (req: Req, res: ServerResponse, next: Next) => void {
  requireLimiter(options);
  const { limiter, key = defaultKey, cost, skip, onDenied = sendDenied, unavailableStatus, load } = options;
  const { limit, window, windowMs, burst, algorithm, limits, policy } = options;
  const asked = Object.entries({ limit, window, windowMs, burst, algorithm, limits, policy });
  const question = Object.fromEntries(asked.filter(([, value]) => value !== undefined));
  const rules = rulesOf({ clientId: '', ...question });

  async function decide(req: Req): Promise<Decision> {
    const clientId = await key(req);
    const more = cost === undefined ? undefined : { cost: typeof cost === 'number' ? cost : cost(req) };
    return limiter.check({ clientId, ...question, ...more });
  }

  function finish(req: Req, res: ServerResponse, next: Next, decision: Decision): void {
    // Who has gone meanwhile needs no answer; and somebody else may have given one.
    if (res.headersSent || res.destroyed) return;
    // Without rules there are no decisions: no node takes what they could not be read from.
    const headers = rules === undefined ? [] : rateLimitHeaders({ rules }, decision);
    for (let i = 0; i < headers.length; i += 2) res.setHeader(headers[i]!, headers[i + 1]!);
    const { locals } = res as { locals?: Record<string, unknown> };
    if (locals !== undefined) locals['rateLimit'] = decision;
    if (!decision.allowed) {
      if (unavailableStatus !== undefined && decision.source === 'fallback') return sendUnavailable(res);
      // It may be async, whatever its type says: what it throws, at once or later, goes to Express.
      Promise.resolve()
        .then(() => onDenied(req, res, decision, next))
        .catch((error: unknown) => next(asFault(error)));
      return;
    }
    if (load !== undefined) {
      const done = load.begin();
      res.once('close', () => done(res.statusCode < 500));
    }
    next();
  }

  return (req, res, next) => {
    if (skip?.(req) === true) return next();
    decide(req).then(
      (decision) => finish(req, res, next, decision),
      (error: unknown) => {
        const { code } = Object(error) as { code?: unknown };
        if (unavailableStatus !== undefined && UNAVAILABLE_CODES.includes(code) && !res.headersSent)
          sendUnavailable(res);
        else next(asFault(error));
      },
    );
  };
}

function requireLimiter(options: object): void {
  for (const name of ['client', 'node']) {
    if (name in options)
      throw new TypeError(
        `rateLimit: ${name}: there is no such option; pass it as limiter: rateLimit({ limiter: ${name} })`,
      );
  }
  const { limiter } = options as { limiter?: { check?: unknown } | null };
  if (typeof limiter?.check !== 'function')
    throw new TypeError('rateLimit: limiter: expected a node (createNode) or a client (createClient)');
}

/**
 * A key for a caller who is known only by an address, such as `req.ip`: the IPv4 address, or the /64 of an IPv6 address,
 * whose holder has all addresses in it. The key has no port.
 * @returns for example `ip:192.0.2.1` or `ip:2001:db8:1:2::/64`; `ip:unknown` without an address
 */
export function addressKey(address: string | undefined): string {
  return `ip:${networkOf(address ?? 'unknown')}`;
}

function defaultKey(req: LimitedRequest): string {
  return addressKey(req.ip ?? req.socket.remoteAddress);
}

/** As draft-ietf-httpapi-ratelimit-headers-11 has it. */
function sendDenied(_req: unknown, res: ServerResponse, decision: Decision): void {
  sendProblem(res, 429, {
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title: 'Request cannot be satisfied as assigned quota has been exceeded',
    status: 429,
    retryAfterMs: decision.retryAfterMs,
  });
}

/** Without the status that a node had for this service: Express would answer its caller with that, as if the caller had no token. */
function asFault(error: unknown): unknown {
  // Express goes on to the handler with these: `undefined`, `null`, 'route'.
  if (!(error instanceof Error)) return new Error('rateLimit: what was thrown is no error', { cause: error });
  if (!(error instanceof TokenringError)) return error;
  const { code, detail, field, expected } = error;
  return new TokenringError(code, { detail, field, expected, status: 500 }, { cause: error });
}

function sendUnavailable(res: ServerResponse): void {
  res.setHeader('Retry-After', UNAVAILABLE_RETRY_SECONDS);
  sendProblem(res, 503, { type: 'about:blank', title: 'Service Unavailable', status: 503 });
}

function sendProblem(res: ServerResponse, status: number, problem: object): void {
  const body = JSON.stringify(problem);
  res.writeHead(status, {
    'Content-Type': 'application/problem+json',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
  });
  res.end(body);
}
