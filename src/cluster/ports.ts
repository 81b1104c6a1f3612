import type { NodeId } from '../core/ring.js';
import type { Snapshot } from '../core/snapshot.js';
import type { ClientSnapshot, Envelope, PeerAnswer, PeerMessage } from './messages.js';

/** What the cluster code needs of the world. The program, the library and the simulator each bring their own. */

export interface Clock {
  /** Monotonic whole ms of this process, at least 0: neither jumps nor steps back, and says nothing about the time of day. */
  nowMs(): number;
}

export interface Timers {
  /** Calls `tick` every `intervalMs` until the returned function is called; a late tick is not made up for. */
  every(intervalMs: number, tick: () => void): () => void;
  /** Calls once all that has arrived by now was read: at once where nothing else is to do. */
  soon(action: () => void): void;
  /** Resolves after `delayMs`. */
  sleep(delayMs: number): Promise<void>;
}

/** How a message to a peer ended; expected failures are values. */
export type PeerResult =
  | { readonly kind: 'answer'; readonly answer: Envelope<PeerAnswer> }
  /** Nobody listens there: the message was not received. */
  | { readonly kind: 'refused' }
  /** The connection broke, or the peer could not be understood: the message may have been received. */
  | { readonly kind: 'broken'; readonly reason: string }
  /** No answer within the time: the message may have been received, and may still be. */
  | { readonly kind: 'timeout' };

export interface PeerTransport {
  /** Never rejects: a failure is a value. Settles within `timeoutMs`. */
  send(to: NodeId, message: Envelope<PeerMessage>, timeoutMs: number): Promise<PeerResult>;
}

/** How one message to a peer ended, once the sender has noted what that says about the peer. */
export type Asked =
  { readonly kind: 'answer'; readonly body: PeerAnswer } | { readonly kind: 'refused' | 'broken' | 'timeout' };

/** Sends one message to a peer and resolves with its end. Never rejects; settles within `timeoutMs`. */
export type Ask = (to: NodeId, body: PeerMessage, timeoutMs: number) => Promise<Asked>;

export interface Discovery {
  /** Where members may be found, this node perhaps among them. Never rejects; asked again and again. */
  seeds(): Promise<readonly NodeId[]>;
}

export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What is to last of one client: what it owes now, with open leases counted as spent. */
export type LastingClient = readonly [clientId: string, buckets: readonly Snapshot[]];

/** What became of one batch of writes. */
export type StoreResult =
  | {
      readonly kind: 'done';
      /** Clients that could not be written, or removed, now, as another node is writing near them: to be tried again. */
      readonly left: readonly string[];
      /** The store was found to have lost what it had: all is to be written again. */
      readonly lost: boolean;
    }
  | { readonly kind: 'failed'; readonly reason: string };

/**
 * What lasts beyond the lives of all nodes. Nothing here is waited for by a decision. A store keeps time by a wall clock, in which a
 * step back refills nothing.
 */
export interface Store {
  /** Whether all nodes write to the same one. */
  readonly shared: boolean;
  /**
   * Reads all that is stored, as owed now, chunk by chunk, until `keep` returns false. Never rejects; a failure in the middle leaves
   * what was kept before. Settles, as long as `keep` is not slow, within a few seconds of when the store last answered.
   */
  load(keep: (clients: readonly ClientSnapshot[]) => boolean): Promise<StoreResult>;
  /**
   * Joins these states, which are of this moment, into what is stored: the stricter stands. Removes what it has of `forgotten`,
   * unless written after this moment. Never rejects, and settles within a few seconds.
   * @param members the other ones of the ring, to be remembered where each node has a store of its own
   */
  write(
    clients: readonly LastingClient[],
    forgotten: readonly string[],
    members?: readonly NodeId[],
  ): Promise<StoreResult>;
  /** The other members of the ring when this node last wrote to a store of its own, known once that is read: they have the rest. */
  readonly members: readonly NodeId[];
  /** Records found that could not be read, so far; they count as absent. */
  readonly unreadable: number;
  /** Of the lock under which nodes write, where they share a store. */
  readonly lock?: LockCounters;
  close(): Promise<void>;
}

/** What became of a lock on parts of a store. */
export interface LockCounters {
  readonly acquired: number;
  /** Refused to acquire, as another holds it. */
  readonly contended: number;
  readonly renewed: number;
  /** Found, by a renewal or a write, to be held no more. */
  readonly lost: number;
  /** Held at the moment. */
  readonly held: number;
  /** Sum of the times for which it was held. */
  readonly heldMs: number;
}
