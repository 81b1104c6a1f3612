import { isIdle, Buckets, makeRoom as dropBuckets, usedUp } from '../../core/bucket.js';

/** What is noted of a client beside its buckets, as bits; each is cleared when the table drops the client. */
export const MARK = {
  /** This node has decided for it though another owns it now, which must come to know what was consumed here. */
  actingOwner: 1,
  /** Its buckets changed since they were last queued for the successors. */
  changed: 2,
  /** It waits to be written to the store. */
  unwritten: 4,
} as const;
/** It was asked for since the table last looked for one to drop. */
const USED = 8;
/** The bits above the marks. */
const MORE_SHIFT = 4;

/** A client as the table holds it: owned, or a copy for another node. Which of the two follows from the ring. */
export class Client extends Buckets {
  /** The version of the ring under which this node was found to decide for the client; 0 when it was not. */
  ownedAtRing = 0;
  /** Monotonic ms until which decisions on its request ids are remembered: it is kept as long, though its buckets rest. */
  remembersUntilMs = 0;
  /** Its place in the table, which keeps it; −1: the table does not hold it. */
  place = -1;
  /** Where the table holds it, as a number that does not change; −1: the table does not hold it. */
  slot = -1;
  /** Tells it apart from clients that had its slot before it. */
  generation = 0;
  /** Marks, and the table's own notes: each field would be 8 bytes of its own, of 300 in all. */
  flags = 0;

  constructor(readonly id: string) {
    super();
  }

  get isChanged(): boolean {
    return (this.flags & MARK.changed) !== 0;
  }

  get decidedAsActingOwner(): boolean {
    return (this.flags & MARK.actingOwner) !== 0;
  }

  /** Whether it was asked for since the table, which keeps this, last looked for one to drop. */
  get used(): boolean {
    return (this.flags & USED) !== 0;
  }
  set used(value: boolean) {
    this.flags = value ? this.flags | USED : this.flags & ~USED;
  }

  /** How many buckets it had beyond its first when the table, which keeps this, last counted them. */
  get more(): number {
    return this.flags >> MORE_SHIFT;
  }
  set more(count: number) {
    this.flags = (this.flags & ((1 << MORE_SHIFT) - 1)) | (count << MORE_SHIFT);
  }
}

function isIdleClient(client: Client, nowMs: number): boolean {
  return nowMs >= client.remembersUntilMs && isIdle(client, nowMs);
}

/** How many clients are looked at for one at rest, when the table is full, though one not used for long was found before. */
const EVICTION_LOOK = 8;
/** How many are looked at in all: a few microseconds. Where the last look was in vain, no more than the others. */
const EVICTION_PATIENCE = 64;
/** Who has used up so much of a limit makes no room for newcomers. */
const SPARED = 0.5;
/** Where all do, the newcomers make room for each other, within this part of the table. */
const NEWEST_PART = 1 / 16;
/** Buckets of all clients beyond the first of each: so many for each client that may be held. */
const MORE_BUCKETS = 1;

/**
 * Clients go out of the table to be read or changed within one turn of the event loop, and `close` takes a change back. Nobody keeps
 * one for longer, but its id, or its slot: a queue of slots goes with a mark (`changed`, `unwritten`), as another client may have the
 * slot by then, whose mark is not set.
 */
