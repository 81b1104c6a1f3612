import { malformed, type ByteReader } from '../../lib/byte-reader.js';
import type { ByteWriter } from '../../lib/byte-writer.js';
import type { Debt } from '../bucket/reservation.js';
import { MAX_LIMIT, type Rule } from '../bucket/rule.js';
import { ruleOfSnapshot, snapshotOf, type LeaseSnapshot, type Snapshot } from '../bucket/snapshot.js';
import type { RuleReader, RuleWriter } from './rules.js';

const MAX_RULE_CHANGES = 2 ** 52;
/** Bound of a debt. A lease that a late copy counts twice can make a debt larger than any capacity. */
const MAX_DEBT = 4 * MAX_LIMIT;
/** A sliding window has at most 34 steps on one node. A merged copy may have more. */
const MAX_STEPS = 128;
/** Bound of the remaining time of a step, in windows. A new step has at most one; each node that copies it adds 1/32. */
const MAX_LEFT_WINDOWS = 4;
const MAX_LEASES = 10_000;
export const MAX_LEASE_ID_BYTES = 512;
const MAX_LEASE_MS = 60_000;

/** Flags of a bucket. They show which fields follow its state. */
const RULE_CHANGES = 1;
const LEASES = 2;
/** Flag of a lease that is over: its spent tokens follow. */
const SPENT = 1;

/** A token bucket without leases, as nearly all are. */
export interface PlainBucket {
  rule: Rule;
  ruleChanges: number;
  tokens: number;
  part: number;
}

/** Writes a bucket: rule, flags, tokens and part, rule changes if there are any. */
export function writePlainBucket(out: ByteWriter, rules: RuleWriter, bucket: Readonly<PlainBucket>): void {
  const { rule, ruleChanges, tokens, part } = bucket;
  rules.write(out, rule);
  out.byte(ruleChanges === 0 ? 0 : RULE_CHANGES);
  out.whole(tokens);
  out.whole(part);
  if (ruleChanges !== 0) out.whole(ruleChanges);
}

/** Writes any bucket. A sliding window has the number of its steps, and then their ms and counts. Leases come last. */
export function writeBucket(out: ByteWriter, rules: RuleWriter, snapshot: Snapshot): void {
  const { algorithm, ruleChanges, state, leases } = snapshot;
  rules.write(out, ruleOfSnapshot(snapshot));
  out.byte((ruleChanges === 0 ? 0 : RULE_CHANGES) | (leases === undefined ? 0 : LEASES));
  if (algorithm === 'sliding-window') out.whole(state.length / 2);
  for (const value of state) out.whole(value);
  if (ruleChanges !== 0) out.whole(ruleChanges);
  if (leases === undefined) return;
  out.whole(leases.length);
  for (const { id, tokens, leftMs, spent } of leases) {
    out.text(id);
    out.byte(spent === undefined ? 0 : SPENT);
    out.whole(tokens);
    out.whole(leftMs);
    if (spent !== undefined) out.whole(spent);
  }
}

/**
 * Reads a bucket.
 * @param plain is set if it is a token bucket without leases, which allocates nothing
 * @returns `undefined` if `plain` was set
 * @throws MalformedMessage
 */
export function readBucket(from: ByteReader, rules: RuleReader, plain: PlainBucket): Snapshot | undefined {
  const [rule] = rules.readOne(from);
  // The limit is the rate at which consumption decays.
  if (rule.limit === 0) throw malformed('limit of a bucket', 'at least 1');
  const flags = from.flags(RULE_CHANGES | LEASES, 'flags of a bucket');
  if (rule.algorithm === 'token-bucket' && (flags & LEASES) === 0) {
    plain.rule = rule;
    plain.tokens = from.whole(0, MAX_DEBT, 'tokens');
    plain.part = from.whole(0, rule.windowMs - 1, 'part');
    plain.ruleChanges = readRuleChanges(from, flags);
    return undefined;
  }
  const state = rule.algorithm === 'token-bucket' ? readDebt(from, rule) : readSteps(from, rule);
  const ruleChanges = readRuleChanges(from, flags);
  if ((flags & LEASES) === 0) return snapshotOf(rule, ruleChanges, state);
  const count = from.whole(0, MAX_LEASES, 'number of leases');
  const leases: LeaseSnapshot[] = [];
  while (leases.length < count) leases.push(readLease(from));
  return snapshotOf(rule, ruleChanges, state, leases);
}

/** @throws MalformedMessage */
export function readDebt(from: ByteReader, { windowMs }: Rule): Debt {
  return [from.whole(0, MAX_DEBT, 'tokens'), from.whole(0, windowMs - 1, 'part')];
}

function readRuleChanges(from: ByteReader, flags: number): number {
  return (flags & RULE_CHANGES) === 0 ? 0 : from.whole(1, MAX_RULE_CHANGES, 'rule changes');
}

/** Reads steps. Their ends ascend, the first is in the future, and each count is at least 1. */
function readSteps(from: ByteReader, { windowMs }: Rule): number[] {
  const count = from.whole(0, MAX_STEPS, 'number of steps');
  const state: number[] = [];
  let afterMs = 0;
  while (state.length < 2 * count) {
    afterMs = from.whole(afterMs + 1, MAX_LEFT_WINDOWS * windowMs, 'ms of a step');
    state.push(afterMs, from.whole(1, MAX_DEBT, 'count of a step'));
  }
  return state;
}

function readLease(from: ByteReader): LeaseSnapshot {
  const id = from.text(1, MAX_LEASE_ID_BYTES, 'lease id');
  const flags = from.flags(SPENT, 'flags of a lease');
  const tokens = from.whole(1, MAX_LIMIT, 'tokens of a lease');
  const leftMs = from.whole(0, MAX_LEASE_MS, 'ms of a lease');
  return { id, tokens, leftMs, spent: flags === SPENT ? from.whole(0, tokens, 'spent tokens of a lease') : undefined };
}
