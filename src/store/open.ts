import type { Clock, Timers } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import type { Store } from './store.js';
import { openLmdbStore } from './lmdb.js';
import { parseRedisAddress } from './redis-address.js';
import { openRedisStore } from './redis.js';

interface StoreDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Pick<Timers, 'every'>;
  /** Wall ms, which may step. */
  readonly wallMs: () => number;
}

/**
 * Opens the store that `TOKENRING_STORE` names; `memory` names none. A store that does not answer is still opened.
 * @throws StoreError when another version of this program wrote the store
 */
export async function openStore(address: string, deps: StoreDeps): Promise<Store | undefined> {
  if (address === 'memory') return undefined;
  if (address.startsWith('lmdb:')) return openLmdbStore(deps, { path: address.slice('lmdb:'.length) });
  return openRedisStore(deps, parseRedisAddress(address)!);
}
