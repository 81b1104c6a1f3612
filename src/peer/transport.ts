import type { Envelope, PeerAnswer, PeerMessage } from '../cluster/messages.js';
import type { Log, PeerResult, PeerTransport } from '../cluster/ports.js';
import type { NodeId } from '../core/ring.js';
import { decodeAnswer, writeMessage } from '../wire/codec.js';
import { createConnector } from './connect.js';
import type { PeerCounters } from './counters.js';
import { broken, failureOf } from './failure.js';
import type { Identity } from './handshake.js';
import { GOODBYE } from './link.js';
import type { Link, LinkEnd } from './link.js';
import { refusalOf, REFUSALS } from './refusal.js';
import type { PeerTls } from './tls.js';

interface PeerTransportDeps {
  readonly counters: PeerCounters;
  readonly identity: Identity;
  readonly log: Log;
}

export interface PeerTransportOptions {
  readonly tls?: PeerTls | undefined;
  /** A connection that is not made and agreed on by then is given up. Default 2,000 ms. */
  readonly openTimeoutMs?: number;
  /** The link to a peer that has not been sent anything for so long, or twice that, is ended. Default 2 minutes. */
  readonly forgetAfterMs?: number;
  /** Peers that links are kept to; at the bound one without messages under way makes room. Default 1,024. */
  readonly maxPeers?: number;
  /** Messages to one peer that are under way or wait for a link; more fail at once. Default 1,024. */
  readonly maxMessages?: number;
  /** Bytes of one message; the receiver has the same bound. Default 8 MiB. */
  readonly maxMessageBytes?: number;
  /** Bytes of messages that wait until one peer reads; more fail at once. Default 16 MiB. */
  readonly maxWaitingBytes?: number;
  /** Bytes of one answer. Default 32 MiB: one answer carries all that changed during a handoff. */
  readonly maxAnswerBytes?: number;
}

interface Pending {
  readonly peer: Peer;
  readonly message: Envelope<PeerMessage>;
  readonly resolve: (result: PeerResult) => void;
  timer: NodeJS.Timeout;
  /** The link on which it was sent; `undefined` while it waits for one. */
  channel: Channel | undefined;
  number: number;
  /** Answers that had come on that link when it was sent. */
  answersBefore: number;
}

/** A link and the messages that were sent on it. */
interface Channel {
  readonly link: Link;
  readonly pending: Map<number, Pending>;
  lastNumber: number;
  answers: number;
}

interface Peer {
  readonly id: NodeId;
  /** The link for new messages. Older ones may still wait for answers. */
  channel: Channel | undefined;
  readonly channels: Set<Channel>;
  /** Gives up the connection that is being made. */
  stopOpening: (() => void) | undefined;
  /** Messages that wait for a link. */
  readonly waiting: Set<Pending>;
  /** Messages under way or waiting. */
  count: number;
  /** Whether a message was sent since the last look, every `forgetAfterMs`. */
  used: boolean;
  /** The failure that was logged last; the same one is not logged again. */
  failure: string | undefined;
}

const MAX_NUMBER = 2 ** 32 - 1;

