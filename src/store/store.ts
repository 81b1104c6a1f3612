import type { Snapshot } from '../limits/bucket/snapshot.js';
import type { ClientSnapshot } from '../state/client.js';
import type { NodeId } from '../limits/ring/ring.js';

/** Another version of this program wrote the store. The message ends the start. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

/** The buckets of one client for a store: debts as of now, with open leases counted as spent. */
export type LastingClient = readonly [clientId: string, buckets: readonly Snapshot[]];

/** The result of one batch of writes. */
export type StoreResult =
  | {
      readonly kind: 'done';
      /** Clients to try again, because another node was writing near them. */
      readonly left: readonly string[];
      /** Whether the store has lost its data, so that all clients must be written again. */
      readonly lost: boolean;
    }
  | { readonly kind: 'failed'; readonly reason: string };

/**
 * Keeps buckets beyond the life of all nodes. No decision waits for it. A store uses the wall clock; a clock that steps
 * back refills nothing.
 */
export interface Store {
  /** Whether all nodes share this store. */
  readonly shared: boolean;
  /**
   * Reads all clients, with debts as of now, chunk by chunk, until `keep` returns false. Never rejects; after a
   * failure, the chunks before it count. Settles within a few seconds of the store's last answer, if `keep` is fast.
   */
  load(keep: (clients: readonly ClientSnapshot[]) => boolean): Promise<StoreResult>;
  /**
   * Merges these states, as of now, into the store: the tighter one stays. Removes the clients in `forgotten`, unless
   * they are written later. Never rejects; settles within a few seconds.
   * @param members the other members of the ring; a store of one node keeps them for the next start
   */
  write(
    clients: readonly LastingClient[],
    forgotten: readonly string[],
    members?: readonly NodeId[],
  ): Promise<StoreResult>;
  /** The other members of the ring at the last write, known after `load`. Their stores have the rest of the clients. */
  members(): readonly NodeId[];
  /** Records that could not be read so far. They count as absent. */
  unreadable(): number;
  /** Counters of the lock under which nodes write to a shared store. */
  readonly lock?: LockCounters;
  close(): Promise<void>;
}

/** Counters of a lock on the shards of a store, from the start of the node. */
export interface LockCounters {
  readonly acquired: number;
  /** Attempts that failed because another node held the lock. */
  readonly contended: number;
  readonly renewed: number;
  /** Locks that a renewal or a write found lost. */
  readonly lost: number;
  /** Locks held now. */
  readonly held: number;
  /** Sum of the time for which locks were held. */
  readonly heldMs: number;
}
