import { createBucketTable } from './bucket-table.js';
import type { BucketTable } from './bucket-table.js';
import { createLimiter } from './limiter.js';
import type { Limiter } from './limiter.js';
import type { Clock, Timers } from './ports.js';
import { createRecentDecisions } from './recent-decisions.js';

/** A full pass over a million clients takes 25 s at these; each step stays far below a millisecond per thousand. */
const SWEEP_INTERVAL_MS = 50;
const SWEEP_CLIENTS = 2_000;
/** Request ids remembered for 60 s each: 1,600 a second. */
const MAX_RECENT_DECISIONS = 100_000;

export interface ClusterNodeOptions {
  /** Id of this node on the ring: `host:port`. */
  readonly self: string;
  /** Clients that the bucket table holds at most. */
  readonly maxClients: number;
}

export interface ClusterNode {
  readonly limiter: Limiter;
  readonly table: BucketTable;
  readonly close: () => void;
}

/** One member of the ring, wired from the parts of this folder; the program, the library and the simulator all call this. */
export function createClusterNode(
  { clock, timers }: { clock: Clock; timers: Timers },
  options: ClusterNodeOptions,
): ClusterNode {
  const table = createBucketTable({ maxClients: options.maxClients });
  const recent = createRecentDecisions({ clock }, { max: MAX_RECENT_DECISIONS });
  const limiter = createLimiter({ clock, table, recent }, { self: options.self });
  const stopSweep = timers.every(SWEEP_INTERVAL_MS, () => table.sweep(SWEEP_CLIENTS, clock.nowMs()));
  return { limiter, table, close: stopSweep };
}
