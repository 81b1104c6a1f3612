import { toLastingState } from '../../limits/bucket/snapshot.js';
import type { Ring } from '../../limits/ring/ring.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { Membership } from '../../membership/membership.js';
import type { Clock } from '../../lib/system.js';
import type { LastingClient, Store, StoreResult } from '../../store/store.js';
import type { UnwrittenClients } from './unwritten-clients.js';

/** Clients in one write: they are read from the table in about a millisecond. */
const BATCH = 1_000;

/**
 * Writes the unwritten clients, and with them the members of the ring.
 *
 * @param onResult called with the result of each write
 */
export class StoreWriter {
  private readonly members: {
    toStore: () => Ring | undefined;
    areOutdated: () => boolean;
    begin: () => undefined;
    stored: (ring: Ring) => undefined;
  };
  private currentWrite: Promise<void> | undefined;
  private written = 0;

  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly table: BucketTable;
      readonly membership: Membership;
      readonly store: Store;
      readonly unwritten: UnwrittenClients;
    },
    private readonly onResult: (result: StoreResult) => void,
  ) {
    this.members = trackStoredMembers(this.deps.store, this.deps.membership);
  }

  /** Writes everything that waits now, batch by batch. Never rejects. A call during a write returns that write. */
  write(): Promise<void> {
    return (this.currentWrite ??= this.writeRound().finally(() => (this.currentWrite = undefined)));
  }

  /** The write under way. */
  writing(): Promise<void> | undefined {
    return this.currentWrite;
  }

  /** Whether a client, a removal or a change of the ring waits to be written. */
  isPending(): boolean {
    return !this.deps.unwritten.isEmpty() || this.members.areOutdated();
  }

  writtenClients(): number {
    return this.written;
  }

  /** From now on the store is told of the members of the ring. */
  beginToStoreMembers(): void {
    this.members.begin();
  }

  private async writeRound(): Promise<void> {
    const ring = this.members.toStore();
    const others = ring?.members.filter((id) => id !== this.deps.membership.self().id);
    this.deps.unwritten.beginRound();
    for (let goesOn = true; goesOn;) {
      const { clientIds, forgotten } = this.deps.unwritten.takeBatch(BATCH);
      const lasting = lastingOf(this.deps.table, clientIds, this.deps.clock.nowMs());
      const result = await this.deps.store.write(lasting, forgotten, others);
      this.onResult(result);
      if (result.kind === 'failed') return this.deps.unwritten.failRound();
      if (ring !== undefined) this.members.stored(ring);
      this.written += lasting.length - result.left.length;
      goesOn = this.deps.unwritten.completeBatch(result.left);
    }
    this.deps.unwritten.endRound();
  }
}

/** The clients that hold something at `nowMs`; the store lets the others expire by itself. */
function lastingOf(table: BucketTable, clientIds: readonly string[], nowMs: number): LastingClient[] {
  const lasting: LastingClient[] = [];
  for (const id of clientIds) {
    const client = table.peek(id);
    const { snapshots } = client === undefined ? { snapshots: [] } : toLastingState(client, nowMs);
    if (snapshots.length > 0) lasting.push([id, snapshots]);
  }
  return lasting;
}

/**
 * A store of this node's own remembers the members of the ring, which a cold start waits for. It is told of them only
 * after the last cold start is over: a node that dies before must wait for the same peers again.
 */
function trackStoredMembers(store: Store, membership: Membership) {
  let storedRing: Ring = membership.ring();
  let begun = false;
  return {
    /** The ring whose members the next write stores. */
    toStore: () => (begun ? membership.ring() : undefined),
    areOutdated: () =>
      !store.shared && begun && storedRing !== membership.ring() && membership.ring().members.length > 0,
    begin: () => void (begun = true),
    stored: (ring: Ring) => void (storedRing = ring),
  };
}
