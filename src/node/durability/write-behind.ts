import type { NodeId } from '../../limits/ring/ring.js';
import type { BucketTable, Client } from '../../state/bucket-table.js';
import type { Copies } from '../../state/copies.js';
import type { Membership } from '../../membership/membership.js';
import type { Clock, Timers } from '../../lib/clock.js';
import type { LockCounters, Store, StoreResult } from '../../store/store.js';
import type { Log } from '../../lib/log.js';
import type { Replicator } from '../../replication/replicator.js';
import { createOwnedClientsWalk } from './owned-clients-walk.js';
import { createStoreReader } from './store-reader.js';
import { createStoreWriter } from './store-writer.js';
import { createUnwrittenClients } from './unwritten-clients.js';
import type { UnwrittenClients } from './unwritten-clients.js';

/** Time between the change of a client and its write. */
const INTERVAL_MS = 200;
/** Clients that may wait to be written. Above this bound the whole table is written once the store is back. */
const MAX_WAITING = 100_000;
/** While this many clients wait, a table walk finds no more. */
const MAX_FOUND = 20_000;
/** Pause after a failure before the store is tried again. */
const RETRY_MS = 1_000;

export interface StoreStats {
  /** Whether the store did what it was last asked to do. */
  readonly up: boolean;
  /** Clients that wait to be written. */
  readonly waiting: number;
  /** Ms since the oldest change that is not in the store; 0: none. If all nodes crash now, later changes are lost. */
  readonly lagMs: number;
  readonly failures: number;
  readonly writtenClients: number;
  readonly loadedClients: number;
  /** How often the whole table was written, because too many changes waited or the store had lost its data. */
  readonly rewrites: number;
  readonly unreadable: number;
  /** Present if nodes share the store. */
  readonly lock: LockCounters | undefined;
}

/** Writes the decisions of this node to the store some time after they are made, and reads them at the start. */
export interface WriteBehind {
  /** Notes that a client's buckets changed. */
  changed(client: Client): void;
  /** Notes that a client is to be removed from the store. */
  forget(clientId: string): void;
  /** Looks for clients that this node has come to own: no other node may have written them. */
  ringChanged(): void;
  /** Reads the store. Resolves when it is read, or after 5 s; clients that are read later are merged in then. */
  load(): Promise<void>;
  /** Resolves when everything that waits is written, or the store has failed. */
  flush(): Promise<void>;
  close(): void;
  stats(): StoreStats;
  /** The other members of the ring when this node was last in it. Their own stores hold the rest of the clients. */
  missingPeers(): readonly NodeId[];
  /** The missing peers are back, or are not awaited any longer: from now on the store is told of the current ring. */
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
  const { clock, timers, store, log } = deps;
  const { storeIntervalMs = INTERVAL_MS, maxClients, maxWaiting = MAX_WAITING } = options;
  const unwritten = createUnwrittenClients(deps, { maxWaiting });
  const health = trackHealth(clock, log);
  const writer = createStoreWriter({ ...deps, unwritten }, noteResult);
  const walk = createOwnedClientsWalk(deps, {
    found: changed,
    mayGoOn: () => unwritten.size() < Math.min(MAX_FOUND, maxWaiting),
  });
  const reader = createStoreReader(deps, { maxClients, onResult: noteResult, isClosed: () => closed });
  let closed = false;
  let rewrites = 0;
  let stopTimer: (() => void) | undefined;

  function changed(client: Client): void {
    unwritten.add(client);
    startTimer();
  }

  /** The timer runs only while something waits to be written. */
  function startTimer(): void {
    if (closed) return;
    stopTimer ??= timers.every(storeIntervalMs, () => {
      if (writer.writing() !== undefined) return;
      if (writer.isPending()) {
        if (health.mayTry()) void writer.write();
        return;
      }
      stopTimer?.();
      stopTimer = undefined;
    });
  }

  function noteResult(result: StoreResult): void {
    health.note(result, unwritten);
    if (result.kind === 'failed' || (!result.lost && !unwritten.overflowed())) return;
    unwritten.clearOverflow();
    rewrites += 1;
    walk.findAll();
  }

  return {
    changed,
    forget(clientId) {
      unwritten.forget(clientId);
      startTimer();
    },
    ringChanged() {
      walk.findNew();
      startTimer();
    },
    load: reader.load,
    async flush() {
      // The write under way may have begun before the latest changes.
      await writer.writing();
      if (writer.isPending()) await writer.write();
    },
    close() {
      closed = true;
      stopTimer?.();
      walk.close();
    },
    stats: () => ({
      up: health.up(),
      waiting: unwritten.size(),
      lagMs: unwritten.lagMs(),
      failures: health.failures(),
      writtenClients: writer.writtenClients(),
      loadedClients: reader.loadedClients(),
      rewrites,
      unreadable: store.unreadable(),
      lock: store.lock,
    }),
    missingPeers: () => reader.missingPeers(),
    stopAwaitingPeers() {
      writer.beginToStoreMembers();
      startTimer();
    },
  };
}

/** Counts failures of the store, and logs when it goes down and when it comes back. */
function trackHealth(clock: Clock, log: Log) {
  let up = true;
  let failures = 0;
  let retryAtMs = 0;
  return {
    up: () => up,
    failures: () => failures,
    mayTry: () => clock.nowMs() >= retryAtMs,
    note(result: StoreResult, unwritten: Pick<UnwrittenClients, 'size' | 'overflowed'>): void {
      if (result.kind === 'failed') {
        failures += 1;
        retryAtMs = clock.nowMs() + RETRY_MS;
        if (up) log.warn({ reason: result.reason }, 'the store failed; deciding without it, changes wait');
        up = false;
        return;
      }
      if (!up) log.info({ waiting: unwritten.size(), all: unwritten.overflowed() }, 'the store is back');
      up = true;
      if (result.lost) log.warn({}, 'the store has lost its data; writing all clients again');
    },
  };
}

/** Replicates changed clients, and writes them to the store if there is one. */
export function withWriteBehind(
  replicator: Replicator,
  writeBehind: WriteBehind | undefined,
): Pick<Replicator, 'changed' | 'replicateNow'> {
  if (writeBehind === undefined) return replicator;
  return {
    changed(client) {
      replicator.changed(client);
      writeBehind.changed(client);
    },
    replicateNow: (clientIds, to) => replicator.replicateNow(clientIds, to),
  };
}
