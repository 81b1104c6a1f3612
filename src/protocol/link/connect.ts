import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { buildConnector, Client } from 'undici';
import type { PeerResult } from '../messages.js';
import type { NodeId } from '../../limits/ring/ring.js';
import {
  createOffer,
  PEER_PATH,
  readAcceptance,
  readProof,
  UPGRADE,
  type Identity,
  type LinkKeys,
  idsOf,
} from './handshake.js';
import { Link, type LinkEvents, type LinkOptions } from './link.js';
import { WIRE_VERSION } from '../format/messages.js';
import { describeRefusal, SAME_RELEASE } from './refusal.js';
import { clientTls, type PeerTls } from './tls.js';

interface OpenEvents {
  /** Called once when the peers agree. The receiver calls `start`, which makes the link, during the call. */
  readonly opened: (start: (events: LinkEvents) => Link) => void;
  /** Called once instead of `opened`. */
  readonly failed: (result: PeerResult) => void;
}

/** Bytes of a refusal that are read. */
const MAX_REFUSAL_BYTES = 4_096;

/** Connects to peers. */
export class Connector {
  private connect: buildConnector.connector;

  constructor(
    readonly identity: Identity,
    readonly options: {
      readonly tls: PeerTls | undefined;
      readonly openTimeoutMs: number;
      /** Returns the Unix socket of a peer on this machine. Without one, or while its file is missing, TCP is used. */
      readonly socketPathOf: (to: NodeId) => string | undefined;
    },
  ) {
    this.connect = this.connectorWith(options.tls);
  }

  /** Uses another certificate for new connections. */
  useTls(tls: PeerTls): void {
    this.connect = this.connectorWith(tls);
  }

  /**
   * Connects to a peer and agrees with it; see `handshake.ts`. Calls one of the two events, later, within
   * `openTimeoutMs`.
   * @returns a function that gives up without an event
   */
  open(to: NodeId, linkOptions: LinkOptions, events: OpenEvents): () => void {
    const { tls, openTimeoutMs: timeout, socketPathOf } = this.options;
    const socketPath = socketPathOf(to);
    const isLocal = socketPath !== undefined && existsSync(socketPath);
    const opening = new Opening(this.identity, {
      to,
      linkOptions,
      events,
      isLocal,
      timeoutMs: timeout,
      scheme: isLocal || tls === undefined ? 'http' : 'https',
      connect: isLocal ? buildConnector({ timeout, socketPath }) : this.connect,
    });
    return () => opening.giveUp();
  }

  private connectorWith(tls: PeerTls | undefined): buildConnector.connector {
    return buildConnector({ timeout: this.options.openTimeoutMs, ...(tls && clientTls(tls)) });
  }
}

/** One connection that is being made. */
class Opening {
  private readonly offer: ReturnType<typeof createOffer>;
  private readonly timer: NodeJS.Timeout;
  private over = false;
  private client: Client | undefined;
  private socket: Socket | undefined;
  private status = 0;
  private refusal: Buffer = Buffer.alloc(0);

  constructor(
    private readonly identity: Identity,
    private readonly parts: {
      readonly to: NodeId;
      readonly linkOptions: LinkOptions;
      readonly events: OpenEvents;
      readonly isLocal: boolean;
      readonly timeoutMs: number;
      readonly scheme: 'http' | 'https';
      readonly connect: buildConnector.connector;
    },
  ) {
    const { to, timeoutMs } = parts;
    this.offer = createOffer(identity, to);
    this.timer = setTimeout(() => this.fail({ kind: 'timeout' }), timeoutMs);
    try {
      this.dispatch();
    } catch (error) {
      // The id is not an address.
      process.nextTick(() => this.fail(broken((error as Error).message)));
    }
  }

  giveUp(): void {
    if (!this.end()) return;
    this.socket?.destroy();
    void this.client?.destroy();
  }

