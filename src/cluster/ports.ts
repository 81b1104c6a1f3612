import type { NodeId } from '../core/ring/ring.js';
import type { Snapshot } from '../core/bucket/snapshot.js';
import type { ClientSnapshot, Envelope, NodeReport, PeerAnswer, PeerMessage } from './messages.js';

/**
 * The interfaces through which the cluster code reaches the world. The program, the library and the simulator implement
 * them.
 */

export interface Clock {
  /** Monotonic time of this process in whole ms, at least 0. It neither jumps nor steps back, and is no time of day. */
  nowMs(): number;
}

export interface Timers {
  /** Calls `tick` every `intervalMs` until the returned function is called. A late tick delays those after it. */
  every(intervalMs: number, tick: () => void): () => void;
  /** Calls `action` after all input that has arrived by now is read. */
  soon(action: () => void): void;
  /** Resolves after `delayMs`. */
  sleep(delayMs: number): Promise<void>;
}

/** The result of one message to a peer; expected failures are values. */
export type PeerResult =
  | { readonly kind: 'answer'; readonly answer: Envelope<PeerAnswer> }
  /** Nothing listens there: the peer did not receive the message. */
  | { readonly kind: 'refused' }
  /** The connection broke, or the answer was malformed: the peer may have received the message. */
  | { readonly kind: 'broken'; readonly reason: string }
  /** No answer in time: the peer may have received the message, or may still receive it. */
  | { readonly kind: 'timeout' };

export interface PeerTransport {
  /** Never rejects: a failure is a value. Settles within `timeoutMs`. */
  send(to: NodeId, message: Envelope<PeerMessage>, timeoutMs: number): Promise<PeerResult>;
}

/** The result of one message to a peer, after the sender has noted what it says about the peer. */
export type Asked =
  { readonly kind: 'answer'; readonly body: PeerAnswer } | { readonly kind: 'refused' | 'broken' | 'timeout' };

/** Sends one message to a peer and resolves with the result. Never rejects; settles within `timeoutMs`. */
export type Ask = (to: NodeId, body: PeerMessage, timeoutMs: number) => Promise<Asked>;

export interface Discovery {
  /** Addresses of possible members, this node perhaps among them. Never rejects; called repeatedly. */
  seeds(): Promise<readonly NodeId[]>;
}

export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** The part of a report that the cluster code does not know. */
export type ProcessReport = Omit<NodeReport, 'clients' | 'replicationLagMs' | 'forwardsWaiting'>;

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
   * Merges these states, as of now, into the store: the stricter one stays. Removes the clients in `forgotten`, unless
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
