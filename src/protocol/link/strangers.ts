import type { Socket } from 'node:net';

/** Connections that have not proved who they are. They have their own budget, so they take nothing from members. */
export interface Strangers {
  /** Takes a new connection. Above the bound, it drops the oldest. */
  add(socket: Socket): void;
  /** Releases a connection that has proved to be a member's. */
  remove(socket: Socket): void;
  /** Drops all connections, and stops the timer. */
  close(): void;
}

interface StrangersOptions {
  /** Connections at once. */
  readonly max: number;
  /** Bytes from one connection. A connection that has sent more is dropped. */
  readonly maxBytes: number;
  /** Age of a connection. An older one is dropped. */
  readonly maxAgeMs: number;
  readonly dropped: (reason: 'too_many_connections' | 'too_large' | 'timeout', socket: Socket) => void;
}

export function createStrangers({ max, maxBytes, maxAgeMs, dropped }: StrangersOptions): Strangers {
  /** Oldest first. */
  const all = new Map<Key, { readonly socket: Socket; readonly sinceMs: number }>();

  function drop(key: Key, socket: Socket, reason: 'too_many_connections' | 'too_large' | 'timeout'): void {
    all.delete(key);
    dropped(reason, socket);
    socket.destroy();
  }

  const looking = setInterval(
    () => {
      const nowMs = performance.now();
      for (const [key, { socket, sinceMs }] of all) {
        if (nowMs - sinceMs > maxAgeMs) drop(key, socket, 'timeout');
        else if (socket.bytesRead > maxBytes) drop(key, socket, 'too_large');
      }
    },
    Math.min(250, maxAgeMs / 2),
  );
  looking.unref();

  return {
    add(socket) {
      if (all.size >= max) {
        for (const [key, oldest] of all) {
          drop(key, oldest.socket, 'too_many_connections');
          break;
        }
      }
      const key = keyOf(socket);
      all.set(key, { socket, sinceMs: performance.now() });
      socket.once('close', () => {
        if (all.get(key)?.socket === socket) all.delete(key);
      });
    },
    remove: (socket) => void all.delete(keyOf(socket)),
    close() {
      clearInterval(looking);
      for (const { socket } of all.values()) socket.destroy();
    },
  };
}

/**
 * Remote address and port, which a TLS socket shares with the socket below it. A Unix socket has none, and is its own
 * key.
 */
type Key = string | Socket;

function keyOf(socket: Socket): Key {
  const { remoteAddress, remotePort } = socket;
  return remoteAddress === undefined ? socket : `${remoteAddress} ${remotePort}`;
}
