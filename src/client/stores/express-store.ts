import { HitCounter, readStoreOptions, type HitLimit, type Hits, type StoreOptions } from './hits.js';

/** The options of express-rate-limit that the store reads. */
interface LimiterOptions {
  readonly windowMs: number;
  /** A function is called only after the hit has been counted, so its limit is unknown here. */
  readonly limit: unknown;
  readonly skipFailedRequests: boolean;
  readonly skipSuccessfulRequests: boolean;
}

interface ClientInfo {
  totalHits: number;
  resetTime: Date | undefined;
}

/** The interface `Store` of express-rate-limit 8. */
export interface ExpressStore {
  /** Keys are counted in the cluster, not in this process. */
  readonly localKeys: false;
  readonly prefix: string;
  init(options: LimiterOptions): void;
  get(key: string): Promise<ClientInfo | undefined>;
  increment(key: string): Promise<ClientInfo>;
  /** Gives the last hit of this process back. It needs `skipFailedRequests` or `skipSuccessfulRequests`. */
  decrement(key: string): Promise<void>;
  /**
   * Forgets a key on every node, also under other limiters: a key is a client. A client needs a token with the role
   * `admin` for it.
   */
  resetKey(key: string): Promise<void>;
  /** Forgets which hits may be given back. It does not close the limiter. */
  shutdown(): void;
}

/**
 * Creates a store for express-rate-limit: `rateLimit({ …, store: expressStore({ limiter }) })`.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function expressStore(options: StoreOptions): ExpressStore {
  const read = readStoreOptions('expressStore', options, 'rl:');
  const hits = new HitCounter(read, read.prefix);
  const open = new OpenHits();
  let limits: HitLimit | undefined;
  let reserves = false;
  let countsDenials = false;

  function known(): HitLimit {
    if (limits !== undefined) return limits;
    throw new Error('expressStore: a limiter of express-rate-limit has to call init() with its windowMs first');
  }

  const infoOf = ({ count, resetMs }: Hits): ClientInfo => ({
    totalHits: count,
    resetTime: new Date(Date.now() + resetMs),
  });

  return {
    localKeys: false,
    prefix: read.prefix,
    init({ windowMs, limit, skipFailedRequests, skipSuccessfulRequests }) {
      limits = { windowMs, limit: typeof limit === 'number' ? limit : undefined };
      reserves = skipFailedRequests || skipSuccessfulRequests;
      countsDenials = skipFailedRequests;
    },
    async get(key) {
      const found = await hits.read(key, known());
      return found.count === 0 ? undefined : infoOf(found);
    },
    async increment(key) {
      const hit = await hits.hit(key, known(), reserves);
      // express-rate-limit decrements for an answer 429 too, as it takes it for a failed request.
      if (hit.reservation !== undefined || (reserves && countsDenials)) open.add(key, hit.reservation);
      return infoOf(hit);
    },
    async decrement(key) {
      if (!reserves)
        throw new Error(
          'expressStore: a hit can be given back only with skipFailedRequests or skipSuccessfulRequests; ' +
            'without them nothing is reserved',
        );
      const reservation = open.take(key);
      if (reservation !== undefined) await read.limiter.settle(reservation, 0);
    },
    async resetKey(key) {
      await read.limiter.reset(key);
    },
    shutdown: () => open.clear(),
  };
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
class OpenHits {
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
