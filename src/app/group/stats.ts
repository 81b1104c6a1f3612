import { AggregatorRegistry } from 'prom-client';
import type { Registry } from 'prom-client';
import type { Stats } from './protocol.js';

/** The metrics of all workers of a group, combined. */
interface GroupStats {
  /** Replaces the metrics of one worker. */
  note(worker: number, stats: Stats): void;
  /** A worker has ended. Its last counters stay in the sums, so that no counter goes back. */
  ended(worker: number): void;
  /** The combined metrics in Prometheus's format, with those of ended workers. */
  text(): Promise<string>;
}

/**
 * Combines metrics; each names its own aggregation. Most are summed. The largest counts for ages, and for values that
 * are the same at all workers.
 * @param own the metrics of the supervisor
 */
export function createGroupStats(own: () => Promise<Stats>): GroupStats {
  const running = new Map<number, Stats>();
  let past: Promise<Stats> = Promise.resolve([]);

  return {
    note: (worker, stats) => void running.set(worker, stats.map(withLargestLag)),
    ended(worker) {
      const counted = (running.get(worker) ?? []).filter(isCumulative);
      running.delete(worker);
      past = past.then((before) => combine([before, counted]).getMetricsAsJSON());
    },
    async text() {
      return combine([...running.values(), await past, await own()]).metrics();
    },
  };
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
