import { isIdle, makeRoom as dropBuckets, usedUp } from '../limits/bucket/bucket.js';
import { hashClientBytes, hashClientId, type ClientKey } from '../limits/ring/client-hash.js';
import { Client, MARK } from './client.js';
import { ClientRecords } from './client-records.js';

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
const PROTECTED_USAGE = 0.5;
/** If all clients have used up that part, the newest make room for each other. They are in this part of the table. */
const NEWEST_PART = 1 / 16;

function isIdleClient(client: Client, nowMs: number): boolean {
  return nowMs >= client.remembersUntilMs && isIdle(client, nowMs);
}

/**
 * A caller reads or changes a client within one turn of the event loop, and `close` writes a change to the table. Code
 * that needs a client for longer keeps its id or its slot. Each queue of slots has a mark (`changed`, `unwritten`),
 * because another client may have the slot later. The mark of that client is not set.
 *
 * The buckets that this node holds. Three bounds apply: of clients, of their bytes outside the heap, and of their bytes
 * on it. Most clients take about 100 bytes outside. A client with eight limits takes 2 KB on the heap as well.
 *
 * The clock algorithm (Corbató 1968) finds the client that makes room. A hand goes round the indexes. It spares the
 * clients that were used since it last came by, and takes the first that was not. A use writes one mark. A list in the
 * order of use would write to five other clients, all of them far away in memory.
 *
 * The hand passes over a client that has used up half of a limit or more. Forgetting it would give all of that back, so
 * a flood of new ids, which cost nothing, would free it. If all clients are like that, the flood is of such clients
 * too. Then the clients with the last indexes, which came last, make room: the flood pushes out itself.
 *
 * An `lru-cache` does not do that. It also takes 6 ms to delete its only entry if it has room for a million, and the
 * sweep would do so 10 times a second on an idle node. This table also allocates no memory in advance.
 */
export class BucketTable {
  private readonly maxBytes: number;
  private readonly maxHeapBytes: number;
  private readonly records: ClientRecords;
  /** One function for all clients, so that a client on the heap does not hold one of its own. */
  private readonly readId = (slot: number): string => this.records.idOf(slot);
  private readonly hash = new Int32Array(2);
  private opened: Client;
  private viewed: Client;
  private readonly candidate: Client;
  private evictedUnexpired = 0;
  private swept = -1;
  private hand = 0;
  private newestHand = 0;
  private lastScanFailed = false;
  private heapHand = 0;

  constructor(
    private readonly options: {
      readonly maxClients: number;
      /** Bound of the bytes of clients outside the heap. Default: none. */
      readonly maxBytes?: number;
      /** Bound of the bytes on the heap, of clients whose buckets do not fit into a record, and of rules. Default: none. */
      readonly maxHeapBytes?: number;
      /** 32 bits that only this process knows, so that nobody can choose ids that share a slot of the index. */
      readonly secret?: number;
    },
  ) {
    this.maxBytes = options.maxBytes ?? Infinity;
    this.maxHeapBytes = options.maxHeapBytes ?? Infinity;
    const secret = options.secret ?? 0;
    this.records = new ClientRecords(secret);
    this.opened = this.createClient();
    this.viewed = this.createClient();
    this.candidate = this.createClient();
  }

  /**
   * Returns a client to decide on, marked as used. It is empty if the table does not hold it. Valid until the next
   * `open`.
   */
  open({ clientId, hashHigh, hashLow }: ClientKey): Client {
    const slot = this.records.find(hashHigh, hashLow, clientId);
    if (slot < 0) return this.openBlank(hashHigh, hashLow, clientId);
    this.records.setUsed(slot, true);
    return this.openSlot(slot, clientId);
  }

  /** Like `open`, for an id in UTF-8 bytes, from `start` to before `end`. */
  openBytes(hashHigh: number, hashLow: number, bytes: Buffer, start: number, end: number): Client {
    const slot = this.records.findBytes(hashHigh, hashLow, bytes, start, end);
    if (slot < 0) return this.openBlank(hashHigh, hashLow, bytes.toString('utf8', start, end));
    this.records.setUsed(slot, true);
    return this.openSlot(slot, undefined);
  }

  /** Like `open`, but does not mark the client as used. */
  openCopy(clientId: string): Client {
    const slot = this.find(clientId);
    return slot < 0 ? this.openBlank(this.hash[0]!, this.hash[1]!, clientId) : this.openSlot(slot, clientId);
  }

  /** Like `openCopy`, for an id in UTF-8 bytes, from `start` to before `end`. */
  openCopyOf(bytes: Buffer, start: number, end: number): Client {
    hashClientBytes(bytes, start, end, this.hash);
    const slot = this.records.findBytes(this.hash[0]!, this.hash[1]!, bytes, start, end);
    return slot < 0
      ? this.openBlank(this.hash[0]!, this.hash[1]!, bytes.toString('utf8', start, end))
      : this.openSlot(slot, undefined);
  }

