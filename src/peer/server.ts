import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Envelope, PeerAnswer, PeerMessage } from '../cluster/messages.js';
import type { Log } from '../cluster/ports.js';
import type { Credentials, PeerAuth } from './auth.js';
import { createBodyReader } from './body.js';
import { decodeMessage, encodeAnswer, WIRE_VERSION } from '../wire/codec.js';
import type { PeerCounters, RefusalReason } from './counters.js';
import { REFUSALS, refusalBody } from './refusal.js';
import type { RefusalCode, RefusalMore } from './refusal.js';
import { serverTls } from './tls.js';
import type { PeerTls } from './tls.js';
import { MalformedMessage } from '../wire/wire.js';

interface PeerServerDeps {
  /** `ClusterNode.receive`. */
  readonly receive: (message: Envelope<PeerMessage>) => Promise<Envelope<PeerAnswer>>;
  readonly counters: PeerCounters;
  /** Checks messages and signs answers; without it neither is done, and signed messages are refused. */
  readonly auth?: PeerAuth | undefined;
  readonly log: Log;
}

export interface PeerServerOptions {
  readonly tls?: PeerTls | undefined;
  /** Of one message. Default 8 MiB. */
  readonly maxBytes?: number;
  /** Of all messages that are arriving. Default 64 MiB. */
  readonly maxArriving?: number;
  /** Default 4,096: eight of each of 512 peers. */
  readonly maxConnections?: number;
  /** Sessions of senders that are told apart; see `auth.ts`. Default 1,024. */
  readonly maxSessions?: number;
  /** Until the headers are there. Default 5,000 ms. */
  readonly headersMs?: number;
  /** Until the whole message is there. Default 10,000 ms. */
  readonly requestMs?: number;
  /** Between two messages; longer than the sender keeps a connection, so that it closes first. Default 65,000 ms. */
  readonly idleMs?: number;
}

export interface PeerServer {
  readonly server: Server;
  /** New connections are shown another certificate, and checked against another CA; those that are there go on. */
  useTls(tls: PeerTls): void;
  /**
   * Takes no new connection, answers what is in flight, and ends the connections. What is not done after `graceMs` is
   * cut off.
   */
  close(graceMs: number): Promise<void>;
}

const PATH = `/peer/v${WIRE_VERSION}/message`;
const OTHER_VERSION = /^\/peer\/v\d+\/message$/;

