import type { Socket } from 'node:net';
import { LRUCache } from 'lru-cache';
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

/**
 * Part of the places that only proven addresses may take, once there is one. An address is proven if a request of it was
 * answered lately. Unproven ones may keep as large a part, so that a flood from proven addresses does not shut them out.
 */
const RESERVED = 1 / 4;
/** Addresses that are remembered, those answered last. */
const MAX_PROVEN = 16_384;
/** Connections that are looked at for one that gives way to a new one. */
const MAX_LOOKS = 64;
/** Shortest time in ms between two rounds that close idle connections. */
const ROOM_INTERVAL_MS = 100;
/** Number of checks of each connection during the time that its client has to read. */
const READER_CHECKS = 6;
/**
 * Interval in ms between two sums of the unread answers. A batch of 1,000 takes about 15 ms and may answer with a
 * megabyte.
 */
const SUM_INTERVAL_MS = 250;

/**
 * `silent`: no byte has come. `arriving`: a part of a request is there. `busy`: an answer is owed, or not sent.
 * `idle`: all requests are answered. `ended`: the client is to close the connection.
 */
export type ConnectionState = 'silent' | 'arriving' | 'busy' | 'idle' | 'ended';

/** What the protocol of a connection knows of it. */
export interface Connection {
  state(): ConnectionState;
  /** Time in ms at which the state began. */
  sinceMs(): number;
  /** Bytes of answers that wait outside the socket. */
  unreadBytes(): number;
  /**
   * Ends the connection.
   * @param reason `idle`: it waits for nothing, so it ends now. `timeout`: its state has lasted too long, so it ends now.
   * `draining`: it ends once all that is owed is sent.
   */
  end(reason: 'idle' | 'timeout' | 'draining'): void;
}

/** A connection of any protocol, and its place among all. */
export class OpenConnection {
  /** `undefined` during a TLS handshake. */
  connection: Connection | undefined;
  /** The socket that requests come from and answers go to. With TLS, it is the decrypted one. */
  stream: Socket;
  /** Whether a request of it was answered since the last look for a connection that gives way. */
  wasServed = false;
  /** Bytes that the client must have read since `backlogSinceMs`; 0 if it has read all. */
  backlogBytes = 0;
  backlogSinceMs = 0;

  constructor(
    private readonly all: Connections,
    readonly socket: Socket,
    readonly protocol: string,
    readonly network: string,
  ) {
    this.stream = socket;
  }

  /** Called for each answer to a request that was no mistake. */
  served(): void {
    if (!this.wasServed) this.all.served(this);
  }

  state(): ConnectionState {
    if (this.connection === undefined || this.stream.bytesRead === 0) return 'silent';
    return this.connection.state();
  }

  unreadBytes(): number {
    return this.stream.writableLength + (this.connection?.unreadBytes() ?? 0);
  }
}

/** The server of one protocol, as far as its connections share the bounds. */
interface BoundedServer {
  readonly protocol: string;
  /** Ends the connections that wait for nothing. */
  closeIdle(): void;
}

/**
 * Bounds the connections of all servers together. At the bound, the oldest connection that has not completed a request
 * gives way to a new one, in general one of an unproven address. So neither silent connections nor half requests shut out
 * other clients, however many addresses they come from. A client that does not read its answers is cut off.
 */
export class Connections {
  private readonly servers = new Set<BoundedServer>();
  /** All connections but those that have given way and are about to close. */
  private readonly open = new Set<OpenConnection>();
  /** The connections of unproven addresses, oldest first. */
  private readonly unproven = new Set<OpenConnection>();
  /** All others, those first that were not looked at for the longest time. */
  private readonly proven = new Set<OpenConnection>();
  private readonly countByNetwork = new Map<string, number>();
  private readonly provenNetworks = new LRUCache<string, true>({ max: MAX_PROVEN });
  private roomMadeAtMs = -Infinity;
  private timers: readonly NodeJS.Timeout[] = [];

  constructor(
    readonly bounds: ConnectionBounds,
    private readonly counters: Counters,
  ) {}

  addServer(server: BoundedServer): void {
    if (this.servers.size === 0) {
      this.timers = [
        setInterval(() => this.cutSlowReaders(), this.bounds.answerMs / READER_CHECKS),
        setInterval(() => this.boundUnread(), SUM_INTERVAL_MS),
      ];
      for (const timer of this.timers) timer.unref();
    }
    this.servers.add(server);
    this.counters.connections.set(server.protocol, 0);
  }

  removeServer(server: BoundedServer): void {
    this.servers.delete(server);
    if (this.servers.size === 0) for (const timer of this.timers) clearInterval(timer);
  }

