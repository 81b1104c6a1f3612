import {
  constants,
  createSecureServer,
  createServer,
  type IncomingHttpHeaders,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { TlsOptions } from 'node:tls';
import { TokenringError } from '../../lib/error.js';
import type { Connection, Connections, ConnectionState, OpenConnection } from '../edge/connections.js';
import type { ServerContext } from '../edge/server-context.js';
import { ProtocolServer } from '../edge/protocol-server.js';
import { beginCall, sendStatus, type Call, type Method } from './call.js';
import { STATUS } from './status.js';

/** Longest times, in ms, that a connection may take or stay silent. */
export interface GrpcTimeouts {
  /** Time for the first frame of a connection to arrive. */
  readonly prefaceMs: number;
  /** Time for the message of a call to arrive. */
  readonly requestMs: number;
  /** Time that a caller has to read its answer. */
  readonly answerMs: number;
  /** Time between two calls. */
  readonly idleMs: number;
}

const DEFAULT_TIMEOUTS: GrpcTimeouts = { prefaceMs: 5_000, requestMs: 10_000, answerMs: 30_000, idleMs: 65_000 };

interface GrpcBounds {
  /** Calls of all connections whose messages have not arrived in full. */
  readonly maxArriving: number;
  readonly timeouts?: GrpcTimeouts;
}

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

interface GrpcDeps {
  readonly context: Parameters<typeof beginCall>[0]['context'] & Pick<ServerContext, 'counters'>;
  readonly connections: Connections;
  /** The methods by path. */
  readonly methods: ReadonlyMap<string, Method>;
  readonly refusal: () => TokenringError | undefined;
}

/** A connection and its calls. */
class Session implements Connection {
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
    for (const { streams, arrived } of this.calls) {
      if (arrived && !streams) return 'busy';
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
    for (const call of this.calls) if (call.streams) call.fail(problem);
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
 * Creates a server of gRPC (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) on node:http2. When it
 * drains, GOAWAY asks callers at once to use other connections.
 */
export function createGrpcServer(
  deps: GrpcDeps,
  { maxArriving, timeouts = DEFAULT_TIMEOUTS }: GrpcBounds,
  tls?: TlsOptions,
): ProtocolServer {
  const { context, methods, connections } = deps;
  const { elapsedMs, counters } = context;
  const sessions = new Map<ServerHttp2Session, Session>();
  const options = {
    maxSessionMemory: MAX_SESSION_MB,
    maxSessionInvalidFrames: MAX_INVALID_FRAMES,
    maxSessionRejectedStreams: MAX_REFUSED_STREAMS,
    maxHeaderListPairs: MAX_HEADERS,
    settings: { maxConcurrentStreams: MAX_STREAMS, maxHeaderListSize: MAX_HEADER_BYTES },
  };
  const server: Http2Server =
    tls === undefined
      ? createServer(options)
      : createSecureServer({ ...options, handshakeTimeout: timeouts.prefaceMs, ALPNProtocols: ['h2'], ...tls });

  /** The session that node:http2 created last. */
  let created: ServerHttp2Session | undefined;
  server.on('session', (session: ServerHttp2Session) => (created = session));
  server.on('sessionError', ignore);

  /** Calls since the last count of those that have not arrived. */
  let begun = 0;
  const cut = (): void => {
    begun = 0;
    cutArriving(sessions.values(), maxArriving);
  };
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const one = sessions.get(stream.session as ServerHttp2Session);
    const method = methods.get(headers[':path'] as string);
    stream.on('error', ignore);
    one?.streamBegan();
    if (one === undefined || one.session.destroyed) return void stream.destroy();
    if (method === undefined || !isGrpc(headers) || headers.origin !== undefined) {
      stream.on('close', () => one.streamEnded(stream.rstCode));
      return refuse(stream, headers, method);
    }
    const startMs = elapsedMs();
    if (!method.streams) one.activeMs = startMs;
    one.controlFrames = 0;
    one.calls.add(beginCall(deps, method, stream, headers, { startMs, closed: one.callClosed }));
    // Calls are counted only now and then, so up to twice as many may be arriving.
    begun += 1;
    if (begun > maxArriving) cut();
  });

  return new ProtocolServer(
    {
      protocol: 'grpc',
      server,
      longestMs: {
        silent: timeouts.prefaceMs,
        arriving: Infinity,
        busy: Infinity,
        idle: timeouts.idleMs,
        ended: Infinity,
      },
      elapsedMs,
      begin(_stream, open, serve) {
        serve();
        const session = created!;
        const one = new Session(session, open, elapsedMs());
        sessions.set(session, one);
        session.on('close', () => sessions.delete(session));
        return one;
      },
      draining(stage) {
        // GOAWAY names the last call that the node has seen, so callers send later ones again. One that names a larger
        // number would promise an answer: node:http2 ignores calls after it.
        if (stage === 'notice') for (const session of sessions.keys()) session.close();
      },
      sweep(nowMs) {
        for (const one of sessions.values()) sweepCalls(one, nowMs, timeouts, counters);
        cut();
      },
    },
    connections,
  );
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

/** Ends the calls that take too long to arrive, and the connection if a caller does not read its answers. */
function sweepCalls(one: Session, nowMs: number, timeouts: GrpcTimeouts, counters: ServerContext['counters']): void {
  one.controlFrames = 0;
  one.resets = 0;
  for (const call of one.calls) {
    if (call.answeredMs > 0 && nowMs - call.answeredMs >= timeouts.answerMs) {
      counters.slowReaders += 1;
      return one.session.destroy();
    }
    if (isArriving(call) && nowMs - call.startMs >= timeouts.requestMs) call.fail(new TokenringError('timeout'));
  }
}

function ignore(): void {}

const isArriving = ({ arrived, answeredMs }: Call): boolean => !arrived && answeredMs === 0;

/** Cuts the connections with the most calls that have not arrived, until at most `most` are left. */
function cutArriving(sessions: Iterable<Session>, most: number): void {
  const arriving: { readonly one: Session; readonly count: number }[] = [];
  let sum = 0;
  for (const one of sessions) {
    let count = 0;
    for (const call of one.calls) if (isArriving(call)) count += 1;
    sum += count;
    if (count > 0) arriving.push({ one, count });
  }
  if (sum <= most) return;
  for (const { one, count } of arriving.sort((a, b) => b.count - a.count)) {
    one.cut();
    sum -= count;
    if (sum <= most) return;
  }
}
