import type { Envelope, PeerAnswer, PeerMessage, PeerResult, PeerTransport } from '../messages.js';
import type { Log } from '../../lib/system.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { decodeAnswer, writeMessage } from '../format/messages.js';
import { Connector, broken, failureOf } from './connect.js';
import type { PeerCounters } from './counters.js';
import type { Identity } from './handshake.js';
import { GOODBYE, type Link, type LinkEnd, type LinkOptions } from './link.js';
import { refusalOf, REFUSALS } from './refusal.js';
import type { PeerTls } from './tls.js';

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
export class LinkTransport implements PeerTransport {
  private readonly maxPeers: number;
  private readonly maxMessages: number;
  private readonly linkOptions: LinkOptions;
  private readonly connector: Connector;
  private readonly peers = new Map<NodeId, Peer>();
  private readonly forgetting: NodeJS.Timeout;
  private unsettled = 0;
  private closed = false;
  private allSettled: (() => void) | undefined;

  constructor(
    private readonly parts: { readonly counters: PeerCounters; readonly identity: Identity; readonly log: Log },
    options: PeerTransportOptions = {},
  ) {
    const { maxPeers = 1_024, maxMessages = 1_024, forgetAfterMs = 120_000 } = options;
    const { maxMessageBytes = 8 * 1024 * 1024, maxAnswerBytes = 8 * 1024 * 1024 } = options;
    this.maxPeers = maxPeers;
    this.maxMessages = maxMessages;
    this.linkOptions = {
      maxSendBytes: maxMessageBytes,
      maxReceiveBytes: maxAnswerBytes,
      maxWaitingBytes: options.maxWaitingBytes ?? 2 * maxMessageBytes,
    };
    this.connector = new Connector(parts.identity, {
      tls: options.tls,
      openTimeoutMs: options.openTimeoutMs ?? 2_000,
      socketPathOf: options.socketPathOf ?? (() => undefined),
    });
    this.forgetting = setInterval(() => this.forgetUnused(), forgetAfterMs);
    this.forgetting.unref();
  }

  send(to: NodeId, message: Envelope<PeerMessage>, timeoutMs: number): Promise<PeerResult> {
    return new Promise((resolve) => {
      let peer: Peer;
      try {
        if (this.closed) throw new Error('the transport is closed');
        peer = this.peerOf(to);
      } catch (error) {
        this.parts.counters.sent[message.body.kind] += 1;
        this.parts.counters.results.broken += 1;
        return resolve(broken((error as Error).message));
      }
      const pending: Pending = {
        peer,
        message,
        resolve,
        timer: setTimeout(() => this.expire(pending), timeoutMs),
        channel: undefined,
        number: 0,
        answersBefore: 0,
      };
      peer.count += 1;
      this.unsettled += 1;
      if (peer.channel !== undefined) return this.transmit(pending, peer.channel);
      peer.waiting.add(pending);
      if (peer.stopOpening === undefined) this.open(peer);
    });
  }

  /** Uses another certificate for new connections. Open ones continue. */
  useTls(tls: PeerTls): void {
    this.connector.useTls(tls);
  }

