import type { NodeId } from '../core/ring.js';
import type { Envelope, PeerAnswer, PeerMessage } from './messages.js';

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

export interface Discovery {
  /** Where members may be found, this node perhaps among them. Never rejects; asked again and again. */
  seeds(): Promise<readonly NodeId[]>;
}

export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}
