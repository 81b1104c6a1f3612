import type { Server, Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { Server as TlsServer } from 'node:tls';
import type { TlsOptions } from 'node:tls';
import { networkOf } from '../../lib/address.js';
import type { Counters } from './counters.js';

export interface ConnectionBounds {
  /** Connections open at once. */
  readonly max: number;
  /** Connections of one address or IPv6 /64. `Infinity` when many callers share one, as behind a proxy. */
  readonly maxPerAddress: number;
  /** Time in ms that a client has to read the bytes that wait for it. They take memory of the node. */
  readonly answerMs: number;
  /** Bytes of unread answers of all clients together. Above it, the node cuts off the clients with the most. */
  readonly maxUnreadBytes: number;
}

export const DEFAULT_BOUNDS: ConnectionBounds = {
  max: 10_000,
  maxPerAddress: Infinity,
  answerMs: 30_000,
  maxUnreadBytes: 64 * 1024 * 1024,
};

/** The server of one protocol. */
interface BoundedServer {
  /** Its name in metrics. */
  readonly protocol: string;
  readonly server: Server;
  /** Closes the connections that wait for nothing. */
  readonly closeIdle: () => void;
  /** Returns the bytes of answers of this connection that wait outside its socket. */
  readonly waitingBytes?: (socket: Socket) => number;
}

/** A public port of a node. */
export interface ProtocolServer {
  readonly server: Server;
  /** Answers the connections of one more listener, which `drain` closes too. */
  attachListener(listener: Listener): void;
  /** Uses another certificate and CA for new connections. Open connections continue. */
  useTls(tls: TlsOptions): void;
  /**
   * Stops without failing a request. For `noticeMs` it continues to answer. Then it accepts no connection and
   * waits for the requests in flight. Connections that began during the notice have as long again for their first
   * request. After `graceMs` in all, it cuts the rest.
   */
  drain(noticeMs: number, graceMs: number): Promise<void>;
}

/** The connections of one server. */
export interface ServerConnections extends Pick<ProtocolServer, 'attachListener' | 'useTls'> {
  /** All sockets, including those in a TLS handshake. */
  readonly open: ReadonlySet<Socket>;
  /**
   * Waits for the notice of a drain, then until no connection waits at a listener, whose end would reset it.
   * @returns what is left of `graceMs`
   */
  notice(noticeMs: number, graceMs: number): Promise<number>;
  /** Closes all listeners. Resolves when they are closed and no connection is open. */
  close(): Promise<void>;
}

export interface Connections {
  /** Bounds the connections of one more server. The bounds hold for all servers and listeners together. */
  addServer(server: BoundedServer): ServerConnections;
}

/** Where connections come from, beside a server's own listener. */
export interface Listener {
  on(event: 'connection', take: (socket: Socket) => void): unknown;
  /** Takes no more connections. May wait for the end of open ones before it calls `done`. */
  close(done: () => void): unknown;
}

/** Shortest time in ms between two rounds that close idle connections. */
const ROOM_INTERVAL_MS = 100;
/** Number of checks of each connection during the time that its client has to read. */
const LOOKS = 6;
/**
 * Interval in ms between two sums of the unread answers. A batch of 1,000 takes about 15 ms and may answer with a
 * megabyte.
 */
const SUM_INTERVAL_MS = 250;

/**
 * Parts of a notice, one after the other. A process that gets no processor answers nobody, so a pause prolongs the notice:
 * it uses up one part.
 */
const NOTICE_PARTS = 10;

/** Bytes that a client must have read since `sinceMs`. */
interface Backlog {
  readonly bytes: number;
  readonly sinceMs: number;
}

interface OpenServer extends BoundedServer {
  readonly open: Set<Socket>;
  /** Connections since the start, those included that found no room. */
  accepted: number;
  /** Open connections of the server's own listener. Node counts them, and no others. */
  own: number;
}

/**
 * Bounds the connections of all servers. At the bound, it closes idle connections, so that a client that opens many
 * shuts out no other. It closes a further connection without reading from it. It cuts off a client that does not read its
 * answers.
 */
export function createConnections(bounds: ConnectionBounds, counters: Counters): Connections {
  const { max, maxPerAddress, answerMs, maxUnreadBytes } = bounds;
  const servers = new Set<OpenServer>();
  let total = 0;
  /** Open connections by address or IPv6 /64; empty when their number is unbounded. */
  const byNetwork = new Map<string, number>();
  /** The sockets to which answers are written, and their servers. With TLS, these are the decrypted ones. */
  const readers = new Map<Socket, BoundedServer>();
  const backlogs = new Map<Socket, Backlog>();
  let roomMadeAtMs = -Infinity;
  let timers: readonly NodeJS.Timeout[] = [];

  function makeRoom(newest: Socket): void {
    const nowMs = performance.now();
    if (nowMs - roomMadeAtMs < ROOM_INTERVAL_MS) return;
    roomMadeAtMs = nowMs;
    for (const { closeIdle, open } of servers) {
      closeIdle();
      for (const socket of open) if (socket.bytesRead === 0 && socket !== newest) socket.destroy();
    }
  }

  /** @returns whether the new connection is above the bound of its address */
  function countNetwork(socket: Socket): boolean {
    if (maxPerAddress === Infinity) return false;
    const network = networkOf(socket.remoteAddress ?? '');
    const count = byNetwork.get(network) ?? 0;
    if (count >= maxPerAddress) return true;
    byNetwork.set(network, count + 1);
    socket.on('close', () => {
      const left = byNetwork.get(network)! - 1;
      if (left === 0) byNetwork.delete(network);
      else byNetwork.set(network, left);
    });
    return false;
  }

  function look(): void {
    const nowMs = performance.now();
    for (const socket of readers.keys()) {
      const waiting = socket.writableLength;
      const backlog = backlogs.get(socket);
      if (waiting === 0) backlogs.delete(socket);
      else if (backlog === undefined || socket.bytesWritten - waiting >= backlog.bytes) {
        backlogs.set(socket, { bytes: socket.bytesWritten, sinceMs: nowMs });
      } else if (nowMs - backlog.sinceMs >= answerMs) {
        counters.slowReaders += 1;
        socket.destroy();
      }
    }
  }

  function boundUnread(): void {
    const unread: [Socket, number][] = [];
    let sum = 0;
    for (const [socket, { waitingBytes }] of readers) {
      const bytes = socket.writableLength + (waitingBytes?.(socket) ?? 0);
      if (bytes === 0) continue;
      unread.push([socket, bytes]);
      sum += bytes;
    }
    if (sum <= maxUnreadBytes) return;
    for (const [socket, bytes] of unread.sort(([, a], [, b]) => b - a)) {
      sum -= bytes;
      counters.slowReaders += 1;
      socket.destroy();
      if (sum <= maxUnreadBytes) return;
    }
  }

  /** Tells each server how many connections of its own the others leave it. Node takes 0 for no bound. */
  function shareRoom(): void {
    for (const { server, own } of servers) server.maxConnections = Math.max(1, max - (total - own));
  }

  function count(one: OpenServer, own: 0 | 1, change: 1 | -1): void {
    total += change;
    one.own += own * change;
    counters.connections.set(one.protocol, (counters.connections.get(one.protocol) ?? 0) + change);
    shareRoom();
  }

  /**
   * @param own 1 for a connection of the server's own listener, else 0
   * @returns whether there was room for it; if not, it is closed
   */
  function take(one: OpenServer, socket: Socket, own: 0 | 1): boolean {
    one.accepted += 1;
    if (total - own * one.own >= max) {
      makeRoom(socket);
      counters.refusedConnections += 1;
      socket.destroy();
      return false;
    }
    if (countNetwork(socket)) {
      counters.refusedOfAddress += 1;
      socket.destroy();
      return false;
    }
    count(one, own, 1);
    one.open.add(socket);
    socket.on('close', () => {
      count(one, own, -1);
      one.open.delete(socket);
    });
    if (total >= max) makeRoom(socket);
    return true;
  }

  /** @param handed connections of other listeners, which are taken already */
  function listenTo(one: OpenServer, handed: WeakSet<Socket>): void {
    const { server } = one;
    server.on('drop', () => (counters.refusedConnections += 1));
    server.on('connection', (socket: Socket) => handed.has(socket) || take(one, socket, 1));
    server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', (socket: Socket) => {
      readers.set(socket, one);
      socket.on('close', () => {
        readers.delete(socket);
        backlogs.delete(socket);
      });
    });
    server.on('close', () => {
      servers.delete(one);
      if (servers.size === 0) for (const timer of timers) clearInterval(timer);
    });
  }

  return {
    addServer(added) {
      const one: OpenServer = { ...added, open: new Set(), accepted: 0, own: 0 };
      if (servers.size === 0) timers = [setInterval(look, answerMs / LOOKS), setInterval(boundUnread, SUM_INTERVAL_MS)];
      for (const timer of timers) timer.unref();
      servers.add(one);
      counters.connections.set(one.protocol, 0);
      shareRoom();
      const { server, open } = one;
      const listeners: Pick<Listener, 'close'>[] = [server];
      const handed = new WeakSet<Socket>();
      listenTo(one, handed);
      async function allClosed(): Promise<void> {
        while (open.size > 0)
          await Promise.all([...open].map((socket) => new Promise((resolve) => socket.once('close', resolve))));
      }
      return {
        open,
        async notice(noticeMs, graceMs) {
          const startMs = performance.now();
          const leftMs = (): number => Math.max(0, startMs + graceMs - performance.now());
          for (let part = 0; part < NOTICE_PARTS && leftMs() > 0; part += 1) await sleep(noticeMs / NOTICE_PARTS);
          // A turn accepts one connection of each listener, and reads what has come over those that were idle.
          let before: number;
          do {
            before = one.accepted;
            await nextTurn();
          } while (one.accepted > before && leftMs() > graceMs / 2);
          return leftMs();
        },
        attachListener(listener) {
          listeners.push(listener);
          listener.on('connection', (socket: Socket) => {
            if (!take(one, socket, 0)) return;
            handed.add(socket);
            server.emit('connection', socket);
          });
        },
        useTls(tls) {
          if (server instanceof TlsServer) server.setSecureContext(tls);
        },
        async close() {
          const closed = listeners.map((listener) => new Promise<void>((resolve) => listener.close(() => resolve())));
          await Promise.all([...closed, allClosed()]);
        },
      };
    },
  };
}
