import {
  addBucket,
  allCounted,
  allSpent,
  Buckets,
  findBucket,
  makeRoom,
  merge,
  resetMs,
  advance,
  type Bucket,
} from './bucket.js';
import { endOf, leasesFrom, leftMs, type Leases } from './lease.js';
import { ruleOf, type Algorithm, type Rule } from './rule.js';
import type { WindowCounts } from './sliding-window.js';
import type { TokenDebt } from './token-bucket.js';

/**
 * A bucket on the wire: its debt now, with durations only. The receiver stamps its own clock, so clock skew has no
 * effect. Time in transit only makes the copy tighter.
 * `state` is `[tokens, part]` for a token bucket, and `[leftMs, count, leftMs, count, …]` for a sliding window.
 */
export interface Snapshot {
  readonly algorithm: Algorithm;
  readonly limit: number;
  readonly windowMs: number;
  readonly capacity: number;
  readonly policy: string | undefined;
  readonly scope: string | undefined;
  /** See `Bucket.ruleChanges`. */
  readonly ruleChanges: number;
  readonly state: readonly number[];
  /** Open leases, which a new owner must know too, and leases whose tokens went into the state a moment ago. */
  readonly leases?: readonly LeaseSnapshot[];
}

export interface LeaseSnapshot {
  readonly id: string;
  readonly tokens: number;
  /** Whole ms until the end of an open lease, or until a lease that is over is forgotten. */
  readonly leftMs: number;
  /** Spent tokens of a lease that is over, which are part of the state; `undefined` for an open lease. */
  readonly spent: number | undefined;
}

/** Makes a snapshot. All are made here, so that they have one shape. */
export function snapshotOf(
  { algorithm, limit, windowMs, capacity, policy, scope }: Rule,
  ruleChanges: number,
  state: readonly number[],
  leases?: readonly LeaseSnapshot[],
): Snapshot {
  const snapshot = { algorithm, limit, windowMs, capacity, policy, scope, ruleChanges, state };
  return leases === undefined ? snapshot : Object.assign(snapshot, { leases });
}

/**
 * @param withLeases whether the snapshots show leases
 * @returns a snapshot of each of the client's buckets that has consumption, or leases that it shows, at `nowMs`
 */
export function toSnapshots(buckets: Buckets, nowMs: number, withLeases = true): Snapshot[] {
  const snapshots: Snapshot[] = [];
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) {
    advance(bucket, nowMs);
    const state = stateOf(bucket);
    const leases = withLeases ? leasesOf(bucket, nowMs) : undefined;
    if (leases !== undefined || state.some((value) => value > 0))
      snapshots.push(snapshotOf(bucket.rule, bucket.ruleChanges, state, leases));
  }
  return snapshots;
}

/** The state of a client in a store, which outlasts all nodes. */
export interface LastingState {
  readonly snapshots: readonly Snapshot[];
  /** Whole ms, rounded up, until nothing of the consumption is left. */
  readonly resetMs: number;
}

/**
 * The client's buckets at `nowMs` for a store. When they are read, no lease can come back any more, so all leased
 * tokens count as spent.
 */
export function toLastingState(buckets: Buckets, nowMs: number): LastingState {
  const snapshots: Snapshot[] = [];
  let longestMs = 0;
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) {
    advance(bucket, nowMs);
    const state = bucket.algorithm === 'token-bucket' ? debtState(allSpent(bucket)) : stepState(allCounted(bucket));
    if (!state.some((value) => value > 0)) continue;
    longestMs = Math.max(longestMs, resetMs(bucket, nowMs));
    snapshots.push(snapshotOf(bucket.rule, bucket.ruleChanges, state));
  }
  return { snapshots, resetMs: longestMs };
}

/** @param snapshots without leases @returns the same snapshots after `elapsedMs` */
export function agedBy(snapshots: readonly Snapshot[], elapsedMs: number): readonly Snapshot[] {
  const buckets = new Buckets();
  mergeSnapshots(buckets, snapshots, 0);
  return toSnapshots(buckets, elapsedMs);
}

/** Merges snapshots that are `elapsedMs` old with later ones, as `merge` does. Neither have leases. */
export function joinAged(old: readonly Snapshot[], elapsedMs: number, later: readonly Snapshot[]): LastingState {
  const buckets = new Buckets();
  mergeSnapshots(buckets, old, 0);
  mergeSnapshots(buckets, later, elapsedMs);
  return toLastingState(buckets, elapsedMs);
}

/** Returns the rule of a snapshot, usually the same object as last time. */
export function ruleOfSnapshot({ algorithm, limit, windowMs, capacity, policy, scope }: Snapshot): Rule {
  return ruleOf(algorithm, limit, windowMs, capacity, policy, scope);
}

function stateOf(bucket: Bucket): number[] {
  return bucket.algorithm === 'token-bucket' ? debtState(bucket) : stepState(bucket);
}

function debtState({ tokens, part }: TokenDebt): number[] {
  return [tokens, part];
}

function stepState(bucket: WindowCounts): number[] {
  return bucket.endsMs.flatMap((endMs, i) => [endMs - bucket.atMs, bucket.counts[i]!]);
}

function leasesOf(bucket: Bucket, nowMs: number): LeaseSnapshot[] | undefined {
  return bucket.leases?.list.map((lease) => {
    const { id, tokens, spent } = lease;
    return { id, tokens, leftMs: leftMs(lease, nowMs), spent };
  });
}

function toLeases(snapshots: readonly LeaseSnapshot[] | undefined, nowMs: number): Leases | undefined {
  return leasesFrom(
    (snapshots ?? []).map((one) => ({ id: one.id, tokens: one.tokens, endMs: endOf(one, nowMs), spent: one.spent })),
  );
}

/**
 * Merges another node's copies of a client's buckets into those of this node. The larger consumption stands; see
 * `merge`.
 * @returns the number of buckets that were dropped because the client has too many, although their limits still counted
 */
export function mergeSnapshots(buckets: Buckets, snapshots: readonly Snapshot[], nowMs: number): number {
  let forgotten = 0;
  for (const snapshot of snapshots) {
    const { algorithm, ruleChanges, state } = snapshot;
    const leases = toLeases(snapshot.leases, nowMs);
    const rule = ruleOfSnapshot(snapshot);
    const copy: Bucket =
      algorithm === 'token-bucket'
        ? { algorithm, rule, ruleChanges, tokens: state[0]!, part: state[1]!, atMs: nowMs, leases, next: undefined }
        : {
            algorithm,
            rule,
            ruleChanges,
            endsMs: state.filter((_, i) => i % 2 === 0).map((leftMs) => nowMs + leftMs),
            counts: state.filter((_, i) => i % 2 === 1),
            atMs: nowMs,
            leases,
            next: undefined,
          };
    forgotten += mergeCopy(buckets, copy, nowMs);
  }
  return forgotten;
}

/** Merges one copy of a bucket; see `mergeSnapshots`. */
export function mergeCopy(buckets: Buckets, copy: Bucket, nowMs: number): number {
  let forgotten = 0;
  let bucket = findBucket(buckets, copy.rule);
  if (bucket === undefined) {
    forgotten = makeRoom(buckets, nowMs);
    bucket = addBucket(buckets, copy.rule, nowMs);
  }
  merge(bucket, copy, nowMs);
  return forgotten;
}
