import type { Limiter } from '../../limits/request/limiter.js';
import { badValue, noSuchOption } from '../../lib/mistake.js';
import type { Algorithm } from '../../limits/bucket/rule.js';

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
