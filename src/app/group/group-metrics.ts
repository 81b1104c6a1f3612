import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { createGroupStats } from './stats.js';
import type { Stats } from './protocol.js';

/** Time that a worker has to send its metrics. After it, the last metrics that the worker sent count. */
const COLLECT_TIMEOUT_MS = 1_000;

interface GroupMetricsDeps {
  /** The workers that run now, by number. */
  readonly running: () => readonly number[];
  readonly askToCollect: (worker: number, request: number) => void;
  readonly workersUp: () => number;
  readonly restarts: () => number;
  /** Number of log lines of the supervisor lost so far. */
  readonly droppedLogLines: () => number;
}

interface GroupMetrics {
  /** Returns the metrics of all workers and the supervisor, in Prometheus's format. */
  scrape(): Promise<string>;
  /** Notes that a worker has sent its metrics. */
  collected(worker: number, request: number, stats: Stats): void;
  ended(worker: number): void;
}

/** Collects the metrics of all workers, and adds those of the supervisor. */
export function createGroupMetrics(deps: GroupMetricsDeps): GroupMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  new Gauge({
    name: 'tokenring_workers',
    help: 'Workers of this group that are in the ring and answer',
    registers,
    collect() {
      this.set(deps.workersUp());
    },
  });
  new Counter({
    name: 'tokenring_worker_restarts_total',
    help: 'Workers of this group that ended unasked',
    registers,
    collect() {
      this.reset();
      this.inc(deps.restarts());
    },
  });
  new Counter({
    name: 'tokenring_log_lines_dropped_total',
    help: 'Log lines that were lost: the disk of the log is full, or its reader is gone or too slow',
    registers,
    collect() {
      this.reset();
      this.inc(deps.droppedLogLines());
    },
  });
  const stats = createGroupStats(() => registry.getMetricsAsJSON());
  /** Scrapes in progress. Each is a function to call when a worker has answered or ended. */
  const scrapes = new Map<number, (worker: number) => void>();
  let requests = 0;

  return {
    async scrape() {
      const request = (requests += 1);
      const missing = new Set(deps.running());
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, COLLECT_TIMEOUT_MS);
        scrapes.set(request, (worker) => {
          missing.delete(worker);
          if (missing.size > 0) return;
          clearTimeout(timer);
          resolve();
        });
        for (const worker of missing) deps.askToCollect(worker, request);
      });
      scrapes.delete(request);
      return stats.text();
    },
    collected(worker, request, own) {
      stats.note(worker, own);
      scrapes.get(request)?.(worker);
    },
    ended(worker) {
      stats.ended(worker);
      for (const done of scrapes.values()) done(worker);
    },
  };
}
