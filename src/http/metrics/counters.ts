import { DURATION_BOUNDS, SOURCES } from '../../core/decision.js';
import type { Source } from '../../core/decision.js';

/**
 * The counts of the hot path, as plain numbers. `metrics.ts` reads them when Prometheus scrapes. A peek counts as a
 * decision.
 */
export interface Counters {
  readonly allowed: Record<Source, number>;
  readonly denied: Record<Source, number>;
  /** Requests on the decision endpoints by duration. The last entry counts those above every bound. */
  readonly durations: number[];
  durationSumSeconds: number;
  /**
   * Requests on the decision endpoints without an answer yet. A request no longer counts when its connection breaks
   * before it is complete.
   */
  inFlight: number;
  /**
   * Connections refused at the bound, refused at the bound of one address, and cut because the client did not read.
   */
  refusedConnections: number;
  refusedOfAddress: number;
  slowReaders: number;
  /** Requests answered with a problem, by its code. */
  readonly problems: Map<string, number>;
}

export function createCounters(): Counters {
  const zeros = (): Record<Source, number> => Object.fromEntries(SOURCES.map((s) => [s, 0])) as Record<Source, number>;
  return {
    allowed: zeros(),
    denied: zeros(),
    durations: new Array<number>(DURATION_BOUNDS.length + 1).fill(0),
    durationSumSeconds: 0,
    inFlight: 0,
    refusedConnections: 0,
    refusedOfAddress: 0,
    slowReaders: 0,
    problems: new Map(),
  };
}

export function countDuration(counters: Counters, seconds: number): void {
  let i = 0;
  while (i < DURATION_BOUNDS.length && seconds > DURATION_BOUNDS[i]!) i += 1;
  counters.durations[i]! += 1;
  counters.durationSumSeconds += seconds;
}

export function countProblem(counters: Counters, code: string): void {
  counters.problems.set(code, (counters.problems.get(code) ?? 0) + 1);
}
