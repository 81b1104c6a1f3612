import type { Verdict } from '../limits/decide/decide.js';
import type { Decision } from '../limits/decide/decision.js';
import type { NodeId } from '../limits/ring/ring.js';

/** The part of a client by which its decisions are found. `Client` has it. */
interface Named {
  readonly hashHigh: number;
  readonly hashLow: number;
  /** The last decision on one of the client's batch items; 0: none. */
  lastItem: number;
}

type ItemVerdict = Omit<Verdict, 'limits'>;
type Key = Pick<Named, 'hashHigh' | 'hashLow'>;

/** A decision on an item of a batch. */
interface ItemDecision {
  batchId: string;
  index: number;
  /** Monotonic ms of the decision. */
  atMs: number;
  allowed: boolean;
  limit: number;
  remaining: number;
  /** `null`: never. */
  retryAfterMs: number | null;
  resetMs: number;
}

/** Doubles of a row: one cache line. */
const ROW_SHIFT = 3;
const HASH_HIGH = 0;
const HASH_LOW = 1;
const LIMIT = 2;
const REMAINING = 3;
/** `EMPTY`, `ALLOWED`, `NEVER`, or `DENIED` plus the ms after which the same cost could pass. */
const OUTCOME = 4;
const RESET_MS = 5;
/** The decision before this one on the same client: the order of its batch times `MAX_ITEMS`, plus its index; 0: none. */
const PREVIOUS = 6;
/** Monotonic ms of the decision. */
const AT_MS = 7;
/** Outcomes. Memory begins as zeros. */
const EMPTY = 0;
const ALLOWED = 1;
const NEVER = 2;
const DENIED = 3;

/** `Named.lastItem` is the number of a batch and an index in it, in 31 bits. */
const INDEX_BITS = 10;
const MAX_ITEMS = 2 ** INDEX_BITS;
const INDEX_MASK = MAX_ITEMS - 1;
const MAX_NUMBERS = 2 ** (31 - INDEX_BITS);

/** Measured bytes of a batch without its rows. */
const BATCH_BYTES = 400;
const ROW_BYTES = 64;
const INITIAL_ROWS = 8;

interface Batch {
  readonly id: string;
  /** Ascends with each batch. */
  readonly order: number;
  /** The remainder of `order`, which begins again after `numbers`. No other batch that is remembered has it. */
  readonly number: number;
  /** Monotonic ms of its last decision. */
  atMs: number;
  rows: Float64Array;
  size: number;
  before: Batch | undefined;
  after: Batch | undefined;
}

/**
 * Keeps the first decision on each item of batches that have a request id. The clients of a batch differ, but its id is
 * looked up once, and a decision takes one row of numbers. A string, a map entry, and an object for each decision, as
 * `recent-decisions.ts` has them, took half of the time of a node that SDKs ask.
 */
export class BatchDecisions {
  private readonly batches = new Map<string, Batch>();
  private readonly byNumber = new Map<number, Batch>();
  /** The batch that was asked for last, as its items come one after the other. */
  private last: Batch | undefined;
  private oldest: Batch | undefined;
  private newest: Batch | undefined;
  private orders = 0;
  private usedBytes = 0;
  private count = 0;
  private readonly item: ItemDecision = {
    batchId: '',
    index: 0,
    atMs: 0,
    allowed: false,
    limit: 0,
    remaining: 0,
    retryAfterMs: 0,
    resetMs: 0,
  };

  /**
   * @param makeRoom called before the memory grows by so many bytes
   * @param numbers above the number of batches that are remembered at once; at most 2^21
   */
  constructor(
    private readonly self: NodeId,
    private readonly ttlMs: number,
    private readonly makeRoom: (bytes: number) => void,
    private readonly numbers = MAX_NUMBERS,
  ) {}

  /** Whether any item of this batch has a decision. */
  knows(batchId: string, nowMs: number): boolean {
    return this.find(batchId, nowMs) !== undefined;
  }

