import { clientEntryKey } from './client-entry-key.js';
import type { Decision } from '../limits/decide/decision.js';
import { readBatchItemId } from '../limits/batch-item-id.js';
import { hashClientId } from '../limits/ring/client-hash.js';
import { rememberedDecisionBytes } from '../limits/heap-bytes.js';
import type { NodeId } from '../limits/ring/ring.js';
import { createBatchDecisions, type BatchDecisions } from './batch-decisions.js';
import type { Clock } from '../lib/clock.js';

/** How long a request id is remembered. */
export const REQUEST_ID_TTL_MS = 60_000;

interface RecentDecision {
  readonly requestId: string;
  readonly ageMs: number;
  readonly decision: Decision;
}

/**
 * Keeps the first decision on each request id for 60 s. At the bound, it forgets the oldest decision. A repeat of that
 * request would be charged again.
 */
export interface RecentDecisions {
  /** Finds the decisions on items of batches too, by the ids of the items (`limits/batch-item-id.ts`). */
  get(clientId: string, requestId: string): Decision | undefined;
  /** @param ageMs ms since the decision, if another node made it */
  add(clientId: string, requestId: string, decision: Decision, ageMs?: number): void;
  /** Returns the latest decisions on a client, at most `max` and none older than `maxAgeMs`. */
  of(clientId: string, max: number, maxAgeMs: number): readonly RecentDecision[];
  forget(clientId: string): void;
  /** Whether there are decisions on a client, without those in `batches`. */
  has(clientId: string): boolean;
  /** Number of decisions, without those on items of batches. */
  size(): number;
  /** The decisions on items of batches that are found by the id of the batch. */
  readonly batches: BatchDecisions;
  /** Whether there are decisions on items of this batch beside those in `batches`. */
  hasItemsOf(batchId: string): boolean;
}

/** A decision, between its neighbours in two lists: of all decisions, and of those on its client. */
interface Remembered {
  readonly key: string;
  readonly clientId: string;
  readonly requestId: string;
  readonly decision: Decision;
  readonly atMs: number;
  readonly bytes: number;
  before: Remembered | undefined;
  after: Remembered | undefined;
  earlier: Remembered | undefined;
  later: Remembered | undefined;
}

/**
 * Creates the memory of request ids. Both lists are in the order in which the decisions came. An `lru-cache` with sizes
 * and times, beside a set of ids for each client, took several times as long: clients of the SDK bring an id with every
 * question.
 */
export function createRecentDecisions(
  { clock }: { clock: Clock },
  { maxBytes, self }: { maxBytes: number; self: NodeId },
): RecentDecisions {
  const batches = createBatchDecisions({ makeRoom }, { self, ttlMs: REQUEST_ID_TTL_MS });
  /** How many decisions there are on items of a batch that came alone. */
  const itemsOf = new Map<string, number>();
  const hash = new Int32Array(2);
  const decisions = new Map<string, Remembered>();
  /** The last decision on each client. */
  const latest = new Map<string, Remembered>();
  let oldest: Remembered | undefined;
  let newest: Remembered | undefined;
  let bytes = 0;

  function remove(one: Remembered): void {
    const { key, clientId, before, after, earlier, later } = one;
    decisions.delete(key);
    countItem(one.requestId, -1);
    bytes -= one.bytes;
    if (before === undefined) oldest = after;
    else before.after = after;
    if (after === undefined) newest = before;
    else after.before = before;
    if (earlier !== undefined) earlier.later = later;
    if (later !== undefined) later.earlier = earlier;
    else if (earlier !== undefined) latest.set(clientId, earlier);
    else latest.delete(clientId);
  }

  function countItem(requestId: string, by: number): void {
    const item = readBatchItemId(requestId);
    if (item === undefined) return;
    const count = (itemsOf.get(item.batchId) ?? 0) + by;
    if (count === 0) itemsOf.delete(item.batchId);
    else itemsOf.set(item.batchId, count);
  }

  /** Forgets decisions, the oldest first, until there is room for so many bytes. */
  function makeRoom(room: number): void {
    const nowMs = clock.nowMs();
    for (;;) {
      const atMs = Math.min(oldest?.atMs ?? Infinity, batches.oldestAtMs());
      if (atMs === Infinity || (bytes + batches.bytes() + room <= maxBytes && nowMs - atMs <= REQUEST_ID_TTL_MS))
        return;
      if (oldest?.atMs === atMs) remove(oldest);
      else batches.forgetOldest();
    }
  }

  function getItem(clientId: string, requestId: string): Decision | undefined {
    if (batches.size() === 0) return undefined;
    const item = readBatchItemId(requestId);
    if (item === undefined) return undefined;
    hashClientId(clientId, hash);
    const key = { hashHigh: hash[0]!, hashLow: hash[1]! };
    return batches.get(item.batchId, item.place, key, clock.nowMs());
  }

  function isOver({ atMs }: Remembered, nowMs: number): boolean {
    return nowMs - atMs > REQUEST_ID_TTL_MS;
  }

  return {
    get(clientId, requestId) {
      const one = decisions.size === 0 ? undefined : decisions.get(clientEntryKey(clientId, requestId));
      if (one === undefined) return getItem(clientId, requestId);
      if (!isOver(one, clock.nowMs())) return one.decision;
      remove(one);
      return undefined;
    },
    add(clientId, requestId, decision, ageMs = 0) {
      if (ageMs >= REQUEST_ID_TTL_MS) return;
      const nowMs = clock.nowMs();
      const size = rememberedDecisionBytes(clientId, requestId, decision);
      if (size > maxBytes) return;
      const key = clientEntryKey(clientId, requestId);
      const known = decisions.get(key);
      if (known !== undefined) remove(known);
      makeRoom(size);
      const earlier = latest.get(clientId);
      const atMs = nowMs - ageMs;
      const one: Remembered = {
        key,
        clientId,
        requestId,
        decision,
        atMs,
        bytes: size,
        before: newest,
        after: undefined,
        earlier,
        later: undefined,
      };
      decisions.set(key, one);
      countItem(requestId, 1);
      latest.set(clientId, one);
      if (earlier !== undefined) earlier.later = one;
      if (newest === undefined) oldest = one;
      else newest.after = one;
      newest = one;
      bytes += size;
    },
    of(clientId, max, maxAgeMs) {
      const nowMs = clock.nowMs();
      const found: RecentDecision[] = [];
      let one = latest.get(clientId);
      for (let looked = 0; one !== undefined && looked < max; looked += 1, one = one.earlier) {
        const ageMs = nowMs - one.atMs;
        if (ageMs <= maxAgeMs && ageMs <= REQUEST_ID_TTL_MS)
          found.push({ requestId: one.requestId, ageMs, decision: one.decision });
      }
      return found.reverse();
    },
    forget(clientId) {
      for (let one = latest.get(clientId); one !== undefined; one = latest.get(clientId)) remove(one);
      if (batches.size() === 0) return;
      hashClientId(clientId, hash);
      batches.forget({ hashHigh: hash[0]!, hashLow: hash[1]! });
    },
    has: (clientId) => latest.has(clientId),
    batches,
    hasItemsOf: (batchId) => itemsOf.size > 0 && itemsOf.has(batchId),
    size: () => decisions.size,
  };
}
