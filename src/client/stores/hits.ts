import { isClosed } from '../../limits/decide/decision.js';
import type { Decision } from '../../limits/decide/decision.js';
import { isText } from '../../limits/client-id.js';
import { TokenringError } from '../../lib/error.js';
import { seconds } from '../../limits/request/rate-limit-headers.js';
import { MAX_LIMIT, MAX_SCOPE_BYTES, MAX_WINDOW_MS } from '../../limits/bucket/rule.js';
import type { AllowRequest } from '../../limits/request/request.js';
import { md5 } from '../../limits/ring/md5.js';
import type { StoreOptions } from './store-options.js';

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

interface HitCounter {
  hit(key: string, limit: HitLimit, options: { readonly reserve: boolean }): Promise<Hits>;
  /** Counts no hit. */
  read(key: string, limit: HitLimit): Promise<Hits>;
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

/**
 * Counts hits. With a limit, a key is a client with a bucket: a hit that is denied consumes nothing, so the client
 * recovers while it asks on.
 *
 * Without a limit, nobody knows which hits are denied, and all count. So that a client recovers nevertheless, each
 * window is a scope of its own, as in a fixed window: its number is the time of the wall clock divided by its length.
 */
export function createHitCounter({ limiter, prefix, algorithm }: Required<StoreOptions>): HitCounter {
  function questionOf(key: string, { limit, windowMs }: HitLimit): AllowRequest {
    const window = Math.min(Math.max(1, Math.floor(windowMs)), MAX_WINDOW_MS);
    if (limit !== undefined) {
      const whole = Math.min(Math.max(0, Math.floor(limit)), MAX_LIMIT);
      return { clientId: key, ...scopeOf(prefix), limit: whole, window, algorithm };
    }
    const ofWindow = scopeOf(`${prefix}@${Math.floor(Date.now() / window)}`);
    return { clientId: key, ...ofWindow, limit: MAX_LIMIT, window, algorithm: 'sliding-window' };
  }

  /** @throws TokenringError for a denial without a node: a middleware would blame the caller for it */
  async function check(request: AllowRequest): Promise<Decision> {
    const decision = await limiter.check(request);
    if (!isClosed(decision)) return decision;
    const retryAfterMs = decision.retryAfterMs!;
    // Frameworks answer with the status and the headers of an error.
    const headers = { 'Retry-After': String(seconds(retryAfterMs)) };
    throw Object.assign(new TokenringError('unavailable', { retryAfterMs }), { headers });
  }

  function hitsOf(decision: Decision, { limit, windowMs }: HitLimit): Hits {
    const { allowed, remaining, retryAfterMs, resetMs, reservation, source } = decision;
    if (!allowed) return { count: (limit ?? MAX_LIMIT) + 1, resetMs: retryAfterMs ?? windowMs, reservation: undefined };
    // If no node can be asked, the limiter may allow everything. Then it knows no count.
    const count = source === 'fallback' && remaining === 0 ? 1 : Math.max(1, decision.limit - remaining);
    const leftMs = limit === undefined ? windowMs - (Date.now() % windowMs) : resetMs;
    return { count, resetMs: leftMs, reservation };
  }

  return {
    async hit(key, limit, { reserve }) {
      const question = questionOf(key, limit);
      // A node may decide from leased tokens, and then knows the count only roughly. With an id it asks the owner.
      const id = limit.limit === undefined && !reserve ? { requestId: crypto.randomUUID() } : undefined;
      return hitsOf(await check(Object.assign(question, id, reserve ? { reserve } : undefined)), limit);
    },
    async read(key, limit) {
      const decision = await check(Object.assign(questionOf(key, limit), { peek: true }));
      return { count: decision.limit - decision.remaining, resetMs: decision.resetMs, reservation: undefined };
    },
  };
}