export interface BucketTable {
  /** A client to decide on, marked as used; an empty one where the table does not hold it. Valid until the next `open`. */
  open(clientId: string): Client;
  /** Like `open`, without the mark. */
  openCopy(clientId: string): Client;
  /** Like `open`, for clients that the table holds. */
  openKnown(clientId: string): Client | undefined;
  /** A client to look at, without the mark. Valid until the next client to look at. */
  peek(clientId: string): Client | undefined;
  /** The same by its slot. */
  peekAt(slot: number): Client | undefined;
  /**
   * The same by its place, from 0 to `size` − 1. A deletion moves the last client into the gap, so a walk down the places, however
   * slow, meets every client that was there when it began.
   */
  at(place: number): Client | undefined;
  /**
   * Takes back what was changed of a client, which may have more buckets than before, and adds it where it is new and not empty.
   *
   * At the bound of clients one at rest makes room, or else one not used for long that has most of its limits left, or else one of
   * the newest. At the bound of buckets some clients lose what is at rest of theirs, those not used for long that have most of their
   * limits left all but one, and where that is not enough this one all but one.
   */
  close(client: Client, nowMs: number): void;
  /** Sets a mark of the client at a slot. @returns whether it is new; of no client, false */
  mark(slot: number, mark: number): boolean;
  /** Clears a mark. @returns whether it was set */
  unmark(slot: number, mark: number): boolean;
  delete(clientId: string): boolean;
  /** Counts buckets that one client lost, as it had too many, among the evictions. */
  forgot(buckets: number): void;
  /** Drops clients at rest among the next `count`; call it again to go on from there, round and round. */
  sweep(count: number, nowMs: number): void;
  readonly size: number;
  /** Clients, or buckets of one that has too many, dropped though a limit still counted: a bound is too small for the load. */
  readonly unexpiredEvictions: number;
}

function beyondFirst({ first }: Buckets): number {
  let more = 0;
  for (let bucket = first?.next; bucket !== undefined; bucket = bucket.next) more += 1;
  return more;
}

/**
 * The buckets that this node holds: of at most `maxClients` clients, and beyond the first of each as many again.
 *
 * Who makes room is found with the clock algorithm (Corbató 1968): a hand goes round the places, spares those used since it
 * last came by, and takes the first that was not. So a use writes one mark, where an order of use would write to five
 * other clients, all of them far away in memory.
 *
 * Who has used up half of a limit or more is passed over, as forgetting it gives all that back: else a flood of new ids, which
 * cost nothing, would free whom it follows. Where all are like that, the flood is of such clients too (each new one may be
 * allowed 1), and those in the last places, who came last, make room: the flood pushes out itself.
 *
 * Not an `lru-cache`: besides that, it takes 6 ms to delete its only entry where it has room for a million, which the sweep
 * would do 10 times a second on an idle node. This one also takes no room in advance.
 */
