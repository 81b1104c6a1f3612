import type { NodeId } from '../../limits/ring/ring.js';
import { MARK, type BucketTable } from '../../state/bucket-table.js';
import type { Copies } from '../../state/copies.js';
import type { ClientSnapshot } from '../../state/client.js';
import type { Clock, Timers, Log } from '../../lib/system.js';
import type { Store, StoreResult } from '../../store/store.js';

/** Pause after a failure before the store is asked again. */
const RETRY_MS = 1_000;
/** How long a start waits for the store. */
const LOAD_TIMEOUT_MS = 5_000;

/** Reads the store into the table at the start. */
export class StoreReader {
  private loaded = 0;
  private missing: readonly NodeId[] = [];

  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly table: BucketTable;
      readonly copies: Copies;
      readonly store: Store;
      readonly log: Log;
    },
    private readonly options: {
      readonly maxClients: number;
      /** Called with the result of each attempt. */
      readonly onResult: (result: StoreResult) => void;
      readonly isClosed: () => boolean;
    },
  ) {}

  /** Resolves when the store is read, or after 5 s; clients that are read later are merged in then. */
  async load(): Promise<void> {
    const startMs = this.deps.clock.nowMs();
    const loading = this.loadAll().then((): boolean => {
      this.deps.log.info({ clients: this.loaded, ms: this.deps.clock.nowMs() - startMs }, 'read the store');
      return true;
    });
    const loaded = await Promise.race([loading, this.deps.timers.sleep(LOAD_TIMEOUT_MS).then(() => false)]);
    if (!loaded) this.deps.log.warn({ clients: this.loaded }, 'starting before the store is read; the rest follows');
  }

  loadedClients(): number {
    return this.loaded;
  }

  /** The other members of the ring when this node last wrote to a store of its own. */
  missingPeers(): readonly NodeId[] {
    return this.missing;
  }

  private keep(clients: readonly ClientSnapshot[]): boolean {
    const room = Math.max(0, this.options.maxClients - this.deps.table.size());
    this.deps.copies.mergeStored(clients.slice(0, room));
    this.loaded += Math.min(room, clients.length);
    // If each node has its own store, the other nodes may not know these clients, so this node must send them on.
    if (!this.deps.store.shared)
      for (const [id] of clients) this.deps.table.mark(this.deps.table.peek(id)?.slot ?? -1, MARK.actingOwner);
    if (clients.length <= room) return true;
    this.deps.log.warn(
      { maxClients: this.options.maxClients },
      'the store holds more clients than the table; ignoring the rest',
    );
    return false;
  }

  private async loadAll(): Promise<void> {
    for (;;) {
      const result = await this.deps.store.load((clients) => this.keep(clients));
      this.options.onResult(result);
      if (result.kind === 'done' && !this.deps.store.shared) this.missing = [...this.deps.store.members()];
      if (result.kind === 'done' || this.options.isClosed()) return;
      await this.deps.timers.sleep(RETRY_MS);
    }
  }
}
