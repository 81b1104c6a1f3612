import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { LRUCache } from 'lru-cache';
import type { Envelope, PeerAnswer, PeerMessage } from '../messages.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Log } from '../../lib/system.js';
import { decodeMessage, writeAnswer } from '../format/messages.js';
import { malformed, MalformedMessage } from '../../lib/byte-reader.js';
import type { PeerCounters, RefusalReason } from './counters.js';
import {
  acceptOffer,
  PEER_PATH,
  readProof,
  UPGRADE,
  type Accepted,
  type Identity,
  type LinkKeys,
} from './handshake.js';
import { GOODBYE, Link, type LinkOptions } from './link.js';
import { MismatchLog, REFUSALS, refusalBody, writeRefusal, type RefusalCode } from './refusal.js';
import { paceHandshakes, serverTls, type PeerTls } from './tls.js';
import { UnauthenticatedConnections } from './unauthenticated-connections.js';

export interface PeerServerOptions {
  readonly tls?: PeerTls | undefined;
  /** Bound of one message, in bytes. Default 8 MiB. */
  readonly maxBytes?: number;
  /** Bound of one answer, in bytes. Default 8 MiB. */
  readonly maxAnswerBytes?: number;
  /** Bound of connections that have not proved who they are. Above it, the oldest is dropped. Default 256. */
  readonly maxStrangers?: number;
  /** Time that a connection has to prove who it is. Default 5,000 ms. */
  readonly strangerMs?: number;
  /** Bound of members' links. Default 4,096. */
  readonly maxLinks?: number;
  /** A link on which no bytes move for this long is ended. The sender ends an idle link earlier. Default 5 minutes. */
  readonly idleMs?: number;
}

/** A member's link, and the messages on it that are being answered. */
interface Member {
  readonly id: NodeId;
  readonly link: Link;
  inFlight: number;
  paused: boolean;
}

const HEALTHY = '{"status":"ok"}';
/** The handshake takes about 400 bytes. It names three hosts, each of which may have 253 characters. */
const MAX_HEADER_BYTES = 1_280;
/**
 * Bytes that a stranger may send: headers and a proof of 32 bytes. node:http refuses longer headers at once, and 32
 * bytes after them are right or wrong. With TLS, its handshake and a certificate chain count too, which OpenSSL holds
 * until it knows whether they are valid.
 */
const MAX_STRANGER_BYTES = 1_536;
const MAX_TLS_STRANGER_BYTES = 32_768;
/**
 * Messages of one link that are being answered. At this bound, reading from the link pauses. Senders limit themselves
 * to fewer.
 */
const MAX_IN_FLIGHT = 2_048;
/** Bytes of answers that a member has not read. At this bound, reading of its messages pauses. */
const MAX_UNREAD_BYTES = 1024 * 1024;

/**
 * Bytes of messages that have arrived in part, of all links together. A message is 8 MiB at most, and few need more than
 * one. Above it, the link with the most ends.
 */
const MAX_HELD_BYTES = 32 * 1024 * 1024;

/** The listener for peers. It speaks HTTP, and peers upgrade it to a link. */
export class PeerServer {
  readonly server: Server;
  /** Takes the same messages on a Unix socket, which only this user may open: without TLS, and without tags. */
  readonly local: Server;
  private readonly linkOptions: LinkOptions;
  private readonly maxLinks: number;
  private readonly idleMs: number;
  private readonly members = new Set<Member>();
  private readonly mismatches: MismatchLog;
  private readonly unauthenticated: UnauthenticatedConnections;
  private readonly sockets = new Set<Socket>();
  /** Addresses from which members have come, the latest last. */
  private readonly known: LRUCache<string, true>;
  private closing = false;
  private heldBytes = 0;

  constructor(
    private readonly parts: {
      /** `ClusterNode.receive`. */
      readonly receive: (message: Envelope<PeerMessage>) => Promise<Envelope<PeerAnswer>>;
      readonly counters: PeerCounters;
      readonly identity: Identity;
      readonly log: Log;
    },
    options: PeerServerOptions = {},
  ) {
    const { maxBytes = 8 * 1024 * 1024, maxAnswerBytes = 8 * 1024 * 1024 } = options;
    const { maxStrangers = 256, strangerMs = 5_000, maxLinks = 4_096, idleMs = 300_000 } = options;
    this.linkOptions = {
      maxSendBytes: maxAnswerBytes,
      maxReceiveBytes: maxBytes,
      maxWaitingBytes: 2 * maxAnswerBytes,
    };
    this.maxLinks = maxLinks;
    this.idleMs = idleMs;
    this.mismatches = new MismatchLog(parts.identity.cluster, parts.log);
    this.known = new LRUCache<string, true>({ max: maxLinks });
    this.unauthenticated = new UnauthenticatedConnections({
      max: maxStrangers,
      maxBytes: options.tls === undefined ? MAX_STRANGER_BYTES : MAX_TLS_STRANGER_BYTES,
      maxAgeMs: strangerMs,
      dropped: (reason, socket) => this.count(reason, socket),
    });
    this.server = this.listener(options.tls, strangerMs, false);
    this.local = this.listener(undefined, strangerMs, true);
  }

