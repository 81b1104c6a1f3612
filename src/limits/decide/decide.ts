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
} from '../bucket/bucket.js';
import type { Bucket, Buckets } from '../bucket/bucket.js';
import type { ClientKey } from '../ring/client-hash.js';
import type { OnUnavailable } from './on-unavailable.js';
import type { Algorithm, Rule } from '../bucket/rule.js';
import type { TraceContext } from '../../lib/trace-context.js';

/** The question of a check, without its client. */
export interface Asked {
  /** 1 to 8 rules, each of another bucket. All must allow the check; otherwise no bucket is charged. */
  readonly rules: readonly Rule[];
  /** Whole tokens, 1 to 1e9, taken from each rule's bucket. */
  readonly cost: number;
  /** Whether the check is answered without consuming. */
  readonly peek: boolean;
  /** A check with the same id for the same client within 60 s gets the first decision again. */
  readonly requestId: string | undefined;
  /** Whether the answer waits until a replica holds a copy, so that a crash admits nothing twice. */
  readonly replicated: boolean;
  /** Id with which the cost can be settled later. */
  readonly reservation: string | undefined;
  /**
   * The terms of the policy beyond its rules. Only the node that received the request uses them; it does not forward
   * them.
   */
  readonly terms: Terms | undefined;
  /** The trace that the check belongs to. The owner learns it. */
  readonly trace: TraceContext | undefined;
}

/** A validated question: may this client do this now? */
export interface Check extends ClientKey, Asked {}

/** The part of a policy that matters beyond its rules. */
export interface PolicyTerms {
  readonly name: string;
  /** Whether the policy is evaluated but not enforced. */
  readonly shadow: boolean;
  /** Overrides the setting of the node, if present. */
  readonly onUnavailable: OnUnavailable | undefined;
}

interface Terms {
  /** The policy of the rules. */
  readonly policy: PolicyTerms | undefined;
  /** The list that contains the client, if any. */
  readonly listed: 'allow' | 'deny' | undefined;
}

/** Makes a check. All checks are made here, so all objects have one shape. The default cost is 1. */
export function createCheck(
  { clientId, hashHigh, hashLow }: ClientKey,
  rules: readonly Rule[],
  more: Partial<Omit<Asked, 'rules'>> = {},
  requestId = more.requestId,
): Check {
  const { cost = 1, peek = false, replicated = false, reservation, terms, trace } = more;
  return { clientId, hashHigh, hashLow, rules, cost, peek, requestId, replicated, reservation, terms, trace };
}

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

/**
 * Decides a check at `nowMs`. Charges the client's buckets if the check is allowed and not a peek.
 * A denial consumes nothing. A rule with a new limit applies at once, and the consumption is kept.
 * @param buckets the buckets of the client; they stay empty if there is nothing to remember
 * @param nowMs monotonic ms of this process
 */
export function decide(
  buckets: Buckets,
  { rules, cost, peek }: Pick<Asked, 'rules' | 'cost' | 'peek'>,
  nowMs: number,
): Outcome {
  if (rules.length === 1) return { ...decideOne(buckets, rules[0]!, cost, peek, nowMs) };
  let allowed = true;
  let changed = false;
  let forgotten = 0;
  for (const rule of rules) {
    const bucket = findBucket(buckets, rule);
    if (bucket !== undefined) advance(bucket, nowMs);
    if (!allows(bucket, rule, cost)) allowed = false;
  }
  if (!peek) {
    for (const rule of rules) {
      let bucket = findBucket(buckets, rule);
      // A limit of 0 has no rate at which consumption could decay, so the bucket keeps the limit it had.
      if (bucket !== undefined && rule.limit > 0 && adopt(bucket, rule)) changed = true;
      if (!allowed) continue;
      changed = true;
      if (bucket === undefined) {
        forgotten += makeRoom(buckets, nowMs);
        bucket = addBucket(buckets, rule, nowMs);
      }
      take(bucket, cost);
    }
  }
  const limits = rules.map((rule) => statsOf(findBucket(buckets, rule), rule, cost, allowed, nowMs));
  const tightest = limits.reduce((a, b) => (compareTightness(b, a) < 0 ? b : a));
  const { limit, remaining, retryAfterMs } = tightest;
  return {
    allowed,
    limit,
    remaining,
    retryAfterMs,
    resetMs: Math.max(...limits.map((one) => one.resetMs)),
    limits,
    changed,
    forgotten,
  };
}

/** The outcome of the last `decideOne`. */
const one: { -readonly [K in keyof Outcome]: Outcome[K] } = {
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
 * Decides a check of one rule, like `decide`, and makes no object.
 * @returns the outcome, which is valid until the next call
 */
export function decideOne(buckets: Buckets, rule: Rule, cost: number, peek: boolean, nowMs: number): Outcome {
  let bucket = findBucket(buckets, rule);
  if (bucket !== undefined) advance(bucket, nowMs);
  const allowed = allows(bucket, rule, cost);
  let changed = false;
  let forgotten = 0;
  if (!peek) {
    // A limit of 0 has no rate at which consumption could decay, so the bucket keeps the limit it had.
    if (bucket !== undefined && rule.limit > 0 && adopt(bucket, rule)) changed = true;
    if (allowed) {
      changed = true;
      if (bucket === undefined) {
        forgotten = makeRoom(buckets, nowMs);
        bucket = addBucket(buckets, rule, nowMs);
      }
      take(bucket, cost);
    }
  }
  one.allowed = allowed;
  one.limit = rule.limit;
  one.remaining = remainingIn(bucket, rule);
  one.retryAfterMs = allowed ? 0 : retryAfterMsOf(bucket, rule, cost, nowMs);
  one.resetMs = bucket === undefined ? 0 : resetMs(bucket, nowMs);
  one.changed = changed;
  one.forgotten = forgotten;
  return one;
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

function statsOf(bucket: Bucket | undefined, rule: Rule, cost: number, allowed: boolean, nowMs: number): LimitStats {
  const { algorithm, windowMs, limit } = rule;
  return {
    algorithm,
    windowMs,
    limit,
    remaining: remainingIn(bucket, rule),
    retryAfterMs: allowed ? 0 : retryAfterMsOf(bucket, rule, cost, nowMs),
    resetMs: bucket === undefined ? 0 : resetMs(bucket, nowMs),
  };
}

function compareTightness(a: LimitStats, b: LimitStats): number {
  const aWaitMs = a.retryAfterMs ?? Infinity;
  const bWaitMs = b.retryAfterMs ?? Infinity;
  return aWaitMs === bWaitMs ? a.remaining - b.remaining : bWaitMs - aWaitMs;
}