  /** @returns `undefined` if there is no place for the connection: it is counted and closed */
  take(socket: Socket, protocol: string): OpenConnection | undefined {
    const network = networkOf(socket.remoteAddress ?? '');
    const ofNetwork = this.countByNetwork.get(network) ?? 0;
    if (ofNetwork >= this.bounds.maxPerAddress) {
      this.counters.refusedOfAddress += 1;
      socket.destroy();
      return undefined;
    }
    const isProven = this.provenNetworks.get(network) === true;
    if (!this.hasPlace(isProven)) {
      this.counters.refusedConnections += 1;
      socket.destroy();
      return undefined;
    }
    const one = new OpenConnection(this, socket, protocol, network);
    this.open.add(one);
    (isProven ? this.proven : this.unproven).add(one);
    this.countByNetwork.set(network, ofNetwork + 1);
    this.count(protocol, 1);
    socket.once('close', () => this.remove(one));
    if (this.open.size >= this.bounds.max) this.makeRoom(one);
    return one;
  }

  served(one: OpenConnection): void {
    one.wasServed = true;
    this.provenNetworks.set(one.network, true);
    if (this.unproven.delete(one)) this.proven.add(one);
  }

  private hasPlace(isProven: boolean): boolean {
    const { max } = this.bounds;
    const reserved = Math.ceil(max * RESERVED);
    const { unproven, proven } = this;
    if (!isProven && this.provenNetworks.size > 0 && unproven.size >= max - reserved) return this.evictOne(unproven);
    if (this.open.size < max) return true;
    if (unproven.size > reserved) return this.evictOne(unproven) || this.evictOne(proven);
    return this.evictOne(proven) || this.evictOne(unproven);
  }

  /**
   * Ends a connection of a queue: the first that has no answer owed and was not served lately, else the first that has no
   * answer owed. Those before it are looked at again when all others were.
   * @returns whether there was one
   */
  private evictOne(queue: Set<OpenConnection>): boolean {
    let looks = Math.min(MAX_LOOKS, queue.size);
    let servedLately: OpenConnection | undefined;
    for (const one of queue) {
      if (looks === 0) break;
      looks -= 1;
      const isBusy = one.state() === 'busy';
      const isUnproven = queue === this.unproven && !this.provenNetworks.has(one.network);
      if (!isBusy && !one.wasServed && (isUnproven || queue === this.proven)) return this.evict(one);
      if (!isBusy && one.wasServed) servedLately ??= one;
      one.wasServed = false;
      queue.delete(one);
      (isUnproven ? this.unproven : this.proven).add(one);
    }
    return servedLately !== undefined && this.evict(servedLately);
  }

  private evict(one: OpenConnection): true {
    this.remove(one);
    this.counters.displacedConnections += 1;
    if (one.state() === 'idle') one.connection!.end('idle');
    else one.socket.destroy();
    return true;
  }

  /** Closes idle connections: of unproven addresses, and all others if none of those can give way to the next one. */
  private makeRoom(newest: OpenConnection): void {
    let looks = MAX_LOOKS;
    let canGiveWay = false;
    for (const one of this.unproven) {
      if (looks === 0) break;
      looks -= 1;
      const state = one.state();
      if (state === 'idle') this.evict(one);
      else if (one !== newest && state !== 'busy') canGiveWay = true;
    }
    if (canGiveWay || this.open.size < this.bounds.max) return;
    const nowMs = performance.now();
    if (nowMs - this.roomMadeAtMs < ROOM_INTERVAL_MS) return;
    this.roomMadeAtMs = nowMs;
    for (const server of this.servers) server.closeIdle();
  }

  private remove(one: OpenConnection): void {
    if (!this.open.delete(one)) return;
    this.unproven.delete(one);
    this.proven.delete(one);
    this.count(one.protocol, -1);
    const left = this.countByNetwork.get(one.network)! - 1;
    if (left === 0) this.countByNetwork.delete(one.network);
    else this.countByNetwork.set(one.network, left);
  }

  private count(protocol: string, change: 1 | -1): void {
    const { connections } = this.counters;
    connections.set(protocol, (connections.get(protocol) ?? 0) + change);
  }

  private cutSlowReaders(): void {
    const nowMs = performance.now();
    for (const one of this.open) {
      const { bytesWritten, writableLength } = one.stream;
      if (writableLength === 0) one.backlogBytes = 0;
      else if (one.backlogBytes === 0 || bytesWritten - writableLength >= one.backlogBytes) {
        one.backlogBytes = bytesWritten;
        one.backlogSinceMs = nowMs;
      } else if (nowMs - one.backlogSinceMs >= this.bounds.answerMs) this.cutReader(one);
    }
  }

  private boundUnread(): void {
    const unread: { readonly one: OpenConnection; readonly bytes: number }[] = [];
    let sum = 0;
    for (const one of this.open) {
      const bytes = one.unreadBytes();
      if (bytes === 0) continue;
      unread.push({ one, bytes });
      sum += bytes;
    }
    if (sum <= this.bounds.maxUnreadBytes) return;
    for (const { one, bytes } of unread.sort((a, b) => b.bytes - a.bytes)) {
      sum -= bytes;
      this.cutReader(one);
      if (sum <= this.bounds.maxUnreadBytes) return;
    }
  }

  private cutReader({ stream }: OpenConnection): void {
    this.counters.slowReaders += 1;
    stream.destroy();
  }
}
