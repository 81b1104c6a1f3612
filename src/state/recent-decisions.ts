import { clientEntryKey } from './client.js';
import type { Decision } from '../limits/decide/decision.js';
import { readBatchItemId } from '../limits/request/request.js';
import { hashClientId } from '../limits/ring/client-hash.js';
import { rememberedDecisionBytes } from '../limits/heap-bytes.js';
import type { NodeId } from '../limits/ring/ring.js';
import { BatchDecisions } from './batch-decisions.js';
import type { Clock } from '../lib/system.js';

/** How long a request id is remembered. */
export const REQUEST_ID_TTL_MS = 60_000;

interface RecentDecision {
  readonly requestId: string;
  readonly ageMs: number;
  readonly decision: Decision;
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
 * Keeps the first decision on each request id of a caller for 60 s, on this node and in the copies of its client. At the
 * bound, it forgets the oldest decision. A repeat of that request would be charged again.
 *
 * `BatchDecisions` is the part of it for items of batches, which take less memory there. `AnsweredBatches` is another
 * thing: it keeps the answers to messages of peers, which no caller sees, for a few seconds.
 *
 * The list of all decisions, and that of each client, are in the order in which the decisions came. An `lru-cache` with
 * sizes and times, beside a set of ids for each client, took several times as long: the SDK sends an id with every
 * question.
 */
export class RecentDecisions {
  /** The decisions on items of batches that are found by the id of the batch. */
  readonly batches: BatchDecisions;
  /** How many decisions there are on items of a batch that came alone. */
  private readonly itemsOf = new Map<string, number>();
  private readonly hash = new Int32Array(2);
  private readonly decisions = new Map<string, Remembered>();
  /** The last decision on each client. */
  private readonly latest = new Map<string, Remembered>();
  private oldest: Remembered | undefined;
  private newest: Remembered | undefined;
  private bytes = 0;

  constructor(
    private readonly clock: Clock,
    self: NodeId,
    private readonly maxBytes: number,
  ) {
    this.batches = new BatchDecisions(self, REQUEST_ID_TTL_MS, (bytes) => this.makeRoom(bytes));
  }

  /** Finds the decisions on items of batches too, by the ids of the items. */
  get(clientId: string, requestId: string): Decision | undefined {
    const one = this.decisions.size === 0 ? undefined : this.decisions.get(clientEntryKey(clientId, requestId));
    if (one === undefined) return this.getItem(clientId, requestId);
    if (!this.isOver(one, this.clock.nowMs())) return one.decision;
    this.remove(one);
    return undefined;
  }

  /** @param ageMs ms since the decision, if another node made it */
  add(clientId: string, requestId: string, decision: Decision, ageMs: number = 0): void {
    if (ageMs >= REQUEST_ID_TTL_MS) return;
    const nowMs = this.clock.nowMs();
    const size = rememberedDecisionBytes(clientId, requestId, decision);
    if (size > this.maxBytes) return;
    const key = clientEntryKey(clientId, requestId);
    const known = this.decisions.get(key);
    if (known !== undefined) this.remove(known);
    this.makeRoom(size);
    const earlier = this.latest.get(clientId);
    const atMs = nowMs - ageMs;
    const one: Remembered = {
      key,
      clientId,
      requestId,
      decision,
      atMs,
      bytes: size,
      before: this.newest,
      after: undefined,
      earlier,
      later: undefined,
    };
    this.decisions.set(key, one);
    this.countItem(requestId, 1);
    this.latest.set(clientId, one);
    if (earlier !== undefined) earlier.later = one;
    if (this.newest === undefined) this.oldest = one;
    else this.newest.after = one;
    this.newest = one;
    this.bytes += size;
  }

  /** Returns the latest decisions on a client, at most `max` and none older than `maxAgeMs`. */
  of(clientId: string, max: number, maxAgeMs: number): readonly RecentDecision[] {
    const nowMs = this.clock.nowMs();
    const found: RecentDecision[] = [];
    let one = this.latest.get(clientId);
    for (let looked = 0; one !== undefined && looked < max; looked += 1, one = one.earlier) {
      const ageMs = nowMs - one.atMs;
      if (ageMs <= maxAgeMs && ageMs <= REQUEST_ID_TTL_MS)
        found.push({ requestId: one.requestId, ageMs, decision: one.decision });
    }
    return found.reverse();
  }

  forget(clientId: string): void {
    for (let one = this.latest.get(clientId); one !== undefined; one = this.latest.get(clientId)) this.remove(one);
    if (this.batches.size() === 0) return;
    hashClientId(clientId, this.hash);
    this.batches.forget({ hashHigh: this.hash[0]!, hashLow: this.hash[1]! });
  }

  /** Whether there are decisions on a client, without those in `batches`. */
  has(clientId: string): boolean {
    return this.latest.has(clientId);
  }

  /** Whether there are decisions on items of this batch beside those in `batches`. */
  hasItemsOf(batchId: string): boolean {
    return this.itemsOf.size > 0 && this.itemsOf.has(batchId);
  }

  /** Number of decisions, without those on items of batches. */
  size(): number {
    return this.decisions.size;
  }

  private remove(one: Remembered): void {
    const { key, clientId, before, after, earlier, later } = one;
    this.decisions.delete(key);
    this.countItem(one.requestId, -1);
    this.bytes -= one.bytes;
    if (before === undefined) this.oldest = after;
    else before.after = after;
    if (after === undefined) this.newest = before;
    else after.before = before;
    if (earlier !== undefined) earlier.later = later;
    if (later !== undefined) later.earlier = earlier;
    else if (earlier !== undefined) this.latest.set(clientId, earlier);
    else this.latest.delete(clientId);
  }

  private countItem(requestId: string, by: number): void {
    const item = readBatchItemId(requestId);
    if (item === undefined) return;
    const count = (this.itemsOf.get(item.batchId) ?? 0) + by;
    if (count === 0) this.itemsOf.delete(item.batchId);
    else this.itemsOf.set(item.batchId, count);
  }

  /** Forgets decisions, the oldest first, until there is room for so many bytes. */
  private makeRoom(room: number): void {
    const nowMs = this.clock.nowMs();
    for (;;) {
      const atMs = Math.min(this.oldest?.atMs ?? Infinity, this.batches.oldestAtMs());
      if (
        atMs === Infinity ||
        (this.bytes + this.batches.bytes() + room <= this.maxBytes && nowMs - atMs <= REQUEST_ID_TTL_MS)
      )
        return;
      if (this.oldest?.atMs === atMs) this.remove(this.oldest);
      else this.batches.forgetOldest();
    }
  }

  private getItem(clientId: string, requestId: string): Decision | undefined {
    if (this.batches.size() === 0) return undefined;
    const item = readBatchItemId(requestId);
    if (item === undefined) return undefined;
    hashClientId(clientId, this.hash);
    const key = { hashHigh: this.hash[0]!, hashLow: this.hash[1]! };
    return this.batches.get(item.batchId, item.index, key, this.clock.nowMs());
  }

  private isOver({ atMs }: Remembered, nowMs: number): boolean {
    return nowMs - atMs > REQUEST_ID_TTL_MS;
  }
}
