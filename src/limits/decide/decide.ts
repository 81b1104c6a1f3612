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
import type { ClientKey } from '../ring/client-hash.js';
import type { Algorithm, Rule } from '../bucket/rule.js';
import type { TraceContext } from '../../lib/trace-context.js';

/** What a check asks, without its client. Checks that ask the same share it. */
export interface CheckParams {
  /** 1 to 8 rules, each of another bucket. All must allow the check; otherwise no bucket is charged. */
  readonly rules: readonly Rule[];
  /** Whole tokens, 1 to 1e9, taken from each rule's bucket. */
  readonly cost: number;
  /** Whether the check is answered without consuming. */
  readonly peek: boolean;
  /** Whether the answer waits until a replica holds a copy, so that a crash admits nothing twice. */
  readonly replicated: boolean;
  /** Id with which the cost can be settled later. */
  readonly reservation: string | undefined;
  /**
   * The terms of the policy beyond its rules. Only the node that received the request uses them; it does not forward
   * them.
   */
  readonly terms: Terms | undefined;
}

/** A validated question: may this client do this now? */
export interface Check extends ClientKey, CheckParams {
  /** A check with the same id for the same client within 60 s gets the first decision again. */
  readonly requestId: string | undefined;
  /** The trace that the check belongs to. The owner learns it. */
  readonly trace: TraceContext | undefined;
}

/**
 * The way a node decides if neither the owner nor a successor answers: with an equal share of the limit (`local`), by
 * allowing all (`open`), or by denying all (`closed`).
 */
export type OnUnavailable = 'local' | 'open' | 'closed';

/** The part of a policy that matters beyond its rules. */
interface PolicyTerms {
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

/** The fields of a check beside its client and rules. Each reader of a request names all of them. */
export type CheckFields = Omit<Check, 'rules' | keyof ClientKey>;

/** Makes a check. All checks are made here, so all objects have one shape. The default cost is 1. */
export function createCheck(
  { clientId, hashHigh, hashLow }: ClientKey,
  rules: readonly Rule[],
  more: Partial<CheckFields> = {},
): Check {
  const { cost = 1, peek = false, requestId, replicated = false, reservation, terms, trace } = more;
  return { clientId, hashHigh, hashLow, rules, cost, peek, requestId, replicated, reservation, terms, trace };
}

/**
 * Returns the parameters of a check, for other clients that ask the same.
 * @returns `undefined` if the parameters depend on the client
 */
export function sharedParams({ rules, cost, peek, replicated, reservation, terms }: Check): CheckParams | undefined {
  if (reservation !== undefined || terms !== undefined) return undefined;
  return { rules, cost, peek, replicated, reservation, terms };
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
