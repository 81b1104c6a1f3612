import type { Decision } from '../../limits/decide/decision.js';
import { parseDuration, warningOnWindow } from '../../limits/duration.js';
import type { AcquireOptions, Limiter, OnUnavailable } from '../../limits/request/limiter.js';
import { badValue, noSuchOption, isWhole } from '../../lib/mistake.js';
import type { LimitRequest } from '../../limits/request/request.js';
import { MAX_COST, MAX_LIMIT, MAX_WINDOW_MS } from '../../limits/bucket/rule.js';
import { HEADER_STYLES, type HeaderStyle } from './limit-headers.js';
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

/** Valid values of an option, in words and as a test. */
type Valid = readonly [expected: string, test: (value: unknown) => boolean];

const isFunction = (value: unknown): boolean => typeof value === 'function';
const quotedList = (values: readonly string[]): string[] => values.map((value) => `"${value}"`);
const oneOf = (...values: readonly string[]): Valid => [
  new Intl.ListFormat('en', { type: 'disjunction' }).format(quotedList(values)),
  (value) => values.includes(value as string),
];
const whole = (min: number, max: number): Valid => [
  `a whole number from ${min} to ${max}`,
  (value) => isWhole(value, min, max),
];
const orFunction = ([expected, test]: Valid): Valid => [
  `${expected}, or a function`,
  (value) => isFunction(value) || test(value),
];
const FUNCTION: Valid = ['a function', isFunction];
const FLAG: Valid = ['true or false', (value) => typeof value === 'boolean'];
const WINDOW: Valid = [
  'whole milliseconds or "250ms", "10s", "1m", "1h", "1d"',
  (value) => (typeof value === 'string' ? parseDuration(value) !== undefined : isWhole(value, 1, MAX_WINDOW_MS)),
];

const LIMIT: Readonly<Record<'limit' | 'window' | 'windowMs' | 'burst' | 'algorithm', Valid>> = {
  limit: whole(0, MAX_LIMIT),
  window: WINDOW,
  windowMs: whole(1, MAX_WINDOW_MS),
  burst: whole(1, MAX_LIMIT),
  algorithm: oneOf('token-bucket', 'sliding-window'),
};

/** All options, each valid where it is not given. */
const OPTIONS: Readonly<Record<keyof CommonOptions<RequestArgs>, Valid>> = {
  // Each has a check of its own.
  limiter: ['', () => true],
  limit: orFunction(LIMIT.limit),
  window: LIMIT.window,
  windowMs: LIMIT.windowMs,
  burst: LIMIT.burst,
  algorithm: LIMIT.algorithm,
  limits: ['a list of 1 to 8 limits', (value) => Array.isArray(value) && value.length >= 1 && value.length <= 8],
  policy: [
    'the name of a policy, true, or a function',
    (value) => value === true || isFunction(value) || (typeof value === 'string' && value !== ''),
  ],
  name: ['1 to 64 printable ASCII characters without " and \\', (value) => NAME.test(String(value))],
  key: FUNCTION,
  cost: orFunction(whole(1, MAX_COST)),
  skip: FUNCTION,
  costAfter: FUNCTION,
  skipSuccessful: FLAG,
  skipFailed: FLAG,
  wait: [EXPECTED_WAIT, (value) => waitMsOf(value) !== undefined],
  onDenied: FUNCTION,
  onFirstDenied: FUNCTION,
  onUnavailable: oneOf('open', 'closed', 'throw'),
  headers: [
    `${quotedList(HEADER_STYLES).join(', ')}, a list of them, or false`,
    (value) => value === false || [value].flat().every((one) => HEADER_STYLES.includes(one as HeaderStyle)),
  ],
  load: ['what client.watchLoad() returns', (value) => isFunction((Object(value) as { begin?: unknown }).begin)],
};

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
  for (const name of Object.keys(options)) if (!Object.hasOwn(OPTIONS, name)) fail(unknown(name));
  if (limiterFollows !== true) checkLimiter(options.limiter);
  checkLimits(options);
  if (needsKey !== undefined && options.key === undefined)
    fail(`key: missing; the framework does not know the address of the caller; expected a function: ${needsKey}`);
  checkEach(options, OPTIONS, '');
  if (options.costAfter !== undefined && (options.skipSuccessful === true || options.skipFailed === true))
    fail('costAfter: expected none beside skipSuccessful or skipFailed');
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
  const { limit, limits, policy } = options;
  if (policy !== undefined || limits !== undefined) {
    const own = Object.keys(LIMIT).find((name) => options[name as keyof AnyOptions] !== undefined);
    if (own !== undefined) fail(`${own}: expected none beside ${policy === undefined ? 'limits' : 'policy'}`);
    if (policy !== undefined && limits !== undefined) fail('limits: expected none beside policy');
  } else if (limit === undefined) {
    fail('limit: missing; expected limit and window, limits, or policy (true for the default policy)');
  } else checkWindow(options, '');
  checkEach({ limits }, OPTIONS, '');
  limits?.forEach((one, i) => {
    const path = `limits[${i}].`;
    if ((one.limit as unknown) === undefined) fail(badValue(`${path}limit`, undefined, LIMIT.limit[0]).detail);
    checkWindow(one, path);
    checkEach(one, LIMIT, path);
  });
}

