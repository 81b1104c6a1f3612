import { buildConnector, Pool } from 'undici';
import type { Envelope, PeerAnswer, PeerMessage } from '../cluster/messages.js';
import type { Log, PeerResult, PeerTransport } from '../cluster/ports.js';
import type { NodeId } from '../core/ring.js';
import type { PeerAuth, Signed, Signer } from './auth.js';
import { decodeAnswer, encodeMessage, WIRE_VERSION } from '../wire/codec.js';
import type { PeerCounters } from './counters.js';
import { exchange } from './exchange.js';
import type { Response } from './exchange.js';
import { broken, failureOf } from './failure.js';
import { readRefusal } from './refusal.js';
import { clientTls } from './tls.js';
import type { PeerTls } from './tls.js';

interface PeerTransportDeps {
  readonly counters: PeerCounters;
  /** Signs messages and checks answers; without it neither is done. */
  readonly auth?: PeerAuth | undefined;
  readonly log: Log;
}

export interface PeerTransportOptions {
  readonly tls?: PeerTls | undefined;
  /** Connections to one peer; each carries one message at a time. Default 8. */
  readonly connections?: number;
  /** A connection is given up when it is not there by then, checked twice a second. Default 1,000 ms. */
  readonly connectTimeoutMs?: number;
  /** The connections to a peer that has not been sent anything for so long, or twice that, are closed. Default 2 minutes. */
  readonly forgetAfterMs?: number;
  /** Peers that connections are kept to, at most; at the bound one without messages under way makes room. Default 1,024. */
  readonly maxPeers?: number;
  /** Messages to one peer that are under way or wait for a connection; above, they fail at once. Default 1,024. */
  readonly maxMessages?: number;
  /** Of one message, as the receiver bounds it too. Default 8 MiB. */
  readonly maxMessageBytes?: number;
  /** Of one answer. Default 32 MiB, as what changed during a handoff goes in one. */
  readonly maxAnswerBytes?: number;
}

interface Peer {
  readonly pool: Pool;
  readonly signer: Signer | undefined;
  /** Requests that undici still holds. */
  underWay: number;
  /** Since `forgetAfterMs` was last looked at. */
  used: boolean;
  /** The failure that was last logged, so that each is logged once. */
  failure: string | undefined;
}

/** Before the server's own 65 s, so that no message meets a connection that is just being closed. */
const KEEP_ALIVE_MS = 60_000;
const PATH = `/peer/v${WIRE_VERSION}/message`;
/** Times that one message is signed anew because the receiver has another boot id than the sender knew, or had moved on. */
const MAX_REPEATS = 2;

