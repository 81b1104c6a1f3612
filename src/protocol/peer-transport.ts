import type { NodeId } from '../limits/ring/ring.js';
import type { Envelope, PeerAnswer, PeerMessage } from './messages.js';

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
export type PeerReply =
  { readonly kind: 'answer'; readonly body: PeerAnswer } | { readonly kind: 'refused' | 'broken' | 'timeout' };

/** Sends one message to a peer and resolves with the result. Never rejects; settles within `timeoutMs`. */
export type Ask = (to: NodeId, body: PeerMessage, timeoutMs: number) => Promise<PeerReply>;
