import type { Decision } from '../../src/limits/decide/decision.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import { compareStrictness, sameBucket, type Rule } from '../../src/limits/bucket/rule.js';
import type { Asked, SettleCall } from './history.js';

/** Tokens that one request took from one bucket, at some time from `askedMs` to `answeredMs`. */
export interface Take {
  readonly id: number;
  readonly askedMs: number;
  /** Infinity when the client never learnt how it ended. */
  readonly answeredMs: number;
  readonly cost: number;
  readonly rule: Rule;
  /** The node that was asked, and the one that decided. */
  readonly at: NodeId;
  readonly by: NodeId;
  /** False where it may not have been charged: the answer never came, or it repeats a request id. */
  readonly sure: boolean;
  readonly fallback: boolean;
  /** A successor had the copy before it was answered. */
  readonly replicated: boolean;
  readonly settled: SettledTake | undefined;
}

/** What a reservation was settled at, by some time between the first call and its answer. */
export interface SettledTake {
  /** The least that it may have been, and the most. */
  readonly cost: number;
  readonly most: number;
  readonly askedMs: number;
  /** Infinity where nobody was told that it is. */
  readonly answeredMs: number;
}

/** What is known of one bucket: all that was taken from it, and all that was asked of it, each in the order of asking. */
export interface BucketHistory {
  readonly clientId: string;
  readonly key: string;
  readonly takes: readonly Take[];
  readonly rules: readonly Rule[];
}

export function bucketKey(
  clientId: string,
  { scope = '', policy, algorithm, windowMs }: Omit<Rule, 'limit' | 'capacity'>,
): string {
  return `${clientId.length} ${clientId} ${scope.length} ${scope} ${policy ?? '-'} ${algorithm} ${windowMs}`;
}

/** The same figures: what a repeated request id must get, whoever answers. */
export function sameFigures(a: Decision, b: Decision): boolean {
  return (
    a.allowed === b.allowed &&
    a.limit === b.limit &&
    a.remaining === b.remaining &&
    a.retryAfterMs === b.retryAfterMs &&
    a.resetMs === b.resetMs
  );
}

/**
 * @param firstMs when the first fault began: what was denied later may have been charged by who was asked before, and whose
 * answer was lost
 */
export function bucketsOf(
  asked: readonly Asked[],
  firstMs: number,
  settles: readonly SettleCall[] = [],
): Map<string, BucketHistory> {
  const callsOf = callsByReservation(settles);
  const buckets = new Map<string, { clientId: string; key: string; takes: Take[]; rules: Rule[] }>();
  const sameId = new Map<string, Asked[]>();
  for (const one of asked) {
    const { clientId, requestId, peek } = one.check;
    if (requestId === undefined || peek || one.overloaded === true) continue;
    const key = JSON.stringify([clientId, requestId]);
    sameId.set(key, [...(sameId.get(key) ?? []), one]);
  }
  for (const one of asked) {
    const { clientId, rules, requestId, peek } = one.check;
    const group = requestId === undefined ? [one] : (sameId.get(JSON.stringify([clientId, requestId])) ?? [one]);
    for (const rule of rules) {
      const key = bucketKey(clientId, rule);
      let bucket = buckets.get(key);
      if (bucket === undefined) buckets.set(key, (bucket = { clientId, key, takes: [], rules: [] }));
      if (!bucket.rules.some((known) => known.limit === rule.limit && known.capacity === rule.capacity))
        bucket.rules.push(rule);
      if (peek) continue;
      const first = group[0] === one;
      const decided = first ? group.reduce(soonest) : one;
      const denied = decided.decision?.allowed === false || one.overloaded === true;
      const settled = (decided.answeredMs ?? Infinity) < firstMs || one.askedMs > firstMs;
      if (denied && settled) continue;
      const settlement = first ? settledBy(callsOf.get(reservationKey(one)) ?? [], one.check.cost) : undefined;
      bucket.takes.push(takeOf(one, loosest(rule, group), decided, first && !denied, settlement));
    }
  }
  return buckets;
}

/** Of those with the same id the first is charged: it was asked first, and decided before the first of them was answered. */
function takeOf(
  one: Asked,
  rule: Rule,
  { at, answeredMs, decision }: Asked,
  first: boolean,
  settled: SettledTake | undefined,
): Take {
  const { id, askedMs, check } = one;
  return {
    id,
    askedMs,
    answeredMs: answeredMs ?? Infinity,
    cost: check.cost,
    rule,
    at,
    by: decision?.owner ?? '',
    sure: first && decision !== undefined,
    fallback: decision?.source === 'fallback',
    replicated: check.replicated && decision !== undefined && !decision.degraded,
    settled,
  };
}

export function reservationKey({ check }: Asked): string {
  return JSON.stringify([check.clientId, check.reservation]);
}

/** In the order in which they were made. */
export function callsByReservation(settles: readonly SettleCall[]): Map<string, SettleCall[]> {
  const calls = new Map<string, SettleCall[]>();
  for (const call of settles) {
    const key = reservationKey(call.of);
    const before = calls.get(key);
    if (before === undefined) calls.set(key, [call]);
    else before.push(call);
  }
  return calls;
}

/** What counts is the first cost that got there: that which the answers name; without an answer it may be any, or none. */
function settledBy(calls: readonly SettleCall[], reserved: number): SettledTake | undefined {
  const told = calls.filter(({ outcome }) => outcome?.kind === 'settled');
  const costs = calls.flatMap(({ outcome, cost }) => {
    if (outcome?.kind === 'settled') return [outcome.settlement.cost];
    return outcome?.kind === 'unknown' ? [] : [cost];
  });
  if (told.length === 0) costs.push(reserved);
  if (costs.length === 1 && told.length === 0) return undefined;
  return {
    cost: Math.min(...costs),
    most: Math.max(...costs),
    askedMs: calls[0]!.askedMs,
    answeredMs: Math.min(Infinity, ...told.map(({ answeredMs }) => answeredMs!)),
  };
}

/** Under one id the limit of any may have been the one that was decided by. */
function loosest(rule: Rule, group: readonly Asked[]): Rule {
  if (group.length === 1) return rule;
  const rules = group.flatMap(({ check }) => check.rules.filter((one) => sameBucket(one, rule)));
  return rules.reduce((a, b) => (compareStrictness(b, a) > 0 ? b : a), rule);
}

function soonest(a: Asked, b: Asked): Asked {
  return (b.answeredMs ?? Infinity) < (a.answeredMs ?? Infinity) ? b : a;
}
