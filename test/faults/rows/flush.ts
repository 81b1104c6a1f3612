import { setTimeout as sleep } from 'node:timers/promises';
import { INTERVAL_MS } from '../pace.js';
import type { Stage } from '../stage.js';

/** A flush takes at least so long, timers being late by some ms; longer where the node itself says so. */
const FLUSH_MS = 10;

export interface CopyAge {
  /** How old the copies of what a node decided may be: the interval and a flush. */
  readonly ageMs: number;
  readonly note: string;
}

/** Watches for a while how long copies wait for their acknowledgement once they are sent, as the nodes themselves say. */
export async function measureCopyAge({ load }: Stage, nodes: readonly number[], forMs: number): Promise<CopyAge> {
  let flushMs = FLUSH_MS;
  for (const untilMs = Date.now() + forMs; Date.now() < untilMs; await sleep(41)) {
    for (const node of nodes) {
      const { body } = await load.get(node, '/metrics');
      const seconds = /^tokenring_replication_lag_seconds (\S+)$/m.exec(body)?.[1];
      if (seconds === undefined) throw new Error('tokenring_replication_lag_seconds is not among the metrics');
      flushMs = Math.max(flushMs, Number(seconds) * 1000);
    }
  }
  const ageMs = INTERVAL_MS + flushMs;
  return {
    ageMs,
    note: `the slowest flush before took ${Math.round(flushMs)} ms: the last ${Math.round(ageMs)} ms may be admitted again`,
  };
}