/** Carries messages to peers: one link to each, many messages under way. */
export function createPeerTransport(
  { counters, identity, log }: PeerTransportDeps,
  options: PeerTransportOptions = {},
): PeerTransport & { close(): Promise<void>; useTls(tls: PeerTls): void } {
  const { maxPeers = 1_024, maxMessages = 1_024, forgetAfterMs = 120_000 } = options;
  const { maxMessageBytes = 8 * 1024 * 1024, maxAnswerBytes = 32 * 1024 * 1024 } = options;
  const limits = {
    maxSendBytes: maxMessageBytes,
    maxReceiveBytes: maxAnswerBytes,
    maxWaitingBytes: options.maxWaitingBytes ?? 2 * maxMessageBytes,
  };
  const connector = createConnector(identity, { tls: options.tls, openTimeoutMs: options.openTimeoutMs ?? 2_000 });
  const peers = new Map<NodeId, Peer>();
  let unsettled = 0;
  let closed = false;
  let allSettled: (() => void) | undefined;

  /** @throws Error when there is no room */
  function peerOf(to: NodeId): Peer {
    let peer = peers.get(to);
    if (peer === undefined) {
      if (peers.size >= maxPeers) makeRoom();
      peer = {
        id: to,
        channel: undefined,
        channels: new Set(),
        stopOpening: undefined,
        waiting: new Set(),
        count: 0,
        used: true,
        failure: undefined,
      };
      peers.set(to, peer);
    }
    if (peer.count >= maxMessages) throw new Error(`${maxMessages} messages to it are under way`);
    peer.used = true;
    return peer;
  }

  function makeRoom(): void {
    for (const peer of peers.values()) if (peer.count === 0) return drop(peer);
    throw new Error(`messages to ${maxPeers} peers are under way`);
  }

  function drop(peer: Peer): void {
    peers.delete(peer.id);
    peer.stopOpening?.();
    for (const { link } of peer.channels) link.end();
  }

  const forgetting = setInterval(() => {
    for (const peer of peers.values()) {
      if (!peer.used && peer.count === 0) drop(peer);
      peer.used = false;
    }
  }, forgetAfterMs);
  forgetting.unref();

  function settle(pending: Pending, result: PeerResult): void {
    const { peer, channel, message } = pending;
    clearTimeout(pending.timer);
    channel?.pending.delete(pending.number);
    peer.waiting.delete(pending);
    peer.count -= 1;
    note(peer, message.body.kind, result);
    pending.resolve(result);
    if (channel !== undefined && channel.pending.size === 0 && channel !== peer.channel) channel.link.end();
    unsettled -= 1;
    if (unsettled === 0) allSettled?.();
  }

  function note(peer: Peer, kind: PeerMessage['kind'], result: PeerResult): void {
    counters.sent[kind] += 1;
    counters.results[result.kind] += 1;
    if (result.kind === 'answer') peer.failure = undefined;
    if (result.kind !== 'broken' || result.reason === peer.failure) return;
    peer.failure = result.reason;
    log.warn({ peer: peer.id, kind, reason: result.reason }, 'a message to a peer failed');
  }

  function expire(pending: Pending): void {
    const { peer, channel } = pending;
    // Nothing came since the message was sent: the connection may be dead. The next message takes a new one, and
    // answers on this one still count.
    if (channel !== undefined && channel.answers === pending.answersBefore) retire(peer, channel);
    settle(pending, { kind: 'timeout' });
  }

  /** Sends nothing more on a link, and ends it after the last answer. */
  function retire(peer: Peer, channel: Channel): void {
    if (peer.channel === channel) peer.channel = undefined;
    if (channel.pending.size === 0) channel.link.end();
  }

  function open(peer: Peer): void {
    peer.stopOpening = connector.open(peer.id, limits, {
      opened(start) {
        peer.stopOpening = undefined;
        const pending = new Map<number, Pending>();
        const channel: Channel = {
          pending,
          lastNumber: 0,
          answers: 0,
          link: start({
            received: (number, payload) => receive(peer, channel, number, payload),
            ended: (end) => finish(peer, channel, end),
          }),
        };
        peer.channel = channel;
        peer.channels.add(channel);
        for (const one of peer.waiting) transmit(one, channel);
      },
      failed(result) {
        peer.stopOpening = undefined;
        for (const one of peer.waiting) settle(one, result);
      },
    });
  }

  function transmit(pending: Pending, channel: Channel): void {
    const { peer, message } = pending;
    peer.waiting.delete(pending);
    const number = (channel.lastNumber += 1);
    if (!channel.link.send(number, writeMessage, message)) {
      return settle(pending, broken('the message is too large, or too much waits until the peer reads'));
    }
    pending.channel = channel;
    pending.number = number;
    pending.answersBefore = channel.answers;
    channel.pending.set(number, pending);
    if (number === MAX_NUMBER) retire(peer, channel);
  }

  function receive(peer: Peer, channel: Channel, number: number, payload: Buffer): void {
    channel.answers += 1;
    // The peer is ending: it answers what is under way, and takes no more.
    if (number === GOODBYE) return retire(peer, channel);
    const pending = channel.pending.get(number);
    // Its message was given up.
    if (pending === undefined) return;
    settle(pending, resultOf(payload));
  }

  function finish(peer: Peer, channel: Channel, end: LinkEnd): void {
    if (peer.channel === channel) peer.channel = undefined;
    peer.channels.delete(channel);
    const result = resultOfEnd(end);
    for (const pending of channel.pending.values()) settle(pending, result);
  }

  return {
    send(to, message, timeoutMs) {
      return new Promise((resolve) => {
        let peer: Peer;
        try {
          if (closed) throw new Error('the transport is closed');
          peer = peerOf(to);
        } catch (error) {
          counters.sent[message.body.kind] += 1;
          counters.results.broken += 1;
          return resolve(broken((error as Error).message));
        }
        const pending: Pending = {
          peer,
          message,
          resolve,
          timer: setTimeout(() => expire(pending), timeoutMs),
          channel: undefined,
          number: 0,
          answersBefore: 0,
        };
        peer.count += 1;
        unsettled += 1;
        if (peer.channel !== undefined) return transmit(pending, peer.channel);
        peer.waiting.add(pending);
        if (peer.stopOpening === undefined) open(peer);
      });
    },
    /** Uses another certificate for new connections. Open ones continue. */
    useTls: (tls) => connector.useTls(tls),
    async close() {
      closed = true;
      clearInterval(forgetting);
      if (unsettled > 0) await new Promise<void>((resolve) => (allSettled = resolve));
      for (const peer of [...peers.values()]) drop(peer);
    },
  };
}

function resultOf(payload: Buffer): PeerResult {
  const refusal = refusalOf(payload);
  if (refusal !== undefined) return broken(`refused: ${refusal}`);
  let answer: Envelope<PeerAnswer>;
  try {
    answer = decodeAnswer(payload);
  } catch (error) {
    return broken(`the answer is malformed: ${(error as Error).message}`);
  }
  return { kind: 'answer', answer };
}

function resultOfEnd(end: LinkEnd): PeerResult {
  switch (end.kind) {
    case 'closed':
      return broken('the connection was closed');
    case 'failed':
      return failureOf(end.error);
    case 'refused':
      return broken(`what came is no answer of a peer: ${REFUSALS[end.code].title}`);
  }
}
