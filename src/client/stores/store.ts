// The entry `tokenring/store`: stores for middlewares that count by themselves.
import { HitCounter, OpenHits, readStoreOptions, type HitLimit, type Hits, type StoreOptions } from './hits.js';

export type { Limiter } from '../../limits/request/limiter.js';
export type { StoreOptions };

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
      if (hit.reservation !== undefined || countsDenials) open.add(key, hit.reservation);
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

type Callback = (error: Error | null, result?: { current: number; ttl: number }) => void;

/** The interface of a store of @fastify/rate-limit 11. */
export interface FastifyStore {
  /** @param timeWindow in ms */
  incr(key: string, callback: Callback, timeWindow: number, max: number): void;
  /** As `incr`, and counts nothing. */
  read(key: string, callback: Callback, timeWindow: number, max: number): void;
  /** Makes the store of a route, which shares no bucket with that of another route. */
  child(routeOptions: RouteOptions): FastifyStore;
}

/** The options of @fastify/rate-limit that the store reads. */
interface PluginOptions {
  readonly continueExceeding?: boolean;
  readonly exponentialBackoff?: boolean;
  /** Denied hits after which a client is banned; -1 for never. */
  readonly ban?: number;
}

interface RouteOptions extends PluginOptions {
  readonly routeInfo?: { readonly method?: string | readonly string[]; readonly url?: string };
}

/**
 * Creates the store class of @fastify/rate-limit: `app.register(rateLimit, { …, store: fastifyStore({ limiter }) })`.
 * The class throws for options that count denied hits: `continueExceeding`, `exponentialBackoff`, and `ban` above 0.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function fastifyStore(options: StoreOptions): new (options: object) => FastifyStore {
  const read = readStoreOptions('fastifyStore', options, 'fastify-rate-limit-');

  function createStore(pluginOptions: PluginOptions, prefix: string): FastifyStore {
    checkPluginOptions(pluginOptions);
    const hits = new HitCounter(read, prefix);
    return {
      incr(key, callback, windowMs, limit) {
        answer(hits.hit(key, { limit, windowMs }, false), callback);
      },
      read(key, callback, windowMs, limit) {
        answer(hits.read(key, { limit, windowMs }), callback);
      },
      child(routeOptions) {
        const { method = '', url = '' } = routeOptions.routeInfo ?? {};
        return createStore(routeOptions, `${prefix}${String(method)}${url}-`);
      },
    };
  }

  // @fastify/rate-limit calls `new`, and takes the object that a constructor returns.
  return function Store(pluginOptions: PluginOptions) {
    return createStore(pluginOptions, read.prefix);
  } as unknown as new (options: object) => FastifyStore;
}

function answer(counted: Promise<Hits>, callback: Callback): void {
  counted.then(
    ({ count, resetMs }) => callback(null, { current: count, ttl: resetMs }),
    (error: unknown) => callback(error instanceof Error ? error : new Error(String(error), { cause: error })),
  );
}

function checkPluginOptions({ continueExceeding, exponentialBackoff, ban = -1 }: PluginOptions): void {
  const counting = Object.entries({ continueExceeding, exponentialBackoff, ban: ban > 0 });
  for (const [name, isSet] of counting)
    if (isSet === true)
      throw new TypeError(`fastifyStore: ${name}: it counts denied requests, and here a denial consumes nothing`);
}
