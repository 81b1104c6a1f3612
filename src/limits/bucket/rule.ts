import { fnv1a } from '../ring/fnv1a.js';

/** The algorithm of a limit: an evenly refilled bucket, or a strict count over any span of the window. */
export type Algorithm = 'token-bucket' | 'sliding-window';

/**
 * One limit: at most `limit` tokens per `windowMs`. Rules are validated at the edge, and the core trusts their ranges.
 */
export interface Rule {
  readonly algorithm: Algorithm;
  /** Tokens refilled per window; whole, 0 to 1e9. 0 denies all. */
  readonly limit: number;
  /** Whole ms, 1 to 366 days. */
  readonly windowMs: number;
  /**
   * Tokens in a full bucket, 1 to 1e9: `burst ?? limit`. A sliding window has no burst, so its capacity is its limit.
   */
  readonly capacity: number;
  /** Name of the policy that the rule comes from, if any. */
  readonly policy: string | undefined;
  /** Names one of several sets of buckets of a client, if any. */
  readonly scope: string | undefined;
}

/** Largest number of rules of one request. Together they make one decision, all or nothing. */
export const MAX_RULES = 8;
export const MAX_LIMIT = 1_000_000_000;
export const MAX_COST = 1_000_000_000;
export const MAX_WINDOW_MS = 366 * 86_400_000;
/** Longest scope, in bytes. */
export const MAX_SCOPE_BYTES = 128;
/** Valid scopes, for messages. */
export const EXPECTED_SCOPE = `1 to ${MAX_SCOPE_BYTES} bytes of well-formed Unicode`;

/**
 * Whether two rules use the same bucket of a client. Scope, policy, algorithm, and window identify a bucket; the limit
 * does not.
 */
export function sameBucket(a: Rule, b: Rule): boolean {
  return a.windowMs === b.windowMs && a.algorithm === b.algorithm && a.policy === b.policy && a.scope === b.scope;
}

/** A total order on rules of the same bucket. @returns a negative number when `a` allows less */
export function compareStrictness(a: Rule, b: Rule): number {
  return a.limit - b.limit || a.capacity - b.capacity;
}

const RECENT_RULES = 1024;
const recentRules: (Rule | undefined)[] = new Array<Rule | undefined>(RECENT_RULES).fill(undefined);

/**
 * Returns a rule with these values, usually the same object as last time. Buckets outlive requests, so a million
 * buckets share a few rule objects. Two equal rules may still be two objects.
 */
export function ruleOf(
  algorithm: Algorithm,
  limit: number,
  windowMs: number,
  capacity: number,
  policy: string | undefined,
  scope?: string,
): Rule {
  // The capacity is usually equal to the limit. So their two factors have an odd sum: with an even sum, round limits
  // would share a few slots.
  const spread = scope === undefined ? 0 : fnv1a(scope) >>> 0;
  const slot = (limit * 31 + windowMs * 7 + capacity * 6 + spread) % RECENT_RULES;
  const recent = recentRules[slot];
  if (
    recent !== undefined &&
    recent.limit === limit &&
    recent.windowMs === windowMs &&
    recent.capacity === capacity &&
    recent.algorithm === algorithm &&
    recent.policy === policy &&
    recent.scope === scope
  ) {
    return recent;
  }
  // JSON has -0, which equals 0 and so could be answered to a request for 0.
  const rule: Rule = { algorithm, limit: limit + 0, windowMs, capacity: capacity + 0, policy, scope };
  recentRules[slot] = rule;
  return rule;
}

/** Returns the same limit with another rate or capacity: a rule of the same bucket. */
export function withLimit({ algorithm, windowMs, policy, scope }: Rule, limit: number, capacity: number): Rule {
  return ruleOf(algorithm, limit, windowMs, capacity, policy, scope);
}

/** Returns these rules for the buckets of a scope; the same list if there is no scope. */
export function inScope(rules: readonly Rule[], scope: string | undefined): readonly Rule[] {
  if (scope === undefined) return rules;
  return rules.map(({ algorithm, limit, windowMs, capacity, policy }) =>
    ruleOf(algorithm, limit, windowMs, capacity, policy, scope),
  );
}

/** Whether two lists have equal rules in the same order. */
export function sameRules(a: readonly Rule[], b: readonly Rule[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  return a.every((rule, i) => {
    const other = b[i]!;
    return rule === other || (sameBucket(rule, other) && compareStrictness(rule, other) === 0);
  });
}
