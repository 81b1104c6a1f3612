import type { Envelope, PeerAnswer, PeerMessage } from '../messages.js';
import type { Log } from '../../lib/log.js';
import type { PeerResult, PeerTransport } from '../peer-transport.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { decodeAnswer, writeMessage } from '../format/messages.js';
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
  /** Returns the Unix socket of a peer on this machine, if it has one. Default: none has. */
  readonly socketPathOf?: (to: NodeId) => string | undefined;
  /** Time in which a connection must be made and agreed on, or it is given up. Default 2,000 ms. */
  readonly openTimeoutMs?: number;
  /** A link to a peer on which nothing was sent for this long, or up to twice as long, is ended. Default 2 minutes. */
  readonly forgetAfterMs?: number;
  /** Bound of peers with links. At the bound, a peer without messages in flight makes room. Default 1,024. */
  readonly maxPeers?: number;
  /** Bound of messages to one peer that are in flight or wait for a link. Further ones fail at once. Default 1,024. */
  readonly maxMessages?: number;
  /** Bound of one message, in bytes; the receiver has the same bound. Default 8 MiB. */
  readonly maxMessageBytes?: number;
  /** Bound of messages that wait until one peer reads, in bytes. Further ones fail at once. Default 16 MiB. */
  readonly maxWaitingBytes?: number;
  /** Bound of one answer, in bytes. Default 8 MiB. */
  readonly maxAnswerBytes?: number;
}

interface Pending {
  readonly peer: Peer;
  readonly message: Envelope<PeerMessage>;
  readonly resolve: (result: PeerResult) => void;
  timer: NodeJS.Timeout;
  /** The link on which the message was sent; `undefined` while it waits for one. */
  channel: Channel | undefined;
  number: number;
  /** Number of answers that had arrived on that link when the message was sent. */
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
  /** The link for new messages. Messages on older links may still wait for answers. */
  channel: Channel | undefined;
  readonly channels: Set<Channel>;
  /** Gives up the connection that is being made. */
  stopOpening: (() => void) | undefined;
  /** Messages that wait for a link. */
  readonly waiting: Set<Pending>;
  /** Messages in flight or waiting. */
  count: number;
  /** Whether a message was sent since the last check, which comes every `forgetAfterMs`. */
  used: boolean;
  /** The last logged failure. The same failure is not logged again. */
  failure: string | undefined;
}

const MAX_NUMBER = 2 ** 32 - 1;

/** Carries messages to peers: one link to each peer, with many messages in flight. */
export function createPeerTransport(
  { counters, identity, log }: PeerTransportDeps,
  options: PeerTransportOptions = {},
): PeerTransport & { close(): Promise<void>; useTls(tls: PeerTls): void } {
  const { maxPeers = 1_024, maxMessages = 1_024, forgetAfterMs = 120_000 } = options;
  const { maxMessageBytes = 8 * 1024 * 1024, maxAnswerBytes = 8 * 1024 * 1024 } = options;
  const limits = {
    maxSendBytes: maxMessageBytes,
    maxReceiveBytes: maxAnswerBytes,
    maxWaitingBytes: options.maxWaitingBytes ?? 2 * maxMessageBytes,
  };
  const connector = createConnector(identity, {
    tls: options.tls,
    openTimeoutMs: options.openTimeoutMs ?? 2_000,
    socketPathOf: options.socketPathOf ?? (() => undefined),
  });
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
    // Nothing arrived since the message was sent, so the connection may be dead. The next message takes a new one.
    // Answers on this one still count.
    if (channel !== undefined && channel.answers === pending.answersBefore) retire(peer, channel);
    settle(pending, { kind: 'timeout' });
  }

  /** Sends no more messages on a link, and ends it after the last answer. */
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
    // The peer is stopping. It answers the messages in flight, and takes no more.
    if (number === GOODBYE) return retire(peer, channel);
    const pending = channel.pending.get(number);
    // The sender has given up this message.
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
