import type { Clock, Log, Store } from '../cluster/ports.js';
import { openLmdbStore } from './lmdb.js';
import { parseRedisAddress } from './redis-address.js';
import { openRedisStore } from './redis.js';

interface StoreDeps {
  readonly log: Log;
  readonly clock: Clock;
  /** Wall ms, which may step. */
  readonly wallMs: () => number;
}

/**
 * The store that a setting names; none for `memory`. Resolves though it does not answer.
 * @throws StoreError when what is stored is of another version of this program
 */
export async function openStore(address: string, deps: StoreDeps): Promise<Store | undefined> {
  if (address === 'memory') return undefined;
  if (address.startsWith('lmdb:')) return openLmdbStore(deps, { path: address.slice('lmdb:'.length) });
  return openRedisStore(deps, parseRedisAddress(address)!);
}
