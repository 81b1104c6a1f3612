import { toLastingState } from '../../core/snapshot.js';
import type { NodeId, Ring } from '../../core/ring.js';
import type { BucketTable, Client } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import type { Clock, LastingClient, LockCounters, Log, Store, StoreResult, Timers } from '../ports.js';
import type { Replicator } from '../replication/replicator.js';
import { createStoreReader } from './store-reader.js';
import { createTableWalk } from '../state/table-walk.js';

/** How long after its change a client is written. */
const INTERVAL_MS = 200;
/** Clients in one write: what is sampled in about a millisecond. */
const BATCH = 1_000;
/** Clients that wait to be written: above, none is remembered, and the whole table is written once the store is back. */
const MAX_WAITING = 100_000;
/** Clients to be removed from the store that wait; above, the first ones are not removed. */
const MAX_FORGOTTEN = 10_000;
/** While so many wait, no more are looked for. */
const MAX_FOUND = 20_000;
/** Pause after a failure before the store is tried again. */
const RETRY_MS = 1_000;

/** Brings what is decided here to the store, some time after the decisions, and back at the start. */
export interface WriteBehind {
  /** Notes that a client's buckets changed: they are written within the interval, if the store takes them. */
  changed(client: Client): void;
  /** Notes that a client is to be removed from the store. */
  forget(clientId: string): void;
  /** Looks through the table, in steps, for clients that this node has come to own: nobody else may have written them. */
  ringChanged(): void;
  /** Reads what is stored. Resolves when it is read, or after 5 s without: what is read later is joined in then. */
  load(): Promise<void>;
  /** Resolves when all that waits is written, or the store has failed. */
  flush(): Promise<void>;
  close(): void;
  /** Clients that wait to be written. */
  readonly waiting: number;
  /** Ms since the oldest change that is not in the store; 0: none. A crash of all nodes now would forget what came since. */
  readonly lagMs: number;
  /** Whether the store did what was last asked of it. */
  readonly up: boolean;
  readonly writtenClients: number;
  readonly loadedClients: number;
  readonly failures: number;
  /** Times that more changed than may wait, or the store lost what it had, so that the whole table is written. */
  readonly rewrites: number;
  readonly unreadable: number;
  readonly lock: LockCounters | undefined;
  /** The other members of the ring when this node was last there, whose own stores have the rest of what is remembered. */
  readonly missingPeers: readonly NodeId[];
  /** Those are back, or not waited for any more: from now on the store is told of the ring as it is. */
  stopAwaitingPeers(): void;
}

interface WriteBehindDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly table: BucketTable;
  readonly copies: Copies;
  readonly membership: Membership;
  readonly store: Store;
  readonly log: Log;
}