  /** Takes no more messages, and ends the links once all are settled. */
  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.forgetting);
    if (this.unsettled > 0) await new Promise<void>((resolve) => (this.allSettled = resolve));
    for (const peer of [...this.peers.values()]) this.drop(peer);
  }

  /** @throws Error when there is no room */
  private peerOf(to: NodeId): Peer {
    let peer = this.peers.get(to);
    if (peer === undefined) {
      if (this.peers.size >= this.maxPeers) this.makeRoom();
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
      this.peers.set(to, peer);
    }
    if (peer.count >= this.maxMessages) throw new Error(`${this.maxMessages} messages to it are under way`);
    peer.used = true;
    return peer;
  }

  private makeRoom(): void {
    for (const peer of this.peers.values()) if (peer.count === 0) return this.drop(peer);
    throw new Error(`messages to ${this.maxPeers} peers are under way`);
  }

  private drop(peer: Peer): void {
    this.peers.delete(peer.id);
    peer.stopOpening?.();
    for (const { link } of peer.channels) link.end();
  }

  private forgetUnused(): void {
    for (const peer of this.peers.values()) {
      if (!peer.used && peer.count === 0) this.drop(peer);
      peer.used = false;
    }
  }

  private settle(pending: Pending, result: PeerResult): void {
    const { peer, channel, message } = pending;
    clearTimeout(pending.timer);
    channel?.pending.delete(pending.number);
    peer.waiting.delete(pending);
    peer.count -= 1;
    this.note(peer, message.body.kind, result);
    pending.resolve(result);
    if (channel !== undefined && channel.pending.size === 0 && channel !== peer.channel) channel.link.end();
    this.unsettled -= 1;
    if (this.unsettled === 0) this.allSettled?.();
  }

  private note(peer: Peer, kind: PeerMessage['kind'], result: PeerResult): void {
    const { counters, log } = this.parts;
    counters.sent[kind] += 1;
    counters.results[result.kind] += 1;
    if (result.kind === 'answer') peer.failure = undefined;
    if (result.kind !== 'broken' || result.reason === peer.failure) return;
    peer.failure = result.reason;
    log.warn({ peer: peer.id, kind, reason: result.reason }, 'a message to a peer failed');
  }

  private expire(pending: Pending): void {
    const { peer, channel } = pending;
    // Nothing arrived since the message was sent, so the connection may be dead. The next message takes a new one.
    // Answers on this one still count.
    if (channel !== undefined && channel.answers === pending.answersBefore) retire(peer, channel);
    this.settle(pending, { kind: 'timeout' });
  }

  private open(peer: Peer): void {
    peer.stopOpening = this.connector.open(peer.id, this.linkOptions, {
      opened: (start) => {
        peer.stopOpening = undefined;
        const channel: Channel = {
          pending: new Map(),
          lastNumber: 0,
          answers: 0,
          link: start({
            received: (number, payload) => this.receive(peer, channel, number, payload),
            ended: (end) => this.finish(peer, channel, end),
          }),
        };
        peer.channel = channel;
        peer.channels.add(channel);
        for (const one of peer.waiting) this.transmit(one, channel);
      },
      failed: (result) => {
        peer.stopOpening = undefined;
        for (const one of peer.waiting) this.settle(one, result);
      },
    });
  }

  private transmit(pending: Pending, channel: Channel): void {
    const { peer, message } = pending;
    peer.waiting.delete(pending);
    const number = (channel.lastNumber += 1);
    if (!channel.link.send(number, writeMessage, message)) {
      return this.settle(pending, broken('the message is too large, or too much waits until the peer reads'));
    }
    pending.channel = channel;
    pending.number = number;
    pending.answersBefore = channel.answers;
    channel.pending.set(number, pending);
    if (number === MAX_NUMBER) retire(peer, channel);
  }

  private receive(peer: Peer, channel: Channel, number: number, payload: Buffer): void {
    channel.answers += 1;
    // The peer is stopping. It answers the messages in flight, and takes no more.
    if (number === GOODBYE) return retire(peer, channel);
    const pending = channel.pending.get(number);
    // The sender has given up this message.
    if (pending === undefined) return;
    this.settle(pending, resultOf(payload));
  }

  private finish(peer: Peer, channel: Channel, end: LinkEnd): void {
    if (peer.channel === channel) peer.channel = undefined;
    peer.channels.delete(channel);
    const result = resultOfEnd(end);
    for (const pending of channel.pending.values()) this.settle(pending, result);
  }
}

/** Sends no more messages on a link, and ends it after the last answer. */
function retire(peer: Peer, channel: Channel): void {
  if (peer.channel === channel) peer.channel = undefined;
  if (channel.pending.size === 0) channel.link.end();
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
