import type { Buckets } from '../../core/bucket.js';
import { isIdle, makeRoom as dropBuckets, usedUp } from '../../core/bucket.js';
import { hashClientBytes, hashClientId } from '../../core/client-hash.js';
import type { ClientKey } from '../../core/client-hash.js';
import { Client, MARK } from './client.js';
import { createClientRecords } from './client-records.js';

export { MARK };
export type { Client };

/** Clients that a full table looks at to find an idle one, after it has found one that was not used for long. */
const EVICTION_LOOK = 8;
/** Clients that it looks at in all, which takes a few microseconds. If the last search was in vain, it looks at only 8. */
const EVICTION_PATIENCE = 64;
/** A client that has used up this part of a limit makes no room for newcomers. */
const SPARED = 0.5;
/** If all clients have, the newest make room for each other: those in this part of the table. */
const NEWEST_PART = 1 / 16;
/** Bound of the buckets beyond the first of each client, for each client that the table may hold. */
const MORE_BUCKETS = 1;

interface BucketTableOptions {
  readonly maxClients: number;
  /** Known to this process alone, 32 bits: nobody can choose ids that share a place. */
  readonly secret?: number;
}

/**
 * Clients go out of the table to be read or changed within one turn of the event loop, and `close` takes a change back. Nobody keeps
 * one for longer, but its id, or its slot: a queue of slots goes with a mark (`changed`, `unwritten`), as another client may have the
 * slot by then, whose mark is not set.
 */
export interface BucketTable {
  /** A client to decide on, marked as used; an empty one where the table does not hold it. Valid until the next `open`. */
  open(key: ClientKey): Client;
  /** Like `open`, without the mark. */
  openCopy(clientId: string): Client;
  /** Like `openCopy`, of an id that is there as UTF-8, from `start` to before `end`. */
  openCopyOf(bytes: Buffer, start: number, end: number): Client;
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
  /** Copies the id of the client at a slot, as UTF-8, into a buffer that has room for it. @returns its bytes */
  copyId(slot: number, target: Buffer, at: number): number;
  delete(clientId: string): boolean;
  /** Counts buckets that one client lost, as it had too many, among the evictions. */
  forgot(buckets: number): void;
  /** Drops clients at rest among the next `count`; call it again to go on from there, round and round. */
  sweep(count: number, nowMs: number): void;
  readonly size: number;
  /** Clients, or buckets of one that has too many, dropped though a limit still counted: a bound is too small for the load. */
  readonly unexpiredEvictions: number;
}

function isIdleClient(client: Client, nowMs: number): boolean {
  return nowMs >= client.remembersUntilMs && isIdle(client, nowMs);
}

function beyondFirst({ first }: Buckets): number {
  let more = 0;
  for (let bucket = first?.next; bucket !== undefined; bucket = bucket.next) more += 1;
  return more;
}

/**
 * The buckets that this node holds: of at most `maxClients` clients, and beyond the first of each as many again.
 *
 * The clock algorithm (Corbató 1968) finds the client that makes room: a hand goes round the places, spares the clients that were used
 * since it last came by, and takes the first that was not. A use writes one mark. A list in the order of use would write to five
 * other clients, all of them far away in memory.
 *
 * The hand passes over a client that has used up half of a limit or more. Forgetting it would give all of that back, so a flood of
 * new ids, which cost nothing, would free it. If all clients are like that, the flood is of such clients too, and the clients in
 * the last places, which came last, make room: the flood pushes out itself.
 *
 * Not an `lru-cache`: besides that, it takes 6 ms to delete its only entry where it has room for a million, which the sweep
 * would do 10 times a second on an idle node. This one also takes no room in advance.
 */
