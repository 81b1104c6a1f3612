import { addBucket, findBucket, makeRoom, advance, take } from './bucket.js';
import type { Bucket, Buckets } from './bucket.js';
import { sameBucket } from './rule.js';
import type { Rule } from './rule.js';
import { used } from './sliding-window.js';
import type { Snapshot } from './snapshot.js';

/**
 * A cost that was taken before it was known, and is replaced by the real one once it is: until then it stands.
 *
 * What comes back of a token bucket: let d be its debt as it was, and e as it would be with the real cost instead. At first they differ
 * by what was reserved too much; then both decay at the same rate, and the difference shrinks only while e is at its floor
 * of 0. So it is the smaller of that and the least that d has been since: `least`. More would give back what others have
 * consumed meanwhile.
 */
export interface Reservation {
  readonly id: string;
  /** What was taken of each rule's bucket. */
  readonly cost: number;
  readonly rules: readonly Rule[];
  /** Monotonic ms of this process. */
  readonly atMs: number;
  /** For each rule: the least that its token bucket has owed since; of no meaning for a sliding window. */
  readonly least: Debt[];
  /** The real cost, once it is known. */
  settled: number | undefined;
}

/** Of a token bucket: whole tokens, and parts of 1/window of one. */
export type Debt = readonly [tokens: number, part: number];

/** What a bucket owes at most after a settlement: beyond every capacity, and in the range of all that is computed with it. */
const MAX_DEBT = 2_000_000_000;

/** Notes a cost that has just been taken. */
export function reserve(
  buckets: Buckets,
  id: string,
  rules: readonly Rule[],
  cost: number,
  nowMs: number,
): Reservation {
  const least = rules.map((rule) => owed(findBucket(buckets, rule)));
  return { id, cost, rules, atMs: nowMs, least, settled: undefined };
}

const NOTHING: Debt = [0, 0];

function owed(bucket: Bucket | undefined): Debt {
  return bucket?.algorithm === 'token-bucket' ? [bucket.tokens, bucket.part] : NOTHING;
}

/** The smaller of two. */
export function lesser(a: Debt, b: Debt): Debt {
  return (a[0] - b[0] || a[1] - b[1]) <= 0 ? a : b;
}

/** What is left, which is not below nothing, when so much is taken off. */
function less([tokens, part]: Debt, [offTokens, offPart]: Debt, windowMs: number): Debt {
  const left: Debt =
    part >= offPart ? [tokens - offTokens, part - offPart] : [tokens - offTokens - 1, part - offPart + windowMs];
  return left[0] < 0 ? NOTHING : left;
}

/** To be called before anything is taken from the buckets: afterwards nobody can tell how little was owed. */
export function observe(buckets: Buckets, { rules, least, settled }: Reservation, nowMs: number): void {
  if (settled !== undefined) return;
  rules.forEach((rule, i) => (least[i] = lesser(least[i]!, leastOwed(buckets, rule, nowMs))));
}

/** The least that a rule's bucket is known to owe at `nowMs`, or to have owed just before. */
export function leastOwed(buckets: Buckets, rule: Rule, nowMs: number): Debt {
  const bucket = findBucket(buckets, rule);
  // A lease that ends with this reading adds what was spent of it at once: how little was owed just before is not seen.
  const unseen = bucket?.leases !== undefined && bucket.leases.dueMs <= nowMs;
  if (bucket !== undefined) advance(bucket, nowMs);
  return unseen ? NOTHING : owed(bucket);
}

/**
 * Replaces the reserved cost by the real one, which may be larger than what there is: the rest is owed. Once; then nothing happens.
 * @returns of each rule, what came back of its token bucket
 */