  /** Returns the decision on an item, if it was one on this client. */
  get(batchId: string, index: number, client: Key, nowMs: number): Decision | undefined {
    const batch = this.find(batchId, nowMs);
    const at = batch === undefined ? -1 : this.rowOf(batch, index, nowMs);
    if (batch === undefined || at < 0 || !this.isOf(batch, at, client)) return undefined;
    const { rows } = batch;
    return {
      allowed: rows[at + OUTCOME] === ALLOWED,
      limit: rows[at + LIMIT]!,
      remaining: rows[at + REMAINING]!,
      retryAfterMs: waitAt(rows, at),
      resetMs: rows[at + RESET_MS]!,
      limits: undefined,
      owner: this.self,
      source: 'owner',
      degraded: false,
    };
  }

  /**
   * @param client open in the table; it is changed
   * @param atMs time of the decision
   * @param count number of items, if it is known
   * @param nowMs later than `atMs` for a decision that comes from another node
   * @returns false if the item has a decision on another client
   */
  add(
    batchId: string,
    index: number,
    client: Named,
    verdict: ItemVerdict,
    atMs: number,
    count: number = INITIAL_ROWS,
    nowMs: number = atMs,
  ): boolean {
    const { allowed, limit, remaining, retryAfterMs, resetMs } = verdict;
    let batch = this.find(batchId, nowMs);
    this.last = batch ??= this.begin(batchId, Math.max(count, index + 1), atMs);
    const at = index << ROW_SHIFT;
    if (at >= batch.rows.length) this.grow(batch, index);
    const { rows } = batch;
    if (this.rowOf(batch, index, nowMs) === at) return this.isOf(batch, at, client);
    const named = batch.order * MAX_ITEMS + index;
    if (rows[at + OUTCOME] === EMPTY) {
      batch.size += 1;
      this.count += 1;
    } else this.endBefore(named, client);
    const previous = this.lastOf(client);
    rows[at + HASH_HIGH] = client.hashHigh;
    rows[at + HASH_LOW] = client.hashLow;
    rows[at + LIMIT] = limit;
    rows[at + REMAINING] = remaining;
    rows[at + OUTCOME] = allowed ? ALLOWED : retryAfterMs === null ? NEVER : DENIED + retryAfterMs;
    rows[at + RESET_MS] = resetMs;
    rows[at + PREVIOUS] = previous === named ? 0 : previous;
    rows[at + AT_MS] = atMs;
    client.lastItem = (batch.number << INDEX_BITS) | index;
    if (atMs > batch.atMs) {
      batch.atMs = atMs;
      this.unlink(batch);
      this.append(batch);
    }
    return true;
  }

  /** Calls `visit` with the latest decisions on a client, the last one first. The object is valid until the next. */
  eachOf(client: Named, most: number, sinceMs: number, visit: (decision: Readonly<ItemDecision>) => void): void {
    for (let [left, named] = [most, this.lastOf(client)]; left > 0 && named !== 0; left -= 1) {
      const batch = this.batchOf(named);
      const index = named % MAX_ITEMS;
      const at = index << ROW_SHIFT;
      // Another batch may have the number of one that is forgotten, but then the row is that of another client.
      if (batch === undefined || at >= batch.rows.length || !this.isOf(batch, at, client)) return;
      const { rows } = batch;
      if (rows[at + OUTCOME] === EMPTY || rows[at + AT_MS]! < sinceMs) return;
      this.item.batchId = batch.id;
      this.item.index = index;
      this.item.atMs = rows[at + AT_MS]!;
      this.item.allowed = rows[at + OUTCOME] === ALLOWED;
      this.item.limit = rows[at + LIMIT]!;
      this.item.remaining = rows[at + REMAINING]!;
      this.item.retryAfterMs = waitAt(rows, at);
      this.item.resetMs = rows[at + RESET_MS]!;
      visit(this.item);
      named = rows[at + PREVIOUS]!;
    }
  }

  /** Forgets the decisions on a client. Looks at all decisions. */
  forget(client: Key): void {
    for (const batch of this.batches.values()) {
      for (let at = 0; at < batch.rows.length; at += 1 << ROW_SHIFT) {
        if (batch.rows[at + OUTCOME] === EMPTY || !this.isOf(batch, at, client)) continue;
        batch.rows[at + OUTCOME] = EMPTY;
        batch.size -= 1;
        this.count -= 1;
      }
    }
  }

  /** Forgets the batch that came first, if there is one. */
  forgetOldest(): void {
    if (this.oldest !== undefined) this.remove(this.oldest);
  }

  /** Time of the batch that came first; `Infinity`: there is none. */
  oldestAtMs(): number {
    return this.oldest?.atMs ?? Infinity;
  }

