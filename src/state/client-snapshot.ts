import type { Verdict } from '../limits/decide/decide.js';
import type { Rule } from '../limits/bucket/rule.js';
import type { Debt } from '../limits/bucket/reservation.js';
import type { Snapshot } from '../limits/bucket/snapshot.js';

/** A decision on a request id, for nodes that may receive the same id again. */
export interface RecentSnapshot {
  readonly requestId: string;
  readonly ageMs: number;
  readonly verdict: Verdict;
  readonly degraded: boolean;
}

/** A reserved cost; see `limits/bucket/reservation.ts`. */
export interface ReservationSnapshot {
  readonly id: string;
  readonly cost: number;
  readonly rules: readonly Rule[];
  readonly ageMs: number;
  readonly least: readonly Debt[];
  readonly settled: number | undefined;
}

/** All that a node tells of a client, as an object; see `client-format.ts`. Most clients have neither request ids nor reservations. */
export type ClientSnapshot = readonly [
  clientId: string,
  buckets: readonly Snapshot[],
  recent?: readonly RecentSnapshot[],
  reservations?: readonly ReservationSnapshot[],
];
