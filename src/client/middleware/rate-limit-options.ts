import type { Decision } from '../../limits/decide/decision.js';
import { parseDuration, warningOnWindow } from '../../limits/duration.js';
import type { AcquireOptions, Limiter, OnUnavailable } from '../../limits/request/limiter.js';
import { badValue, noSuchOption } from '../../lib/mistake.js';
import type { LimitRequest } from '../../limits/request/request.js';
import { MAX_COST, MAX_LIMIT, MAX_WINDOW_MS } from '../../limits/bucket/rule.js';
import { HEADER_STYLES } from './limit-headers.js';
import type { HeaderStyle } from './limit-headers.js';
import { HINTS } from './option-hints.js';
import type { LoadWatch } from '../load-watch.js';
import { warnOnce } from '../runtime.js';
import { EXPECTED_WAIT, waitMsOf } from '../acquire-queue.js';

/** The arguments of callbacks: how a framework shows a request and its answer. */
export type RequestArgs = readonly [unknown, ...unknown[]];

/** A value, or a function of the request that returns a value or a promise. */
type OfRequest<A extends RequestArgs, T> = T | ((...args: A) => T | Promise<T>);

/** The options that all frameworks have in common. Each framework types `onDenied` itself. */
export interface CommonOptions<A extends RequestArgs> extends Omit<Partial<LimitRequest>, 'limit'> {
  /** A node (`createNode`) or a client (`createClient`). */
  readonly limiter: Pick<Limiter, 'check'> & Partial<Pick<Limiter, 'settle' | 'acquire' | 'onUnavailable'>>;
  /** Requests allowed per `window`: whole, 0 to 1e9. 0 denies all. May depend on the request. */
  readonly limit?: OfRequest<A, number>;
  /** Several limits at once, instead of one: 1 to 8. */
  readonly limits?: readonly LimitRequest[];
  /** The name of a policy, instead of any limit. `true` means the default policy. May depend on the request. */
  readonly policy?: OfRequest<A, string> | true;
  /**
   * Distinguishes this limiter from others, as the `scope` of its buckets and in the headers. Printable ASCII without
   * quotes, 1 to 64 characters. Default: a limiter of its own. Its scope is its number in the order of creation, as
   * `#2`; the first has none. A policy counts for all limiters that name it.
   */
  readonly name?: string;
  /**
   * Returns the client to limit: 1 to 256 bytes. Default: `addressKey` of the caller's address. Behind a proxy, set how
   * far the framework trusts it. Without that, all callers are one client. If all are trusted, a caller can claim any
   * address. Hono knows no address, so it needs a key.
   */
  readonly key?: (...args: A) => string | Promise<string>;
  /** Tokens that a request takes: whole, 1 to 1e9. Default 1. */
  readonly cost?: OfRequest<A, number>;
  /** Whether a request passes uncounted. */
  readonly skip?: (...args: A) => boolean | Promise<boolean>;
  /** The final cost, once the response has ended: whole, 0 to 1e9. `cost` is reserved until then. */
  readonly costAfter?: (...args: A) => number | Promise<number>;
  /** Gives the cost back when the status is below 400. The cost is reserved until the response ends. */
  readonly skipSuccessful?: boolean;
  /**
   * Gives the cost back when the status is 400 or above, or the connection breaks. The cost is reserved until then.
   */
  readonly skipFailed?: boolean;
  /**
   * Longest time for which a denied request waits for its turn, as in `acquire`: whole ms, or `"500ms"`, `"2s"`, up to
   * `"1h"`. Default: it does not wait.
   */
  readonly wait?: AcquireOptions['wait'];
  /**
   * Answers each denial. The headers are already set, and errors go to the framework. Default: 429,
   * `application/problem+json`.
   */
  readonly onDenied?: (...args: never) => unknown;
  /** Also called for the first denial of a client in a window, for example to log it. */
  readonly onFirstDenied?: (request: A[0], decision: Decision) => unknown;
  /**
   * What happens when no node can decide: the request passes (`open`), it is answered 503 with `Retry-After`
   * (`closed`), or the error goes to the framework (`throw`). Default: as the limiter's own `onUnavailable` says.
   */
  readonly onUnavailable?: Exclude<OnUnavailable, 'local'>;
  /** The headers of an answer. Several styles at once are possible. Default `draft-11`; `draft-8` is the same. */
  readonly headers?: HeaderStyle | readonly HeaderStyle[] | false;
  /** Measures each request that passes: the duration of its answer, and whether its status was below 500. */
  readonly load?: Pick<LoadWatch, 'begin'>;
}

