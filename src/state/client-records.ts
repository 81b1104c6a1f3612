import type { Bucket } from '../limits/bucket/bucket.js';
import { clientBytes } from '../limits/heap-bytes.js';
import { createCells } from './cells.js';
import type { Client } from './client.js';
import { createClientIds } from './client-ids.js';
import { createRuleTable, isSame } from './rule-table.js';
import { createSlotIndex } from './slot-index.js';

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
const PLACE = 13;
const GENERATION = 14;
/** From the lowest bit: 8 bits of marks and flags, 8 bits for the bytes of the id less 1. */
const NOTES = 15;
const MARKS = 0b111;
/** The client was used since the table last looked for a client to drop. */
const USED = 0b1000;
/** The buckets do not fit into a record. `kept` has them. */
const RICH = 0b1_0000;
/** The record is in use. */
const LIVE = 0b10_0000;
/** See `Client.isNamed`. */
const NAMED = 0b100_0000;
const ID_BYTES_SHIFT = 8;

const PLACES_SHIFT = 12;
const MAX_WORD = 2 ** 31 - 1;
/** Bound of the generations: V8 stores twice a generation as a small integer. */
const MAX_GENERATION = 2 ** 29 - 1;
/** Measured bytes of a client outside the heap beside its id: the record, its place, its entries in index and lists. */
const OVERHEAD_BYTES = 84;

interface Page {
  readonly doubles: Float64Array;
  readonly words: Int32Array;
}

/**
 * Clients in records outside the heap. Each record has an id, one token bucket, and notes. A client may have several
 * buckets, a sliding window, or leases. Then an object beside its record keeps its buckets until they fit again.
 *
 * A record stays at its slot until its client is removed. Places number the clients from 0 to `size` − 1.
 */
interface ClientRecords {
  size(): number;
  /** Bytes of all clients outside the heap. */
  bytes(): number;
  /** Upper bound of the bytes of all buckets on the heap: those of kept objects, and the rules of records. */
  heapBytes(): number;
  /** The part of it that rules take. */
  ruleBytes(): number;
  /** Bytes outside the heap that a client with an id of so many bytes takes. */
  readonly bytesOf: (idBytes: number) => number;
  /** Number of clients that are kept as objects, and their slots by place. */
  keptSize(): number;
  readonly keptSlotAt: (place: number) => number;
  /** @returns the client's slot, or −1 */
  find(hashHigh: number, hashLow: number, id: string): number;
  /** Like `find`, for an id in UTF-8 bytes, from `start` to before `end`. */
  findBytes(hashHigh: number, hashLow: number, bytes: Uint8Array, start: number, end: number): number;
  isLive(slot: number): boolean;
  /** Reads a client into `into`. @returns `into`, or the object that is kept for the client */
  read(slot: number, into: Client): Client;
  /** Writes the changes of a client that was read. */
  write(client: Client): void;
  /** Adds a client whose `text` and hash are set. @returns false if its place in the index is crowded */
  add(client: Client): boolean;
  /** Returns slots of clients. One of them must be removed if a client with this hash finds no place. */
  crowd(hashHigh: number, hashLow: number): number[];
  /** Removes a client. The last client moves to its place. */
  remove(slot: number): void;
  readonly slotAt: (place: number) => number;
  placeOf(slot: number): number;
  /** @returns whether the mark is new */
  readonly mark: (slot: number, mark: number) => boolean;
  /** @returns whether the mark was set */
  readonly unmark: (slot: number, mark: number) => boolean;
  isUsed(slot: number): boolean;
  setUsed(slot: number, used: boolean): void;
  readonly idOf: (slot: number) => string;
  /** Copies the id into a buffer that has room for it. @returns its length in bytes */
  readonly copyId: (slot: number, target: Buffer, at: number) => number;
}