/** Carries messages to peers over HTTP: a pool of connections for each, one message at a time on a connection. */
export function createPeerTransport(
  { counters, auth, log }: PeerTransportDeps,
  options: PeerTransportOptions = {},
): PeerTransport & { close(): Promise<void>; useTls(tls: PeerTls): void } {
  const { maxPeers = 1_024, maxMessages = 1_024, forgetAfterMs = 120_000 } = options;
  const { maxMessageBytes = 8 * 1024 * 1024, maxAnswerBytes = 32 * 1024 * 1024 } = options;
  const scheme = options.tls === undefined ? 'http' : 'https';
  const connectorFor = (tls: PeerTls | undefined): buildConnector.connector =>
    buildConnector({ timeout: options.connectTimeoutMs ?? 1_000, ...(tls && clientTls(tls)) });
  let connector = connectorFor(options.tls);
  const poolOptions: Pool.Options = {
    connections: options.connections ?? 8,
    connect: (to, connected) => connector(to, connected),
    keepAliveTimeout: KEEP_ALIVE_MS,
    // One timer a message is enough, and undici's own are only good to half a second.
    headersTimeout: 0,
    bodyTimeout: 0,
  };
  const peers = new Map<NodeId, Peer>();
  let unsettled = 0;
  let closed = false;
  let allSettled: (() => void) | undefined;

  /** @throws Error when there is no room, or the id is no address */
  function peerOf(to: NodeId): Peer {
    let peer = peers.get(to);
    if (peer === undefined) {
      if (peers.size >= maxPeers) makeRoom();
      const pool = new Pool(`${scheme}://${to}`, poolOptions);
      peer = { pool, signer: auth?.createSigner(), underWay: 0, used: true, failure: undefined };
      peers.set(to, peer);
    }
    if (peer.underWay >= maxMessages) throw new Error(`${maxMessages} messages to it are under way`);
    peer.used = true;
    return peer;
  }

  function makeRoom(): void {
    for (const [id, peer] of peers) if (peer.underWay === 0) return drop(id, peer);
    throw new Error(`messages to ${maxPeers} peers are under way`);
  }

  function drop(id: NodeId, peer: Peer): void {
    peers.delete(id);
    void peer.pool.destroy();
  }

  const forgetting = setInterval(() => {
    for (const [id, peer] of peers) {
      if (!peer.used && peer.underWay === 0) drop(id, peer);
      peer.used = false;
    }
  }, forgetAfterMs);
  forgetting.unref();

  function note(to: NodeId, kind: PeerMessage['kind'], result: PeerResult): void {
    counters.sent[kind] += 1;
    counters.results[result.kind] += 1;
    const peer = peers.get(to);
    if (peer === undefined) return;
    if (result.kind === 'answer') peer.failure = undefined;
    if (result.kind !== 'broken' || result.reason === peer.failure) return;
    peer.failure = result.reason;
    log.warn({ peer: to, kind, reason: result.reason }, 'a message to a peer failed');
  }

  return {
    send(to, message, timeoutMs) {
      return new Promise((resolve) => {
        let cancel: (() => void) | undefined;
        const timer = setTimeout(() => {
          cancel?.();
          settle({ kind: 'timeout' });
        }, timeoutMs);
        unsettled += 1;

        function settle(result: PeerResult): void {
          clearTimeout(timer);
          note(to, message.body.kind, result);
          unsettled -= 1;
          if (unsettled === 0) allSettled?.();
          resolve(result);
        }

        function attempt(peer: Peer, body: Buffer, repeats: number): void {
          const signed = peer.signer?.sign(body);
          const headers = ['content-type', 'application/json'];
          if (signed !== undefined) headers.push('authorization', signed.authorization);
          peer.underWay += 1;
          cancel = exchange(peer.pool, { method: 'POST', path: PATH, headers, body }, maxAnswerBytes, {
            answered: (response) => {
              const boot = signed && mustRepeat(signed, response);
              if (boot === undefined || repeats === MAX_REPEATS) return settle(resultOf(response, signed));
              peer.signer?.learn(boot);
              attempt(peer, body, repeats + 1);
            },
            failed: (error) => settle(failureOf(error)),
            ended: () => (peer.underWay -= 1),
          });
        }

        try {
          if (closed) throw new Error('the transport is closed');
          const body = encodeMessage(message);
          if (body.length > maxMessageBytes) throw new Error(`the message has ${body.length} bytes, too many`);
          attempt(peerOf(to), body, 0);
        } catch (error) {
          settle(broken((error as Error).message));
        }
      });
    },
    /** New connections show another certificate; those that are there go on. */
    useTls: (tls) => void (connector = connectorFor(tls)),
    async close() {
      closed = true;
      clearInterval(forgetting);
      if (unsettled > 0) await new Promise<void>((resolve) => (allSettled = resolve));
      await Promise.all([...peers.values()].map(({ pool }) => pool.destroy()));
      peers.clear();
    },
  };
}

/** The boot id to sign for instead, where the receiver has refused a message only for how it was signed. */
function mustRepeat(signed: Signed, { status, body, mac }: Response): string | undefined {
  if (status !== 401 || !signed.verifies(status, body, mac)) return undefined;
  const { code, boot } = readRefusal(body);
  return code === 'unknown_boot' || code === 'too_old' ? boot : undefined;
}

function resultOf({ status, body, mac }: Response, signed: Signed | undefined): PeerResult {
  if (status !== 200) {
    const { code = 'without a code', detail } = readRefusal(body);
    return broken(`HTTP ${status} ${code}${detail === undefined ? '' : `: ${detail}`}`);
  }
  if (signed?.verifies(status, body, mac) === false) return broken('the answer is not signed with the peer secret');
  let answer: Envelope<PeerAnswer>;
  try {
    answer = decodeAnswer(body);
  } catch (error) {
    return broken(`the answer is malformed: ${(error as Error).message}`);
  }
  return { kind: 'answer', answer };
}
