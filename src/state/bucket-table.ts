import { isIdle, makeRoom as dropBuckets, usedUp } from '../limits/bucket/bucket.js';
import { hashClientBytes, hashClientId } from '../limits/ring/client-hash.js';
import type { ClientKey } from '../limits/ring/client-hash.js';
import { Client, MARK } from './client.js';
import { createClientRecords } from './client-records.js';

export { MARK };
export type { Client };

/** Clients that a full table looks at to find an idle one, after it has found one that was not used for long. */
const EVICTION_LOOK = 8;
/**
 * Clients that a full table looks at in all, which takes a few microseconds. If the last search was in vain, it looks
 * at only 8.
 */
const EVICTION_PATIENCE = 64;
/** A client that has used up this part of a limit makes no room for newcomers. */
const SPARED = 0.5;
/** If all clients have used up that part, the newest make room for each other. They are in this part of the table. */
const NEWEST_PART = 1 / 16;

interface BucketTableOptions {
  readonly maxClients: number;
  /** Bound of the bytes of clients outside the heap. Default: none. */
  readonly maxBytes?: number;
  /** Bound of the bytes on the heap, of clients whose buckets do not fit into a record, and of rules. Default: none. */
  readonly maxHeapBytes?: number;
  /** 32 bits that only this process knows, so that nobody can choose ids that share a place. */
  readonly secret?: number;
}

/**
 * A caller reads or changes a client within one turn of the event loop, and `close` writes a change to the table. Code
 * that needs a client for longer keeps its id or its slot. Each queue of slots has a mark (`changed`, `unwritten`),
 * because another client may have the slot later. The mark of that client is not set.
 */
export interface BucketTable {
  /**
   * Returns a client to decide on, marked as used. It is empty if the table does not hold it. Valid until the next
   * `open`.
   */
  open(key: ClientKey): Client;
  /** Like `open`, for an id in UTF-8 bytes, from `start` to before `end`. */
  openBytes(hashHigh: number, hashLow: number, bytes: Buffer, start: number, end: number): Client;
  /** Like `open`, but does not mark the client as used. */
  openCopy(clientId: string): Client;
  /** Like `openCopy`, for an id in UTF-8 bytes, from `start` to before `end`. */
  openCopyOf(bytes: Buffer, start: number, end: number): Client;
  /** Like `open`, but returns `undefined` for a client that the table does not hold. */
  openKnown(clientId: string): Client | undefined;
  /** Returns a client for reading and does not mark it as used. Valid until the next `peek`, `peekAt`, or `at`. */
  peek(clientId: string): Client | undefined;
  /** Like `peek`, by slot. */
  peekAt(slot: number): Client | undefined;
  /**
   * Like `peek`, by place, from 0 to `size` − 1. A deletion moves the last client into the gap. So a walk down the
   * places, however slow, meets every client that was there when it began.
   */
  at(place: number): Client | undefined;
  /**
   * Writes a changed client to the table. Adds the client if it is new and not empty. It may have more buckets than
   * before.
   *
   * At the bound of clients or of their bytes, an idle client makes room. If none is found, a client makes room that was
   * not used for long and has most of its limits left. If none of those is found either, one of the newest clients makes
   * room.
   *
   * At the bound of bytes on the heap, some clients there lose their idle buckets. Those of them that were not used for
   * long and have most of their limits left lose all buckets but one, and go if that one takes heap too. If that is not
   * enough, this client loses all buckets but one, and then some of the newest clients on the heap make room.
   */
  close(client: Client, nowMs: number): void;
  /** Sets a mark of the client at a slot. @returns whether the mark is new; false if no client has the slot */
  mark(slot: number, mark: number): boolean;
  /** Clears a mark. @returns whether it was set */
  unmark(slot: number, mark: number): boolean;
  /**
   * Copies the id of the client at a slot, as UTF-8, into a buffer that has room for it.
   * @returns its length in bytes
   */
  copyId(slot: number, target: Buffer, at: number): number;
  delete(clientId: string): boolean;
  /** Adds to the evictions the buckets that one client lost because it had too many. */
  forgot(buckets: number): void;
  /** Drops the idle clients among the next `count`. Each call continues where the last one stopped, round and round. */
  sweep(count: number, nowMs: number): void;
  size(): number;
  /**
   * Counts clients that were dropped though a limit still counted, and such buckets of a client that had too many. The
   * bound is then too small for the load.
   */
  unexpiredEvictions(): number;
}