export function createBucketTable({ maxClients, secret = 0 }: BucketTableOptions): BucketTable {
  const records = createClientRecords(secret);
  const hash = new Int32Array(2);
  let opened = createClient();
  let viewed = createClient();
  let candidate = createClient();
  let unexpiredEvictions = 0;
  let swept = -1;
  let hand = 0;
  let newestHand = 0;
  let inVain = false;
  let more = 0;
  let bucketHand = 0;

  function createClient(): Client {
    return new Client(records.idOf);
  }

  function find(clientId: string): number {
    hashClientId(clientId, hash);
    return records.find(hash[0]!, hash[1]!, clientId);
  }

  /** Counts a client's buckets again. */
  function count(client: Client): void {
    const before = records.moreOf(client.slot);
    const now = beyondFirst(client);
    if (now === before) return;
    more += now - before;
    records.setMore(client.slot, now);
  }

  /** Leaves a client what counts of its buckets, the latest, and at most so many. */
  function trim(client: Client, most: number, nowMs: number): void {
    unexpiredEvictions += dropBuckets(client, nowMs, most);
    count(client);
    records.write(client);
  }

  function readCandidate(slot: number): Client {
    if (candidate.isKept) candidate = createClient();
    return records.read(slot, candidate);
  }

  function makeRoomForBuckets(asking: Client, nowMs: number): void {
    const bound = maxClients * MORE_BUCKETS;
    for (let looked = 0; looked < EVICTION_PATIENCE && more > bound; looked += 1) {
      bucketHand = (bucketHand + 1) % records.size;
      const slot = records.slotAt(bucketHand);
      if (records.moreOf(slot) === 0 || slot === asking.slot) continue;
      const client = readCandidate(slot);
      const spared = records.isUsed(slot) || usedUp(client, nowMs) >= SPARED;
      records.setUsed(slot, false);
      trim(client, spared ? Infinity : 1, nowMs);
    }
    // The others have used up theirs: a client that asks under ever more limits pushes out its own buckets.
    if (more > bound) trim(asking, 1, nowMs);
  }

  function grew(client: Client, nowMs: number): void {
    if (client.first?.next === undefined && records.moreOf(client.slot) === 0) return;
    count(client);
    if (more > maxClients * MORE_BUCKETS) makeRoomForBuckets(client, nowMs);
  }

  function remove(slot: number): void {
    more -= records.moreOf(slot);
    records.remove(slot);
  }

  function makeRoom(nowMs: number): void {
    let idle = -1;
    const patience = inVain ? EVICTION_LOOK : EVICTION_PATIENCE;
    for (let looked = 0; looked < (idle < 0 ? patience : EVICTION_LOOK); looked += 1) {
      const slot = records.slotAt((hand + looked) % records.size);
      const client = readCandidate(slot);
      if (isIdleClient(client, nowMs)) {
        hand = records.placeOf(idle < 0 ? slot : idle);
        inVain = false;
        return remove(slot);
      }
      if (idle >= 0) continue;
      if (!records.isUsed(slot) && usedUp(client, nowMs) < SPARED) idle = slot;
      records.setUsed(slot, false);
    }
    inVain = idle < 0;
    hand = idle < 0 ? hand + patience : records.placeOf(idle) + 1;
    remove(idle < 0 ? oneOfTheNewest() : idle);
    unexpiredEvictions += 1;
  }

  /** The first of them that was not used since the last look; where all of them are in use, any. */
  function oneOfTheNewest(): number {
    const newest = Math.ceil(records.size * NEWEST_PART);
    const begin = records.size - newest;
    for (let looked = 0; looked < EVICTION_LOOK; looked += 1) {
      newestHand = (newestHand + 1) % newest;
      const slot = records.slotAt(begin + newestHand);
      if (!records.isUsed(slot)) return slot;
      records.setUsed(slot, false);
    }
    return records.slotAt(begin + newestHand);
  }

  function add(client: Client, nowMs: number): void {
    if (records.size >= maxClients) makeRoom(nowMs);
    while (!records.add(client)) makeRoomInCrowd(client, nowMs);
  }

  /** Of those in whose midst a newcomer belongs by its hash, drops the one that has used up least. */
  function makeRoomInCrowd({ hashHigh, hashLow }: Client, nowMs: number): void {
    const crowd = records.crowd(hashHigh, hashLow);
    const used = crowd.map((slot) => usedUp(readCandidate(slot), nowMs));
    remove(crowd[used.indexOf(Math.min(...used))]!);
    unexpiredEvictions += 1;
  }

  function open(slot: number, clientId: string | undefined): Client {
    if (opened.isKept) opened = createClient();
    const client = records.read(slot, opened);
    if (clientId !== undefined) client.text = clientId;
    return client;
  }

  function openBlank(hashHigh: number, hashLow: number, clientId: string): Client {
    if (opened.isKept) opened = createClient();
    opened.slot = -1;
    opened.marks = 0;
    opened.remembersUntilMs = 0;
    opened.hashHigh = hashHigh;
    opened.hashLow = hashLow;
    opened.text = clientId;
    opened.first = undefined;
    opened.next = undefined;
    opened.leases = undefined;
    return opened;
  }

  function view(slot: number): Client | undefined {
    if (!records.isLive(slot)) return undefined;
    if (viewed.isKept) viewed = createClient();
    return records.read(slot, viewed);
  }

  return {
    open({ clientId, hashHigh, hashLow }) {
      const slot = records.find(hashHigh, hashLow, clientId);
      if (slot < 0) return openBlank(hashHigh, hashLow, clientId);
      records.setUsed(slot, true);
      return open(slot, clientId);
    },
    openCopy(clientId) {
      const slot = find(clientId);
      return slot < 0 ? openBlank(hash[0]!, hash[1]!, clientId) : open(slot, clientId);
    },
    openCopyOf(bytes, start, end) {
      hashClientBytes(bytes, start, end, hash);
      const slot = records.findBytes(hash[0]!, hash[1]!, bytes, start, end);
      return slot < 0 ? openBlank(hash[0]!, hash[1]!, bytes.toString('utf8', start, end)) : open(slot, undefined);
    },
    openKnown(clientId) {
      const slot = find(clientId);
      if (slot < 0) return undefined;
      records.setUsed(slot, true);
      return open(slot, clientId);
    },
    peek: (clientId) => view(find(clientId)),
    peekAt: view,
    at: (place) => view(records.slotAt(place)),
    close(client, nowMs) {
      if (client.slot < 0) {
        if (client.first === undefined && client.remembersUntilMs <= nowMs) return;
        add(client, nowMs);
      } else {
        records.write(client);
      }
      grew(client, nowMs);
    },
    mark: records.mark,
    unmark: records.unmark,
    copyId: records.copyId,
    delete(clientId) {
      const slot = find(clientId);
      if (slot >= 0) remove(slot);
      return slot >= 0;
    },
    forgot(buckets) {
      unexpiredEvictions += buckets;
    },
    sweep(count, nowMs) {
      // Not round and round in one call.
      const looks = Math.min(count, records.size);
      for (let i = 0; i < looks; i += 1, swept -= 1) {
        if (swept < 0 || swept >= records.size) swept = records.size - 1;
        if (swept < 0) return;
        const slot = records.slotAt(swept);
        if (isIdleClient(readCandidate(slot), nowMs)) remove(slot);
      }
    },
    get size() {
      return records.size;
    },
    get unexpiredEvictions() {
      return unexpiredEvictions;
    },
  };
}
