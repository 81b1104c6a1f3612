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
  place: number;
  /** Monotonic ms of the decision. */
  atMs: number;
  allowed: boolean;
  limit: number;
  remaining: number;
  /** `null`: never. */
  retryAfterMs: number | null;
  resetMs: number;
}

/**
 * Keeps the first decision on each item of batches that have a request id. The clients of a batch differ, but its id is
 * looked up once, and a decision takes one row of numbers. A string, a map entry, and an object for each decision, as
 * `recent-decisions.ts` has them, took half of the time of a node that SDKs ask.
 */
export interface BatchDecisions {
  /** Whether any item of this batch has a decision. */
  knows(batchId: string, nowMs: number): boolean;
  /** Returns the decision on an item, if it was one on this client. */
  get(batchId: string, place: number, client: Key, nowMs: number): Decision | undefined;
  /**
   * @param client open in the table; it is changed
   * @param atMs time of the decision
   * @param size number of items, if it is known
   * @param nowMs later than `atMs` for a decision that comes from another node
   * @returns false if the item has a decision on another client
   */
  add(
    batchId: string,
    place: number,
    client: Named,
    verdict: ItemVerdict,
    atMs: number,
    size?: number,
    nowMs?: number,
  ): boolean;
  /** Calls `visit` with the latest decisions on a client, the last one first. The object is valid until the next. */
  eachOf(client: Named, most: number, sinceMs: number, visit: (decision: Readonly<ItemDecision>) => void): void;
  /** Forgets the decisions on a client. Looks at all decisions. */
  forget(client: Key): void;
  /** Forgets the batch that came first, if there is one. */
  forgetOldest(): void;
  /** Time of the batch that came first; `Infinity`: there is none. */
  oldestAtMs(): number;
  bytes(): number;
  size(): number;
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
/** The decision before this one on the same client: the order of its batch times `PLACES`, plus its place; 0: none. */
const PREVIOUS = 6;
/** Monotonic ms of the decision. */
const AT_MS = 7;
/** Outcomes. Memory begins as zeros. */
const EMPTY = 0;
const ALLOWED = 1;
const NEVER = 2;
const DENIED = 3;

/** `Named.lastItem` is the number of a batch and a place in it, in 31 bits. */
const PLACE_BITS = 10;
const PLACES = 2 ** PLACE_BITS;
const PLACE_MASK = PLACES - 1;
const MAX_NUMBERS = 2 ** (31 - PLACE_BITS);

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

interface BatchDecisionOptions {
  readonly self: NodeId;
  readonly ttlMs: number;
  /** Above the number of batches that are remembered at once; at most 2^21, which is the default. */
  readonly numbers?: number;
}

/** @param makeRoom called before the memory grows by so many bytes */
export function createBatchDecisions(
  { makeRoom }: { makeRoom: (bytes: number) => void },
  { self, ttlMs, numbers = MAX_NUMBERS }: BatchDecisionOptions,
): BatchDecisions {
  const batches = new Map<string, Batch>();
  const byNumber = new Map<number, Batch>();
  /** The batch that was asked for last, as its items come one after the other. */
  let last: Batch | undefined;
  let oldest: Batch | undefined;
  let newest: Batch | undefined;
  let orders = 0;
  let bytes = 0;
  let size = 0;
  const item: ItemDecision = {
    batchId: '',
    place: 0,
    atMs: 0,
    allowed: false,
    limit: 0,
    remaining: 0,
    retryAfterMs: 0,
    resetMs: 0,
  };

  function find(batchId: string, nowMs: number): Batch | undefined {
    const batch = last?.id === batchId ? last : batches.get(batchId);
    if (batch === undefined || nowMs - batch.atMs <= ttlMs) return batch;
    remove(batch);
    return undefined;
  }

  /** Returns the row of an item of a batch, if its decision is still remembered; -1: it is not. */
  function rowOf({ rows }: Batch, place: number, nowMs: number): number {
    const at = place << ROW_SHIFT;
    if (at >= rows.length || rows[at + OUTCOME] === EMPTY || nowMs - rows[at + AT_MS]! > ttlMs) return -1;
    return at;
  }

  function bytesOf({ id, rows }: Pick<Batch, 'id' | 'rows'>): number {
    return BATCH_BYTES + 4 * id.length + 8 * rows.length;
  }

  function unlink({ before, after }: Batch): void {
    if (before === undefined) oldest = after;
    else before.after = after;
    if (after === undefined) newest = before;
    else after.before = before;
  }

  function append(batch: Batch): void {
    batch.before = newest;
    batch.after = undefined;
    if (newest === undefined) oldest = batch;
    else newest.after = batch;
    newest = batch;
  }

  function remove(batch: Batch): void {
    unlink(batch);
    batches.delete(batch.id);
    byNumber.delete(batch.number);
    if (last === batch) last = undefined;
    bytes -= bytesOf(batch);
    size -= batch.size;
  }

  function begin(id: string, rows: number, atMs: number): Batch {
    makeRoom(BATCH_BYTES + 4 * id.length + ROW_BYTES * rows);
    do orders += 1;
    while (orders % numbers === 0 || byNumber.has(orders % numbers));
    const batch: Batch = {
      id,
      order: orders,
      number: orders % numbers,
      atMs,
      rows: new Float64Array(rows << ROW_SHIFT),
      size: 0,
      before: undefined,
      after: undefined,
    };
    append(batch);
    batches.set(id, batch);
    byNumber.set(batch.number, batch);
    bytes += bytesOf(batch);
    return batch;
  }

  function grow(batch: Batch, place: number): void {
    const rows = Math.min(PLACES, Math.max(place + 1, batch.rows.length >> (ROW_SHIFT - 1)));
    const larger = new Float64Array(rows << ROW_SHIFT);
    larger.set(batch.rows);
    bytes += 8 * (larger.length - batch.rows.length);
    batch.rows = larger;
  }

  function isOf({ rows }: Batch, at: number, { hashHigh, hashLow }: Key): boolean {
    return rows[at + HASH_HIGH] === hashHigh && rows[at + HASH_LOW] === hashLow;
  }

  /** Returns the last decision on a client, as `PREVIOUS` names it. */
  function lastOf({ lastItem }: Named): number {
    const batch = byNumber.get(lastItem >>> PLACE_BITS);
    return batch === undefined ? 0 : batch.order * PLACES + (lastItem & PLACE_MASK);
  }

  function batchOf(named: number): Batch | undefined {
    const order = Math.floor(named / PLACES);
    const batch = byNumber.get(order % numbers);
    return batch?.order === order ? batch : undefined;
  }

  /**
   * Ends the list of a client before a row that another decision takes. The rest of the list is older than that row,
   * whose time is over.
   */
  function endBefore(taken: number, client: Named): void {
    for (let named = lastOf(client); named !== 0;) {
      const batch = batchOf(named);
      const at = (named % PLACES) << ROW_SHIFT;
      if (batch === undefined || !isOf(batch, at, client)) return;
      named = batch.rows[at + PREVIOUS]!;
      if (named === taken) batch.rows[at + PREVIOUS] = named = 0;
    }
  }

  return {
    knows: (batchId, nowMs) => find(batchId, nowMs) !== undefined,
    get(batchId, place, client, nowMs) {
      const batch = find(batchId, nowMs);
      const at = batch === undefined ? -1 : rowOf(batch, place, nowMs);
      if (batch === undefined || at < 0 || !isOf(batch, at, client)) return undefined;
      const { rows } = batch;
      return {
        allowed: rows[at + OUTCOME] === ALLOWED,
        limit: rows[at + LIMIT]!,
        remaining: rows[at + REMAINING]!,
        retryAfterMs: waitAt(rows, at),
        resetMs: rows[at + RESET_MS]!,
        limits: undefined,
        owner: self,
        source: 'owner',
        degraded: false,
      };
    },
    add(batchId, place, client, verdict, atMs, count = INITIAL_ROWS, nowMs = atMs) {
      const { allowed, limit, remaining, retryAfterMs, resetMs } = verdict;
      let batch = find(batchId, nowMs);
      last = batch ??= begin(batchId, Math.max(count, place + 1), atMs);
      const at = place << ROW_SHIFT;
      if (at >= batch.rows.length) grow(batch, place);
      const { rows } = batch;
      if (rowOf(batch, place, nowMs) === at) return isOf(batch, at, client);
      const named = batch.order * PLACES + place;
      if (rows[at + OUTCOME] === EMPTY) {
        batch.size += 1;
        size += 1;
      } else endBefore(named, client);
      const previous = lastOf(client);
      rows[at + HASH_HIGH] = client.hashHigh;
      rows[at + HASH_LOW] = client.hashLow;
      rows[at + LIMIT] = limit;
      rows[at + REMAINING] = remaining;
      rows[at + OUTCOME] = allowed ? ALLOWED : retryAfterMs === null ? NEVER : DENIED + retryAfterMs;
      rows[at + RESET_MS] = resetMs;
      rows[at + PREVIOUS] = previous === named ? 0 : previous;
      rows[at + AT_MS] = atMs;
      client.lastItem = (batch.number << PLACE_BITS) | place;
      if (atMs > batch.atMs) {
        batch.atMs = atMs;
        unlink(batch);
        append(batch);
      }
      return true;
    },
    eachOf(client, most, sinceMs, visit) {
      for (let [left, named] = [most, lastOf(client)]; left > 0 && named !== 0; left -= 1) {
        const batch = batchOf(named);
        const place = named % PLACES;
        const at = place << ROW_SHIFT;
        // Another batch may have the number of one that is forgotten, but then the row is that of another client.
        if (batch === undefined || at >= batch.rows.length || !isOf(batch, at, client)) return;
        const { rows } = batch;
        if (rows[at + OUTCOME] === EMPTY || rows[at + AT_MS]! < sinceMs) return;
        item.batchId = batch.id;
        item.place = place;
        item.atMs = rows[at + AT_MS]!;
        item.allowed = rows[at + OUTCOME] === ALLOWED;
        item.limit = rows[at + LIMIT]!;
        item.remaining = rows[at + REMAINING]!;
        item.retryAfterMs = waitAt(rows, at);
        item.resetMs = rows[at + RESET_MS]!;
        visit(item);
        named = rows[at + PREVIOUS]!;
      }
    },
    forget(client) {
      for (const batch of batches.values()) {
        for (let at = 0; at < batch.rows.length; at += 1 << ROW_SHIFT) {
          if (batch.rows[at + OUTCOME] === EMPTY || !isOf(batch, at, client)) continue;
          batch.rows[at + OUTCOME] = EMPTY;
          batch.size -= 1;
          size -= 1;
        }
      }
    },
    forgetOldest() {
      if (oldest !== undefined) remove(oldest);
    },
    oldestAtMs: () => oldest?.atMs ?? Infinity,
    bytes: () => bytes,
    size: () => size,
  };
}

function waitAt(rows: Float64Array, at: number): number | null {
  const outcome = rows[at + OUTCOME]!;
  return outcome === NEVER ? null : Math.max(0, outcome - DENIED);
}
