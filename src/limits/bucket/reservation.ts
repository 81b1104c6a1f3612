import { addBucket, findBucket, makeRoom, advance, take, type Bucket, type Buckets } from './bucket.js';
import { sameBucket, type Rule } from './rule.js';
import { used } from './sliding-window.js';
import { snapshotOf, type Snapshot } from './snapshot.js';

/**
 * A cost that is taken before its final amount is known. It counts until it is settled.
 *
 * A settlement for less gives tokens back to a token bucket. Let d be the debt of the bucket, and e the debt that it
 * would have with the final cost. At first they differ by the excess of the reserved cost. Then both decay at the same
 * rate, and the difference shrinks only while e is at its floor of 0. So the difference is the smaller of the excess
 * and the least that d has been since: `least`. To give back more would give back the consumption of later requests.
 */
export interface Reservation {
  readonly id: string;
  /** Tokens taken from each rule's bucket. */
  readonly cost: number;
  readonly rules: readonly Rule[];
  /** Time of the reservation, in monotonic ms of this process. */
  readonly atMs: number;
  /** For each rule, the least debt of its token bucket since `atMs`. Unused for a sliding window. */
  readonly least: Debt[];
  /** The final cost; `undefined` until the reservation is settled. */
  settled: number | undefined;
}

/** The debt of a token bucket: whole tokens, and parts of a token. A token has `windowMs` parts. */
export type Debt = readonly [tokens: number, part: number];

/**
 * Bound of a bucket's debt after a settlement. It is above every capacity, and all computations with it stay in range.
 */
const MAX_DEBT = 2_000_000_000;

/** Makes a reservation of a cost that has just been taken. */
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

/** @returns the smaller debt */
export function lesser(a: Debt, b: Debt): Debt {
  return (a[0] - b[0] || a[1] - b[1]) <= 0 ? a : b;
}

/** Subtracts the second debt from the first. The result is at least 0. */
function less([tokens, part]: Debt, [offTokens, offPart]: Debt, windowMs: number): Debt {
  const left: Debt =
    part >= offPart ? [tokens - offTokens, part - offPart] : [tokens - offTokens - 1, part - offPart + windowMs];
  return left[0] < 0 ? NOTHING : left;
}

/** Updates `least`. Callers must do so before they take from the buckets. Afterwards the smaller debt is unknown. */
export function observe(buckets: Buckets, { rules, least, settled }: Reservation, nowMs: number): void {
  if (settled !== undefined) return;
  rules.forEach((rule, i) => (least[i] = lesser(least[i]!, leastOwed(buckets, rule, nowMs))));
}

/** @returns a lower bound of the debt of a rule's token bucket, at `nowMs` and just before */
export function leastOwed(buckets: Buckets, rule: Rule, nowMs: number): Debt {
  const bucket = findBucket(buckets, rule);
  // A lease that ends by `nowMs` adds its spent tokens at once, so the smaller debt just before is unknown.
  const unseen = bucket?.leases !== undefined && bucket.leases.dueMs <= nowMs;
  if (bucket !== undefined) advance(bucket, nowMs);
  return unseen ? NOTHING : owed(bucket);
}

/**
 * Replaces the reserved cost by the final one. A final cost that does not fit is taken anyway and leaves a debt above
 * the capacity. Only the first settlement of a reservation has an effect.
 * @returns for each rule, the debt that its token bucket lost
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
 * Lowers `least` of other reservations after one was settled for less. With the final cost, the buckets would have owed
 * less since that reservation, so the least debt since another reservation may be lower too.
 *
 * The difference between the two debts shrinks only while the bucket with the final cost owes nothing. A later
 * reservation has therefore seen a difference of `back` throughout, or an empty bucket once: its `least` falls by
 * `back`. An earlier reservation has also seen the time before, in which nothing changes. Its `least` is the smaller of
 * its own and that of the settled reservation less `back`. A mistake about which reservation came first only makes it
 * tighter.
 */
export function lowerLeast(
  { earlier, later }: { earlier: Iterable<Reservation>; later: Iterable<Reservation> },
  { rules, least }: Reservation,
  backs: readonly Debt[],
): void {
  const lower = (other: Reservation, made: 'earlier' | 'later'): void => {
    other.rules.forEach((rule, i) => {
      const index = rules.findIndex((one) => sameBucket(one, rule));
      const back = backs[index];
      if (back === undefined) return;
      if (made === 'later') other.least[i] = less(other.least[i]!, back, rule.windowMs);
      else other.least[i] = lesser(other.least[i]!, less(least[index]!, back, rule.windowMs));
    });
  };
  for (const other of earlier) lower(other, 'earlier');
  for (const other of later) lower(other, 'later');
}

/**
 * Gives tokens back to a sliding window. They count until `end`, or until a later end if `end` was rounded up or
 * merged.
 */
function giveBack(ends: number[], counts: number[], end: number, tokens: number): void {
  const i = ends.findIndex((one) => one >= end);
  if (i < 0) return;
  counts[i] = counts[i]! - Math.min(tokens, counts[i]!);
  if (counts[i] > 0) return;
  ends.splice(i, 1);
  counts.splice(i, 1);
}

/**
 * Settles a reservation in snapshots that do not contain the settlement yet.
 * @param known the reservation as the sender of the snapshots knows it, stamped with this process's clock
 * @returns the changed snapshots and, for each rule, the debt that its token bucket lost
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
    const index = known.rules.findIndex((rule) => sameBucket(rule, snapshot));
    if (index < 0) return snapshot;
    const { state, algorithm, windowMs } = snapshot;
    if (algorithm === 'token-bucket') {
      const [tokens, part] = state as [number, number];
      if (more > 0) return withState(snapshot, [tokens + Math.min(more, MAX_DEBT), part]);
      const back = lesser([-more, 0], lesser(known.least[index]!, [tokens, part]));
      backs[index] = back;
      return withState(snapshot, less([tokens, part], back, windowMs));
    }
    const lefts = state.filter((_, i) => i % 2 === 0);
    const counts = state.filter((_, i) => i % 2 === 1);
    // A higher final cost was counted in the copy that was settled, and the merge keeps it.
    const leftMs = known.atMs + windowMs - nowMs;
    if (more < 0 && leftMs > 0) giveBack(lefts, counts, leftMs, -more);
    return withState(
      snapshot,
      lefts.flatMap((leftMs, i) => [leftMs, counts[i]!]),
    );
  });
  return { snapshots: settled, backs };
}

function withState(snapshot: Snapshot, state: readonly number[]): Snapshot {
  return snapshotOf(snapshot, snapshot.ruleChanges, state, snapshot.leases);
}
