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
import { Connections, DEFAULT_BOUNDS } from '../edge/connections.js';
import { ProtocolServer } from '../edge/protocol-server.js';
import { awaitsContinue } from './expect-continue.js';
import { HttpConnection, type HttpShared } from './connection.js';
import type { Counters } from '../edge/counters.js';
import type { DecisionHandlers } from './decisions/handlers.js';
import { gatewayAt } from './decisions/gateway.js';
import { PlainHeads } from './plain-head.js';
import { TokenringError, type HttpErrorCode } from '../../lib/error.js';
import { Health } from './health.js';
import { sendProblem } from './send.js';
import { Sites } from './sites.js';
import type { Turns } from '../../lib/turns.js';

/**
 * Longest times, in ms, that a connection may take or stay silent. Slow and idle clients must not exhaust the node.
 */
export interface ServerTimeouts {
  /** Time for the headers to arrive. */
  readonly headersMs: number;
  /** Time for the whole request to arrive. */
  readonly requestMs: number;
  /** Time between two requests. It is longer than the usual 60 s of load balancers, so that they close first. */
  readonly idleMs: number;
}

export const DEFAULT_TIMEOUTS: ServerTimeouts = { headersMs: 5_000, requestMs: 10_000, idleMs: 65_000 };
/** Bound of the bytes of all headers of a request. */
const MAX_HEADER_BYTES = 16 * 1024;

interface PublicServerDeps {
  readonly decisions: DecisionHandlers;
  readonly api: RequestListener;
  readonly health: Health;
  readonly turns: Turns;
  readonly counters: Counters;
  /** The names of this node, and the pages that may ask it. Default: all names. */
  readonly sites?: Sites;
}

/**
 * Creates the public listener. It sends decision endpoints to their handlers, answers health checks, and sends all other
 * addresses to the API app when their turn comes. During the notice of a drain, each answer ends its connection.
 * Meanwhile balancers see that the node is not ready, and clients move.
 */
export function createPublicServer(
  {
    decisions,
    api,
    health,
    turns,
    counters,
    sites = new Sites({ host: '0.0.0.0', allowedHosts: [] }),
  }: PublicServerDeps,
  timeouts: ServerTimeouts = DEFAULT_TIMEOUTS,
  tls?: TlsOptions,
  bounded: Connections = new Connections(DEFAULT_BOUNDS, counters),
): ProtocolServer {
  /** The connections by their sockets. With TLS, these are the decrypted ones, as those of requests are. */
  const connections = new Map<Socket, HttpConnection>();
  const shared: HttpShared = {
    // TLS connections are not served directly: their sockets differ, and encryption is most of their cost.
    direct: tls === undefined ? decisions.direct : undefined,
    heads: new PlainHeads(sites),
    health,
    turns,
    counters,
    keepAlive: `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(timeouts.idleMs / 1000)}\r\n`,
    isDraining: false,
    behind: 0,
    timedOut,
  };

  /**
   * Answers bytes that node:http could not read as a request, and hangs up, so that the sender does not occupy a
   * connection.
   */
  function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
    let code: HttpErrorCode = 'invalid_request';
    if (error.code === 'HPE_HEADER_OVERFLOW') code = 'headers_too_large';
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') code = 'timeout';
    counters.countProblem(code);
    hangUp(
      socket,
      new TokenringError(code, code === 'invalid_request' ? { expected: 'HTTP/1.1', detail: error.message } : {}),
    );
  }
  function timedOut(socket: Socket): void {
    refuse(Object.assign(new Error('nothing was sent'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), socket);
  }
  const answer: RequestListener = (req, res) => {
    const { url = '' } = req;
    const isQuick = url === '/v1/allow' || url === '/v1/allow/batch' || gatewayAt(url) !== undefined;
    connections.get(req.socket)!.take(req, res, isQuick, () => begin(url, req, res));
  };
  function begin(url: string, req: IncomingMessage, res: ServerResponse): void {
    if (shared.isDraining) res.shouldKeepAlive = false;
    const gateway = gatewayAt(url);
    const problem = hostProblem(req) ?? sites.refusalOf(req, gateway !== undefined);
    if (problem !== undefined) {
      counters.countProblem(problem.code);
      sendProblem(req, res, problem);
    } else if (url === '/v1/allow') decisions.allow(req, res);
    else if (url === '/v1/allow/batch') decisions.batch(req, res);
    else if (gateway === undefined) beginOther(url, req, res);
    else decisions.check[gateway](req, res);
  }
  /** Begins a request that asks for no decision when there is time for it. */
  function beginOther(url: string, req: IncomingMessage, res: ServerResponse): void {
    const path = pathOf(url);
    const run = (lane: 'health' | 'decision' | 'other', answer: RequestListener): void =>
      turns.run(lane, () => {
        if (!res.destroyed) answer(req, res);
      });
    if (Health.isAt(path) && (req.method === 'GET' || req.method === 'HEAD'))
      run('health', () => health.send(path, req, res));
    else if (path === '/v1/settle') run('decision', api);
    else run('other', turns.isFull() ? refuseOverloaded : api);
  }
  function refuseOverloaded(req: IncomingMessage, res: ServerResponse): void {
    counters.countProblem('overloaded');
    sendProblem(req, res, new TokenringError('overloaded', { detail: 'too many requests wait for their turn' }));
  }
  const options = optionsOf(timeouts);
  const server: Server =
    tls === undefined
      ? createServer(options, answer)
      : createTlsServer({ ...options, handshakeTimeout: timeouts.headersMs, ...tls }, answer);
  // Node silently drops headers beyond 2,000, and maybe the client's name with them. Their bytes are bounded anyway.
  server.maxHeadersCount = 0;
  // A connection that never sent anything has no request to time out.
  server.timeout = timeouts.idleMs + timeouts.requestMs;
  server.on('clientError', refuse);
  // Without a listener, Node hangs up on CONNECT, and answers 417 without a body to an unknown expectation.
  server.on('connect', (_req, socket) => refuse(new Error('CONNECT is for proxies'), socket));
  server.on('checkExpectation', answer);
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
    if (shared.isDraining) res.shouldKeepAlive = false;
    awaitsContinue(req, res);
    answer(req, res);
  });
  // node:http begins to check its timeouts when it listens. It may only get the connections of other listeners.
  server.emit('listening');
  return new ProtocolServer(
    {
      protocol: 'http',
      server,
      // node:http bounds the time of a request itself.
      longestMs: {
        silent: timeouts.headersMs,
        arriving: Infinity,
        busy: Infinity,
        idle: timeouts.idleMs,
        ended: Infinity,
      },
      begin(stream, open, serve) {
        const connection = new HttpConnection(shared, stream, open, serve);
        connections.set(stream, connection);
        stream.once('close', () => connections.delete(stream));
        return connection;
      },
      draining(stage) {
        if (stage === 'end') return;
        shared.isDraining = true;
        for (const connection of connections.values()) connection.endWithAnswer();
      },
    },
    bounded,
  );
}

/** The options of node:http and node:https. */
function optionsOf(timeouts: ServerTimeouts): ServerOptions {
  return {
    // Node's own refusal has no body. `answer` refuses with one.
    requireHostHeader: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: timeouts.headersMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.idleMs,
    connectionsCheckingInterval: Math.min(1_000, timeouts.headersMs / 2),
  };
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