export function createWriteBehind(
  deps: WriteBehindDeps,
  options: { readonly storeIntervalMs?: number; readonly maxClients: number; readonly maxWaiting?: number },
): WriteBehind {
  const { clock, timers, table, copies, membership, store, log } = deps;
  const { storeIntervalMs = INTERVAL_MS, maxClients, maxWaiting = MAX_WAITING } = options;
  let waiting: Client[] = [];
  let forgotten: string[] = [];
  /** More changed than may wait: they are found again by a walk. */
  let overflowed = false;
  let writing: Promise<void> | undefined;
  let inFlight = 0;
  let sinceMs = 0;
  let retryAtMs = 0;
  let up = true;
  let closed = false;
  let writtenClients = 0;
  let failures = 0;
  let rewrites = 0;
  // Timers run only while there is something to do.
  let stopWriting: (() => void) | undefined;
  /** Whether the table is looked through for all of this node's clients, or for those that it has come to own. */
  let walksAll = false;
  let walkedRing: Ring = membership.ring;
  const tableWalk = createTableWalk(
    { timers, table },
    {
      visit(client) {
        if (client.first === undefined) return;
        const { ring, self } = membership;
        const mine = ring.owner(client.id) === self.id;
        if (walksAll ? mine || client.decidedAsActingOwner : mine && walkedRing.owner(client.id) !== self.id)
          enqueue(client);
      },
      mayGoOn: () => waiting.length < Math.min(MAX_FOUND, maxWaiting),
      done() {
        walksAll = false;
        walkedRing = membership.ring;
      },
    },
  );
  /** The one whose members the store knows. */
  let writtenRing: Ring = membership.ring;
  /** Until those are back: a node that dies meanwhile must wait for them again. */
  let gathering = true;

  function startWriting(): void {
    if (closed) return;
    stopWriting ??= timers.every(storeIntervalMs, () => {
      if (writing !== undefined) return;
      if (isPending()) {
        if (clock.nowMs() >= retryAtMs) void write();
        return;
      }
      stopWriting?.();
      stopWriting = undefined;
    });
  }

  function isPending(): boolean {
    const otherRing =
      !store.shared && !gathering && writtenRing !== membership.ring && membership.ring.members.length > 0;
    return waiting.length > 0 || forgotten.length > 0 || overflowed || otherRing;
  }

  function enqueue(client: Client): void {
    if (client.unwritten || overflowed) return;
    if (waiting.length >= maxWaiting) return overflow();
    if (waiting.length === 0 && inFlight === 0) sinceMs = clock.nowMs();
    client.unwritten = true;
    waiting.push(client);
    startWriting();
  }

  function overflow(): void {
    for (const client of waiting) client.unwritten = false;
    waiting = [];
    overflowed = true;
    log.warn({ waiting: maxWaiting }, 'more changed than may wait for the store: all is written once it is back');
  }

  /** Writes all that waits, batch after batch. Never rejects. */
  function write(): Promise<void> {
    return (writing ??= writeBatches().finally(() => (writing = undefined)));
  }

  /** What changes meanwhile waits for the next interval, or this would never end. */
  async function writeBatches(): Promise<void> {
    const startMs = clock.nowMs();
    const told = gathering ? undefined : membership.ring;
    const others = told?.members.filter((id) => id !== membership.self.id);
    const left: Client[] = [];
    let toWrite = waiting.length;
    do {
      const nowMs = clock.nowMs();
      const clients = waiting.slice(0, Math.min(BATCH, toWrite));
      waiting = waiting.slice(clients.length);
      toWrite -= clients.length;
      const removed = forgotten;
      forgotten = [];
      const lasting: LastingClient[] = [];
      for (const client of clients) {
        client.unwritten = false;
        // What is at rest by now leaves the store by itself.
        const { snapshots } = toLastingState(client, nowMs);
        if (snapshots.length > 0) lasting.push([client.id, snapshots]);
      }
      inFlight = clients.length + left.length;
      const result = await store.write(lasting, removed, others);
      inFlight = 0;
      note(result);
      if (result.kind === 'failed') {
        forgotten = [...removed, ...forgotten];
        return retry([...left, ...clients]);
      }
      if (told !== undefined) writtenRing = told;
      writtenClients += lasting.length - result.left.length;
      const again = new Set(result.left);
      left.push(...clients.filter(({ id }) => again.has(id)));
      forgotten.push(...removed.filter((id) => again.has(id)));
    } while (toWrite > 0 && !overflowed);
    if (left.length === 0) sinceMs = startMs;
    // Once more at the next interval: to try at once would only be in the way of the node that writes near them.
    else retry(left);
  }

  /** What was not written waits again, first. */
  function retry(clients: readonly Client[]): void {
    if (overflowed) return;
    const again = clients.filter(({ unwritten }) => !unwritten);
    for (const client of again) client.unwritten = true;
    waiting = [...again, ...waiting];
  }

  function note(result: StoreResult): void {
    if (result.kind === 'failed') {
      failures += 1;
      retryAtMs = clock.nowMs() + RETRY_MS;
      if (up) log.warn({ reason: result.reason }, 'the store failed: decisions go on, what changes waits');
      up = false;
      return;
    }
    if (!up) log.info({ waiting: waiting.length, all: overflowed }, 'the store is back');
    up = true;
    if (result.lost) log.warn({}, 'the store has lost what it had: all is written again');
    if (!result.lost && !overflowed) return;
    overflowed = false;
    rewrites += 1;
    walk(true);
  }

  function walk(all: boolean): void {
    walksAll ||= all;
    tableWalk.start();
  }

  const reader = createStoreReader(
    { clock, timers, table, copies, store, log },
    { maxClients, told: note, isClosed: () => closed },
  );

  return {
    changed: enqueue,
    forget(clientId) {
      forgotten.push(clientId);
      if (forgotten.length > MAX_FORGOTTEN) forgotten.shift();
      startWriting();
    },
    ringChanged() {
      walk(false);
      startWriting();
    },
    load: reader.load,
    async flush() {
      // Once for what is under way, which may have been sampled before, and once for the rest.
      await writing;
      if (isPending()) await write();
    },
    close() {
      closed = true;
      stopWriting?.();
      tableWalk.close();
    },
    get waiting() {
      return waiting.length + inFlight;
    },
    get lagMs() {
      return waiting.length + inFlight > 0 || overflowed ? clock.nowMs() - sinceMs : 0;
    },
    get up() {
      return up;
    },
    get writtenClients() {
      return writtenClients;
    },
    get loadedClients() {
      return reader.loadedClients;
    },
    get failures() {
      return failures;
    },
    get rewrites() {
      return rewrites;
    },
    get unreadable() {
      return store.unreadable;
    },
    get missingPeers() {
      return reader.missingPeers;
    },
    stopAwaitingPeers() {
      gathering = false;
      startWriting();
    },
    lock: store.lock,
  };
}

/** Where changes are noted, and go to the store too, if there is one. */
export function alsoWritten(
  replicator: Replicator,
  writeBehind: WriteBehind | undefined,
): Pick<Replicator, 'changed' | 'replicateNow'> {
  if (writeBehind === undefined) return replicator;
  return {
    changed(client) {
      replicator.changed(client);
      writeBehind.changed(client);
    },
    replicateNow: (clients, to) => replicator.replicateNow(clients, to),
  };
}
