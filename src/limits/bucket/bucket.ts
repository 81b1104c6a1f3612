import { addLease, closeLease, endLeases, isOpen, mergeLeases, type Lease, type Leases } from './lease.js';
import { compareStrictness, sameBucket, type Rule } from './rule.js';
import * as slidingWindow from './sliding-window.js';
import * as tokenBucket from './token-bucket.js';

/** The consumption of one client under one rule. */
export type Bucket = TokenBucket | SlidingWindow;

interface TokenBucket extends tokenBucket.TokenDebt {
  readonly algorithm: 'token-bucket';
  /**
   * The rule of the last check; peeks and limits of 0 do not change it. Consumption decays at its rate, so its limit is
   * never 0.
   */
  rule: Rule;
  /** Number of changes of the rule. Of two copies, the one with more changes has the rule in force. */
  ruleChanges: number;
  /** Tokens that are leased to other nodes. Few buckets have any. */
  leases: Leases | undefined;
  /** The client's next bucket. Most clients have only one bucket. */
  next: Bucket | undefined;
}

interface SlidingWindow extends slidingWindow.WindowCounts {
  readonly algorithm: 'sliding-window';
  rule: Rule;
  ruleChanges: number;
  leases: Leases | undefined;
  next: Bucket | undefined;
}

/** The rule of a bucket that is not in use. */
const NO_RULE: Rule = {
  algorithm: 'token-bucket',
  limit: 1,
  windowMs: 1,
  capacity: 1,
  policy: undefined,
  scope: undefined,
};

/**
 * The buckets of one client, as a list. Nearly always the list is one token bucket, and this object is that bucket.
 * A second object would cost each decision one more access to memory.
 */
export class Buckets implements TokenBucket {
  first: Bucket | undefined = undefined;

  // The fields of the token bucket. They are in use only while the bucket is in the list.
  readonly algorithm = 'token-bucket';
  rule = NO_RULE;
  ruleChanges = 0;
  tokens = 0;
  part = 0;
  atMs = 0;
  leases: Leases | undefined = undefined;
  next: Bucket | undefined = undefined;
}

export function findBucket(buckets: Buckets, rule: Rule): Bucket | undefined {
  let bucket = buckets.first;
  while (bucket !== undefined && !sameBucket(bucket.rule, rule)) bucket = bucket.next;
  return bucket;
}

/** Adds an empty bucket. Callers call `makeRoom` first. */
export function addBucket(buckets: Buckets, rule: Rule, nowMs: number): Bucket {
  if (rule.algorithm === 'token-bucket' && !isInList(buckets, buckets)) return useOwnBucket(buckets, rule, nowMs);
  const start = { rule, ruleChanges: 0, atMs: nowMs, leases: undefined, next: buckets.first };
  buckets.first =
    rule.algorithm === 'sliding-window'
      ? { algorithm: 'sliding-window', ...start, endsMs: [], counts: [] }
      : { algorithm: 'token-bucket', ...start, tokens: 0, part: 0 };
  return buckets.first;
}

/** Puts the bucket that the list itself is in front, without an object for it, as each new client has this one. */
function useOwnBucket(buckets: Buckets, rule: Rule, nowMs: number): Bucket {
  buckets.rule = rule;
  buckets.ruleChanges = 0;
  buckets.tokens = 0;
  buckets.part = 0;
  buckets.atMs = nowMs;
  buckets.leases = undefined;
  buckets.next = buckets.first;
  buckets.first = buckets;
  return buckets;
}

function isInList(buckets: Buckets, sought: Bucket): boolean {
  let bucket = buckets.first;
  while (bucket !== undefined && bucket !== sought) bucket = bucket.next;
  return bucket !== undefined;
}

/** Bound of the buckets of one client. Beyond it, the oldest bucket is dropped, and its limit starts afresh. */
const MAX_BUCKETS = 64;

/**
 * Drops idle buckets, and the oldest ones above the bound. Otherwise a client that always asks with new windows would
 * grow without bound.
 * @param most number of buckets that may stay; the latest ones stay
 * @returns number of dropped buckets whose limit still counted
 */
export function makeRoom(buckets: Buckets, nowMs: number, most = MAX_BUCKETS - 1): number {
  const kept: Bucket[] = [];
  let forgotten = 0;
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) {
    advance(bucket, nowMs);
    if (isEmpty(bucket)) continue;
    if (kept.length < most) kept.push(bucket);
    else forgotten += 1;
  }
  buckets.first = kept[0];
  kept.forEach((bucket, i) => (bucket.next = kept[i + 1]));
  return forgotten;
}

