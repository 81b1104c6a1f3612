import {
  constants,
  createSecureServer,
  createServer,
  type IncomingHttpHeaders,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import { TokenringError } from '../../lib/error.js';
import type { Settler } from '../../node/decide/settler.js';
import type { Connection, Connections, ConnectionState, OpenConnection } from '../edge/connections.js';
import type { ServerContext } from '../edge/server-context.js';
import { ProtocolServer, type ServerTimeouts } from '../edge/protocol-server.js';
import { AllOrNothing } from './all-or-nothing.js';
import { Call, sendStatus, type Method } from './call.js';
import { HEALTH_SERVICE, HealthService } from './health-service.js';
import { RATE_LIMIT_SERVICE, ShouldRateLimit } from './rate-limit-service.js';
import { STATUS } from './status.js';

const DEFAULT_TIMEOUTS: ServerTimeouts = { firstMs: 5_000, requestMs: 10_000, idleMs: 65_000 };

/** Calls of one connection at once. */
const MAX_STREAMS = 128;
/** Bound of the headers of a call. */
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_HEADERS = 64;
/** Bound in MB of what Node keeps for one connection. */
const MAX_SESSION_MB = 2;
/** Frames that are no HTTP/2, and refused calls, after which a connection is cut. */
const MAX_INVALID_FRAMES = 20;
const MAX_REFUSED_STREAMS = 100;
/** PING and SETTINGS frames of a connection within a second without a call, after which it is cut. */
const MAX_CONTROL_FRAMES = 1_000;
/**
 * Calls that a caller may reset within a second, more than are open at once. Beyond it, the connection is cut: a reset
 * makes room for the next call, so a caller could begin any number (CVE-2023-44487).
 */
const MAX_RESETS = 200;
/** Streams that have begun and whose end is not handled yet. Only resets in one turn make them more than those open. */
const MAX_UNENDED = 2 * MAX_STREAMS;

/** A connection and its calls. */
class GrpcConnection implements Connection {
  readonly calls = new Set<Call>();
  /** Whether the caller has sent its first frame, which is SETTINGS. */
  private isGreeted = false;
  controlFrames = 0;
  resets = 0;
  private unended = 0;

  /** @param activeMs time at which it began, or had its last call. A watch does not count, as it is never over. */
  constructor(
    readonly session: ServerHttp2Session,
    private readonly open: OpenConnection,
    public activeMs: number,
  ) {
    session.on('ping', () => this.controlled());
    session.on('remoteSettings', () => this.controlled());
    session.on('error', ignore);
  }

  state(): ConnectionState {
    if (!this.isGreeted) return 'silent';
    let state: ConnectionState = 'idle';
    for (const { method, arrived } of this.calls) {
      if (arrived && !method.streams) return 'busy';
      if (!arrived) state = 'arriving';
    }
    return state;
  }

  sinceMs(): number {
    return this.activeMs;
  }

  unreadBytes(): number {
    let bytes = 0;
    for (const { unreadBytes } of this.calls) bytes += unreadBytes;
    return bytes;
  }

  /** Ends its watches, and closes it when its calls are over. */
  end(reason: 'idle' | 'timeout' | 'draining'): void {
    if (reason === 'timeout') return this.session.destroy();
    // The caller of a watch connects again if it needs one.
    const problem =
      reason === 'draining'
        ? new TokenringError('draining')
        : new TokenringError('unavailable', { detail: 'the connection had no call but watches' });
    for (const call of this.calls) if (call.method.streams) call.fail(problem);
    this.session.close();
  }

  private controlled(): void {
    this.isGreeted = true;
    this.controlFrames += 1;
    if (this.controlFrames > MAX_CONTROL_FRAMES) this.cut();
  }

  /** Forgets a call. It is one function for all calls, as there are many. */
  readonly callClosed = (call: Call, rstCode: number | undefined): void => {
    this.calls.delete(call);
    if (call.arrived && rstCode === constants.NGHTTP2_NO_ERROR) this.open.served();
    this.streamEnded(rstCode);
  };

  streamBegan(): void {
    this.unended += 1;
    if (this.unended > MAX_UNENDED) this.cut();
  }

  /** @param rstCode of RST_STREAM, of either side */
  streamEnded(rstCode: number | undefined): void {
    this.unended -= 1;
    if (rstCode === constants.NGHTTP2_NO_ERROR) return;
    this.resets += 1;
    if (this.resets > MAX_RESETS) this.cut();
  }

  cut(): void {
    // Without an error, Node would send the code 0.
    this.session.destroy(new Error('the caller asks too much'), constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

/**
 * The server of gRPC (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) on node:http2, with Envoy's rate
 * limit service and the health service. When it drains, GOAWAY asks callers at once to use other connections.
 */
export class GrpcServer extends ProtocolServer {
  private readonly context: ServerContext;
  private readonly timeouts: ServerTimeouts;
  private readonly maxArriving: number;
  private readonly answerMs: number;
  private readonly health: HealthService;
  /** The methods by path. */
  private readonly methods: ReadonlyMap<string, Method>;
  private readonly bySession = new Map<ServerHttp2Session, GrpcConnection>();
  /** The session that node:http2 created last. */
  private created: ServerHttp2Session | undefined = undefined;
  /** Calls since the last count of those that have not arrived. */
  private begun = 0;

  /** @param parts.maxArriving calls of all connections whose messages have not arrived in full */
  constructor(parts: {
    readonly context: ServerContext;
    readonly connections: Connections;
    readonly settler: Pick<Settler, 'settle'>;
    readonly maxArriving: number;
    readonly timeouts?: ServerTimeouts;
    readonly tls?: TlsOptions | undefined;
  }) {
    const { context, connections, settler, timeouts = DEFAULT_TIMEOUTS } = parts;
    const { firstMs, idleMs } = timeouts;
    const server = openServer(timeouts, parts.tls);
    super({
      protocol: 'grpc',
      server,
      connections,
      // Calls have times of their own.
      longestMs: { silent: firstMs, arriving: Infinity, busy: Infinity, idle: idleMs, ended: Infinity },
      nowMs: context.elapsedMs,
    });
    this.context = context;
    this.timeouts = timeouts;
    this.maxArriving = parts.maxArriving;
    this.answerMs = connections.bounds.answerMs;
    this.health = new HealthService([RATE_LIMIT_SERVICE, HEALTH_SERVICE], () => context.stage() === 'ready');
    this.methods = new Map<string, Method>([
      [
        `/${RATE_LIMIT_SERVICE}/ShouldRateLimit`,
        new ShouldRateLimit(context, new AllOrNothing(context.limiter, settler)),
      ],
      [`/${HEALTH_SERVICE}/Check`, this.health.check],
      [`/${HEALTH_SERVICE}/Watch`, this.health.watch],
    ]);
    server.on('session', (session: ServerHttp2Session) => (this.created = session));
    server.on('sessionError', ignore);
    server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => this.take(stream, headers));
  }

  /** Tells those that watch the health of the node. Called after each change of the stage. */
  stageChanged(): void {
    this.health.changed();
  }

  protected override begin(_stream: Socket, open: OpenConnection, serve: () => void): Connection {
    serve();
    const session = this.created!;
    const one = new GrpcConnection(session, open, this.context.elapsedMs());
    this.bySession.set(session, one);
    session.on('close', () => this.bySession.delete(session));
    return one;
  }

  protected override draining(stage: 'notice' | 'end'): void {
    // GOAWAY names the last call that the node has seen, so callers send later ones again. One that names a larger
    // number would promise an answer: node:http2 ignores calls after it.
    if (stage === 'notice') for (const session of this.bySession.keys()) session.close();
  }

  protected override sweepMore(nowMs: number): void {
    for (const one of this.bySession.values()) this.sweepCalls(one, nowMs);
    this.boundArriving();
  }

  private take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const one = this.bySession.get(stream.session as ServerHttp2Session);
    const method = this.methods.get(headers[':path'] as string);
    stream.on('error', ignore);
    one?.streamBegan();
    if (one === undefined || one.session.destroyed) return void stream.destroy();
    if (method === undefined || !isGrpc(headers) || headers.origin !== undefined) {
      stream.on('close', () => one.streamEnded(stream.rstCode));
      return refuse(stream, headers, method);
    }
    const startMs = this.context.elapsedMs();
    if (!method.streams) one.activeMs = startMs;
    one.controlFrames = 0;
    one.calls.add(new Call(this.context, method, stream, headers, startMs, one.callClosed));
    // Calls are counted only now and then, so up to twice as many may be arriving.
    this.begun += 1;
    if (this.begun > this.maxArriving) this.boundArriving();
  }

  /** Ends the calls that take too long to arrive, and the connection if a caller does not read its answers. */
  private sweepCalls(one: GrpcConnection, nowMs: number): void {
    one.controlFrames = 0;
    one.resets = 0;
    for (const call of one.calls) {
      if (call.answeredMs > 0 && nowMs - call.answeredMs >= this.answerMs) {
        this.context.counters.slowReaders += 1;
        return one.session.destroy();
      }
      if (isArriving(call) && nowMs - call.startMs >= this.timeouts.requestMs) call.fail(new TokenringError('timeout'));
    }
  }

  /** Cuts the connections with the most calls that have not arrived, until there are few enough. */
  private boundArriving(): void {
    this.begun = 0;
    const arriving: { readonly one: GrpcConnection; readonly count: number }[] = [];
    let sum = 0;
    for (const one of this.bySession.values()) {
      let count = 0;
      for (const call of one.calls) if (isArriving(call)) count += 1;
      sum += count;
      if (count > 0) arriving.push({ one, count });
    }
    if (sum <= this.maxArriving) return;
    for (const { one, count } of arriving.sort((a, b) => b.count - a.count)) {
      one.cut();
      sum -= count;
      if (sum <= this.maxArriving) return;
    }
  }
}

function openServer({ firstMs }: ServerTimeouts, tls: TlsOptions | undefined): Http2Server {
  const options = {
    maxSessionMemory: MAX_SESSION_MB,
    maxSessionInvalidFrames: MAX_INVALID_FRAMES,
    maxSessionRejectedStreams: MAX_REFUSED_STREAMS,
    maxHeaderListPairs: MAX_HEADERS,
    settings: { maxConcurrentStreams: MAX_STREAMS, maxHeaderListSize: MAX_HEADER_BYTES },
  };
  return tls === undefined
    ? createServer(options)
    : createSecureServer({ ...options, handshakeTimeout: firstMs, ALPNProtocols: ['h2'], ...tls });
}

function isGrpc(headers: IncomingHttpHeaders): boolean {
  const { 'content-type': type = '', 'grpc-encoding': encoding = 'identity' } = headers;
  const isType = type === 'application/grpc' || /^application\/grpc(?:\+proto)?(?:;|$)/.test(type);
  return isType && headers[':method'] === 'POST' && encoding === 'identity';
}

/** Answers a call that is no call of a method. A caller that does not speak gRPC gets a status of HTTP. */
function refuse(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, method: Method | undefined): void {
  const { 'content-type': type = '', origin } = headers;
  // Only a browser sends it, and no page is served here.
  if (origin !== undefined) return respond(stream, 403);
  if (headers[':method'] !== 'POST') return respond(stream, 405);
  if (!type.startsWith('application/grpc')) return respond(stream, 415);
  if (method === undefined) return sendStatus(stream, STATUS.unimplemented, `${headers[':path']}: no such method`);
  sendStatus(stream, STATUS.unimplemented, 'messages must be Protocol Buffers, without compression');
}

function respond(stream: ServerHttp2Stream, status: number): void {
  stream.respond({ ':status': status, ...(status === 405 && { allow: 'POST' }) }, { endStream: true });
  if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
}

function ignore(): void {}

const isArriving = ({ arrived, answeredMs }: Call): boolean => !arrived && answeredMs === 0;