/** @param secret is mixed into each hash, so that nobody can choose ids which share a place of the index */
export function createClientRecords(secret: number): ClientRecords {
  const cells = createCells(PAGE_SHIFT, createPage);
  const pages = cells.pages as readonly Page[];
  const ids = createClientIds();
  const rules = createRuleTable();
  const places = createPlaces();
  const kept = new Map<number, Client>();
  const keptPlaces = createPlaces();
  let keptBytes = 0;
  let heapBytes = 0;
  const sought = { hashHigh: 0, hashLow: 0, id: '', bytes: undefined as Uint8Array | undefined, start: 0, end: 0 };
  const index = createSlotIndex(indexHashOf, isSought);
  let generation = 0;

  function word(slot: number, field: number): number {
    return pages[slot >> PAGE_SHIFT]!.words[((slot & PAGE_MASK) << WORD_SHIFT) + field]!;
  }

  function setWord(slot: number, field: number, value: number): void {
    pages[slot >> PAGE_SHIFT]!.words[((slot & PAGE_MASK) << WORD_SHIFT) + field] = value;
  }

  function mix(hashHigh: number, hashLow: number): number {
    let hash = Math.imul(hashHigh ^ secret, 0x9e3779b1) ^ hashLow;
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  function indexHashOf(slot: number): number {
    return mix(word(slot, HASH_HIGH), word(slot, HASH_LOW));
  }

  function isSought(slot: number): boolean {
    const { hashHigh, hashLow, id, bytes, start, end } = sought;
    if (word(slot, HASH_HIGH) !== hashHigh || word(slot, HASH_LOW) !== hashLow) return false;
    const idBytes = idBytesOf(slot);
    if (bytes === undefined) return ids.equals(word(slot, ID_CELL), idBytes, id);
    return idBytes === end - start && ids.equalsBytes(word(slot, ID_CELL), idBytes, bytes, start);
  }

  function idBytesOf(slot: number): number {
    return ((word(slot, NOTES) >>> ID_BYTES_SHIFT) & 0xff) + 1;
  }

  function isLive(slot: number): boolean {
    return slot >= 0 && pages[slot >> PAGE_SHIFT] !== undefined && (word(slot, NOTES) & LIVE) !== 0;
  }

  function setNotes(slot: number, notes: number, set: boolean): void {
    const before = word(slot, NOTES);
    setWord(slot, NOTES, set ? before | notes : before & ~notes);
  }

  function countHeapBytes(): void {
    heapBytes = keptBytes + rules.bytes();
  }

  function releaseRule(rule: number): void {
    if (rule === 0) return;
    rules.release(rule);
    countHeapBytes();
  }

  /** Writes one token bucket, or none. */
  function writeBucket(client: Client, bucket: FlatBucket | undefined): void {
    const { doubles, words } = pages[client.slot >> PAGE_SHIFT]!;
    const at = (client.slot & PAGE_MASK) << WORD_SHIFT;
    const before = words[at + RULE]!;
    if (bucket === undefined) {
      words[at + RULE] = 0;
      releaseRule(before);
      return;
    }
    if (before === 0 || !isSame(rules.at(before), bucket.rule)) {
      words[at + RULE] = rules.acquire(bucket.rule);
      if (before !== 0) rules.release(before);
      countHeapBytes();
    }
    words[at + TOKENS] = bucket.tokens;
    words[at + RULE_CHANGES] = bucket.ruleChanges;
    const double = (client.slot & PAGE_MASK) << DOUBLE_SHIFT;
    doubles[double + AT_MS] = bucket.atMs;
    doubles[double + PART] = bucket.part;
  }

  function keep(client: Client): void {
    if (!client.isKept) {
      writeBucket(client, undefined);
      client.isKept = true;
      client.keptBytes = 0;
      client.keptPlace = keptPlaces.push(client.slot);
      kept.set(client.slot, client);
      setNotes(client.slot, RICH, true);
    }
    const bytes = clientBytes(client, idBytesOf(client.slot));
    keptBytes += bytes - client.keptBytes;
    client.keptBytes = bytes;
    countHeapBytes();
  }

  function letGo(client: Client): void {
    client.isKept = false;
    keptBytes -= client.keptBytes;
    countHeapBytes();
    kept.delete(client.slot);
    const last = keptPlaces.pop();
    if (last !== client.slot) {
      keptPlaces.set(client.keptPlace, last);
      kept.get(last)!.keptPlace = client.keptPlace;
    }
    setNotes(client.slot, RICH, false);
  }

  const records: ClientRecords = {
    size: () => places.size(),
    bytes: () => OVERHEAD_BYTES * places.size() + ids.heldBytes(),
    heapBytes: () => heapBytes,
    ruleBytes: () => rules.bytes(),
    bytesOf: (idBytes) => OVERHEAD_BYTES + ids.cellBytes(idBytes),
    keptSize: () => keptPlaces.size(),
    keptSlotAt: (place) => keptPlaces.at(place),
    find(hashHigh, hashLow, id) {
      sought.hashHigh = hashHigh;
      sought.hashLow = hashLow;
      sought.id = id;
      sought.bytes = undefined;
      return index.find(mix(hashHigh, hashLow), tagOf(hashLow));
    },
    findBytes(hashHigh, hashLow, bytes, start, end) {
      sought.hashHigh = hashHigh;
      sought.hashLow = hashLow;
      sought.bytes = bytes;
      sought.start = start;
      sought.end = end;
      return index.find(mix(hashHigh, hashLow), tagOf(hashLow));
    },
    isLive,
    read(slot, into) {
      const { doubles, words } = pages[slot >> PAGE_SHIFT]!;
      const at = (slot & PAGE_MASK) << WORD_SHIFT;
      const double = (slot & PAGE_MASK) << DOUBLE_SHIFT;
      const notes = words[at + NOTES]!;
      const client = (notes & RICH) === 0 ? into : kept.get(slot)!;
      client.slot = slot;
      client.generation = words[at + GENERATION]!;
      client.remembersUntilMs = doubles[double + REMEMBERS_UNTIL_MS]!;
      client.hashHigh = words[at + HASH_HIGH]!;
      client.hashLow = words[at + HASH_LOW]!;
      client.lastItem = words[at + LAST_ITEM]!;
      client.isNamed = (notes & NAMED) !== 0;
      client.marks = notes & MARKS;
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
      client.rule = rules.at(rule);
      client.ruleChanges = words[at + RULE_CHANGES]!;
      client.tokens = words[at + TOKENS]!;
      client.part = doubles[double + PART]!;
      client.atMs = doubles[double + AT_MS]!;
      return client;
    },
    write(client) {
      const { slot, first } = client;
      const { doubles, words } = pages[slot >> PAGE_SHIFT]!;
      doubles[((slot & PAGE_MASK) << DOUBLE_SHIFT) + REMEMBERS_UNTIL_MS] = client.remembersUntilMs;
      const at = (slot & PAGE_MASK) << WORD_SHIFT;
      words[at + LAST_ITEM] = client.lastItem;
      if (client.isNamed !== ((words[at + NOTES]! & NAMED) !== 0)) setNotes(slot, NAMED, client.isNamed);
      if (first !== undefined && !isFlat(first)) return keep(client);
      if (client.isKept) letGo(client);
      writeBucket(client, first);
    },
    add(client) {
      const { hashHigh, hashLow } = client;
      const slot = cells.take();
      const at = (slot & PAGE_MASK) << WORD_SHIFT;
      const { words } = pages[slot >> PAGE_SHIFT]!;
      words[at + HASH_HIGH] = hashHigh;
      words[at + HASH_LOW] = hashLow;
      if (!index.add(mix(hashHigh, hashLow), tagOf(hashLow), slot)) {
        cells.release(slot);
        return false;
      }
      words[at + RULE] = 0;
      words[at + ID_CELL] = ids.write(client.id);
      words[at + NOTES] = LIVE | ((ids.writtenBytes() - 1) << ID_BYTES_SHIFT);
      words[at + PLACE] = places.push(slot);
      words[at + GENERATION] = generation = (generation + 1) & MAX_GENERATION;
      client.slot = slot;
      client.generation = generation;
      client.isKept = false;
      records.write(client);
      return true;
    },
    crowd: (hashHigh, hashLow) => index.crowd(mix(hashHigh, hashLow)),
    remove(slot) {
      releaseRule(word(slot, RULE));
      if ((word(slot, NOTES) & RICH) !== 0) letGo(kept.get(slot)!);
      index.remove(indexHashOf(slot), slot);
      ids.release(word(slot, ID_CELL), idBytesOf(slot));
      const place = word(slot, PLACE);
      const last = places.pop();
      if (last !== slot) {
        places.set(place, last);
        setWord(last, PLACE, place);
      }
      setWord(slot, NOTES, 0);
      cells.release(slot);
    },
    slotAt: (place) => places.at(place),
    placeOf: (slot) => word(slot, PLACE),
    mark(slot, mark) {
      if (!isLive(slot) || (word(slot, NOTES) & mark) !== 0) return false;
      setNotes(slot, mark, true);
      return true;
    },
    unmark(slot, mark) {
      if (!isLive(slot) || (word(slot, NOTES) & mark) === 0) return false;
      setNotes(slot, mark, false);
      return true;
    },
    isUsed: (slot) => (word(slot, NOTES) & USED) !== 0,
    setUsed: (slot, used) => setNotes(slot, USED, used),
    idOf: (slot) => ids.read(word(slot, ID_CELL), idBytesOf(slot)),
    copyId(slot, target, at) {
      const idBytes = idBytesOf(slot);
      ids.copy(word(slot, ID_CELL), idBytes, target, at);
      return idBytes;
    },
  };
  return records;
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

/** A list of slots by place, in pages. It grows at its end without being copied. */
function createPlaces() {
  const pages: Int32Array[] = [];
  const mask = 2 ** PLACES_SHIFT - 1;
  let size = 0;
  return {
    size: () => size,
    at: (place: number): number => (place < size && place >= 0 ? pages[place >> PLACES_SHIFT]![place & mask]! : -1),
    set(place: number, slot: number): void {
      pages[place >> PLACES_SHIFT]![place & mask] = slot;
    },
    /** @returns the place of the slot */
    push(slot: number): number {
      const page = (pages[size >> PLACES_SHIFT] ??= new Int32Array(2 ** PLACES_SHIFT));
      page[size & mask] = slot;
      return size++;
    },
    /** @returns the last slot */
    pop(): number {
      size -= 1;
      const slot = pages[size >> PLACES_SHIFT]![size & mask]!;
      // One spare page stays for the next client.
      if (pages.length > (size >> PLACES_SHIFT) + 2) pages.pop();
      return slot;
    },
  };
}