  /** Like `open`, but returns `undefined` for a client that the table does not hold. */
  openKnown(clientId: string): Client | undefined {
    const slot = this.find(clientId);
    if (slot < 0) return undefined;
    this.records.setUsed(slot, true);
    return this.openSlot(slot, clientId);
  }

  /** Returns a client for reading and does not mark it as used. Valid until the next `peek`, `peekAt`, or `at`. */
  peek(clientId: string): Client | undefined {
    return this.peekAt(this.find(clientId));
  }

  /** Like `peek`, by slot. */
  peekAt(slot: number): Client | undefined {
    if (!this.records.isLive(slot)) return undefined;
    if (this.viewed.isOnHeap) this.viewed = this.createClient();
    return this.records.read(slot, this.viewed);
  }

  /**
   * Like `peek`, by index, from 0 to `size` − 1. A deletion moves the last client into the gap. So a walk down the
   * indexes, however slow, meets every client that was there when it began.
   */
  at(index: number): Client | undefined {
    return this.peekAt(this.records.slotAt(index));
  }

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
  close(client: Client, nowMs: number): void {
    if (client.slot < 0) {
      if (client.first === undefined && client.remembersUntilMs <= nowMs) return;
      this.add(client, nowMs);
    } else {
      this.records.write(client);
    }
    if (this.heapIsFull()) this.makeRoomOnHeap(client, nowMs);
  }

  /** Sets a mark of the client at a slot. @returns whether the mark is new; false if no client has the slot */
  mark(slot: number, mark: number): boolean {
    return this.records.mark(slot, mark);
  }

  /** Clears a mark. @returns whether it was set */
  unmark(slot: number, mark: number): boolean {
    return this.records.unmark(slot, mark);
  }

  /**
   * Copies the id of the client at a slot, as UTF-8, into a buffer that has room for it.
   * @returns its length in bytes
   */
  copyId(slot: number, target: Buffer, at: number): number {
    return this.records.copyId(slot, target, at);
  }

  delete(clientId: string): boolean {
    const slot = this.find(clientId);
    if (slot >= 0) this.records.remove(slot);
    return slot >= 0;
  }

  /** Adds to the evictions the buckets that one client lost because it had too many. */
  forgot(buckets: number): void {
    this.evictedUnexpired += buckets;
  }

  /** Drops the idle clients among the next `count`. Each call continues where the last one stopped, round and round. */
  sweep(count: number, nowMs: number): void {
    // One call looks at each client once at most.
    const looks = Math.min(count, this.records.size());
    for (let i = 0; i < looks; i += 1, this.swept -= 1) {
      if (this.swept < 0 || this.swept >= this.records.size()) this.swept = this.records.size() - 1;
      const slot = this.records.slotAt(this.swept);
      if (isIdleClient(this.readCandidate(slot), nowMs)) this.records.remove(slot);
    }
  }

  size(): number {
    return this.records.size();
  }

  /**
   * Counts clients that were dropped though a limit still counted, and such buckets of a client that had too many. The
   * bound is then too small for the load.
   */
  unexpiredEvictions(): number {
    return this.evictedUnexpired;
  }

  private createClient(): Client {
    return new Client(this.readId);
  }

  private find(clientId: string): number {
    hashClientId(clientId, this.hash);
    return this.records.find(this.hash[0]!, this.hash[1]!, clientId);
  }

  /** Drops the idle buckets of a client, and of the others all but the latest `most`. */
  private trim(client: Client, most: number, nowMs: number): void {
    this.evictedUnexpired += dropBuckets(client, nowMs, most);
    this.records.write(client);
  }

  private readCandidate(slot: number): Client {
    return this.records.read(slot, this.candidate);
  }

  private heapIsFull(): boolean {
    return this.records.heapBytes() > this.maxHeapBytes;
  }

