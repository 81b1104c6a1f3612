import type { Server } from 'node:http';
import { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { networkOf } from '../core/address.js';
import type { Counters } from './metrics/counters.js';
import type { Pipelining } from './pipelining.js';

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

export interface Connections {
  /** All sockets, including those in a TLS handshake. */
  readonly open: ReadonlySet<Socket>;
  /** Hands the connections of one more listener to the server. The bounds hold for all listeners together. */
  addListener(listener: Listener): void;
  /** Resolves when no connection is open. */
  allClosed(): Promise<void>;
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

/** Bytes that a client must have read since `sinceMs`. */
interface Backlog {
  readonly bytes: number;
  readonly sinceMs: number;
}

/**
 * Bounds the connections of a server. At the bound, it closes idle connections, so that a client that opens many shuts
 * out no other. It closes a further connection without reading from it. It cuts off a client that does not read its
 * answers.
 */
export function boundConnections(
  server: Server,
  bounds: ConnectionBounds,
  counters: Counters,
  { waitingBytes }: Pick<Pipelining, 'waitingBytes'>,
): Connections {
  const { max, maxPerAddress, answerMs, maxUnreadBytes } = bounds;
  const open = new Set<Socket>();
  /** Open connections by address or IPv6 /64; empty when their number is unbounded. */
  const byNetwork = new Map<string, number>();
  /** The sockets to which answers are written. With TLS, these are the decrypted ones. */
  const readers = new Set<Socket>();
  const backlogs = new Map<Socket, Backlog>();
  let roomMadeAtMs = -Infinity;
  /** Open connections of further listeners. Node does not count them. */
  let others = 0;

  function makeRoom(newest: Socket): void {
    const nowMs = performance.now();
    if (nowMs - roomMadeAtMs < ROOM_INTERVAL_MS) return;
    roomMadeAtMs = nowMs;
    server.closeIdleConnections();
    for (const socket of open) if (socket.bytesRead === 0 && socket !== newest) socket.destroy();
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
    for (const socket of readers) {
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
    for (const socket of readers) {
      const bytes = socket.writableLength + waitingBytes(socket);
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

  function countOthers(change: 1 | -1): void {
    others += change;
    // Node takes 0 for no bound.
    server.maxConnections = Math.max(1, max - others);
  }

  server.maxConnections = max;
  server.on('drop', () => (counters.refusedConnections += 1));
  server.on('connection', (socket: Socket) => {
    if (countNetwork(socket)) {
      counters.refusedOfAddress += 1;
      return void socket.destroy();
    }
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    if (open.size >= max) makeRoom(socket);
  });
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', (socket: Socket) => {
    readers.add(socket);
    socket.on('close', () => {
      readers.delete(socket);
      backlogs.delete(socket);
    });
  });
  const looking = setInterval(look, answerMs / LOOKS);
  looking.unref();
  const adding = setInterval(boundUnread, SUM_INTERVAL_MS);
  adding.unref();
  server.on('close', () => {
    clearInterval(looking);
    clearInterval(adding);
  });
  return {
    open,
    async allClosed() {
      while (open.size > 0)
        await Promise.all([...open].map((socket) => new Promise((resolve) => socket.once('close', resolve))));
    },
    addListener(listener) {
      listener.on('connection', (socket: Socket) => {
        if (open.size >= max) {
          makeRoom(socket);
          counters.refusedConnections += 1;
          return void socket.destroy();
        }
        countOthers(1);
        socket.on('close', () => countOthers(-1));
        server.emit('connection', socket);
      });
    },
  };
}
