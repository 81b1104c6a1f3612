import type { Socket } from 'node:net';

/** Connections that wait because no worker takes any. Further ones are closed. */
const MAX_WAITING = 512;

/** Spreads the connections of the public port over the workers. */
export interface ConnectionSpreader {
  /** Hands a connection to the worker that has the fewest under way to it; of several, to each in turn. */
  add(socket: Socket): void;
  /** A worker takes connections from now on. */
  joins(worker: number): void;
  /** A worker takes no more. It may return some that were under way. */
  leaves(worker: number): void;
  /** A worker has taken a connection, and reads from it. */
  taken(worker: number, number: number): void;
  /** A worker did not take a connection. */
  returned(worker: number, number: number): void;
  /** A worker has ended. Others get the connections that it had not taken. */
  ended(worker: number): void;
  /** Whether some worker takes connections. */
  hasTakers(): boolean;
  /** Closes all connections that nobody has taken, and takes no more. */
  close(): void;
}

interface SpreaderDeps {
  /** Sends a copy of a connection to a worker. `add` keeps its own until the worker has taken it. */
  readonly hand: (worker: number, number: number, socket: Socket) => void;
}

/**
 * node:cluster spreads connections too, but loses the one that is on its way to a worker that is killed: nobody answers
 * or closes it.
 */
export function createConnectionSpreader({ hand }: SpreaderDeps): ConnectionSpreader {
  /**
   * The connections that are under way to each worker that takes some, by number. The worker that got the last one
   * comes last.
   */
  const takers = new Map<number, Map<number, Socket>>();
  /** The same for workers that take no more. */
  const leaving = new Map<number, Map<number, Socket>>();
  let waiting: Socket[] = [];
  let numbers = 0;
  let closed = false;

  function add(socket: Socket): void {
    if (closed) return void socket.destroy();
    let least: readonly [number, Map<number, Socket>] | undefined;
    for (const taker of takers) if (least === undefined || taker[1].size < least[1].size) least = taker;
    if (least === undefined) {
      if (waiting.length < MAX_WAITING) waiting.push(socket);
      else socket.destroy();
      return;
    }
    const [worker, underWay] = least;
    takers.delete(worker);
    takers.set(worker, underWay);
    underWay.set((numbers += 1), socket);
    hand(worker, numbers, socket);
  }

  function release(worker: number, number: number): Socket | undefined {
    const underWay = takers.get(worker) ?? leaving.get(worker);
    const socket = underWay?.get(number);
    underWay?.delete(number);
    return socket;
  }

  return {
    add,
    joins(worker) {
      takers.set(worker, new Map());
      for (const socket of waiting.splice(0)) add(socket);
    },
    leaves(worker) {
      const underWay = takers.get(worker);
      if (underWay !== undefined) leaving.set(worker, underWay);
      takers.delete(worker);
    },
    // The worker has a copy, so this does not end the connection.
    taken: (worker, number) => void release(worker, number)?.destroy(),
    returned(worker, number) {
      const socket = release(worker, number);
      if (socket !== undefined) add(socket);
    },
    ended(worker) {
      const underWay = takers.get(worker) ?? leaving.get(worker);
      takers.delete(worker);
      leaving.delete(worker);
      for (const socket of underWay?.values() ?? []) add(socket);
    },
    hasTakers: () => takers.size > 0,
    close() {
      closed = true;
      for (const socket of waiting) socket.destroy();
      waiting = [];
      for (const byWorker of [takers, leaving])
        for (const underWay of byWorker.values()) for (const socket of underWay.values()) socket.destroy();
    },
  };
}