  private makeRoomOnHeap(asking: Client, nowMs: number): void {
    for (
      let looked = 0;
      looked < EVICTION_PATIENCE && this.records.spilledSize() > 0 && this.heapIsFull();
      looked += 1
    ) {
      this.heapHand = (this.heapHand + 1) % this.records.spilledSize();
      const slot = this.records.spilledSlotAt(this.heapHand);
      if (slot === asking.slot) continue;
      const client = this.readCandidate(slot);
      if (isIdleClient(client, nowMs)) {
        this.records.remove(slot);
        continue;
      }
      const spared = this.records.isUsed(slot) || usedUp(client, nowMs) >= PROTECTED_USAGE;
      this.records.setUsed(slot, false);
      this.trim(client, spared ? Infinity : 1, nowMs);
      if (spared || !client.isOnHeap) continue;
      // A sliding window or a lease takes heap even alone.
      this.records.remove(slot);
      this.evictedUnexpired += 1;
    }
    // The others have used up theirs: a client that asks under ever more limits pushes out its own buckets.
    if (this.heapIsFull()) this.trim(asking, 1, nowMs);
    for (let removed = 0; removed < EVICTION_LOOK && this.heapIsFull(); removed += 1) {
      const slot =
        2 * this.records.ruleBytes() > this.records.heapBytes()
          ? this.pickVictim(nowMs)
          : this.pickRecentVictim(this.records.spilledSize(), (index) => this.records.spilledSlotAt(index));
      if (slot === asking.slot) continue;
      if (!isIdleClient(this.readCandidate(slot), nowMs)) this.evictedUnexpired += 1;
      this.records.remove(slot);
    }
  }

  /** Finds a client to drop. @returns its slot */
  private pickVictim(nowMs: number): number {
    let idle = -1;
    const patience = this.lastScanFailed ? EVICTION_LOOK : EVICTION_PATIENCE;
    for (let looked = 0; looked < (idle < 0 ? patience : EVICTION_LOOK); looked += 1) {
      const slot = this.records.slotAt((this.hand + looked) % this.records.size());
      const client = this.readCandidate(slot);
      if (isIdleClient(client, nowMs)) {
        this.hand = this.records.indexOf(idle < 0 ? slot : idle);
        this.lastScanFailed = false;
        return slot;
      }
      if (idle >= 0) continue;
      if (!this.records.isUsed(slot) && usedUp(client, nowMs) < PROTECTED_USAGE) idle = slot;
      this.records.setUsed(slot, false);
    }
    this.lastScanFailed = idle < 0;
    this.hand = idle < 0 ? this.hand + patience : this.records.indexOf(idle) + 1;
    return idle < 0 ? this.pickRecentVictim(this.records.size(), (index) => this.records.slotAt(index)) : idle;
  }

  private makeRoom(nowMs: number): void {
    const slot = this.pickVictim(nowMs);
    if (!isIdleClient(this.readCandidate(slot), nowMs)) this.evictedUnexpired += 1;
    this.records.remove(slot);
  }

  /**
   * Returns the first of the newest of `size` clients not used since the last look. If all of them were used, returns
   * any.
   */
  private pickRecentVictim(size: number, slotAt: (index: number) => number): number {
    const newest = Math.ceil(size * NEWEST_PART);
    const begin = size - newest;
    for (let looked = 0; looked < EVICTION_LOOK; looked += 1) {
      this.newestHand = (this.newestHand + 1) % newest;
      const slot = slotAt(begin + this.newestHand);
      if (!this.records.isUsed(slot)) return slot;
      this.records.setUsed(slot, false);
    }
    return slotAt(begin + this.newestHand);
  }

  private add(client: Client, nowMs: number): void {
    const most = this.maxBytes - this.records.bytesOf(Buffer.byteLength(client.id));
    while (this.records.size() > 0 && (this.records.size() >= this.options.maxClients || this.records.bytes() > most))
      this.makeRoom(nowMs);
    while (!this.records.add(client)) this.makeRoomInProbeGroup(client, nowMs);
  }

  /** Drops the client that has used up least among those that fill the newcomer's probe group of the index. */
  private makeRoomInProbeGroup({ hashHigh, hashLow }: Client, nowMs: number): void {
    const group = this.records.probeGroup(hashHigh, hashLow);
    const used = group.map((slot) => usedUp(this.readCandidate(slot), nowMs));
    this.records.remove(group[used.indexOf(Math.min(...used))]!);
    this.evictedUnexpired += 1;
  }

  private openSlot(slot: number, clientId: string | undefined): Client {
    if (this.opened.isOnHeap) this.opened = this.createClient();
    const client = this.records.read(slot, this.opened);
    if (clientId !== undefined) client.text = clientId;
    return client;
  }

  private openBlank(hashHigh: number, hashLow: number, clientId: string): Client {
    if (this.opened.isOnHeap) this.opened = this.createClient();
    this.opened.slot = -1;
    this.opened.marks = 0;
    this.opened.remembersUntilMs = 0;
    this.opened.hasStoredDecisions = false;
    this.opened.lastItem = 0;
    this.opened.hashHigh = hashHigh;
    this.opened.hashLow = hashLow;
    this.opened.text = clientId;
    this.opened.first = undefined;
    this.opened.next = undefined;
    this.opened.leases = undefined;
    return this.opened;
  }
}
