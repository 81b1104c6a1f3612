import type { Socket } from 'node:net';

type DropReason = 'too_many_connections' | 'too_large' | 'timeout';

/** Connections that have not proved who they are. They have their own budget, so they take nothing from members. */
export class UnauthenticatedConnections {
  /** Oldest first. */
  private readonly all = new Map<Key, { readonly socket: Socket; readonly sinceMs: number }>();
  private readonly looking: NodeJS.Timeout;

  constructor(
    private readonly options: {
      /** Connections at once. */
      readonly max: number;
      /** Bytes from one connection. A connection that has sent more is dropped. */
      readonly maxBytes: number;
      /** Age of a connection. An older one is dropped. */
      readonly maxAgeMs: number;
      readonly dropped: (reason: DropReason, socket: Socket) => void;
    },
  ) {
    this.looking = setInterval(() => this.look(), Math.min(250, options.maxAgeMs / 2));
    this.looking.unref();
  }

  /** Takes a new connection. Above the bound, it drops the oldest. */
  add(socket: Socket): void {
    const { all } = this;
    if (all.size >= this.options.max) {
      const [oldest] = all;
      if (oldest !== undefined) this.drop(oldest[0], oldest[1].socket, 'too_many_connections');
    }
    const key = keyOf(socket);
    all.set(key, { socket, sinceMs: performance.now() });
    socket.once('close', () => {
      if (all.get(key)?.socket === socket) all.delete(key);
    });
  }

  /** Releases a connection that has proved to be a member's. */
  remove(socket: Socket): void {
    this.all.delete(keyOf(socket));
  }

  /** Drops all connections, and stops the timer. */
  close(): void {
    clearInterval(this.looking);
    for (const { socket } of this.all.values()) socket.destroy();
  }

  private look(): void {
    const { maxAgeMs, maxBytes } = this.options;
    const nowMs = performance.now();
    for (const [key, { socket, sinceMs }] of this.all) {
      if (nowMs - sinceMs > maxAgeMs) this.drop(key, socket, 'timeout');
      else if (socket.bytesRead > maxBytes) this.drop(key, socket, 'too_large');
    }
  }

  private drop(key: Key, socket: Socket, reason: DropReason): void {
    this.all.delete(key);
    this.options.dropped(reason, socket);
    socket.destroy();
  }
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