  private dispatch(): void {
    const { to, scheme, connect } = this.parts;
    this.client = new Client(`${scheme}://${to}`, { connect: (on, connected) => connect(on, connected) });
    this.client.dispatch(
      { method: 'GET', path: PEER_PATH, upgrade: UPGRADE, headers: { ...this.offer.headers } },
      {
        onRequestStart: () => undefined,
        onRequestUpgrade: (_controller, _status, headers, upgraded) => this.agree(upgraded, headers),
        onResponseStart: (_controller, statusCode) => void (this.status = statusCode),
        onResponseData: (controller, chunk) => {
          this.refusal = Buffer.concat([this.refusal, chunk]);
          if (this.refusal.length > MAX_REFUSAL_BYTES)
            controller.abort(new Error('the answer is no refusal of a peer'));
        },
        onResponseEnd: () => this.fail(broken(reasonOf(this.status, describeRefusal(this.refusal), this.identity))),
        onResponseError: (_controller, error) => this.fail(failureOf(error)),
      },
    );
  }

  /** @returns whether this is the first end */
  private end(): boolean {
    if (this.over) return false;
    this.over = true;
    clearTimeout(this.timer);
    return true;
  }

  private fail(result: PeerResult): void {
    if (this.over) return;
    this.giveUp();
    this.parts.events.failed(result);
  }

  private agree(upgraded: Duplex, headers: Parameters<typeof readAcceptance>[2]): void {
    if (this.over || !(upgraded instanceof Socket)) return void upgraded.destroy();
    this.socket = upgraded;
    upgraded.on('error', (error) => this.fail(failureOf(error)));
    upgraded.on('close', () => this.fail(broken('the peer hung up: it may have another peer secret')));
    const acceptance = readAcceptance(this.identity, this.offer, headers);
    if ('reason' in acceptance) return this.fail(broken(acceptance.reason));
    const { derived } = acceptance;
    if (derived === undefined) return this.start(upgraded, undefined);
    upgraded.write(derived.clientProof);
    readProof(upgraded, derived.serverProof, (right) => {
      if (!right) return this.fail(broken('the peer has another peer secret'));
      // Nobody can alter what passes through the kernel.
      this.start(upgraded, this.parts.isLocal ? undefined : { send: derived.clientKey, receive: derived.serverKey });
    });
  }

  private start(upgraded: Socket, keys: LinkKeys | undefined): void {
    if (!this.end()) return void upgraded.destroy();
    upgraded.removeAllListeners();
    this.parts.events.opened((events) => new Link(upgraded, keys, this.parts.linkOptions, events));
    void this.client?.close();
  }
}

/** Describes why a peer refused to upgrade. */
function reasonOf(status: number, refusal: string, { cluster, keys }: Identity): string {
  if (refusal === 'wrong_secret') return `the peer has another peer secret than those with the ids ${idsOf(keys)}`;
  if (refusal.startsWith('unknown_version:'))
    return `HTTP ${status} ${refusal}, and the sender version ${WIRE_VERSION}; ${SAME_RELEASE}`;
  if (!refusal.startsWith('other_cluster')) return `HTTP ${status} ${refusal}`;
  const advice = 'remove it from the peers, or set the same TOKENRING_CLUSTER on both';
  return `${refusal}, and the sender to cluster "${cluster}"; ${advice}`;
}

export function broken(reason: string): PeerResult {
  return { kind: 'broken', reason };
}

interface SystemError extends Error {
  readonly code?: string;
  readonly syscall?: string;
  /** The errors of an AggregateError: one for each address of a name. */
  readonly errors?: readonly SystemError[];
}

/**
 * Turns an error of a connection into the result of its messages.
 *
 * Only a refused connect proves that no program listens. An unreachable host or network, or a name that is not found,
 * may be a fault on the path. The peer may then still be reachable for others.
 */
export function failureOf(error: SystemError): PeerResult {
  const causes = error.errors ?? [error];
  if (causes.every(({ code, syscall }) => code === 'ECONNREFUSED' && syscall === 'connect')) return { kind: 'refused' };
  if (causes.some(({ code }) => code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT')) return { kind: 'timeout' };
  return broken([error.code, error.message].filter(Boolean).join(': '));
}
