import { isClosed, type Decision } from '../../limits/decide/decision.js';
import { isText } from '../../limits/client-id.js';
import { TokenringError } from '../../lib/error.js';
import { badValue, noSuchOption } from '../../lib/mistake.js';
import type { Limiter } from '../../limits/request/limiter.js';
import { seconds } from '../../limits/request/rate-limit-headers.js';
import { MAX_LIMIT, MAX_SCOPE_BYTES, MAX_WINDOW_MS, type Algorithm } from '../../limits/bucket/rule.js';
import type { AllowRequest } from '../../limits/request/request.js';
import { md5 } from '../../limits/ring/md5.js';

export interface StoreOptions {
  /** A node (`createNode`) or a client (`createClient`). */
  readonly limiter: Pick<Limiter, 'check' | 'reset' | 'settle'>;
  /**
   * The scope of the buckets: 0 to 64 characters. Stores with different prefixes share no bucket. The client is the
   * key alone.
   */
  readonly prefix?: string;
  /**
   * `sliding-window` (default) admits at most the limit in any span of a window. `token-bucket` gives tokens back one by
   * one.
   */
  readonly algorithm?: Algorithm;
}

/** Characters that begin the scope of a long prefix. With three bytes each, an ellipsis and a hash still fit. */
const BEGIN_CHARS = 31;

/** Counted hits, as middlewares that count by themselves want them. */
export interface Hits {
  /** One more than the limit for a hit that is denied. */
  readonly count: number;
  /** Ms until the count is 0 or, for a hit that is denied, until the next one could pass. */
  readonly resetMs: number;
  /** For `settle`, if one was asked for and the hit was counted. */
  readonly reservation: string | undefined;
}

/** A limit as a middleware has it. */
export interface HitLimit {
  /** `undefined` when it is known only after the hit has been counted. */
  readonly limit: number | undefined;
  readonly windowMs: number;
}

/**
 * Counts hits. With a limit, a key is a client with a bucket: a hit that is denied consumes nothing, so the client
 * recovers while it asks on.
 *
 * Without a limit, nobody knows which hits are denied, and all count. So that a client recovers nevertheless, each
 * window is a scope of its own, as in a fixed window: its number is the time of the wall clock divided by its length.
 */
export class HitCounter {
  constructor(
    private readonly options: Required<StoreOptions>,
    private readonly prefix: string,
  ) {}

  async hit(key: string, limit: HitLimit, reserve: boolean): Promise<Hits> {
    // A node may decide from leased tokens, and then knows the count only roughly. With an id it asks the owner.
    const id = limit.limit === undefined && !reserve ? { requestId: crypto.randomUUID() } : undefined;
    const decision = await this.check(key, limit, Object.assign({}, id, reserve ? { reserve } : undefined));
    const { allowed, remaining, retryAfterMs, resetMs, reservation, source } = decision;
    if (!allowed)
      return {
        count: (limit.limit ?? MAX_LIMIT) + 1,
        resetMs: retryAfterMs ?? limit.windowMs,
        reservation: undefined,
      };
    // If no node can be asked, the limiter may allow everything. Then it knows no count.
    const count = source === 'fallback' && remaining === 0 ? 1 : Math.max(1, decision.limit - remaining);
    const leftMs = limit.limit === undefined ? limit.windowMs - (Date.now() % limit.windowMs) : resetMs;
    return { count, resetMs: leftMs, reservation };
  }

  /** Counts no hit. */
  async read(key: string, limit: HitLimit): Promise<Hits> {
    const decision = await this.check(key, limit, { peek: true });
    return { count: decision.limit - decision.remaining, resetMs: decision.resetMs, reservation: undefined };
  }

  /** @throws TokenringError for a denial without a node: a middleware would blame the caller for it */
  private async check(key: string, limit: HitLimit, more: Partial<AllowRequest>): Promise<Decision> {
    const decision = await this.options.limiter.check(Object.assign(this.requestOf(key, limit), more));
    if (!isClosed(decision)) return decision;
    const retryAfterMs = decision.retryAfterMs!;
    // Frameworks answer with the status and the headers of an error.
    const headers = { 'Retry-After': String(seconds(retryAfterMs)) };
    throw Object.assign(new TokenringError('unavailable', { retryAfterMs }), { headers });
  }

