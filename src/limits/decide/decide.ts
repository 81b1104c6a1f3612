import {
  addBucket,
  adopt,
  findBucket,
  fits,
  makeRoom,
  remaining,
  resetMs,
  advance,
  take,
  waitMs,
  type Bucket,
  type Buckets,
} from '../bucket/bucket.js';
import type { Algorithm, Rule } from '../bucket/rule.js';
import type { CheckParams } from './check.js';

/** The state of one of several limits after a decision. */
export interface LimitStats {
  readonly algorithm: Algorithm;
  readonly windowMs: number;
  readonly limit: number;
  /** Whole tokens left after this decision. */
  readonly remaining: number;
  /** 0 if this limit allows the check; else whole ms, rounded up, until it could; `null` if it never can. */
  readonly retryAfterMs: number | null;
  /** Whole ms, rounded up, until nothing of the consumption is left. */
  readonly resetMs: number;
}

/** The state of the same limit at another time. */
export function statsWith(
  { algorithm, windowMs, limit }: LimitStats,
  remaining: number,
  retryAfterMs: number | null,
  resetMs: number,
): LimitStats {
  return { algorithm, windowMs, limit, remaining, retryAfterMs, resetMs };
}

export interface Verdict {
  readonly allowed: boolean;
  /** The tightest limit: the one that denies longest, else the one with the least remaining. */
  readonly limit: number;
  /** Whole tokens left under the tightest limit. */
  readonly remaining: number;
  /**
   * 0 when allowed. Otherwise whole ms, rounded up, after which the same cost could pass if nothing else is taken;
   * `null` if it can never pass.
   */
  readonly retryAfterMs: number | null;
  /** Whole ms, rounded up, until nothing of the consumption is left under any of the limits. */
  readonly resetMs: number;
  /** The state of each limit; `undefined` when there is only one. */
  readonly limits: readonly LimitStats[] | undefined;
}

/** The verdict alone, of what holds more. */
export function verdictOf({ allowed, limit, remaining, retryAfterMs, resetMs, limits }: Verdict): Verdict {
  return { allowed, limit, remaining, retryAfterMs, resetMs, limits };
}

export interface Outcome extends Verdict {
  /** Whether the buckets changed, which makes copies of them outdated. */
  readonly changed: boolean;
  /** Number of buckets that were dropped because the client has too many, although their limits still counted. */
  readonly forgotten: number;
}

/** The outcome of the last `decide`, as an object for each decision would take longer than most decisions. */
const reusedOutcome: { -readonly [K in keyof Outcome]: Outcome[K] } = {
  allowed: false,
  limit: 0,
  remaining: 0,
  retryAfterMs: 0,
  resetMs: 0,
  limits: undefined,
  changed: false,
  forgotten: 0,
};

/**
 * Decides a check at `nowMs`. Charges the client's buckets if the check is allowed and not a peek.
 * A denial consumes nothing. A rule with a new limit applies at once, and the consumption is kept.
 * @param buckets the buckets of the client; they stay empty if there is nothing to remember
 * @param nowMs monotonic ms of this process
 * @returns the outcome, which is valid until the next call
 */
export function decide(
  buckets: Buckets,
  { rules, cost, peek }: Pick<CheckParams, 'rules' | 'cost' | 'peek'>,
  nowMs: number,
): Outcome {
  let allowed = true;
  for (const rule of rules) {
    const bucket = findBucket(buckets, rule);
    if (bucket !== undefined) advance(bucket, nowMs);
    if (!allows(bucket, rule, cost)) allowed = false;
  }
  reusedOutcome.allowed = allowed;
  reusedOutcome.changed = false;
  reusedOutcome.forgotten = 0;
  if (!peek) for (const rule of rules) charge(buckets, rule, allowed ? cost : 0, nowMs);
  // The figures of one limit are those of the outcome itself.
  const limits: LimitStats[] | undefined = rules.length === 1 ? undefined : new Array<LimitStats>(rules.length);
  reusedOutcome.limits = limits;
  reusedOutcome.resetMs = 0;
  for (let i = 0; i < rules.length; i += 1) {
    const rule = rules[i]!;
    const bucket = findBucket(buckets, rule);
    const left = remainingIn(bucket, rule);
    const waitMs = allowed ? 0 : retryAfterMsOf(bucket, rule, cost, nowMs);
    const endMs = bucket === undefined ? 0 : resetMs(bucket, nowMs);
    const { algorithm, windowMs, limit } = rule;
    if (limits !== undefined)
      limits[i] = { algorithm, windowMs, limit, remaining: left, retryAfterMs: waitMs, resetMs: endMs };
    if (endMs > reusedOutcome.resetMs) reusedOutcome.resetMs = endMs;
    if (i > 0 && !isTighter(waitMs, left, reusedOutcome)) continue;
    reusedOutcome.limit = limit;
    reusedOutcome.remaining = left;
    reusedOutcome.retryAfterMs = waitMs;
  }
  return reusedOutcome;
}

/** Puts a rule in force, and takes the cost. @param cost 0 for a denial */
function charge(buckets: Buckets, rule: Rule, cost: number, nowMs: number): void {
  let bucket = findBucket(buckets, rule);
  // A limit of 0 has no rate at which consumption could decay, so the bucket keeps the limit it had.
  if (bucket !== undefined && rule.limit > 0 && adopt(bucket, rule)) reusedOutcome.changed = true;
  if (cost === 0) return;
  reusedOutcome.changed = true;
  if (bucket === undefined) {
    reusedOutcome.forgotten += makeRoom(buckets, nowMs);
    bucket = addBucket(buckets, rule, nowMs);
  }
  take(bucket, cost);
}

function allows(bucket: Bucket | undefined, rule: Rule, cost: number): boolean {
  return canPass(rule, cost) && (bucket === undefined || fits(bucket, rule, cost));
}

/** Whether `cost` can pass under `rule` at any time. */
export function canPass(rule: Rule, cost: number): boolean {
  return rule.limit > 0 && cost <= rule.capacity;
}

function remainingIn(bucket: Bucket | undefined, rule: Rule): number {
  if (rule.limit === 0) return 0;
  return bucket === undefined ? rule.capacity : remaining(bucket, rule);
}

/** @returns the wait until a check that was denied could pass, 0 if this rule allows it */
function retryAfterMsOf(bucket: Bucket | undefined, rule: Rule, cost: number, nowMs: number): number | null {
  if (!canPass(rule, cost)) return null;
  return bucket === undefined || fits(bucket, rule, cost) ? 0 : waitMs(bucket, rule, cost, nowMs);
}

/** Whether a limit is tighter than another: it denies longer, or as long and has less left. */
function isTighter(waitMs: number | null, left: number, than: Verdict): boolean {
  const [ownMs, otherMs] = [waitMs ?? Infinity, than.retryAfterMs ?? Infinity];
  return ownMs === otherMs ? left < than.remaining : ownMs > otherMs;
}
