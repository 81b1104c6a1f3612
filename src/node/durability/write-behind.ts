import type { NodeId } from '../../limits/ring/ring.js';
import type { BucketTable, Client } from '../../state/bucket-table.js';
import type { Copies } from '../../state/copies.js';
import type { Membership } from '../../membership/membership.js';
import type { Clock, Timers, Log } from '../../lib/system.js';
import type { LockCounters, Store, StoreResult } from '../../store/store.js';
import type { Replicator } from '../../replication/replicator.js';
import { OwnedClientsWalk } from './owned-clients-walk.js';
import { StoreReader } from './store-reader.js';
import { StoreWriter } from './store-writer.js';
import { UnwrittenClients } from './unwritten-clients.js';

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
export class WriteBehind {
  private readonly storeIntervalMs: number;
  private readonly unwritten: UnwrittenClients;
  private readonly health: {
    up: () => boolean;
    failures: () => number;
    mayTry: () => boolean;
    note(result: StoreResult, unwritten: Pick<UnwrittenClients, 'size' | 'overflowed'>): void;
  };
  private readonly writer: StoreWriter;
  private readonly walk: OwnedClientsWalk;
  private readonly reader: StoreReader;
  private closed = false;
  private rewrites = 0;
  private stopTimer: (() => void) | undefined;

  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly table: BucketTable;
      readonly copies: Copies;
      readonly membership: Membership;
      readonly store: Store;
      readonly log: Log;
    },
    options: { readonly storeIntervalMs?: number; readonly maxClients: number; readonly maxWaiting?: number },
  ) {
    this.storeIntervalMs = options.storeIntervalMs ?? INTERVAL_MS;
    const maxWaiting = options.maxWaiting ?? MAX_WAITING;
    this.unwritten = new UnwrittenClients(deps, { maxWaiting });
    this.health = trackHealth(deps.clock, deps.log);
    this.writer = new StoreWriter({ ...deps, unwritten: this.unwritten }, (result) => this.noteResult(result));
    this.walk = new OwnedClientsWalk(deps, {
      found: (client) => this.changed(client),
      mayGoOn: () => this.unwritten.size() < Math.min(MAX_FOUND, maxWaiting),
    });
    this.reader = new StoreReader(deps, {
      maxClients: options.maxClients,
      onResult: (result) => this.noteResult(result),
      isClosed: () => this.closed,
    });
  }

  /** Notes that a client's buckets changed. */
  changed(client: Client): void {
    this.unwritten.add(client);
    this.startTimer();
  }

  /** Notes that a client is to be removed from the store. */
  forget(clientId: string): void {
    this.unwritten.forget(clientId);
    this.startTimer();
  }

  /** Looks for clients that this node has come to own: no other node may have written them. */
  ringChanged(): void {
    this.walk.findNew();
    this.startTimer();
  }

  /** Reads the store. Resolves when it is read, or after 5 s; clients that are read later are merged in then. */
  load(): Promise<void> {
    return this.reader.load();
  }

  /** Resolves when everything that waits is written, or the store has failed. */
  async flush(): Promise<void> {
    // The write under way may have begun before the latest changes.
    await this.writer.writing();
    if (this.writer.isPending()) await this.writer.write();
  }

  close(): void {
    this.closed = true;
    this.stopTimer?.();
    this.walk.close();
  }

  stats(): StoreStats {
    return {
      up: this.health.up(),
      waiting: this.unwritten.size(),
      lagMs: this.unwritten.lagMs(),
      failures: this.health.failures(),
      writtenClients: this.writer.writtenClients(),
      loadedClients: this.reader.loadedClients(),
      rewrites: this.rewrites,
      unreadable: this.deps.store.unreadable(),
      lock: this.deps.store.lock,
    };
  }

  /** The other members of the ring when this node was last in it. Their own stores hold the rest of the clients. */
  missingPeers(): readonly NodeId[] {
    return this.reader.missingPeers();
  }

  /** The missing peers are back, or are not awaited any longer: from now on the store is told of the current ring. */
  stopAwaitingPeers(): void {
    this.writer.beginToStoreMembers();
    this.startTimer();
  }

  /** The timer runs only while something waits to be written. */
  private startTimer(): void {
    if (this.closed) return;
    this.stopTimer ??= this.deps.timers.every(this.storeIntervalMs, () => {
      if (this.writer.writing() !== undefined) return;
      if (this.writer.isPending()) {
        if (this.health.mayTry()) void this.writer.write();
        return;
      }
      this.stopTimer?.();
      this.stopTimer = undefined;
    });
  }

  private noteResult(result: StoreResult): void {
    this.health.note(result, this.unwritten);
    if (result.kind === 'failed' || (!result.lost && !this.unwritten.overflowed())) return;
    this.unwritten.clearOverflow();
    this.rewrites += 1;
    this.walk.findAll();
  }
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
): Pick<Replicator, 'changed'> {
  if (writeBehind === undefined) return replicator;
  return {
    changed(client) {
      replicator.changed(client);
      writeBehind.changed(client);
    },
  };
}
