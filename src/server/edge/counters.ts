import { DURATION_BOUNDS, SOURCES, type Origin, type Source } from '../../limits/decide/decision.js';

/** Labels of a request's duration: the source of its decision, or `batch`, as a batch has several sources. */
export const DURATION_SOURCES = [...SOURCES, 'batch'] as const;
type DurationSource = (typeof DURATION_SOURCES)[number];

/** Durations of the requests of one source. */
export interface Durations {
  /** Requests by duration. The last entry counts those above every bound. */
  readonly counts: number[];
  sumSeconds: number;
}

/**
 * The counts of the hot path, as plain numbers. `metrics.ts` reads them when Prometheus scrapes. A peek counts as a
 * decision.
 */
export interface Counters {
  readonly allowed: Record<Source, number>;
  readonly denied: Record<Source, number>;
  /** Those of `denied` that clients of the cluster have answered from memory, and report. */
  reportedDenials: number;
  /** Decisions without the owner's state. */
  degraded: number;
  /** Requests on the decision endpoints. */
  readonly durations: Readonly<Record<DurationSource, Durations>>;
  /**
   * Requests on the decision endpoints without an answer yet. A request no longer counts when its connection breaks
   * before it is complete.
   */
  inFlight: number;
  /**
   * Connections refused at the bound, refused at the bound of one address, ended at the bound because another needed
   * their place, and cut because the client did not read.
   */
  refusedConnections: number;
  refusedOfAddress: number;
  displacedConnections: number;
  slowReaders: number;
  /** Open connections, by protocol. */
  readonly connections: Map<string, number>;
  /** Requests answered with a problem, by its code. */
  readonly problems: Map<string, number>;
}

export function createCounters(): Counters {
  const zeros = (): Record<Source, number> => Object.fromEntries(SOURCES.map((s) => [s, 0])) as Record<Source, number>;
  return {
    allowed: zeros(),
    denied: zeros(),
    reportedDenials: 0,
    degraded: 0,
    durations: Object.fromEntries(DURATION_SOURCES.map((source) => [source, noDurations()])) as Counters['durations'],
    inFlight: 0,
    refusedConnections: 0,
    refusedOfAddress: 0,
    displacedConnections: 0,
    slowReaders: 0,
    connections: new Map(),
    problems: new Map(),
  };
}

function noDurations(): Durations {
  return { counts: new Array<number>(DURATION_BOUNDS.length + 1).fill(0), sumSeconds: 0 };
}

export function countDuration(counters: Counters, source: DurationSource, seconds: number): void {
  const durations = counters.durations[source];
  let i = 0;
  while (i < DURATION_BOUNDS.length && seconds > DURATION_BOUNDS[i]!) i += 1;
  durations.counts[i]! += 1;
  durations.sumSeconds += seconds;
}

export function countDecision(counters: Counters, allowed: boolean, { source, degraded }: Origin): void {
  (allowed ? counters.allowed : counters.denied)[source] += 1;
  if (degraded) counters.degraded += 1;
}

/** Counts denials by clients of the cluster, which remember a denial as nodes do. */
export function countReported(counters: Counters, denied: number): void {
  counters.denied['deny-cache'] += denied;
  counters.reportedDenials += denied;
}

export function countProblem(counters: Counters, code: string): void {
  counters.problems.set(code, (counters.problems.get(code) ?? 0) + 1);
}
