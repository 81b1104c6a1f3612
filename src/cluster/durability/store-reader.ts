import type { NodeId } from '../../core/ring.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { ClientSnapshot } from '../messages.js';
import type { Clock, Log, Store, StoreResult, Timers } from '../ports.js';

/** Pause after a failure before the store is asked again. */
const RETRY_MS = 1_000;
/** How long a start waits for what is stored. */
const GRACE_MS = 5_000;

/** Brings what is stored into the table, at the start. */
interface StoreReader {
  /** Resolves when it is read, or after 5 s without: what is read later is joined in then. */
  readonly load: () => Promise<void>;
  readonly loadedClients: number;
  /** What a store of this node's own says of who was in the ring. */
  readonly missingPeers: readonly NodeId[];
}

export function createStoreReader(
  deps: {
    readonly clock: Clock;
    readonly timers: Timers;
    readonly table: BucketTable;
    readonly copies: Copies;
    readonly store: Store;
    readonly log: Log;
  },
  options: {
    readonly maxClients: number;
    /** Called with how each attempt ended. */
    readonly told: (result: StoreResult) => void;
    readonly isClosed: () => boolean;
  },
): StoreReader {
  const { clock, timers, table, copies, store, log } = deps;
  const { maxClients, told, isClosed } = options;
  let loadedClients = 0;
  let missingPeers: readonly NodeId[] = [];

  function keep(clients: readonly ClientSnapshot[]): boolean {
    const room = Math.max(0, maxClients - table.size);
    copies.keep(clients.slice(0, room));
    loadedClients += Math.min(room, clients.length);
    // Where each node has a store of its own, the owners and successors may know nothing of what is in this one.
    if (!store.shared) for (const [id] of clients) Object.assign(table.peek(id) ?? {}, { decidedAsActingOwner: true });
    if (clients.length <= room) return true;
    log.warn({ maxClients }, 'the store holds more clients than the table: the rest is not read');
    return false;
  }

  async function loadAll(): Promise<void> {
    for (;;) {
      const result = await store.load(keep);
      told(result);
      if (result.kind === 'done' && !store.shared) missingPeers = [...store.members];
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
      const loaded = await Promise.race([loading, timers.sleep(GRACE_MS).then(() => false)]);
      if (!loaded) log.warn({ clients: loadedClients }, 'starts before the store is read: the rest follows');
    },
    get loadedClients() {
      return loadedClients;
    },
    get missingPeers() {
      return missingPeers;
    },
  };
}