/** Puts a rule in force and keeps the consumption. @returns whether the rule differs from the one before */
export function adopt(bucket: Bucket, rule: Rule): boolean {
  const changes = compareStrictness(bucket.rule, rule) !== 0;
  bucket.rule = rule;
  if (changes) bucket.ruleChanges += 1;
  return changes;
}

/** Whether an advanced bucket has no consumption and no open lease. */
export function isEmpty(bucket: Bucket): boolean {
  if (lentBy(bucket) > 0) return false;
  return bucket.algorithm === 'token-bucket' ? bucket.tokens === 0 && bucket.part === 0 : bucket.counts.length === 0;
}

/**
 * Advances a bucket to `nowMs`: drops consumption that no longer counts. An earlier reading of the clock drops nothing.
 */
export function advance(bucket: Bucket, nowMs: number): void {
  if (bucket.leases !== undefined) {
    bucket.leases = endLeases(bucket.leases, nowMs, ({ tokens, endMs }) => {
      advanceConsumption(bucket, endMs);
      take(bucket, tokens);
    });
  }
  advanceConsumption(bucket, nowMs);
}

function advanceConsumption(bucket: Bucket, nowMs: number): void {
  if (bucket.algorithm === 'token-bucket') tokenBucket.advance(bucket, bucket.rule, nowMs);
  else slidingWindow.advance(bucket, nowMs);
}

/** @returns tokens of an advanced bucket that other nodes may still spend */
export function lentBy(bucket: Bucket): number {
  return bucket.leases === undefined ? 0 : bucket.leases.lent;
}

/** Whether other nodes may still spend tokens of any of the client's buckets. */
export function hasLent(buckets: Buckets): boolean {
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) if (lentBy(bucket) > 0) return true;
  return false;
}

/** Whether any of the client's buckets has a lease that is open or remembered. */
export function hasLeases(buckets: Buckets): boolean {
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) {
    if (bucket.leases !== undefined) return true;
  }
  return false;
}

/** Forgets all leases of a client. Other nodes hold copies of them and will learn of their ends. */
export function dropLeases(buckets: Buckets): void {
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) bucket.leases = undefined;
}

/** Sets tokens aside for another node. They must fit. */
export function lend(bucket: Bucket, lease: Lease): void {
  bucket.leases = addLease(bucket.leases, lease);
}

/** Takes back the unspent tokens of a lease; the spent ones count from now on. @returns whether the lease was open */
export function takeBack(bucket: Bucket, leaseId: string, unspent: number, nowMs: number): boolean {
  advance(bucket, nowMs);
  const lease = bucket.leases && closeLease(bucket.leases, leaseId, unspent);
  if (lease?.spent === undefined) return false;
  if (lease.spent > 0) take(bucket, lease.spent);
  return true;
}

/** Whether `cost` could be taken under `rule` from an advanced bucket. */
export function fits(bucket: Bucket, rule: Rule, cost: number): boolean {
  const asked = cost + lentBy(bucket);
  return bucket.algorithm === 'token-bucket'
    ? tokenBucket.fits(bucket, rule, asked)
    : slidingWindow.used(bucket) + asked <= rule.limit;
}

/** Takes `cost` from an advanced bucket. It must fit. */
export function take(bucket: Bucket, cost: number): void {
  if (bucket.algorithm === 'token-bucket') bucket.tokens += cost;
  else slidingWindow.add(bucket, bucket.rule, cost);
}

/** @returns whole tokens that could be taken under `rule` from an advanced bucket */
export function remaining(bucket: Bucket, rule: Rule): number {
  const left =
    bucket.algorithm === 'token-bucket'
      ? tokenBucket.remaining(bucket, rule)
      : Math.max(0, rule.limit - slidingWindow.used(bucket));
  return Math.max(0, left - lentBy(bucket));
}

/**
 * Computes the wait until `cost` could fit under `rule`. Lease holders may spend all of their tokens or none. If they
 * spend none, `cost` fits at the latest when all leases are over.
 * @param cost does not fit now, but is at most the capacity
 * @returns whole ms after `nowMs`, rounded up
 */
export function waitMs(bucket: Bucket, rule: Rule, cost: number, nowMs: number): number {
  const settledForMs = Math.max(0, bucket.atMs - nowMs);
  const spentMs = waitForMs(bucket, rule, cost, true);
  if (lentBy(bucket) === 0) return settledForMs + spentMs;
  const endMs = Math.max(...bucket.leases!.list.filter(isOpen).map((lease) => lease.endMs));
  return settledForMs + Math.min(spentMs, Math.max(endMs - bucket.atMs, waitForMs(bucket, rule, cost, false)));
}

