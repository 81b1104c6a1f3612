import { createOpenHits } from './given-back.js';
import { createHitCounter } from './hits.js';
import type { HitLimit, Hits } from './hits.js';
import { readStoreOptions } from './store-options.js';
import type { StoreOptions } from './store-options.js';

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
  const hits = createHitCounter(read);
  const open = createOpenHits({ nowMs: () => performance.now() });
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
      const hit = await hits.hit(key, known(), { reserve: reserves });
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