  bytes(): number {
    return this.usedBytes;
  }

  size(): number {
    return this.count;
  }

  private find(batchId: string, nowMs: number): Batch | undefined {
    const batch = this.last?.id === batchId ? this.last : this.batches.get(batchId);
    if (batch === undefined || nowMs - batch.atMs <= this.ttlMs) return batch;
    this.remove(batch);
    return undefined;
  }

  /** Returns the row of an item of a batch, if its decision is still remembered; -1: it is not. */
  private rowOf({ rows }: Batch, index: number, nowMs: number): number {
    const at = index << ROW_SHIFT;
    if (at >= rows.length || rows[at + OUTCOME] === EMPTY || nowMs - rows[at + AT_MS]! > this.ttlMs) return -1;
    return at;
  }

  private bytesOf({ id, rows }: Pick<Batch, 'id' | 'rows'>): number {
    return BATCH_BYTES + 4 * id.length + 8 * rows.length;
  }

  private unlink({ before, after }: Batch): void {
    if (before === undefined) this.oldest = after;
    else before.after = after;
    if (after === undefined) this.newest = before;
    else after.before = before;
  }

  private append(batch: Batch): void {
    batch.before = this.newest;
    batch.after = undefined;
    if (this.newest === undefined) this.oldest = batch;
    else this.newest.after = batch;
    this.newest = batch;
  }

  private remove(batch: Batch): void {
    this.unlink(batch);
    this.batches.delete(batch.id);
    this.byNumber.delete(batch.number);
    if (this.last === batch) this.last = undefined;
    this.usedBytes -= this.bytesOf(batch);
    this.count -= batch.size;
  }

  private begin(id: string, rows: number, atMs: number): Batch {
    this.makeRoom(BATCH_BYTES + 4 * id.length + ROW_BYTES * rows);
    do this.orders += 1;
    while (this.orders % this.numbers === 0 || this.byNumber.has(this.orders % this.numbers));
    const batch: Batch = {
      id,
      order: this.orders,
      number: this.orders % this.numbers,
      atMs,
      rows: new Float64Array(rows << ROW_SHIFT),
      size: 0,
      before: undefined,
      after: undefined,
    };
    this.append(batch);
    this.batches.set(id, batch);
    this.byNumber.set(batch.number, batch);
    this.usedBytes += this.bytesOf(batch);
    return batch;
  }

  private grow(batch: Batch, index: number): void {
    const rows = Math.min(MAX_ITEMS, Math.max(index + 1, batch.rows.length >> (ROW_SHIFT - 1)));
    const larger = new Float64Array(rows << ROW_SHIFT);
    larger.set(batch.rows);
    this.usedBytes += 8 * (larger.length - batch.rows.length);
    batch.rows = larger;
  }

  private isOf({ rows }: Batch, at: number, { hashHigh, hashLow }: Key): boolean {
    return rows[at + HASH_HIGH] === hashHigh && rows[at + HASH_LOW] === hashLow;
  }

  /** Returns the last decision on a client, as `PREVIOUS` names it. */
  private lastOf({ lastItem }: Named): number {
    const batch = this.byNumber.get(lastItem >>> INDEX_BITS);
    return batch === undefined ? 0 : batch.order * MAX_ITEMS + (lastItem & INDEX_MASK);
  }

  private batchOf(named: number): Batch | undefined {
    const order = Math.floor(named / MAX_ITEMS);
    const batch = this.byNumber.get(order % this.numbers);
    return batch?.order === order ? batch : undefined;
  }

  /**
   * Ends the list of a client before a row that another decision takes. The rest of the list is older than that row,
   * whose time is over.
   */
  private endBefore(taken: number, client: Named): void {
    for (let named = this.lastOf(client); named !== 0;) {
      const batch = this.batchOf(named);
      const at = (named % MAX_ITEMS) << ROW_SHIFT;
      if (batch === undefined || !this.isOf(batch, at, client)) return;
      named = batch.rows[at + PREVIOUS]!;
      if (named === taken) batch.rows[at + PREVIOUS] = named = 0;
    }
  }
}

function waitAt(rows: Float64Array, at: number): number | null {
  const outcome = rows[at + OUTCOME]!;
  return outcome === NEVER ? null : Math.max(0, outcome - DENIED);
}
