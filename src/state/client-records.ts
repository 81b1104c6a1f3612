import type { Bucket } from '../limits/bucket/bucket.js';
import { clientBytes } from '../limits/heap-bytes.js';
import { Cells } from './cells.js';
import type { Client } from './client.js';
import { ClientIds } from './client-ids.js';
import { RuleTable, isSame } from './rule-table.js';
import { SlotIndex } from './slot-index.js';

/** A record is one cache line of 64 bytes: three doubles, then words of 32 bits. A page has 2,048 records. */
const PAGE_SHIFT = 11;
const PAGE_MASK = 2 ** PAGE_SHIFT - 1;
const RECORD_BYTES = 64;
/** Doubles of a record, and the shift from a record to its first double. */
const DOUBLE_SHIFT = 3;
const AT_MS = 0;
const PART = 1;
const REMEMBERS_UNTIL_MS = 2;
/** Words of a record, and the shift from a record to its first word. */
const WORD_SHIFT = 4;
const TOKENS = 6;
/** The number of the bucket's rule; 0: there is no bucket here. */
const RULE = 7;
const RULE_CHANGES = 8;
const LAST_ITEM = 9;
const HASH_HIGH = 10;
const HASH_LOW = 11;
const ID_CELL = 12;
const INDEX = 13;
const GENERATION = 14;
/** From the lowest bit: 8 bits of marks and flags, 8 bits for the bytes of the id less 1. */
const FLAGS = 15;
const MARKS = 0b111;
/** The client was used since the table last looked for a client to drop. */
const USED = 0b1000;
/** The buckets do not fit into a record. `spilled` has them. */
const SPILLED = 0b1_0000;
/** The record is in use. */
const LIVE = 0b10_0000;
/** See `Client.hasStoredDecisions`. */
const STORED_DECISIONS = 0b100_0000;
const ID_BYTES_SHIFT = 8;

const LIST_SHIFT = 12;
const MAX_WORD = 2 ** 31 - 1;
/** Bound of the generations: V8 stores twice a generation as a small integer. */
const MAX_GENERATION = 2 ** 29 - 1;
/** Measured bytes of a client outside the heap beside its id: the record, and its entries in the hash index and the lists. */
const OVERHEAD_BYTES = 84;

interface Page {
  readonly doubles: Float64Array;
  readonly words: Int32Array;
}

/**
 * Clients in records outside the heap. Each record has an id, one token bucket, and flags. A client may have several
 * buckets, a sliding window, or leases. Then an object beside its record keeps its buckets until they fit again.
 *
 * A record stays at its slot until its client is removed. Indexes number the clients from 0 to `size` − 1.
 *
 * @param secret is mixed into each hash, so that nobody can choose ids which share a slot of the hash index
 */
export class ClientRecords {
  private readonly cells = new Cells(PAGE_SHIFT, createPage);
  private readonly pages: readonly Page[];
  private readonly ids = new ClientIds();
  private readonly rules = new RuleTable();
  private readonly slots = new SlotList();
  private readonly spilled = new Map<number, Client>();
  private readonly spilledSlots = new SlotList();
  private spilledBytes = 0;
  private allHeapBytes = 0;
  private readonly sought = {
    hashHigh: 0,
    hashLow: 0,
    id: '',
    bytes: undefined as Uint8Array | undefined,
    start: 0,
    end: 0,
  };
  private readonly index: SlotIndex;
  private generation = 0;

  constructor(private readonly secret: number) {
    this.pages = this.cells.pages as readonly Page[];
    this.index = new SlotIndex(
      (slot) => this.indexHashOf(slot),
      (slot) => this.isSought(slot),
    );
  }

  size(): number {
    return this.slots.size();
  }

  /** Bytes of all clients outside the heap. */
  bytes(): number {
    return OVERHEAD_BYTES * this.slots.size() + this.ids.heldBytes();
  }

  /** Upper bound of the bytes of all buckets on the heap: those of spilled clients, and the rules of records. */
  heapBytes(): number {
    return this.allHeapBytes;
  }

  /** The part of it that rules take. */
  ruleBytes(): number {
    return this.rules.bytes();
  }

  /** Bytes outside the heap that a client with an id of so many bytes takes. */
  bytesOf(idBytes: number): number {
    return OVERHEAD_BYTES + this.ids.cellBytes(idBytes);
  }