const KNOWN: Readonly<Record<keyof CommonOptions<RequestArgs>, true>> = {
  limiter: true,
  limit: true,
  window: true,
  windowMs: true,
  burst: true,
  algorithm: true,
  limits: true,
  policy: true,
  name: true,
  key: true,
  cost: true,
  skip: true,
  costAfter: true,
  skipSuccessful: true,
  skipFailed: true,
  wait: true,
  onDenied: true,
  onFirstDenied: true,
  onUnavailable: true,
  headers: true,
  load: true,
};

const FUNCTIONS = ['key', 'skip', 'costAfter', 'onDenied', 'onFirstDenied'] as const;
const NAME = /^[ !#-[\]-~]{1,64}$/;

/** Options whose functions have any arguments. */
type AnyOptions = Omit<CommonOptions<never>, 'limiter'> & Partial<Pick<CommonOptions<never>, 'limiter'>>;

/** How a framework differs from others. */
export interface OptionRules {
  /** An example of `key`, where there is no default. */
  readonly needsKey?: string;
  /** Whether the limiter is known only later. */
  readonly limiterFollows?: boolean;
}

/** @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected */
export function checkRateLimitOptions(options: AnyOptions, { needsKey, limiterFollows }: OptionRules = {}): void {
  if (!isOptions(options)) fail('expected options: rateLimit({ limiter, limit: 100, window: "1m" })');
  for (const name of Object.keys(options)) if (!Object.hasOwn(KNOWN, name)) fail(unknown(name));
  if (limiterFollows !== true) checkLimiter(options.limiter);
  const { name, headers, load, onUnavailable, cost } = options;
  checkLimits(options);
  if (needsKey !== undefined && options.key === undefined)
    fail(`key: missing; the framework does not know the address of the caller; expected a function: ${needsKey}`);
  for (const one of FUNCTIONS) demand(one, options[one], 'a function', (value) => typeof value === 'function');
  demand('cost', cost, `a whole number from 1 to ${MAX_COST}, or a function`, orFunction(isWhole(1, MAX_COST)));
  for (const one of ['skipSuccessful', 'skipFailed'] as const)
    demand(one, options[one], 'true or false', (value) => typeof value === 'boolean');
  demand('name', name, '1 to 64 printable ASCII characters without " and \\', (value) => NAME.test(String(value)));
  demand('onUnavailable', onUnavailable, '"open", "closed", or "throw"', (value) =>
    ['open', 'closed', 'throw'].includes(value as string),
  );
  const styles = HEADER_STYLES.map((one) => `"${one}"`).join(', ');
  demand(
    'headers',
    headers,
    `${styles}, a list of them, or false`,
    (value) => value === false || [value].flat().every((one) => HEADER_STYLES.includes(one as HeaderStyle)),
  );
  demand(
    'load',
    load,
    'what client.watchLoad() returns',
    (value) => typeof (value as { begin?: unknown } | null)?.begin === 'function',
  );
  if (options.costAfter !== undefined && (options.skipSuccessful === true || options.skipFailed === true))
    fail('costAfter: expected none beside skipSuccessful or skipFailed');
  demand('wait', options.wait, EXPECTED_WAIT, (value) => waitMsOf(value) !== undefined);
  if (limiterFollows !== true) checkCalls(options);
}

function checkLimiter(limiter: unknown): void {
  const { check, then } = Object(limiter) as { check?: unknown; then?: unknown };
  if (typeof then === 'function') fail('limiter: it is a promise; write `await createNode()`');
  if (typeof check !== 'function') fail('limiter: expected a node (createNode) or a client (createClient)');
}

/** Demands what some options need of the limiter. */
function checkCalls(options: AnyOptions): void {
  const { acquire, settle } = Object(options.limiter) as { acquire?: unknown; settle?: unknown };
  if (options.wait !== undefined && typeof acquire !== 'function')
    fail('limiter: expected one with `acquire`, which wait needs');
  if (settlesLater(options) && typeof settle !== 'function')
    fail('limiter: expected one with `settle`, which costAfter, skipSuccessful and skipFailed need');
}

/** Tells options from a limiter in their place, and from the request that `app.use(rateLimit)` gives. */
function isOptions(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || 'check' in value) return false;
  return 'limiter' in value || !('socket' in value);
}

