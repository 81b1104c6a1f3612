import type { NodeId } from '../../limits/ring/ring.js';
import { MARK } from '../../state/bucket-table.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { Copies } from '../../state/copies.js';
import type { ClientSnapshot } from '../../state/client-snapshot.js';
import type { Clock, Timers } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { Store, StoreResult } from '../../store/store.js';

/** Pause after a failure before the store is asked again. */
const RETRY_MS = 1_000;
/** How long a start waits for the store. */
const LOAD_TIMEOUT_MS = 5_000;

/** Reads the store into the table at the start. */
interface StoreReader {
  /** Resolves when the store is read, or after 5 s; clients that are read later are merged in then. */
  readonly load: () => Promise<void>;
  loadedClients(): number;
  /** The other members of the ring when this node last wrote to a store of its own. */
  missingPeers(): readonly NodeId[];
}

interface StoreReaderDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly table: BucketTable;
  readonly copies: Copies;
  readonly store: Store;
  readonly log: Log;
}

interface StoreReaderOptions {
  readonly maxClients: number;
  /** Called with the result of each attempt. */
  readonly onResult: (result: StoreResult) => void;
  readonly isClosed: () => boolean;
}

export function createStoreReader(deps: StoreReaderDeps, options: StoreReaderOptions): StoreReader {
  const { clock, timers, table, copies, store, log } = deps;
  const { maxClients, onResult, isClosed } = options;
  let loadedClients = 0;
  let missingPeers: readonly NodeId[] = [];

  function keep(clients: readonly ClientSnapshot[]): boolean {
    const room = Math.max(0, maxClients - table.size());
    copies.keep(clients.slice(0, room));
    loadedClients += Math.min(room, clients.length);
    // If each node has its own store, the other nodes may not know these clients, so this node must send them on.
    if (!store.shared) for (const [id] of clients) table.mark(table.peek(id)?.slot ?? -1, MARK.actingOwner);
    if (clients.length <= room) return true;
    log.warn({ maxClients }, 'the store holds more clients than the table; ignoring the rest');
    return false;
  }

  async function loadAll(): Promise<void> {
    for (;;) {
      const result = await store.load(keep);
      onResult(result);
      if (result.kind === 'done' && !store.shared) missingPeers = [...store.members()];
      if (result.kind === 'done' || isClosed()) return;
      await timers.sleep(RETRY_MS);
    }
  }

  return {
    async load() {
      const startMs = clock.nowMs();
      const loading = loadAll().then((): boolean => {
        log.info({ clients: loadedClients, ms: clock.nowMs() - startMs }, 'read the store');
        return true;
      });
      const loaded = await Promise.race([loading, timers.sleep(LOAD_TIMEOUT_MS).then(() => false)]);
      if (!loaded) log.warn({ clients: loadedClients }, 'starting before the store is read; the rest follows');
    },
    loadedClients: () => loadedClients,
    missingPeers: () => missingPeers,
  };
}