  /** Number of clients whose buckets are spilled, and their slots by index. */
  spilledSize(): number {
    return this.spilledSlots.size();
  }

  spilledSlotAt(index: number): number {
    return this.spilledSlots.at(index);
  }

  /** @returns the client's slot, or −1 */
  find(hashHigh: number, hashLow: number, id: string): number {
    this.sought.hashHigh = hashHigh;
    this.sought.hashLow = hashLow;
    this.sought.id = id;
    this.sought.bytes = undefined;
    return this.index.find(this.mix(hashHigh, hashLow), tagOf(hashLow));
  }

  /** Like `find`, for an id in UTF-8 bytes, from `start` to before `end`. */
  findBytes(hashHigh: number, hashLow: number, bytes: Uint8Array, start: number, end: number): number {
    this.sought.hashHigh = hashHigh;
    this.sought.hashLow = hashLow;
    this.sought.bytes = bytes;
    this.sought.start = start;
    this.sought.end = end;
    return this.index.find(this.mix(hashHigh, hashLow), tagOf(hashLow));
  }

  isLive(slot: number): boolean {
    return slot >= 0 && this.pages[slot >> PAGE_SHIFT] !== undefined && (this.word(slot, FLAGS) & LIVE) !== 0;
  }

  /** Reads a client into `into`. @returns `into`, or the object of a spilled client */
  read(slot: number, into: Client): Client {
    const { doubles, words } = this.pages[slot >> PAGE_SHIFT]!;
    const at = (slot & PAGE_MASK) << WORD_SHIFT;
    const double = (slot & PAGE_MASK) << DOUBLE_SHIFT;
    const flags = words[at + FLAGS]!;
    const client = (flags & SPILLED) === 0 ? into : this.spilled.get(slot)!;
    client.slot = slot;
    client.generation = words[at + GENERATION]!;
    client.remembersUntilMs = doubles[double + REMEMBERS_UNTIL_MS]!;
    client.hashHigh = words[at + HASH_HIGH]!;
    client.hashLow = words[at + HASH_LOW]!;
    client.lastItem = words[at + LAST_ITEM]!;
    client.hasStoredDecisions = (flags & STORED_DECISIONS) !== 0;
    client.marks = flags & MARKS;
    if (client !== into) return client;
    client.text = undefined;
    const rule = words[at + RULE]!;
    client.leases = undefined;
    client.next = undefined;
    if (rule === 0) {
      client.first = undefined;
      return client;
    }
    client.first = client;
    client.rule = this.rules.at(rule);
    client.ruleChanges = words[at + RULE_CHANGES]!;
    client.tokens = words[at + TOKENS]!;
    client.part = doubles[double + PART]!;
    client.atMs = doubles[double + AT_MS]!;
    return client;
  }

  /** Writes the changes of a client that was read. */
  write(client: Client): void {
    const { slot, first } = client;
    const { doubles, words } = this.pages[slot >> PAGE_SHIFT]!;
    doubles[((slot & PAGE_MASK) << DOUBLE_SHIFT) + REMEMBERS_UNTIL_MS] = client.remembersUntilMs;
    const at = (slot & PAGE_MASK) << WORD_SHIFT;
    words[at + LAST_ITEM] = client.lastItem;
    if (client.hasStoredDecisions !== ((words[at + FLAGS]! & STORED_DECISIONS) !== 0))
      this.setFlags(slot, STORED_DECISIONS, client.hasStoredDecisions);
    if (first !== undefined && !isFlat(first)) return this.keep(client);
    if (client.isOnHeap) this.letGo(client);
    this.writeBucket(client, first);
  }

  /** Adds a client whose `text` and hash are set. @returns false if its probe group is full */
  add(client: Client): boolean {
    const { hashHigh, hashLow } = client;
    const slot = this.cells.take();
    const at = (slot & PAGE_MASK) << WORD_SHIFT;
    const { words } = this.pages[slot >> PAGE_SHIFT]!;
    words[at + HASH_HIGH] = hashHigh;
    words[at + HASH_LOW] = hashLow;
    if (!this.index.add(this.mix(hashHigh, hashLow), tagOf(hashLow), slot)) {
      this.cells.release(slot);
      return false;
    }
    words[at + RULE] = 0;
    words[at + ID_CELL] = this.ids.write(client.id);
    words[at + FLAGS] = LIVE | ((this.ids.writtenBytes() - 1) << ID_BYTES_SHIFT);
    words[at + INDEX] = this.slots.push(slot);
    words[at + GENERATION] = this.generation = (this.generation + 1) & MAX_GENERATION;
    client.slot = slot;
    client.generation = this.generation;
    client.isOnHeap = false;
    this.write(client);
    return true;
  }