/** The listener for peers: `POST /peer/v2/message`, one message in, one answer out. */
export function createPeerServer(
  { receive, counters, auth, log }: PeerServerDeps,
  options: PeerServerOptions = {},
): PeerServer {
  const { maxBytes = 8 * 1024 * 1024, maxArriving = 64 * 1024 * 1024, maxSessions = 1_024 } = options;
  const { headersMs = 5_000, requestMs = 10_000, idleMs = 65_000 } = options;
  const verifier = auth?.createVerifier({ maxSessions });
  const bodies = createBodyReader({ maxBytes, maxArriving });
  let closing = false;

  function count(reason: RefusalReason, from: string | undefined, detail: string | undefined): void {
    const times = (counters.refused[reason] += 1);
    // The first, the tenth, the hundredth: who is refused all the time must not fill the log as well.
    if (reason === 'unknown_boot' || !/^10*$/.test(String(times))) return;
    log.warn({ reason, from, detail, times }, 'refused a message from a peer');
  }

  function send(
    res: ServerResponse,
    status: number,
    body: string | Buffer,
    credentials: Credentials | undefined,
  ): void {
    const type = status === 200 ? 'application/json' : 'application/problem+json';
    const headers = ['Content-Type', type, 'Content-Length', String(Buffer.byteLength(body))];
    headers.push('Connection', closing || !res.shouldKeepAlive ? 'close' : 'keep-alive');
    if (credentials !== undefined && verifier !== undefined) {
      headers.push('Tokenring-Mac', verifier.signAnswer(credentials, status, body));
    }
    if (status === 401) headers.push('WWW-Authenticate', 'Tokenring');
    if (status === 405) headers.push('Allow', 'POST');
    res.sendDate = false;
    res.writeHead(status, headers);
    res.end(body);
  }

  function refuse(
    req: IncomingMessage,
    res: ServerResponse,
    code: RefusalCode,
    more: RefusalMore = {},
    credentials?: Credentials,
  ): void {
    count(code, req.socket.remoteAddress, more.detail);
    if (!req.complete) {
      // What still arrives is dropped, and the connection ends with the answer.
      res.shouldKeepAlive = false;
      req.resume();
    }
    send(res, REFUSALS[code].status, refusalBody(code, more), credentials);
  }

  /** What can be told from the head of a request. */
  function refusalOf(req: IncomingMessage): RefusalCode | undefined {
    if (req.url !== PATH) return OTHER_VERSION.test(req.url ?? '') ? 'unknown_version' : 'not_found';
    if (req.method !== 'POST') return 'method_not_allowed';
    // A page in a browser on this machine reaches loopback, where there may be no secret.
    if (req.headers.origin !== undefined) return 'from_browser';
    if (verifier === undefined && req.headers.authorization !== undefined) return 'unexpected_credentials';
    return undefined;
  }

  function handle(req: IncomingMessage, res: ServerResponse): void {
    const refusal = refusalOf(req);
    if (refusal !== undefined) return refuse(req, res, refusal);
    const credentials = verifier?.read(req.headers.authorization);
    if (verifier !== undefined && credentials === undefined) return refuse(req, res, 'no_credentials');
    bodies.read(
      req,
      (body) => void answer(req, res, body, credentials),
      (reason) => refuse(req, res, reason),
    );
  }

  async function answer(
    req: IncomingMessage,
    res: ServerResponse,
    body: Buffer,
    credentials: Credentials | undefined,
  ): Promise<void> {
    if (verifier !== undefined && credentials !== undefined) {
      const refusal = verifier.accept(credentials, body);
      if (refusal === 'wrong_secret') return refuse(req, res, refusal);
      if (refusal !== undefined) return refuse(req, res, refusal, { boot: verifier.boot }, credentials);
    }
    try {
      const message = decodeMessage(body);
      counters.received[message.body.kind] += 1;
      send(res, 200, encodeAnswer(await receive(message)), credentials);
    } catch (error) {
      const { message } = error as Error;
      const code = error instanceof MalformedMessage ? 'malformed' : 'internal';
      refuse(req, res, code, code === 'malformed' ? { detail: message } : {}, credentials);
      if (code === 'internal') log.warn({ err: error }, 'could not answer a message from a peer');
    }
  }

  const server = createHttpServer(options.tls, {
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    keepAliveTimeout: idleMs,
    connectionsCheckingInterval: Math.min(1_000, headersMs / 2),
  });
  server.on('request', handle);
  server.maxConnections = options.maxConnections ?? 4_096;
  // On a connection on which nothing moves, whoever is to blame.
  server.timeout = idleMs + requestMs;
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex & { remoteAddress?: string }) => {
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
    const code = HTTP_ERRORS[error.code ?? ''] ?? 'bad_http';
    count(code, socket.remoteAddress, error.message);
    hangUp(socket, code);
  });
  server.on('tlsClientError', (error: Error, socket: Socket) => count('tls', socket.remoteAddress, error.message));
  server.on('drop', (dropped?: { remoteAddress?: string }) =>
    count('too_many_connections', dropped?.remoteAddress, undefined),
  );
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });

  return {
    server,
    useTls(tls) {
      if (server instanceof TlsServer) server.setSecureContext(serverTls(tls));
    },
    close(graceMs) {
      closing = true;
      return new Promise((resolve) => {
        const cut = setTimeout(() => {
          for (const socket of sockets) socket.destroy();
        }, graceMs);
        server.close(() => {
          clearTimeout(cut);
          resolve();
        });
        // That ended the idle connections, but for those on which nothing was sent yet.
        for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
      });
    },
  };
}

function createHttpServer(tls: PeerTls | undefined, options: ServerOptions): Server {
  return tls === undefined ? createServer(options) : createTlsServer({ ...options, ...serverTls(tls) });
}

const HTTP_ERRORS: Readonly<Record<string, RefusalCode>> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'timeout',
};

/** Answers what node:http could not read as a request, and ends the connection, so that going on to send holds none. */
function hangUp(socket: Duplex, code: RefusalCode): void {
  const body = refusalBody(code);
  socket.end(
    `HTTP/1.1 ${REFUSALS[code].status} ${code}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