export function createBucketTable({ maxClients }: { maxClients: number }): BucketTable {
  const byId = new Map<string, Client>();
  const places: Client[] = [];
  const slots: (Client | undefined)[] = [];
  const freeSlots: number[] = [];
  let generations = 0;
  let unexpiredEvictions = 0;
  let swept = -1;
  let hand = 0;
  let newestHand = 0;
  let inVain = false;
  let more = 0;
  let bucketHand = 0;

  /** Counts a client's buckets again. */
  function count(client: Client): void {
    const now = beyondFirst(client);
    more += now - client.more;
    client.more = now;
  }

  /** Leaves a client what counts of its buckets, the latest, and at most so many. */
  function trim(client: Client, most: number, nowMs: number): void {
    unexpiredEvictions += dropBuckets(client, nowMs, most);
    count(client);
  }

  function makeRoomForBuckets(asking: Client, nowMs: number): void {
    const bound = maxClients * MORE_BUCKETS;
    for (let looked = 0; looked < EVICTION_PATIENCE && more > bound; looked += 1) {
      bucketHand = (bucketHand + 1) % places.length;
      const client = places[bucketHand]!;
      if (client.more === 0 || client === asking) continue;
      const spared = client.used || usedUp(client, nowMs) >= SPARED;
      client.used = false;
      trim(client, spared ? Infinity : 1, nowMs);
    }
    // Others have used up theirs: who goes on asking under ever more limits pushes out itself.
    if (more > bound) trim(asking, 1, nowMs);
  }

  function grew(client: Client, nowMs: number): void {
    if (client.first?.next === undefined && client.more === 0) return;
    if (places[client.place] !== client) return;
    count(client);
    if (more > maxClients * MORE_BUCKETS) makeRoomForBuckets(client, nowMs);
  }

  function remove(client: Client): void {
    more -= client.more;
    client.more = 0;
    byId.delete(client.id);
    slots[client.slot] = undefined;
    freeSlots.push(client.slot);
    client.slot = -1;
    const last = places.pop()!;
    if (last === client) return;
    places[client.place] = last;
    last.place = client.place;
  }

  function makeRoom(nowMs: number): void {
    let idle: Client | undefined;
    const patience = inVain ? EVICTION_LOOK : EVICTION_PATIENCE;
    for (let looked = 0; looked < (idle === undefined ? patience : EVICTION_LOOK); looked += 1) {
      const client = places[(hand + looked) % places.length]!;
      if (isIdleClient(client, nowMs)) {
        hand = (idle ?? client).place;
        inVain = false;
        return remove(client);
      }
      if (idle !== undefined) continue;
      if (!client.used && usedUp(client, nowMs) < SPARED) idle = client;
      client.used = false;
    }
    inVain = idle === undefined;
    hand = idle === undefined ? hand + patience : idle.place + 1;
    remove(idle ?? oneOfTheNewest());
    unexpiredEvictions += 1;
  }

  /** The first of them that was not used since the last look; where all of them are in use, any. */
  function oneOfTheNewest(): Client {
    const newest = Math.ceil(places.length * NEWEST_PART);
    const begin = places.length - newest;
    for (let looked = 0; looked < EVICTION_LOOK; looked += 1) {
      newestHand = (newestHand + 1) % newest;
      const client = places[begin + newestHand]!;
      if (!client.used) return client;
      client.used = false;
    }
    return places[begin + newestHand]!;
  }

  function openKnown(clientId: string): Client | undefined {
    const client = byId.get(clientId);
    if (client !== undefined) client.used = true;
    return client;
  }

  function add(client: Client, nowMs: number): void {
    if (byId.size >= maxClients) makeRoom(nowMs);
    byId.set(client.id, client);
    client.slot = freeSlots.pop() ?? slots.length;
    slots[client.slot] = client;
    client.generation = generations += 1;
    client.place = places.push(client) - 1;
  }

  return {
    open: (clientId) => openKnown(clientId) ?? new Client(clientId),
    openCopy: (clientId) => byId.get(clientId) ?? new Client(clientId),
    openKnown,
    peek: (clientId) => byId.get(clientId),
    peekAt: (slot) => slots[slot],
    at: (place) => places[place],
    close(client, nowMs) {
      if (client.slot < 0) {
        if (client.first === undefined && client.remembersUntilMs <= nowMs) return;
        add(client, nowMs);
      }
      grew(client, nowMs);
    },
    mark(slot, mark) {
      const client = slots[slot];
      if (client === undefined || (client.flags & mark) !== 0) return false;
      client.flags |= mark;
      return true;
    },
    unmark(slot, mark) {
      const client = slots[slot];
      if (client === undefined || (client.flags & mark) === 0) return false;
      client.flags &= ~mark;
      return true;
    },
    delete(clientId) {
      const client = byId.get(clientId);
      if (client === undefined) return false;
      remove(client);
      return true;
    },
    forgot(buckets) {
      unexpiredEvictions += buckets;
    },
    sweep(count, nowMs) {
      // Not round and round in one call.
      const looks = Math.min(count, places.length);
      for (let i = 0; i < looks; i += 1, swept -= 1) {
        if (swept < 0 || swept >= places.length) swept = places.length - 1;
        const client = places[swept];
        if (client === undefined) return;
        if (isIdleClient(client, nowMs)) remove(client);
      }
    },
    get size() {
      return byId.size;
    },
    get unexpiredEvictions() {
      return unexpiredEvictions;
    },
  };
}