  /** Returns slots of clients. One of them must be removed if `add` finds no room for a client with this hash. */
  probeGroup(hashHigh: number, hashLow: number): number[] {
    return this.index.probeGroup(this.mix(hashHigh, hashLow));
  }

  /** Removes a client. The last client takes its index. */
  remove(slot: number): void {
    this.releaseRule(this.word(slot, RULE));
    if ((this.word(slot, FLAGS) & SPILLED) !== 0) this.letGo(this.spilled.get(slot)!);
    this.index.remove(this.indexHashOf(slot), slot);
    this.ids.release(this.word(slot, ID_CELL), this.idBytesOf(slot));
    const index = this.word(slot, INDEX);
    const last = this.slots.pop();
    if (last !== slot) {
      this.slots.set(index, last);
      this.setWord(last, INDEX, index);
    }
    this.setWord(slot, FLAGS, 0);
    this.cells.release(slot);
  }

  slotAt(index: number): number {
    return this.slots.at(index);
  }

  indexOf(slot: number): number {
    return this.word(slot, INDEX);
  }

  /** @returns whether the mark is new */
  mark(slot: number, mark: number): boolean {
    if (!this.isLive(slot) || (this.word(slot, FLAGS) & mark) !== 0) return false;
    this.setFlags(slot, mark, true);
    return true;
  }

  /** @returns whether the mark was set */
  unmark(slot: number, mark: number): boolean {
    if (!this.isLive(slot) || (this.word(slot, FLAGS) & mark) === 0) return false;
    this.setFlags(slot, mark, false);
    return true;
  }

  isUsed(slot: number): boolean {
    return (this.word(slot, FLAGS) & USED) !== 0;
  }

  setUsed(slot: number, used: boolean): void {
    this.setFlags(slot, USED, used);
  }

  idOf(slot: number): string {
    return this.ids.read(this.word(slot, ID_CELL), this.idBytesOf(slot));
  }

  /** Copies the id into a buffer that has room for it. @returns its length in bytes */
  copyId(slot: number, target: Buffer, at: number): number {
    const idBytes = this.idBytesOf(slot);
    this.ids.copy(this.word(slot, ID_CELL), idBytes, target, at);
    return idBytes;
  }

  private word(slot: number, field: number): number {
    return this.pages[slot >> PAGE_SHIFT]!.words[((slot & PAGE_MASK) << WORD_SHIFT) + field]!;
  }

  private setWord(slot: number, field: number, value: number): void {
    this.pages[slot >> PAGE_SHIFT]!.words[((slot & PAGE_MASK) << WORD_SHIFT) + field] = value;
  }

