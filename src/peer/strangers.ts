import type { Socket } from 'node:net';

/** Connections that have not proved who they are. They have a budget of their own, so they take nothing from members. */
export interface Strangers {
  /** Takes a new connection. Above the bound the oldest is dropped. */
  add(socket: Socket): void;
  /** Gives a connection up that has proved to be of a member. */
  remove(socket: Socket): void;
  /** Drops all, and stops the timer. */
  close(): void;
}

interface StrangersOptions {
  /** Connections at once. */
  readonly max: number;
  /** A connection that has sent more is dropped. */
  readonly maxBytes: number;
  /** A connection that is older is dropped. */
  readonly maxAgeMs: number;
  readonly dropped: (reason: 'too_many_connections' | 'too_large' | 'timeout', socket: Socket) => void;
}

export function createStrangers({ max, maxBytes, maxAgeMs, dropped }: StrangersOptions): Strangers {
  /** Keyed by remote address and port, which a TLS socket shares with the socket below it; oldest first. */
  const all = new Map<string, { readonly socket: Socket; readonly sinceMs: number }>();

  function drop(key: string, socket: Socket, reason: 'too_many_connections' | 'too_large' | 'timeout'): void {
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

function keyOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