function isIdleClient(client: Client, nowMs: number): boolean {
  return nowMs >= client.remembersUntilMs && isIdle(client, nowMs);
}

/**
 * The buckets that this node holds. Three bounds apply: of clients, of their bytes outside the heap, and of their bytes
 * on it. Most clients take about 100 bytes outside. A client with eight limits takes 2 KB on the heap as well.
 *
 * The clock algorithm (Corbató 1968) finds the client that makes room. A hand goes round the places. It spares the
 * clients that were used since it last came by, and takes the first that was not. A use writes one mark. A list in the
 * order of use would write to five other clients, all of them far away in memory.
 *
 * The hand passes over a client that has used up half of a limit or more. Forgetting it would give all of that back, so
 * a flood of new ids, which cost nothing, would free it. If all clients are like that, the flood is of such clients
 * too. Then the clients in the last places, which came last, make room: the flood pushes out itself.
 *
 * An `lru-cache` does not do that. It also takes 6 ms to delete its only entry if it has room for a million, and the
 * sweep would do so 10 times a second on an idle node. This table also allocates no memory in advance.
 */
export function createBucketTable(options: BucketTableOptions): BucketTable {
  const { maxClients, maxBytes = Infinity, maxHeapBytes = Infinity, secret = 0 } = options;
  const records = createClientRecords(secret);
  const hash = new Int32Array(2);
  let opened = createClient();
  let viewed = createClient();
  const candidate = createClient();
  let unexpiredEvictions = 0;
  let swept = -1;
  let hand = 0;
  let newestHand = 0;
  let inVain = false;
  let heapHand = 0;

  function createClient(): Client {
    return new Client(records.idOf);
  }

  function find(clientId: string): number {
    hashClientId(clientId, hash);
    return records.find(hash[0]!, hash[1]!, clientId);
  }

  /** Drops the idle buckets of a client, and of the others all but the latest `most`. */
  function trim(client: Client, most: number, nowMs: number): void {
    unexpiredEvictions += dropBuckets(client, nowMs, most);
    records.write(client);
  }

  function readCandidate(slot: number): Client {
    return records.read(slot, candidate);
  }

  function heapIsFull(): boolean {
    return records.heapBytes() > maxHeapBytes;
  }

  function makeRoomOnHeap(asking: Client, nowMs: number): void {
    for (let looked = 0; looked < EVICTION_PATIENCE && records.keptSize() > 0 && heapIsFull(); looked += 1) {
      heapHand = (heapHand + 1) % records.keptSize();
      const slot = records.keptSlotAt(heapHand);
      if (slot === asking.slot) continue;
      const client = readCandidate(slot);
      if (isIdleClient(client, nowMs)) {
        records.remove(slot);
        continue;
      }
      const spared = records.isUsed(slot) || usedUp(client, nowMs) >= SPARED;
      records.setUsed(slot, false);
      trim(client, spared ? Infinity : 1, nowMs);
      if (spared || !client.isKept) continue;
      // A sliding window or a lease takes heap even alone.
      records.remove(slot);
      unexpiredEvictions += 1;
    }
    // The others have used up theirs: a client that asks under ever more limits pushes out its own buckets.
    if (heapIsFull()) trim(asking, 1, nowMs);
    for (let removed = 0; removed < EVICTION_LOOK && heapIsFull(); removed += 1) {
      const slot =
        2 * records.ruleBytes() > records.heapBytes()
          ? whoMakesRoom(nowMs)
          : oneOfTheNewest(records.keptSize(), records.keptSlotAt);
      if (slot === asking.slot) continue;
      if (!isIdleClient(readCandidate(slot), nowMs)) unexpiredEvictions += 1;
      records.remove(slot);
    }
  }

  /** Finds a client to drop. @returns its slot */
  function whoMakesRoom(nowMs: number): number {
    let idle = -1;
    const patience = inVain ? EVICTION_LOOK : EVICTION_PATIENCE;
    for (let looked = 0; looked < (idle < 0 ? patience : EVICTION_LOOK); looked += 1) {
      const slot = records.slotAt((hand + looked) % records.size());
      const client = readCandidate(slot);
      if (isIdleClient(client, nowMs)) {
        hand = records.placeOf(idle < 0 ? slot : idle);
        inVain = false;
        return slot;
      }
      if (idle >= 0) continue;
      if (!records.isUsed(slot) && usedUp(client, nowMs) < SPARED) idle = slot;
      records.setUsed(slot, false);
    }
    inVain = idle < 0;
    hand = idle < 0 ? hand + patience : records.placeOf(idle) + 1;
    return idle < 0 ? oneOfTheNewest(records.size(), records.slotAt) : idle;
  }

  function makeRoom(nowMs: number): void {
    const slot = whoMakesRoom(nowMs);
    if (!isIdleClient(readCandidate(slot), nowMs)) unexpiredEvictions += 1;
    records.remove(slot);
  }

  /**
   * Returns the first of the newest of `size` clients not used since the last look. If all of them were used, returns
   * any.
   */
  function oneOfTheNewest(size: number, slotAt: (place: number) => number): number {
    const newest = Math.ceil(size * NEWEST_PART);
    const begin = size - newest;
    for (let looked = 0; looked < EVICTION_LOOK; looked += 1) {
      newestHand = (newestHand + 1) % newest;
      const slot = slotAt(begin + newestHand);
      if (!records.isUsed(slot)) return slot;
      records.setUsed(slot, false);
    }
    return slotAt(begin + newestHand);
  }

  function add(client: Client, nowMs: number): void {
    const most = maxBytes - records.bytesOf(Buffer.byteLength(client.id));
    while (records.size() > 0 && (records.size() >= maxClients || records.bytes() > most)) makeRoom(nowMs);
    while (!records.add(client)) makeRoomInCrowd(client, nowMs);
  }

  /** Drops the client that has used up least among those that crowd a newcomer's place in the index. */
  function makeRoomInCrowd({ hashHigh, hashLow }: Client, nowMs: number): void {
    const crowd = records.crowd(hashHigh, hashLow);
    const used = crowd.map((slot) => usedUp(readCandidate(slot), nowMs));
    records.remove(crowd[used.indexOf(Math.min(...used))]!);
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
    opened.isNamed = false;
    opened.lastItem = 0;
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
    openBytes(hashHigh, hashLow, bytes, start, end) {
      const slot = records.findBytes(hashHigh, hashLow, bytes, start, end);
      if (slot < 0) return openBlank(hashHigh, hashLow, bytes.toString('utf8', start, end));
      records.setUsed(slot, true);
      return open(slot, undefined);
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
      if (heapIsFull()) makeRoomOnHeap(client, nowMs);
    },
    mark: records.mark,
    unmark: records.unmark,
    copyId: records.copyId,
    delete(clientId) {
      const slot = find(clientId);
      if (slot >= 0) records.remove(slot);
      return slot >= 0;
    },
    forgot(buckets) {
      unexpiredEvictions += buckets;
    },
    sweep(count, nowMs) {
      // One call looks at each client once at most.
      const looks = Math.min(count, records.size());
      for (let i = 0; i < looks; i += 1, swept -= 1) {
        if (swept < 0 || swept >= records.size()) swept = records.size() - 1;
        const slot = records.slotAt(swept);
        if (isIdleClient(readCandidate(slot), nowMs)) records.remove(slot);
      }
    },
    size: () => records.size(),
    unexpiredEvictions: () => unexpiredEvictions,
  };
}
