import { SOURCES } from '../../core/decision.js';
import type { Source } from '../../core/decision.js';

/** Upper bounds of the decision histogram, in seconds: doubling from 50 µs to about 1.6 s. */
export const DURATION_BOUNDS: readonly number[] = Array.from({ length: 16 }, (_, i) => 0.00005 * 2 ** i);

/**
 * What the hot path counts, as plain numbers; `metrics.ts` hands them over when Prometheus asks.
 * A peek is a decision like any other here.
 */
export interface Counters {
  readonly allowed: Record<Source, number>;
  readonly denied: Record<Source, number>;
  /** Requests on the decision endpoints by duration: the last place counts those above every bound. */
  readonly durations: number[];
  durationSumSeconds: number;
  /** Requests on the decision endpoints that are not answered yet, and whose connection did not break before they had come whole. */
  inFlight: number;
  /** Connections that were one too many, in all and of one address, and those of clients that did not read what they had asked for. */
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
