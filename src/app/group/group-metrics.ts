import { AggregatorRegistry, collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Stats } from './protocol.js';

/** Time that a worker has to send its metrics. After it, the last metrics that the worker sent count. */
const COLLECT_TIMEOUT_MS = 1_000;

/** The figures of the supervisor. */
interface SupervisorCounts {
  /** Workers that are in the ring and answer. */
  readonly workersUp: number;
  readonly restarts: number;
  readonly droppedLogLines: number;
}

/** Collects the metrics of all workers, and adds those of the supervisor. */
export class GroupMetrics {
  private readonly stats: GroupStats;
  /** Scrapes in progress. Each is a function to call when a worker has answered or ended. */
  private readonly scrapes = new Map<number, (worker: number) => void>();
  private requests = 0;

  /**
   * @param running returns the numbers of the workers that run now
   * @param askToCollect sends a worker a request; `collected` has its answer
   */
  constructor(
    counts: () => SupervisorCounts,
    private readonly running: () => readonly number[],
    private readonly askToCollect: (worker: number, request: number) => void,
  ) {
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    const registers = [registry];
    new Gauge({
      name: 'tokenring_workers',
      help: 'Workers of this group that are in the ring and answer',
      registers,
      collect() {
        this.set(counts().workersUp);
      },
    });
    const count = (name: string, help: string, of: 'restarts' | 'droppedLogLines'): void => {
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(counts()[of]);
        },
      });
    };
    count('tokenring_worker_restarts_total', 'Workers of this group that ended unasked', 'restarts');
    count(
      'tokenring_log_lines_dropped_total',
      'Log lines that were lost: the disk of the log is full, or its reader is gone or too slow',
      'droppedLogLines',
    );
    this.stats = new GroupStats(() => registry.getMetricsAsJSON());
  }

  /** Returns the metrics of all workers and the supervisor, in Prometheus's format. */
  async scrape(): Promise<string> {
    const request = (this.requests += 1);
    const missing = new Set(this.running());
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, COLLECT_TIMEOUT_MS);
      this.scrapes.set(request, (worker) => {
        missing.delete(worker);
        if (missing.size > 0) return;
        clearTimeout(timer);
        resolve();
      });
      for (const worker of missing) this.askToCollect(worker, request);
    });
    this.scrapes.delete(request);
    return this.stats.text();
  }

  /** Notes that a worker has sent its metrics. */
  collected(worker: number, request: number, own: Stats): void {
    this.stats.note(worker, own);
    this.scrapes.get(request)?.(worker);
  }

  ended(worker: number): void {
    this.stats.ended(worker);
    for (const done of this.scrapes.values()) done(worker);
  }
}

/**
 * Combines the metrics of all workers of a group; each metric names its own aggregation. Most are summed. The largest
 * counts for ages, and for values that are the same at all workers.
 */
export class GroupStats {
  private readonly running = new Map<number, Stats>();
  private past: Promise<Stats> = Promise.resolve([]);

  /** @param own returns the metrics of the supervisor */
  constructor(private readonly own: () => Promise<Stats>) {}

  /** Replaces the metrics of one worker. */
  note(worker: number, stats: Stats): void {
    this.running.set(worker, stats.map(withLargestLag));
  }

  /** A worker has ended. Its last counters stay in the sums, so that no counter goes back. */
  ended(worker: number): void {
    const counted = (this.running.get(worker) ?? []).filter(isCumulative);
    this.running.delete(worker);
    this.past = this.past.then((before) => combine([before, counted]).getMetricsAsJSON());
  }

  /** Returns the combined metrics in Prometheus's format, with those of ended workers. */
  async text(): Promise<string> {
    return combine([...this.running.values(), await this.past, await this.own()]).metrics();
  }
}

function combine(all: readonly Stats[]): Registry {
  return AggregatorRegistry.aggregate([...all]);
}

/** prom-client declares `type` as a number, but sends a word. */
function isCumulative({ type }: Stats[number]): boolean {
  return ['counter', 'histogram'].includes(String(type));
}

/** By default prom-client takes the average of the lag, which would hide one stuck worker. */
function withLargestLag(metric: Stats[number]): Stats[number] {
  return metric.name.startsWith('nodejs_eventloop_lag') ? { ...metric, aggregator: 'max' } : metric;
}