function checkWindow({ window, windowMs }: Pick<AnyOptions, 'window' | 'windowMs'>, path: string): void {
  if (window === undefined && windowMs === undefined) fail(`${path}window: missing; expected ${WINDOW[0]}`);
  if (window !== undefined && windowMs !== undefined) fail(`${path}windowMs: expected none beside window`);
  const warning = warningOnWindow(`${path}window`, window);
  if (warning !== undefined) warnOnce(`rateLimit: ${warning}`, 'TOKENRING_SHORT_WINDOW');
}

/** Fails for the first value that is given and not valid. */
function checkEach(values: object, valid: Readonly<Record<string, Valid>>, path: string): void {
  for (const [name, [expected, test]] of Object.entries(valid)) {
    const value = (values as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined && !test(value)) fail(badValue(path + name, value, expected).detail);
  }
}

function unknown(name: string): string {
  if (Object.hasOwn(HINTS, name)) return `${name}: there is no such option; ${HINTS[name]}`;
  return noSuchOption(name, Object.keys(OPTIONS));
}

function fail(what: string): never {
  throw new TypeError(`rateLimit: ${what}`);
}

const STORE = 'the limiter keeps the counts: createNode({ store }) or TOKENRING_STORE';
const OPEN = 'use `onUnavailable: "open"`';
const DENIED = 'answer denials in `onDenied`';
const HEADERS = 'use `headers`: "draft-6", "draft-7", "draft-8", "draft-11", "legacy", a list of them, or false';
const SKIP = 'use `skip`, a function of the request';
const LIMITER = 'use `limiter`: createNode() or createClient({ nodes })';

/**
 * Options of express-rate-limit, @fastify/rate-limit, @nestjs/throttler, koa-ratelimit, hono-rate-limiter,
 * rate-limiter-flexible, and former versions, with what to write instead.
 */
const HINTS: Readonly<Record<string, string>> = {
  client: '`client` is `limiter` here: rateLimit({ limiter: client })',
  node: '`node` is `limiter` here: rateLimit({ limiter: node })',
  max: '`max` is `limit` here',
  points: '`points` is `limit` here',
  duration: '`duration` is `window` here, with a unit: "60s"',
  keyGenerator: '`keyGenerator` is `key` here',
  keyPrefix: '`keyPrefix` is `name` here',
  identifier: '`identifier` is `name` here',
  handler: '`handler` is `onDenied` here',
  message: DENIED,
  statusCode: DENIED,
  onLimitReached: '`onLimitReached` is `onFirstDenied` here',
  standardHeaders: '`standardHeaders` is `headers` here: "draft-6", "draft-7", "draft-8", "draft-11"',
  legacyHeaders: '`legacyHeaders` is `headers: "legacy"` here',
  skipSuccessfulRequests: '`skipSuccessfulRequests` is `skipSuccessful` here',
  skipFailedRequests: '`skipFailedRequests` is `skipFailed` here',
  requestWasSuccessful: 'use `costAfter`, which returns 0 for requests that do not count',
  requestPropertyName:
    'handlers find the decision under `rateLimit`: of `res.locals`, `request`, `ctx.state`, or `c.var`',
  store: STORE,
  execEvenly: '`execEvenly` is `wait` here: "500ms"',
  delayMs: '`delayMs` is `wait` here: "500ms"',
  storeClient: STORE,
  passOnStoreError: OPEN,
  insuranceLimiter: 'use `onUnavailable`: "open", "closed", or "throw"',
  unavailableStatus: 'use `onUnavailable: "closed"`, which answers 503',
  ipv6Subnet: 'the default key groups IPv6 by /64; see `addressKey`',
  ttl: '`ttl` is `window` here, in ms or with a unit: "60s"',
  timeWindow: '`timeWindow` is `window` here, in ms or with a unit: "1m"',
  interval: '`interval` is `window` here, in ms or with a unit: "1m"',
  allowList: SKIP,
  whitelist: SKIP,
  skipIf: '`skipIf` is `skip` here',
  ignoreUserAgents: SKIP,
  blacklist: 'use a policy with a deny list',
  ban: 'use a policy with a deny list',
  blockDuration: 'a denied client may come again after `Retry-After`; nothing blocks it for longer',
  inMemoryBlockOnConsumed: 'the limiter remembers denials by itself',
  continueExceeding: 'a denial consumes nothing, so it moves no window',
  exponentialBackoff: 'a denial consumes nothing, so it moves no window',
  onExceeded: '`onExceeded` is `onDenied` here; `onFirstDenied` is called once in a window',
  onExceeding: 'the decision of each request is `rateLimit`; see `decision.remaining`',
  onBanReach: '`onBanReach` is `onFirstDenied` here',
  errorResponseBuilder: DENIED,
  errorMessage: DENIED,
  throw: DENIED,
  skipOnError: OPEN,
  addHeaders: HEADERS,
  addHeadersOnExceeding: HEADERS,
  enableDraftSpec: HEADERS,
  setHeaders: HEADERS,
  disableHeader: 'use `headers: false`',
  groupId: '`groupId` is `name` here: limiters of one name share their buckets',
  nameSpace: '`nameSpace` is `name` here',
  global: 'to limit single routes, give the options to these routes',
  hook: 'use the function that `rateLimit(options)` returns as that hook',
  getTracker: '`getTracker` is `key` here',
  generateKey: '`generateKey` is `key` here',
  id: '`id` is `key` here',
  throttlers: 'use `limits`: [{ limit: 10, window: "1s" }, { limit: 1_000, window: "1d" }]',
  storage: STORE,
  cache: STORE,
  redis: STORE,
  driver: STORE,
  db: STORE,
  binding: LIMITER,
};