/** Tells whether the cost is final only after the response. */
export function settlesLater({ costAfter, skipSuccessful, skipFailed }: AnyOptions): boolean {
  return costAfter !== undefined || skipSuccessful === true || skipFailed === true;
}

function checkLimits(options: AnyOptions): void {
  const { limit, window, windowMs, burst, algorithm, limits, policy } = options;
  const own = Object.entries({ limit, window, windowMs, burst, algorithm }).find(([, value]) => value !== undefined);
  if (policy !== undefined || limits !== undefined) {
    const beside = policy === undefined ? 'limits' : 'policy';
    if (own !== undefined) fail(`${own[0]}: expected none beside ${beside}`);
    if (policy !== undefined && limits !== undefined) fail('limits: expected none beside policy');
  } else if (limit === undefined) {
    fail('limit: missing; expected limit and window, limits, or policy (true for the default policy)');
  }
  demand(
    'policy',
    policy,
    'the name of a policy, true, or a function',
    (value) => value === true || typeof value === 'function' || (typeof value === 'string' && value !== ''),
  );
  demand(
    'limits',
    limits,
    'a list of 1 to 8 limits',
    (value) => Array.isArray(value) && value.length >= 1 && value.length <= 8,
  );
  limits?.forEach((one, i) => checkLimit(one, `limits[${i}].`));
  if (limit !== undefined) checkLimit(options, '');
}

function checkLimit(
  { limit, window, windowMs, burst, algorithm }: Pick<AnyOptions, 'limit'> & Partial<Omit<LimitRequest, 'limit'>>,
  path: string,
): void {
  const whole = `a whole number from 0 to ${MAX_LIMIT}`;
  if (path === '') demand('limit', limit, `${whole}, or a function`, orFunction(isWhole(0, MAX_LIMIT)));
  else if (!isWhole(0, MAX_LIMIT)(limit)) fail(badValue(`${path}limit`, limit, whole).detail);
  if (window === undefined && windowMs === undefined)
    fail(`${path}window: missing; expected whole milliseconds or "250ms", "10s", "1m", "1h", "1d"`);
  if (window !== undefined && windowMs !== undefined) fail(`${path}windowMs: expected none beside window`);
  demand(`${path}window`, window, 'whole milliseconds or "250ms", "10s", "1m", "1h", "1d"', (value) =>
    typeof value === 'string' ? parseDuration(value) !== undefined : isWhole(1, MAX_WINDOW_MS)(value),
  );
  const warning = warningOnWindow(`${path}window`, window);
  if (warning !== undefined) warnOnce(`rateLimit: ${warning}`, 'TOKENRING_SHORT_WINDOW');
  demand(`${path}windowMs`, windowMs, `a whole number from 1 to ${MAX_WINDOW_MS}`, isWhole(1, MAX_WINDOW_MS));
  demand(`${path}burst`, burst, `a whole number from 1 to ${MAX_LIMIT}`, isWhole(1, MAX_LIMIT));
  demand(
    `${path}algorithm`,
    algorithm,
    '"token-bucket" or "sliding-window"',
    (value) => value === 'token-bucket' || value === 'sliding-window',
  );
}

function demand(name: string, value: unknown, expected: string, isValid: (value: unknown) => boolean): void {
  if (value !== undefined && !isValid(value)) fail(badValue(name, value, expected).detail);
}

function orFunction(isValid: (value: unknown) => boolean): (value: unknown) => boolean {
  return (value) => typeof value === 'function' || isValid(value);
}

function isWhole(min: number, max: number): (value: unknown) => boolean {
  return (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

function unknown(name: string): string {
  if (Object.hasOwn(HINTS, name)) return `${name}: there is no such option; ${HINTS[name]}`;
  return noSuchOption(name, Object.keys(KNOWN));
}

function fail(what: string): never {
  throw new TypeError(`rateLimit: ${what}`);
}