  /** Uses another certificate and CA for new connections. Open ones continue. */
  useTls(tls: PeerTls): void {
    if (this.server instanceof TlsServer) this.server.setSecureContext(serverTls(tls));
  }

  /**
   * Takes no new connection, answers the messages in flight, and ends the links. Cuts the rest off after `graceMs`.
   */
  async close(graceMs: number): Promise<void> {
    this.closing = true;
    const cut = setTimeout(() => {
      for (const socket of this.sockets) socket.destroy();
    }, graceMs);
    const closed = [this.server, this.local].map((one) => new Promise((resolve) => one.close(resolve)));
    // A message may be on its way, so the sender ends the link after its last answer.
    for (const { link } of this.members) link.send(GOODBYE, () => undefined, undefined);
    this.unauthenticated.close();
    await Promise.all(closed);
    clearTimeout(cut);
  }

  private listener(tls: PeerTls | undefined, strangerMs: number, isLocal: boolean): Server {
    const server = createHttpServer(tls, {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: strangerMs,
      requestTimeout: strangerMs,
    });
    if (server instanceof TlsServer) paceHandshakes(server, (address) => this.known.has(address ?? ''));
    server.on('request', (req: IncomingMessage, res: ServerResponse) => this.answerHttp(req, res));
    server.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) =>
      this.upgrade(req, socket, head, isLocal),
    );
    server.on('connection', (socket: Socket) => {
      this.unauthenticated.add(socket);
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
      if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
      const code = HTTP_ERRORS[error.code ?? ''] ?? 'bad_http';
      this.count(code, socket, error.message);
      hangUp(socket, code);
    });
    server.on('tlsClientError', (error: Error, socket: Socket) => {
      this.count('tls', socket, error.message);
      socket.destroy();
    });
    return server;
  }

  private count(reason: RefusalReason, socket: Socket | undefined, detail?: string): void {
    const times = (this.parts.counters.refused[reason] += 1);
    // Only the first, the tenth, the hundredth … is logged, as repeated refusals must not fill the log.
    if (!/^10*$/.test(String(times))) return;
    this.parts.log.warn(
      { reason, from: socket?.remoteAddress, detail, times },
      'refused a connection or a message of a peer',
    );
  }

  private answerHttp(req: IncomingMessage, res: ServerResponse): void {
    const refuse = (code: RefusalCode): void => {
      this.count(code, req.socket);
      const body = refusalBody(code);
      res.writeHead(REFUSALS[code].status, problemHeaders(code, body));
      res.end(body);
    };
    // The connection ends with the answer, so the body is not read.
    res.on('finish', () => req.socket.destroySoon());
    if (req.headers.origin !== undefined) return refuse('from_browser');
    if (req.url === '/healthz' && req.method === 'GET') {
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': HEALTHY.length, Connection: 'close' });
      return void res.end(HEALTHY);
    }
    refuse(req.url === PEER_PATH ? 'upgrade_required' : 'not_found');
  }

  private upgrade(req: IncomingMessage, socket: Socket, head: Buffer, isLocal: boolean): void {
    socket.on('error', () => socket.destroy());
    const refuse = (code: RefusalCode, detail?: string, logged = detail): void => {
      this.count(code, socket, logged);
      hangUp(socket, code, detail);
    };
    if (req.headers.origin !== undefined) return refuse('from_browser');
    if (req.url !== PEER_PATH || req.headers.upgrade !== UPGRADE) return refuse('not_found');
    if (this.members.size >= this.maxLinks || this.closing) return refuse('too_many_connections');
    const accepted = acceptOffer(this.parts.identity, req.headers);
    if (accepted.kind === 'refused') {
      const { code, detail, logged } = accepted;
      if (code !== 'other_cluster' && code !== 'unknown_version') return refuse(code, detail, logged);
      this.parts.counters.refused[code] += 1;
      this.mismatches.note(code, req.headers, socket.remoteAddress);
      return hangUp(socket, code, detail);
    }
    if (head.length > 0) socket.unshift(head);
    const lines = Object.entries(accepted.headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${UPGRADE}\r\n${lines.join('')}\r\n`,
    );
    this.authenticate(socket, accepted, isLocal);
  }

  private authenticate(socket: Socket, { peer, derived }: Accepted, isLocal: boolean): void {
    if (derived === undefined) return this.admit(peer, socket, undefined);
    readProof(socket, derived.clientProof, (right) => {
      if (!right) {
        this.count('wrong_secret', socket);
        return void socket.destroy();
      }
      socket.write(derived.serverProof);
      this.admit(peer, socket, isLocal ? undefined : { send: derived.serverKey, receive: derived.clientKey });
    });
  }

  private admit(id: NodeId, socket: Socket, keys: LinkKeys | undefined): void {
    this.unauthenticated.remove(socket);
    if (socket.remoteAddress !== undefined) this.known.set(socket.remoteAddress, true);
    socket.removeAllListeners('error').removeAllListeners('timeout');
    socket.setTimeout(this.idleMs, () => socket.destroy());
    const link = new Link(socket, keys, this.linkOptions, {
      received: (number, payload) => this.answer(member, number, payload),
      ended: (end) => {
        this.members.delete(member);
        if (end.kind === 'refused') this.count(end.code, socket);
      },
      drained: () => this.readOn(member),
      held: (change) => this.held(change),
    });
    const member: Member = { id, link, inFlight: 0, paused: false };
    this.members.add(member);
  }

  private held(change: number): void {
    this.heldBytes += change;
    if (this.heldBytes <= MAX_HELD_BYTES) return;
    let most: Link | undefined;
    for (const { link } of this.members) if (link.heldBytes() > (most?.heldBytes() ?? 0)) most = link;
    this.count('too_large', undefined, `messages that have arrived in part take ${this.heldBytes} bytes`);
    most?.destroy();
  }

  private answer(member: Member, number: number, payload: Buffer): void {
    let message: Envelope<PeerMessage>;
    try {
      message = decodeMessage(payload);
      // A node speaks for itself alone, and under the id for which it has proved that it knows the secret.
      if (message.sender.from.id !== member.id) throw malformed('sender', `${member.id}, as in the handshake`);
    } catch (error) {
      if (!(error instanceof MalformedMessage)) throw error;
      this.count('malformed', undefined, error.message);
      member.link.send(number, writeRefusal, { code: 'malformed', detail: error.message });
      return;
    }
    this.parts.counters.received[message.body.kind] += 1;
    member.inFlight += 1;
    this.parts.receive(message).then(
      (envelope) => this.reply(member, number, envelope),
      (error: unknown) => this.fail(member, number, error),
    );
    if (member.inFlight >= MAX_IN_FLIGHT || member.link.waitingBytes() > MAX_UNREAD_BYTES) {
      member.paused = true;
      member.link.pause();
    }
  }

  private reply(member: Member, number: number, envelope: Envelope<PeerAnswer>): void {
    if (!member.link.send(number, writeAnswer, envelope)) {
      member.link.send(number, writeRefusal, { code: 'too_large' });
    }
    this.done(member);
  }

  private fail(member: Member, number: number, error: unknown): void {
    this.count('internal', undefined);
    this.parts.log.warn({ err: error }, 'could not answer a message from a peer');
    member.link.send(number, writeRefusal, { code: 'internal' });
    this.done(member);
  }

  private done(member: Member): void {
    member.inFlight -= 1;
    this.readOn(member);
  }

  private readOn(member: Member): void {
    if (!member.paused || member.inFlight >= MAX_IN_FLIGHT || member.link.waitingBytes() > MAX_UNREAD_BYTES) return;
    member.paused = false;
    member.link.resume();
  }
}

function createHttpServer(tls: PeerTls | undefined, options: ServerOptions): Server {
  return tls === undefined ? createServer(options) : createTlsServer({ ...options, ...serverTls(tls) });
}

const HTTP_ERRORS: Readonly<Record<string, RefusalCode>> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'timeout',
};

function problemHeaders(code: RefusalCode, body: string): Record<string, string> {
  return {
    'Content-Type': 'application/problem+json',
    'Content-Length': String(Buffer.byteLength(body)),
    Connection: 'close',
    ...(code === 'upgrade_required' && { Upgrade: UPGRADE }),
  };
}

/** Answers a request that node:http does not answer, and ends the connection. */
function hangUp(socket: Duplex, code: RefusalCode, detail?: string): void {
  const body = refusalBody(code, detail);
  const headers = Object.entries(problemHeaders(code, body)).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${REFUSALS[code].status} ${code}\r\n${headers.join('')}\r\n${body}`, () => socket.destroy());
}
