import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TlsOptions } from 'node:tls';
import { TokenringError, type HttpErrorCode } from '../../lib/error.js';
import { Connections, DEFAULT_BOUNDS, type Connection, type OpenConnection } from '../edge/connections.js';
import { ProtocolServer, type ServerTimeouts } from '../edge/protocol-server.js';
import type { ServerContext } from '../edge/server-context.js';
import { awaitsContinue } from './body.js';
import { HttpConnection, type HttpShared } from './connection.js';
import { gatewayAt } from './decisions/gateway.js';
import type { DecisionHandlers } from './decisions/handlers.js';
import { Health } from './health.js';
import { PlainHeads } from './plain-head.js';
import { sendProblem } from './send.js';
import { HostGuard } from './host-guard.js';

/** `idleMs` is longer than the usual 60 s of load balancers, so that they close first. */
export const DEFAULT_TIMEOUTS: ServerTimeouts = { firstMs: 5_000, requestMs: 10_000, idleMs: 65_000 };
/** Bound of the bytes of all headers of a request. */
const MAX_HEADER_BYTES = 16 * 1024;

interface HttpServerParts {
  readonly context: Pick<ServerContext, 'counters' | 'turns' | 'requireJoined'>;
  readonly decisions: DecisionHandlers;
  /** Answers all other addresses. */
  readonly api: RequestListener;
  readonly health: Health;
  /** The names of this node, and the pages that may ask it. Default: all names. */
  readonly hosts?: HostGuard;
  readonly connections?: Connections;
  readonly timeouts?: ServerTimeouts;
  readonly tls?: TlsOptions | undefined;
}

/**
 * The server of the HTTP API. It sends decision endpoints to their handlers, answers health checks, and sends all other
 * addresses to the API app when their turn comes. During the notice of a drain, each answer ends its connection.
 * Meanwhile balancers see that the node is not ready, and clients move.
 */
export class HttpServer extends ProtocolServer {
  private readonly hosts: HostGuard;
  private readonly shared: HttpShared;
  /** The connections by their sockets. With TLS, these are the decrypted ones, as those of requests are. */
  private readonly bySocket = new Map<Socket, HttpConnection>();

