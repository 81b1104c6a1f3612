import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Bound of requests of one connection that have no complete answer. No usual client has more than a few. */
const MAX_OF_CONNECTION = 128;
/** Bound of such requests of all connections, apart from the first of each. One takes about 5 kB. */
const MAX_BEHIND = 4_096;

interface Pipelined {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** `undefined` once it has begun. */
  begin: (() => void) | undefined;
  /** Whether it may begin before the answers of earlier requests are complete. */
  readonly isQuick: boolean;
}

/** The requests of each connection whose answers are not complete. */
interface Pipelining {
  /**
   * Calls `begin` now or later, in the order of the requests. A request that is not quick begins when all earlier
   * answers of its connection are complete.
   */
  take(req: IncomingMessage, res: ServerResponse, isQuick: boolean, begin: () => void): void;
  /** Returns the bytes of answers that wait behind an earlier answer of this connection. */
  waitingBytes(socket: Socket): number;
}

/**
 * Puts the requests of a connection in order. node:http hands out all requests of a chunk at once, and 64 KiB hold
 * 1,500. Their answers would keep the event loop busy for seconds and take hundreds of MB. And when the connection
 * breaks, node:http does not report the answers after the first, so work begun for them would never end.
 * @param cut called before a connection is closed that sends too many requests and does not wait for answers
 */
export function createPipelining({ cut }: { cut: () => void }): Pipelining {
  const connections = new Map<Socket, Pipelined[]>();
  let behind = 0;

  function beginAll(requests: readonly Pipelined[]): void {
    for (let i = 0; i < requests.length; i += 1) {
      const { req, begin, isQuick } = requests[i]!;
      if (begin === undefined) continue;
      if (req.socket.destroyed || (i > 0 && !isQuick)) return;
      requests[i]!.begin = undefined;
      begin();
    }
  }

  function ended(requests: Pipelined[]): void {
    requests.shift();
    if (requests.length === 0) return;
    behind -= 1;
    // Other connections have their turn first.
    if (requests[0]!.begin !== undefined) setImmediate(beginAll, requests);
  }

  function requestsOf(socket: Socket): Pipelined[] {
    const known = connections.get(socket);
    if (known !== undefined) return known;
    const requests: Pipelined[] = [];
    connections.set(socket, requests);
    socket.once('close', () => {
      connections.delete(socket);
      behind -= Math.max(0, requests.length - 1);
      requests.length = 0;
    });
    return requests;
  }

  return {
    take(req, res, isQuick, begin) {
      const { socket } = req;
      if (socket.destroyed) return;
      const requests = requestsOf(socket);
      if (requests.length > 0) {
        if (requests.length >= MAX_OF_CONNECTION || behind >= MAX_BEHIND) {
          cut();
          return void socket.destroy();
        }
        behind += 1;
      }
      requests.push({ req, res, begin, isQuick });
      res.once('close', () => {
        if (requests.length > 0) ended(requests);
      });
      const before = requests.at(-2);
      if (before === undefined || (isQuick && before.begin === undefined)) beginAll(requests);
    },
    waitingBytes(socket) {
      let bytes = 0;
      const requests = connections.get(socket) ?? [];
      for (let i = 1; i < requests.length; i += 1) bytes += requests[i]!.res.writableLength;
      return bytes;
    },
  };
}
