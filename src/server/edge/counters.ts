import { DURATION_BOUNDS, SOURCES, type Provenance, type Source } from '../../limits/decide/decision.js';

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
export class Counters {
  readonly allowed = zeros();
  readonly denied = zeros();
  /** Those of `denied` that clients of the cluster have answered from memory, and report. */
  reportedDenials = 0;
  /** Decisions without the owner's state. */
  degraded = 0;
  /** Requests on the decision endpoints. */
  readonly durations = Object.fromEntries(DURATION_SOURCES.map((source) => [source, noDurations()])) as Readonly<
    Record<DurationSource, Durations>
  >;
  /**
   * Requests on the decision endpoints without an answer yet. A request no longer counts when its connection breaks
   * before it is complete.
   */
  inFlight = 0;
  /** Connections refused at the bound. */
  refusedConnections = 0;
  /** Connections refused at the bound of one address. */
  refusedOfAddress = 0;
  /** Connections ended at the bound because another needed their place. */
  displacedConnections = 0;
  /** Connections cut because the client did not read. */
  slowReaders = 0;
  /** Open connections, by protocol. */
  readonly connections = new Map<string, number>();
  /** Requests answered with a problem, by its code. */
  readonly problems = new Map<string, number>();

  countDuration(source: DurationSource, seconds: number): void {
    const durations = this.durations[source];
    let i = 0;
    while (i < DURATION_BOUNDS.length && seconds > DURATION_BOUNDS[i]!) i += 1;
    durations.counts[i]! += 1;
    durations.sumSeconds += seconds;
  }

  countDecision(allowed: boolean, { source, degraded }: Provenance): void {
    (allowed ? this.allowed : this.denied)[source] += 1;
    if (degraded) this.degraded += 1;
  }

  /** Counts denials by clients of the cluster, which remember a denial as nodes do. */
  countReported(denied: number): void {
    this.denied['deny-cache'] += denied;
    this.reportedDenials += denied;
  }

  countProblem(code: string): void {
    this.problems.set(code, (this.problems.get(code) ?? 0) + 1);
  }
}

function zeros(): Record<Source, number> {
  return Object.fromEntries(SOURCES.map((source) => [source, 0])) as Record<Source, number>;
}

function noDurations(): Durations {
  return { counts: new Array<number>(DURATION_BOUNDS.length + 1).fill(0), sumSeconds: 0 };
}