  constructor(private readonly parts: HttpServerParts) {
    const { context, decisions, health, timeouts = DEFAULT_TIMEOUTS, tls } = parts;
    const { firstMs, idleMs } = timeouts;
    const server = openServer(timeouts, tls);
    super({
      protocol: 'http',
      server,
      connections: parts.connections ?? new Connections(DEFAULT_BOUNDS, context.counters),
      // node:http bounds the time of a request itself.
      longestMs: { silent: firstMs, arriving: Infinity, busy: Infinity, idle: idleMs, ended: Infinity },
      nowMs: () => performance.now(),
    });
    this.hosts = parts.hosts ?? new HostGuard({ host: '0.0.0.0', allowedHosts: [] });
    this.shared = {
      // TLS connections are not served directly: their sockets differ, and encryption is most of their cost.
      direct: tls === undefined ? decisions.direct : undefined,
      heads: new PlainHeads(this.hosts),
      health,
      turns: context.turns,
      counters: context.counters,
      keepAlive: `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(idleMs / 1000)}\r\n`,
      isDraining: false,
      pipelined: 0,
      timedOut: this.timedOut,
    };
    server.on('request', this.take);
    server.on('clientError', this.refuse);
    // Without a listener, Node hangs up on CONNECT, and answers 417 without a body to an unknown expectation.
    server.on('connect', (_req, socket) => this.refuse(new Error('CONNECT is for proxies'), socket));
    server.on('checkExpectation', this.take);
    server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
      if (this.shared.isDraining) res.shouldKeepAlive = false;
      awaitsContinue(req, res);
      this.take(req, res);
    });
  }

  protected override begin(stream: Socket, open: OpenConnection, serve: () => void): Connection {
    const connection = new HttpConnection(this.shared, stream, open, serve);
    this.bySocket.set(stream, connection);
    stream.once('close', () => this.bySocket.delete(stream));
    return connection;
  }

  protected override draining(stage: 'notice' | 'end'): void {
    if (stage === 'end') return;
    this.shared.isDraining = true;
    for (const connection of this.bySocket.values()) connection.closeAfterAnswer();
  }

  /** Takes a request that node:http has read. */
  private readonly take: RequestListener = (req, res) => {
    const { url = '' } = req;
    const isQuick = url === '/v1/allow' || url === '/v1/allow/batch' || gatewayAt(url) !== undefined;
    this.bySocket.get(req.socket)!.take(req, res, isQuick, () => this.answer(url, req, res));
  };

  private answer(url: string, req: IncomingMessage, res: ServerResponse): void {
    if (this.shared.isDraining) res.shouldKeepAlive = false;
    const { decisions } = this.parts;
    const gateway = gatewayAt(url);
    const problem = hostProblem(req) ?? this.hosts.refusalOf(req, gateway !== undefined);
    if (problem !== undefined) this.sendProblem(req, res, problem);
    else if (url === '/v1/allow') decisions.allow(req, res);
    else if (url === '/v1/allow/batch') decisions.batch(req, res);
    else if (gateway === undefined) this.answerOther(pathOf(url), req, res);
    else decisions.check[gateway](req, res);
  }

  /** Answers a request that asks for no decision, when there is time for it. */
  private answerOther(path: string, req: IncomingMessage, res: ServerResponse): void {
    const { turns } = this.shared;
    if (Health.isAt(path) && (req.method === 'GET' || req.method === 'HEAD'))
      this.run('health', res, () => this.shared.health.send(path, req, res));
    else if (path === '/v1/settle') this.run('decision', res, () => this.callApi(path, req, res));
    else if (!turns.isFull()) this.run('other', res, () => this.callApi(path, req, res));
    else {
      const problem = new TokenringError('overloaded', { detail: 'too many requests wait for their turn' });
      this.run('other', res, () => this.sendProblem(req, res, problem));
    }
  }

  private run(lane: 'health' | 'decision' | 'other', res: ServerResponse, answer: () => void): void {
    this.shared.turns.run(lane, () => {
      if (!res.destroyed) answer();
    });
  }

  /** A node listens before it joins. Until then, it answers nothing but health checks and metrics. */
  private callApi(path: string, req: IncomingMessage, res: ServerResponse): void {
    try {
      if (!Health.isAt(path) && path !== '/metrics') this.parts.context.requireJoined();
    } catch (error) {
      return this.sendProblem(req, res, error as TokenringError);
    }
    this.parts.api(req, res);
  }

  private sendProblem(req: IncomingMessage, res: ServerResponse, problem: TokenringError): void {
    this.shared.counters.countProblem(problem.code);
    sendProblem(req, res, problem);
  }

  /**
   * Answers bytes that node:http could not read as a request, and hangs up, so that the sender does not occupy a
   * connection.
   */
  private readonly refuse = (error: NodeJS.ErrnoException, socket: Duplex): void => {
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
    let code: HttpErrorCode = 'invalid_request';
    if (error.code === 'HPE_HEADER_OVERFLOW') code = 'headers_too_large';
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') code = 'timeout';
    this.shared.counters.countProblem(code);
    hangUp(
      socket,
      new TokenringError(code, code === 'invalid_request' ? { expected: 'HTTP/1.1', detail: error.message } : {}),
    );
  };

  private readonly timedOut = (socket: Socket): void =>
    this.refuse(Object.assign(new Error('nothing was sent'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), socket);
}

function openServer(timeouts: ServerTimeouts, tls: TlsOptions | undefined): Server {
  const options: ServerOptions = {
    // Node's own refusal has no body. The server refuses with one.
    requireHostHeader: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: timeouts.firstMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.idleMs,
    connectionsCheckingInterval: Math.min(1_000, timeouts.firstMs / 2),
  };
  const server: Server =
    tls === undefined
      ? createServer(options)
      : createTlsServer({ ...options, handshakeTimeout: timeouts.firstMs, ...tls });
  // Node silently drops headers beyond 2,000, and maybe the client's name with them. Their bytes are bounded anyway.
  server.maxHeadersCount = 0;
  // A connection that never sent anything has no request to time out.
  server.timeout = timeouts.idleMs + timeouts.requestMs;
  // node:http begins to check its timeouts when it listens. It may only get the connections of other listeners.
  server.emit('listening');
  return server;
}

function pathOf(url: string): string {
  const query = url.indexOf('?');
  return query < 0 ? url : url.slice(0, query);
}

/**
 * Demands exactly one `Host` (RFC 9112, 3.2). Of two, different programs might believe different ones. HTTP/1.0 may have
 * none.
 */
function hostProblem({ rawHeaders, httpVersion }: IncomingMessage): TokenringError | undefined {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.length === 4 && rawHeaders[i]!.toLowerCase() === 'host') hosts += 1;
  if (hosts === 1 || (hosts === 0 && httpVersion === '1.0')) return undefined;
  const wrong = hosts === 0 ? 'Host is missing' : 'Host is there more than once';
  return new TokenringError('invalid_request', {
    field: 'Host',
    expected: 'one Host',
    detail: `${wrong}; use one Host, as HTTP/1.1 demands`,
  });
}

function hangUp(socket: Duplex, problem: TokenringError): void {
  const body = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${problem.status} ${problem.code}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