function waitForMs(bucket: Bucket, rule: Rule, cost: number, lentToo: boolean): number {
  if (bucket.algorithm === 'token-bucket')
    return Math.max(0, tokenBucket.waitMs(lentToo ? allSpent(bucket) : bucket, bucket.rule, rule.capacity - cost));
  const counts = lentToo ? allCounted(bucket) : bucket;
  return slidingWindow.used(counts) + cost <= rule.limit ? 0 : slidingWindow.waitMs(counts, rule, cost);
}

/** @returns whole ms after `nowMs`, rounded up, until nothing of the consumption is left */
export function resetMs(bucket: Bucket, nowMs: number): number {
  const leftMs =
    bucket.algorithm === 'token-bucket'
      ? tokenBucket.waitMs(allSpent(bucket), bucket.rule, 0)
      : slidingWindow.resetMs(allCounted(bucket));
  return leftMs === 0 ? 0 : leftMs + Math.max(0, bucket.atMs - nowMs);
}

/** @returns the debt of an advanced token bucket if other nodes spent all tokens that they may still spend */
export function allSpent(bucket: TokenBucket): tokenBucket.TokenDebt {
  const lent = lentBy(bucket);
  return lent === 0 ? bucket : { tokens: bucket.tokens + lent, part: bucket.part, atMs: bucket.atMs };
}

/**
 * @returns the counts of an advanced sliding window if other nodes spent each token that they may still spend at the
 * end of its lease
 */
export function allCounted(bucket: SlidingWindow): slidingWindow.WindowCounts {
  if (lentBy(bucket) === 0) return bucket;
  const { atMs, rule } = bucket;
  const all = { endsMs: [...bucket.endsMs], counts: [...bucket.counts], atMs };
  const open = bucket.leases!.list.filter(isOpen).sort((a, b) => a.endMs - b.endMs);
  for (const { tokens, endMs } of open) slidingWindow.add(Object.assign(all, { atMs: endMs }), rule, tokens);
  return Object.assign(all, { atMs });
}

/** Whether a client is idle at `nowMs`: nothing of its consumption is left, so its buckets can be dropped for free. */
export function isIdle(buckets: Buckets, nowMs: number): boolean {
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) {
    advance(bucket, nowMs);
    if (!isEmpty(bucket)) return false;
  }
  return true;
}

/** @returns the used part of the capacity at `nowMs`, 0 to 1; the largest over all buckets of the client */
export function usedUp(buckets: Buckets, nowMs: number): number {
  let most = 0;
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) {
    advance(bucket, nowMs);
    const { rule } = bucket;
    most = Math.max(most, 1 - remaining(bucket, rule) / rule.capacity);
  }
  return most;
}

/**
 * Merges another copy of the same bucket into this one. Both are advanced to `nowMs`. The larger consumption stands.
 * The rule with more changes stands, or the tighter one of two with equally many. The merge is commutative,
 * associative, and idempotent, so copies converge even if messages are lost, repeated, or reordered. The result owes
 * no less than either copy. If one copy does not know that a lease has ended, the order of merges may make the result
 * tighter. In the end, the tightest result stands.
 */
export function merge(bucket: Bucket, other: Bucket, nowMs: number): void {
  advance(bucket, nowMs);
  advance(other, nowMs);
  const later = other.ruleChanges - bucket.ruleChanges || compareStrictness(bucket.rule, other.rule);
  if (later > 0) {
    bucket.rule = other.rule;
    bucket.ruleChanges = other.ruleChanges;
  }
  bucket.leases = mergeLeases(bucket.leases, other.leases, (side, tokens) => {
    if (tokens > 0) take(side === 'a' ? bucket : other, tokens);
  });
  if (bucket.algorithm === 'token-bucket') {
    if (other.algorithm !== 'token-bucket') return;
    // A copy is ahead of `nowMs` only if the clock went back. Its refill must not count twice.
    bucket.atMs = Math.max(bucket.atMs, other.atMs);
    if (tokenBucket.compareDebt(other, bucket) > 0) {
      bucket.tokens = other.tokens;
      bucket.part = other.part;
    }
  } else if (other.algorithm === 'sliding-window') {
    slidingWindow.mergeSteps(bucket, other);
  }
}
