import { atRest } from '../core/bucket.js';
import type { Bucket, Buckets } from '../core/bucket.js';

/** A client as the table holds it: owned, or a copy for another node. Which of the two follows from the ring. */
export class Client implements Buckets {
  first: Bucket | undefined = undefined;
  /** The version of the ring under which this node was found to decide for the client; 0 when it was not. */
  ownedAtRing = 0;
  /** Whether this node has decided for it in the place of another, which must come to know what was consumed here. */
  stoodIn = false;
  /** Whether its buckets changed since they were last queued for the successors. */
  changed = false;
  /** Monotonic ms until which decisions on its request ids are remembered: it is kept as long, though its buckets rest. */
  remembersUntilMs = 0;

  // The rest is kept by the table.
  /** Its place there. */
  place = -1;
  /** Its neighbours in the order of use. */
  older: Client = this;
  newer: Client = this;

  constructor(readonly id: string) {}
}

function isAtRest(client: Client, nowMs: number): boolean {
  return nowMs >= client.remembersUntilMs && atRest(client, nowMs);
}

/** How many of the clients used longest ago are looked at for one at rest, when the table is full. */
const EVICTION_LOOK = 8;

export interface BucketTable {
  /** Also marks the client as just used. */
  get(clientId: string): Client | undefined;
  /** Like `get`, without the mark. */
  peek(clientId: string): Client | undefined;
  /** Adds a client that the table does not hold. At the bound one at rest makes room, or else the one used longest ago. */
  add(client: Client, nowMs: number): void;
  delete(clientId: string): boolean;
  /** Drops clients at rest among the next `count`; call it again to go on from there, round and round. */
  sweep(count: number, nowMs: number): void;
  /**
   * The client at a place from 0 to `size` − 1. A deletion moves the last client into the gap, so who goes through the
   * places downwards, however slowly, meets every client that was there when it began.
   */
  at(place: number): Client | undefined;
  readonly size: number;
  /** Clients dropped though a limit still counted against them: the bound is too small for the load. */
  readonly unexpiredEvictions: number;
}

/**
 * The buckets that this node holds, at most `maxClients` clients of them.
 *
 * Not an `lru-cache`: that one takes 6 ms to delete its only entry where it has room for a million, which the sweep would
 * do 20 times a second on an idle node. This one also takes no room in advance, and half the time among a million clients.
 */
export function createBucketTable({ maxClients }: { maxClients: number }): BucketTable {
  const byId = new Map<string, Client>();
  const places: Client[] = [];
  /** Closes the order of use to a circle: newer than it is the client used longest ago, older the one used last. */
  const ends = new Client('');
  let unexpiredEvictions = 0;
  let swept = -1;

  function remove(client: Client): void {
    byId.delete(client.id);
    unlink(client);
    const last = places.pop()!;
    if (last === client) return;
    places[client.place] = last;
    last.place = client.place;
  }

  function makeRoom(nowMs: number): void {
    let client = ends.newer;
    for (let looked = 0; looked < EVICTION_LOOK && client !== ends; looked += 1) {
      if (isAtRest(client, nowMs)) return remove(client);
      client = client.newer;
    }
    remove(ends.newer);
    unexpiredEvictions += 1;
  }

  return {
    get(clientId) {
      const client = byId.get(clientId);
      if (client !== undefined && client !== ends.older) {
        unlink(client);
        linkBefore(ends, client);
      }
      return client;
    },
    peek: (clientId) => byId.get(clientId),
    add(client, nowMs) {
      if (byId.size >= maxClients) makeRoom(nowMs);
      byId.set(client.id, client);
      linkBefore(ends, client);
      client.place = places.push(client) - 1;
    },
    delete(clientId) {
      const client = byId.get(clientId);
      if (client === undefined) return false;
      remove(client);
      return true;
    },
    sweep(count, nowMs) {
      // Not round and round in one call.
      const looks = Math.min(count, places.length);
      for (let i = 0; i < looks; i += 1, swept -= 1) {
        if (swept < 0 || swept >= places.length) swept = places.length - 1;
        const client = places[swept];
        if (client === undefined) return;
        if (isAtRest(client, nowMs)) remove(client);
      }
    },
    at: (place) => places[place],
    get size() {
      return byId.size;
    },
    get unexpiredEvictions() {
      return unexpiredEvictions;
    },
  };
}

function unlink(client: Client): void {
  client.older.newer = client.newer;
  client.newer.older = client.older;
}

/** Puts `client` next to `newer`, as the one used just before it. */
function linkBefore(newer: Client, client: Client): void {
  client.newer = newer;
  client.older = newer.older;
  newer.older.newer = client;
  newer.older = client;
}