export function settleReservation(
  buckets: Buckets,
  reservation: Reservation,
  cost: number,
  nowMs: number,
): readonly Debt[] {
  if (reservation.settled !== undefined) return reservation.rules.map(() => NOTHING);
  observe(buckets, reservation, nowMs);
  reservation.settled = cost;
  const more = cost - reservation.cost;
  return reservation.rules.map((rule, i) => {
    let bucket = findBucket(buckets, rule);
    if (more > 0) {
      if (rule.limit === 0) return NOTHING;
      if (bucket === undefined) {
        makeRoom(buckets, nowMs);
        bucket = addBucket(buckets, rule, nowMs);
      }
      const owes = bucket.algorithm === 'token-bucket' ? bucket.tokens : used(bucket);
      take(bucket, Math.max(0, Math.min(more, MAX_DEBT - owes)));
    } else if (bucket?.algorithm === 'token-bucket') {
      const back = lesser([-more, 0], lesser(reservation.least[i]!, owed(bucket)));
      [bucket.tokens, bucket.part] = less(owed(bucket), back, rule.windowMs);
      return back;
    } else if (bucket !== undefined && reservation.atMs + rule.windowMs > nowMs) {
      giveBack(bucket.endsMs, bucket.counts, reservation.atMs + rule.windowMs, -more);
    }
    return NOTHING;
  });
}

/**
 * After one was settled for less: with the real cost the buckets had owed less all along, and so may have owed less at the least
 * since another was made. The difference shrinks only where nothing was owed, so since a later one was made it was `back`, or the
 * bucket was empty once. Since the one itself was made, likewise, the least was its own less `back`; before that it was what it
 * was, which an earlier one has seen too. Which of the two came first may be mistaken: that only makes it stricter.
 */
export function lowerLeast(
  { earlier, later }: { earlier: Iterable<Reservation>; later: Iterable<Reservation> },
  { rules, least }: Reservation,
  backs: readonly Debt[],
): void {
  const lower = (other: Reservation, made: 'earlier' | 'later'): void => {
    other.rules.forEach((rule, i) => {
      const place = rules.findIndex((one) => sameBucket(one, rule));
      const back = backs[place];
      if (back === undefined) return;
      if (made === 'later') other.least[i] = less(other.least[i]!, back, rule.windowMs);
      else other.least[i] = lesser(other.least[i]!, less(least[place]!, back, rule.windowMs));
    });
  };
  for (const other of earlier) lower(other, 'earlier');
  for (const other of later) lower(other, 'later');
}

/** Of a sliding window: what was taken counts until this end, or, rounded up or merged, until a later one. */
function giveBack(ends: number[], counts: number[], end: number, tokens: number): void {
  const i = ends.findIndex((one) => one >= end);
  if (i < 0) return;
  counts[i] = counts[i]! - Math.min(tokens, counts[i]!);
  if (counts[i] > 0) return;
  ends.splice(i, 1);
  counts.splice(i, 1);
}

/**
 * The same for a copy on the wire in which it has not happened yet.
 * @param known the reservation as the sender of the copy knows it, stamped with this process's clock
 * @returns the copy as it is then, and of each rule what came back
 */
export function settleSnapshots(
  snapshots: readonly Snapshot[],
  known: Reservation,
  cost: number,
  nowMs: number,
): { readonly snapshots: readonly Snapshot[]; readonly backs: readonly Debt[] } {
  const more = cost - known.cost;
  const backs = known.rules.map(() => NOTHING);
  const settled = snapshots.map((snapshot) => {
    const place = known.rules.findIndex((rule) => sameBucket(rule, snapshot));
    if (place < 0) return snapshot;
    const { state, algorithm, windowMs } = snapshot;
    if (algorithm === 'token-bucket') {
      const [tokens, part] = state as [number, number];
      if (more > 0) return { ...snapshot, state: [tokens + Math.min(more, MAX_DEBT), part] };
      const back = lesser([-more, 0], lesser(known.least[place]!, [tokens, part]));
      backs[place] = back;
      return { ...snapshot, state: less([tokens, part], back, windowMs) };
    }
    const lefts = state.filter((_, i) => i % 2 === 0);
    const counts = state.filter((_, i) => i % 2 === 1);
    // What costs more was counted where it was settled, and is kept by the merge.
    const leftMs = known.atMs + windowMs - nowMs;
    if (more < 0 && leftMs > 0) giveBack(lefts, counts, leftMs, -more);
    return { ...snapshot, state: lefts.flatMap((leftMs, i) => [leftMs, counts[i]!]) };
  });
  return { snapshots: settled, backs };
}