  private mix(hashHigh: number, hashLow: number): number {
    let hash = Math.imul(hashHigh ^ this.secret, 0x9e3779b1) ^ hashLow;
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  private indexHashOf(slot: number): number {
    return this.mix(this.word(slot, HASH_HIGH), this.word(slot, HASH_LOW));
  }

  private isSought(slot: number): boolean {
    const { hashHigh, hashLow, id, bytes, start, end } = this.sought;
    if (this.word(slot, HASH_HIGH) !== hashHigh || this.word(slot, HASH_LOW) !== hashLow) return false;
    const idBytes = this.idBytesOf(slot);
    if (bytes === undefined) return this.ids.equals(this.word(slot, ID_CELL), idBytes, id);
    return idBytes === end - start && this.ids.equalsBytes(this.word(slot, ID_CELL), idBytes, bytes, start);
  }

  private idBytesOf(slot: number): number {
    return ((this.word(slot, FLAGS) >>> ID_BYTES_SHIFT) & 0xff) + 1;
  }

  private setFlags(slot: number, flags: number, set: boolean): void {
    const before = this.word(slot, FLAGS);
    this.setWord(slot, FLAGS, set ? before | flags : before & ~flags);
  }

  private countHeapBytes(): void {
    this.allHeapBytes = this.spilledBytes + this.rules.bytes();
  }

  private releaseRule(rule: number): void {
    if (rule === 0) return;
    this.rules.release(rule);
    this.countHeapBytes();
  }

  /** Writes one token bucket, or none. */
  private writeBucket(client: Client, bucket: FlatBucket | undefined): void {
    const { doubles, words } = this.pages[client.slot >> PAGE_SHIFT]!;
    const at = (client.slot & PAGE_MASK) << WORD_SHIFT;
    const before = words[at + RULE]!;
    if (bucket === undefined) {
      words[at + RULE] = 0;
      this.releaseRule(before);
      return;
    }
    if (before === 0 || !isSame(this.rules.at(before), bucket.rule)) {
      words[at + RULE] = this.rules.acquire(bucket.rule);
      if (before !== 0) this.rules.release(before);
      this.countHeapBytes();
    }
    words[at + TOKENS] = bucket.tokens;
    words[at + RULE_CHANGES] = bucket.ruleChanges;
    const double = (client.slot & PAGE_MASK) << DOUBLE_SHIFT;
    doubles[double + AT_MS] = bucket.atMs;
    doubles[double + PART] = bucket.part;
  }

  private keep(client: Client): void {
    if (!client.isOnHeap) {
      this.writeBucket(client, undefined);
      client.isOnHeap = true;
      client.spilledBytes = 0;
      client.spilledIndex = this.spilledSlots.push(client.slot);
      this.spilled.set(client.slot, client);
      this.setFlags(client.slot, SPILLED, true);
    }
    const bytes = clientBytes(client, this.idBytesOf(client.slot));
    this.spilledBytes += bytes - client.spilledBytes;
    client.spilledBytes = bytes;
    this.countHeapBytes();
  }

  private letGo(client: Client): void {
    client.isOnHeap = false;
    this.spilledBytes -= client.spilledBytes;
    this.countHeapBytes();
    this.spilled.delete(client.slot);
    const last = this.spilledSlots.pop();
    if (last !== client.slot) {
      this.spilledSlots.set(client.spilledIndex, last);
      this.spilled.get(last)!.spilledIndex = client.spilledIndex;
    }
    this.setFlags(client.slot, SPILLED, false);
  }
}

type FlatBucket = Extract<Bucket, { algorithm: 'token-bucket' }>;

/** Whether a client's first bucket fits into a record. */
function isFlat(bucket: Bucket): bucket is FlatBucket {
  return (
    bucket.algorithm === 'token-bucket' &&
    bucket.next === undefined &&
    bucket.leases === undefined &&
    bucket.tokens <= MAX_WORD &&
    bucket.ruleChanges <= MAX_WORD
  );
}

/**
 * Returns 7 bits of a hash, not all 0. They distinguish nearly all entries of other clients without a read of their
 * records.
 */
function tagOf(hashLow: number): number {
  return (hashLow & 0x7e) | 1;
}

function createPage(): Page {
  const buffer = new ArrayBuffer(RECORD_BYTES << PAGE_SHIFT);
  return { doubles: new Float64Array(buffer), words: new Int32Array(buffer) };
}

/** A list of slots by index, in pages. It grows at its end without being copied. */
class SlotList {
  private readonly pages: Int32Array[] = [];
  private readonly mask = 2 ** LIST_SHIFT - 1;
  private count = 0;

  size(): number {
    return this.count;
  }

  at(index: number): number {
    return index < this.count && index >= 0 ? this.pages[index >> LIST_SHIFT]![index & this.mask]! : -1;
  }

  set(index: number, slot: number): void {
    this.pages[index >> LIST_SHIFT]![index & this.mask] = slot;
  }

  /** @returns the index of the slot */
  push(slot: number): number {
    const page = (this.pages[this.count >> LIST_SHIFT] ??= new Int32Array(2 ** LIST_SHIFT));
    page[this.count & this.mask] = slot;
    return this.count++;
  }

  /** @returns the last slot */
  pop(): number {
    this.count -= 1;
    const slot = this.pages[this.count >> LIST_SHIFT]![this.count & this.mask]!;
    // One spare page stays for the next client.
    if (this.pages.length > (this.count >> LIST_SHIFT) + 2) this.pages.pop();
    return slot;
  }
}
