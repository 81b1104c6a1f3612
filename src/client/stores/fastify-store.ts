import { HitCounter, readStoreOptions, type Hits, type StoreOptions } from './hits.js';

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
