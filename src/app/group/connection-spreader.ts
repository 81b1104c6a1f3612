import type { Socket } from 'node:net';
import type { Protocol } from './protocol.js';

/** Connections that wait because no worker takes any. Further ones are closed. */
const MAX_WAITING = 512;

/** A connection of a public port. */
interface PublicConnection {
  readonly socket: Socket;
  readonly protocol: Protocol;
}

/** The connections that are under way to a worker, by number. */
type UnderWay = Map<number, PublicConnection>;

/**
 * Spreads the connections of the public ports over the workers. node:cluster does so too, but loses the one that is on
 * its way to a worker that is killed: nobody answers or closes it.
 */
export class ConnectionSpreader {
  /** The workers that take connections. The worker that got the last one comes last. */
  private readonly takers = new Map<number, UnderWay>();
  /** The workers that take no more. */
  private readonly leaving = new Map<number, UnderWay>();
  private waiting: PublicConnection[] = [];
  private numbers = 0;
  private closed = false;

  /** @param hand sends a copy of a connection to a worker; the spreader keeps its own until the worker has taken it */
  constructor(private readonly hand: (worker: number, number: number, connection: PublicConnection) => void) {}

  /** Hands a connection to the worker that has the fewest under way to it; of several, to each in turn. */
  add(connection: PublicConnection): void {
    if (this.closed) return void connection.socket.destroy();
    let least: readonly [number, UnderWay] | undefined;
    for (const taker of this.takers) if (least === undefined || taker[1].size < least[1].size) least = taker;
    if (least === undefined) {
      if (this.waiting.length < MAX_WAITING) this.waiting.push(connection);
      else connection.socket.destroy();
      return;
    }
    const [worker, underWay] = least;
    this.takers.delete(worker);
    this.takers.set(worker, underWay);
    underWay.set((this.numbers += 1), connection);
    this.hand(worker, this.numbers, connection);
  }

  /** A worker takes connections from now on. */
  joins(worker: number): void {
    this.takers.set(worker, new Map());
    for (const connection of this.waiting.splice(0)) this.add(connection);
  }

  /** A worker takes no more. It may return some that were under way. */
  leaves(worker: number): void {
    const underWay = this.takers.get(worker);
    if (underWay !== undefined) this.leaving.set(worker, underWay);
    this.takers.delete(worker);
  }

  /** A worker has taken a connection, and reads from it. It has a copy, so this does not end the connection. */
  taken(worker: number, number: number): void {
    this.release(worker, number)?.socket.destroy();
  }

  /** A worker did not take a connection. */
  returned(worker: number, number: number): void {
    const connection = this.release(worker, number);
    if (connection !== undefined) this.add(connection);
  }

  /** A worker has ended. Others get the connections that it had not taken. */
  ended(worker: number): void {
    const underWay = this.underWayTo(worker);
    this.takers.delete(worker);
    this.leaving.delete(worker);
    for (const connection of underWay?.values() ?? []) this.add(connection);
  }

  /** Whether some worker takes connections. */
  hasTakers(): boolean {
    return this.takers.size > 0;
  }

  /** Closes all connections that nobody has taken, and takes no more. */
  close(): void {
    this.closed = true;
    const untaken = [...this.takers.values(), ...this.leaving.values()].flatMap((underWay) => [...underWay.values()]);
    for (const { socket } of [...this.waiting, ...untaken]) socket.destroy();
    this.waiting = [];
  }

  private release(worker: number, number: number): PublicConnection | undefined {
    const underWay = this.underWayTo(worker);
    const connection = underWay?.get(number);
    underWay?.delete(number);
    return connection;
  }

  private underWayTo(worker: number): UnderWay | undefined {
    return this.takers.get(worker) ?? this.leaving.get(worker);
  }
}