  private requestOf(clientId: string, { limit, windowMs }: HitLimit): AllowRequest {
    const { prefix } = this;
    const window = Math.min(Math.max(1, Math.floor(windowMs)), MAX_WINDOW_MS);
    if (limit === undefined) {
      const ofWindow = scopeOf(`${prefix}@${Math.floor(Date.now() / window)}`);
      return { clientId, ...ofWindow, limit: MAX_LIMIT, window, algorithm: 'sliding-window' };
    }
    const whole = Math.min(Math.max(0, Math.floor(limit)), MAX_LIMIT);
    return { clientId, ...scopeOf(prefix), limit: whole, window, algorithm: this.options.algorithm };
  }
}

/**
 * Returns the scope of a prefix. The end of a long one is replaced by a hash: the address of a route may have any
 * length.
 */
function scopeOf(prefix: string): Pick<AllowRequest, 'scope'> {
  if (prefix === '') return {};
  if (isText(prefix, MAX_SCOPE_BYTES)) return { scope: prefix };
  const digest = new Uint32Array(4);
  md5(prefix, digest);
  const hash = Array.from(digest, (word) => word.toString(16).padStart(8, '0')).join('');
  return { scope: `${prefix.slice(0, BEGIN_CHARS).toWellFormed()}…${hash}` };
}

const NAMES = ['limiter', 'prefix', 'algorithm'];
const METHODS = ['check', 'reset', 'settle'] as const;
const MAX_PREFIX = 64;

/**
 * @param store name of the function, for messages
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function readStoreOptions(store: string, options: StoreOptions, defaultPrefix: string): Required<StoreOptions> {
  const fail = (what: string): never => {
    throw new TypeError(`${store}: ${what}`);
  };
  if (typeof (options as unknown) !== 'object' || (options as unknown) === null || 'check' in options)
    fail(`expected options: ${store}({ limiter })`);
  for (const name of Object.keys(options)) if (!NAMES.includes(name)) fail(noSuchOption(name, NAMES));
  const { limiter, prefix = defaultPrefix, algorithm = 'sliding-window' } = options;
  const given = Object(limiter) as Record<string, unknown>;
  if (typeof given['then'] === 'function') fail('limiter: it is a promise; write `await createNode()`');
  if (!METHODS.every((name) => typeof given[name] === 'function'))
    fail('limiter: expected a node (createNode) or a client (createClient)');
  if (typeof (prefix as unknown) !== 'string' || prefix.length > MAX_PREFIX)
    fail(badValue('prefix', prefix, `a text of at most ${MAX_PREFIX} characters`).detail);
  if (!['sliding-window', 'token-bucket'].includes(algorithm))
    fail(badValue('algorithm', algorithm, '"sliding-window" or "token-bucket"').detail);
  return { limiter, prefix, algorithm };
}

/** A reservation can be settled for ten minutes. */
const OPEN_MS = 590_000;
/** Bound of hits that may be given back. */
const MAX_OPEN = 100_000;

interface OpenHit {
  /** `undefined` for a hit that was denied, so that there is nothing to give back. */
  readonly reservation: string | undefined;
  readonly untilMs: number;
}

/**
 * Remembers hits that may be given back. A middleware names only the key, so it is the last hit: of two requests that are
 * under way at once, the wrong one may be given back. The count is right, and it ends by that much earlier.
 */
export class OpenHits {
  /** The key that was hit last stands last. */
  private readonly byKey = new Map<string, OpenHit[]>();
  private size = 0;

  add(key: string, reservation: string | undefined): void {
    const hits = this.remove(key);
    hits.push({ reservation, untilMs: performance.now() + OPEN_MS });
    this.put(key, hits);
    if (this.size <= MAX_OPEN) return;
    const [oldestKey, hitsOfOldest] = this.byKey.entries().next().value!;
    hitsOfOldest.shift();
    this.size -= 1;
    if (hitsOfOldest.length === 0) this.byKey.delete(oldestKey);
  }

  /** Removes the last hit of a key. @returns its reservation, if there is one */
  take(key: string): string | undefined {
    const hits = this.remove(key);
    const last = hits.pop();
    this.put(key, hits);
    return last?.reservation;
  }

  clear(): void {
    this.byKey.clear();
    this.size = 0;
  }

  /** Removes all hits of a key. @returns those that can still be settled */
  private remove(key: string): OpenHit[] {
    const hits = this.byKey.get(key) ?? [];
    this.byKey.delete(key);
    this.size -= hits.length;
    const nowMs = performance.now();
    const alive = hits.findIndex(({ untilMs }) => untilMs > nowMs);
    hits.splice(0, alive < 0 ? hits.length : alive);
    return hits;
  }

  private put(key: string, hits: OpenHit[]): void {
    if (hits.length > 0) this.byKey.set(key, hits);
    this.size += hits.length;
  }
}
