import type { Server, Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { Server as TlsServer, type TlsOptions } from 'node:tls';
import type { Connection, Connections, ConnectionState, OpenConnection } from './connections.js';

/** Longest times, in ms, that a connection may take or stay silent. Slow and idle clients must not exhaust the node. */
export interface ServerTimeouts {
  /** Time for a TLS handshake, and for the first bytes that the protocol waits for. */
  readonly firstMs: number;
  /** Time for a whole request to arrive. */
  readonly requestMs: number;
  /** Time between two requests. */
  readonly idleMs: number;
}

/** Where connections come from, beside a server's own listener. */
export interface Listener {
  on(event: 'connection', take: (socket: Socket) => void): unknown;
  /** Takes no more connections. May wait for the end of open ones before it calls `done`. */
  close(done: () => void): unknown;
}

/**
 * Parts of a notice, one after the other. A process that gets no processor answers nobody, so a pause prolongs the notice:
 * it uses up one part.
 */
const NOTICE_PARTS = 10;

/** A public port of a node, and the life of its connections from the first byte to the end. Each protocol is a subclass. */
export abstract class ProtocolServer {
  /** Name of the protocol in metrics. */
  readonly protocol: string;
  readonly server: Server;
  private readonly connections: Connections;
  /** Longest times in ms that a connection may stay in a state. */
  private readonly longestMs: Readonly<Record<ConnectionState, number>>;
  /** The clock of the times that connections tell. */
  private readonly nowMs: () => number;
  private readonly open = new Map<Socket, OpenConnection>();
  /** The connections in a TLS handshake, by `peerOf`. */
  private readonly handshakes = new Map<string, OpenConnection>();
  private readonly listeners: Pick<Listener, 'close'>[];
  /** Connections since the start, those included that found no place. */
  private accepted = 0;
  /** Begins a TLS handshake. */
  private readonly handshake: ((socket: Socket) => void) | undefined;
  /** The listener of node:http or node:http2. */
  private readonly serve: ((socket: Socket) => void) | undefined;

  constructor(parts: {
    readonly protocol: string;
    readonly server: Server;
    readonly connections: Connections;
    readonly longestMs: Readonly<Record<ConnectionState, number>>;
    readonly nowMs: () => number;
  }) {
    const { server, connections } = parts;
    this.protocol = parts.protocol;
    this.server = server;
    this.connections = connections;
    this.longestMs = parts.longestMs;
    this.nowMs = parts.nowMs;
    this.listeners = [server];
    const isTls = server instanceof TlsServer;
    this.serve = takeListener(server, isTls ? 'secureConnection' : 'connection');
    this.handshake = isTls ? takeListener(server, 'connection') : undefined;
    server.on('connection', (socket: Socket) => this.accept(socket));
    if (isTls) server.on('secureConnection', (stream: Socket) => this.handshaken(stream));
    const sweeping = setInterval(() => this.sweep(), Math.min(1_000, Math.min(...Object.values(this.longestMs)) / 2));
    sweeping.unref();
    connections.addServer(this);
    server.on('close', () => {
      clearInterval(sweeping);
      connections.removeServer(this);
    });
  }

  /**
   * Begins to serve a connection.
   * @param serve passes the connection to the server's own listener, if it has one
   */
  protected abstract begin(stream: Socket, open: OpenConnection, serve: () => void): Connection;

  /** Called when the notice of a drain begins, and when it has ended. */
  protected abstract draining(stage: 'notice' | 'end'): void;

  /** Checks what the times of states do not cover. Called about once a second. */
  protected sweepMore?(nowMs: number): void;

  /** Answers the connections of one more listener, which `drain` closes too. */
  attachListener(listener: Listener): void {
    this.listeners.push(listener);
    listener.on('connection', (socket) => this.server.emit('connection', socket));
  }

  /** Uses another certificate and CA for new connections. Open connections continue. */
  useTls(tls: TlsOptions): void {
    if (this.server instanceof TlsServer) this.server.setSecureContext(tls);
  }

  /** Ends the connections that wait for nothing. */
  closeIdle(): void {
    for (const one of this.open.values()) if (one.state() === 'idle') one.connection!.end('idle');
  }

  /**
   * Stops without failing a request. For `noticeMs` it continues to answer. Then it accepts no connection and
   * waits for the requests in flight. Connections that began during the notice have as long again for their first
   * request. After `graceMs` in all, it cuts the rest.
   */
  async drain(noticeMs: number, graceMs: number): Promise<void> {
    this.draining('notice');
    const before = [...this.open.values()];
    const leftMs = await this.notice(noticeMs, graceMs);
    this.draining('end');
    const cut = setTimeout(() => {
      for (const { socket } of this.open.values()) socket.destroy();
    }, leftMs);
    const closed = this.close();
    endSilent(before);
    for (const one of this.open.values()) if (one.state() !== 'silent') one.connection!.end('draining');
    const late = setTimeout(() => endSilent(this.open.values()), noticeMs);
    await closed;
    clearTimeout(late);
    clearTimeout(cut);
  }

  private accept(socket: Socket): void {
    this.accepted += 1;
    const one = this.connections.take(socket, this.protocol);
    if (one === undefined) return;
    this.open.set(socket, one);
    socket.once('close', () => this.open.delete(socket));
    if (this.handshake === undefined) return this.beginOne(one);
    const peer = peerOf(socket);
    this.handshakes.set(peer, one);
    socket.once('close', () => this.handshakes.delete(peer));
    this.handshake.call(this.server, socket);
  }

  private handshaken(stream: Socket): void {
    const one = this.handshakes.get(peerOf(stream));
    if (one === undefined) return void stream.destroy();
    one.stream = stream;
    this.beginOne(one);
  }

  private beginOne(one: OpenConnection): void {
    const { stream } = one;
    if (stream.destroyed) return;
    one.connection = this.begin(stream, one, () => this.serve?.call(this.server, stream));
  }

  private sweep(): void {
    const nowMs = this.nowMs();
    this.sweepMore?.(nowMs);
    for (const one of this.open.values()) {
      const { connection } = one;
      if (connection === undefined) continue;
      const state = one.state();
      if (nowMs - connection.sinceMs() <= this.longestMs[state]) continue;
      connection.end(state === 'idle' ? 'idle' : 'timeout');
    }
  }

  /**
   * Waits for the notice of a drain, then until no connection waits at a listener, whose end would reset it.
   * @returns what is left of `graceMs`
   */
  private async notice(noticeMs: number, graceMs: number): Promise<number> {
    const startMs = performance.now();
    const leftMs = (): number => Math.max(0, startMs + graceMs - performance.now());
    for (let part = 0; part < NOTICE_PARTS && leftMs() > 0; part += 1) await sleep(noticeMs / NOTICE_PARTS);
    // A turn accepts one connection of each listener, and reads what has come over those that were idle.
    let before: number;
    do {
      before = this.accepted;
      await nextTurn();
    } while (this.accepted > before && leftMs() > graceMs / 2);
    return leftMs();
  }

  /** Closes all listeners. Resolves when they are closed and no connection is open. */
  private async close(): Promise<void> {
    const closed = this.listeners.map((listener) => new Promise<void>((resolve) => listener.close(() => resolve())));
    const noneOpen = async (): Promise<void> => {
      while (this.open.size > 0)
        await Promise.all([...this.open.keys()].map((socket) => new Promise((done) => socket.once('close', done))));
    };
    await Promise.all([...closed, noneOpen()]);
  }
}

/** Ends the connections that have sent nothing yet, or not even begun TLS. */
function endSilent(some: Iterable<OpenConnection>): void {
  for (const one of some) if (one.state() === 'silent') one.socket.destroy();
}

/** Removes the listener that the server itself has for an event, to be called by this module. */
function takeListener(server: Server, event: string): ((socket: Socket) => void) | undefined {
  const [own] = server.listeners(event) as ((socket: Socket) => void)[];
  server.removeAllListeners(event);
  return own;
}

/** Names the two ends of a connection: the two sockets of TLS do not know each other. */
function peerOf({ remoteAddress, remotePort, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localPort}`;
}
