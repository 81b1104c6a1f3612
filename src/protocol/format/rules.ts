import { MAX_LIMIT, MAX_RULES, MAX_SCOPE_BYTES, MAX_WINDOW_MS, ruleOf, sameBucket } from '../../limits/bucket/rule.js';
import type { Algorithm, Rule } from '../../limits/bucket/rule.js';
import { malformed } from '../../lib/byte-reader.js';
import { readList, readText, readWhole } from './wire.js';

const ALGORITHMS: readonly Algorithm[] = ['token-bucket', 'sliding-window'];
/** Policy names have at most 128 characters in the API. */
export const MAX_POLICY_BYTES = 512;
/** Bound of the rules in one message. The largest message has room for fewer. Each rule is only a few numbers. */
const MAX_TABLE = 1_000_000;

/**
 * The rules of one message, each once. Other parts of the message refer to a rule by its place in the table. Most
 * messages have very few rules. A rule is `[limit, windowMs, capacity, algorithm, policy, scope]`. It ends early where
 * all following values have their defaults; the default capacity is the limit. Without a policy, a rule with a scope has
 * `null` in its place.
 */
export interface RuleTable {
  readonly wire: unknown[][];
  placeOf(rule: Rule): number;
}

export function createRuleTable(): RuleTable {
  const wire: unknown[][] = [];
  const places = new Map<Rule, number>();
  let last: Rule | undefined;
  let lastPlace = 0;
  return {
    wire,
    placeOf(rule) {
      if (rule === last) return lastPlace;
      let place = places.get(rule);
      if (place === undefined) {
        place = wire.push(encodeRule(rule)) - 1;
        places.set(rule, place);
      }
      last = rule;
      lastPlace = place;
      return place;
    },
  };
}

function encodeRule({ algorithm, limit, windowMs, capacity, policy, scope }: Rule): unknown[] {
  if (scope !== undefined) return [limit, windowMs, capacity, encodeAlgorithm(algorithm), policy ?? null, scope];
  if (policy !== undefined) return [limit, windowMs, capacity, encodeAlgorithm(algorithm), policy];
  if (algorithm !== 'token-bucket') return [limit, windowMs, capacity, encodeAlgorithm(algorithm)];
  return capacity === limit ? [limit, windowMs] : [limit, windowMs, capacity];
}

/** @throws MalformedMessage */
export function readRules(value: unknown): readonly Rule[] {
  return readList(value, 0, MAX_TABLE, 'rules').map(readRule);
}

function readRule(value: unknown): Rule {
  const wire = readList(value, 2, 6, 'rule');
  const limit = readLimit(wire[0]);
  const windowMs = readWindowMs(wire[1]);
  // A limit of 0 without a burst has a capacity of 0.
  const capacity = wire.length > 2 ? readWhole(wire[2], limit === 0 ? 0 : 1, MAX_LIMIT, 'capacity') : limit;
  const algorithm = wire.length > 3 ? readAlgorithm(wire[3]) : 'token-bucket';
  const scope = wire.length > 5 ? readScope(wire[5]) : undefined;
  const policy = wire.length > 4 && !(scope !== undefined && wire[4] === null) ? readPolicy(wire[4]) : undefined;
  if (algorithm === 'sliding-window' && capacity !== limit) {
    throw malformed('capacity', 'the limit, as a sliding window has no burst');
  }
  return ruleOf(algorithm, limit, windowMs, capacity, policy, scope);
}

/** @returns the rule at a place of the table */
export function ruleAt<T>(table: readonly T[], place: unknown): T {
  const found = typeof place === 'number' ? table[place] : undefined;
  if (found === undefined) throw malformed('rule', 'a place in the table of rules');
  return found;
}

/** Reads 1 to 8 rules of different buckets. Two rules of one bucket would charge a cost twice. */
export function readCheckRules(places: unknown, table: readonly Rule[]): readonly Rule[] {
  const rules = readList(places, 1, MAX_RULES, 'rules of a check').map((place) => ruleAt(table, place));
  rules.forEach((rule, i) => {
    if (rules.findIndex((other) => sameBucket(other, rule)) < i)
      throw malformed('rules of a check', 'distinct buckets');
  });
  return rules;
}

export function encodeAlgorithm(algorithm: Algorithm): number {
  return ALGORITHMS.indexOf(algorithm);
}

export function readAlgorithm(value: unknown): Algorithm {
  const algorithm = typeof value === 'number' ? ALGORITHMS[value] : undefined;
  if (algorithm === undefined) throw malformed('algorithm', '0 or 1');
  return algorithm;
}

export function readPolicy(value: unknown): string {
  return readText(value, 1, MAX_POLICY_BYTES, 'policy');
}

export function readScope(value: unknown): string {
  return readText(value, 1, MAX_SCOPE_BYTES, 'scope');
}

export function readLimit(value: unknown): number {
  return readWhole(value, 0, MAX_LIMIT, 'limit');
}

export function readWindowMs(value: unknown): number {
  return readWhole(value, 1, MAX_WINDOW_MS, 'window');
}

/** Reads whole remaining tokens. */
export function readRemaining(value: unknown): number {
  return readWhole(value, 0, MAX_LIMIT, 'remaining');
}

/** Bound of a wait; the longest is 1e9 tokens at one per 366 days. It is beyond 2^53, where every double is whole. */
export const MAX_WAIT_MS = 2 * MAX_LIMIT * MAX_WINDOW_MS;

export function readWaitMs(value: unknown): number {
  return readWhole(value, 0, MAX_WAIT_MS, 'wait');
}

/** Reads a wait; `null` means that the check can never pass. */
export function readRetryAfterMs(value: unknown): number | null {
  return value === null ? null : readWaitMs(value);
}
