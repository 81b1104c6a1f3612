import { toLastingState } from '../../limits/bucket/snapshot.js';
import type { Ring } from '../../limits/ring/ring.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { Membership } from '../../membership/membership.js';
import type { Clock } from '../../lib/clock.js';
import type { LastingClient, Store, StoreResult } from '../../store/store.js';
import type { UnwrittenClients } from './unwritten-clients.js';

/** Clients in one write: they are read from the table in about a millisecond. */
const BATCH = 1_000;

/** Writes the unwritten clients, and with them the members of the ring. */
interface StoreWriter {
  /** Writes everything that waits now, batch by batch. Never rejects. A call during a write returns that write. */
  write(): Promise<void>;
  /** The write under way. */
  writing(): Promise<void> | undefined;
  /** Whether a client, a removal or a change of the ring waits to be written. */
  isPending(): boolean;
  writtenClients(): number;
  /** From now on the store is told of the members of the ring. */
  beginToStoreMembers(): void;
}

interface StoreWriterDeps {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly store: Store;
  readonly unwritten: UnwrittenClients;
}

/** @param onResult called with the result of each write */
export function createStoreWriter(
  { clock, table, membership, store, unwritten }: StoreWriterDeps,
  onResult: (result: StoreResult) => void,
): StoreWriter {
  const members = trackStoredMembers(store, membership);
  let writing: Promise<void> | undefined;
  let writtenClients = 0;

  async function writeRound(): Promise<void> {
    const ring = members.toStore();
    const others = ring?.members.filter((id) => id !== membership.self().id);
    unwritten.beginRound();
    for (let goesOn = true; goesOn;) {
      const { clientIds, forgotten } = unwritten.takeBatch(BATCH);
      const lasting = lastingOf(table, clientIds, clock.nowMs());
      const result = await store.write(lasting, forgotten, others);
      onResult(result);
      if (result.kind === 'failed') return unwritten.failRound();
      if (ring !== undefined) members.stored(ring);
      writtenClients += lasting.length - result.left.length;
      goesOn = unwritten.completeBatch(result.left);
    }
    unwritten.endRound();
  }

  return {
    write: () => (writing ??= writeRound().finally(() => (writing = undefined))),
    writing: () => writing,
    isPending: () => !unwritten.isEmpty() || members.areOutdated(),
    writtenClients: () => writtenClients,
    beginToStoreMembers: () => members.begin(),
  };
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
