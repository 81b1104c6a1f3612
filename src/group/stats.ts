import { AggregatorRegistry } from 'prom-client';
import type { Registry } from 'prom-client';
import type { Figures } from './protocol.js';

/** What all workers of a group count, as one. */
interface GroupFigures {
  /** Takes over what a worker counts by now. */
  note(worker: number, figures: Figures): void;
  /** A worker has ended: what it counted, as far as it was noted, goes on counting, so that no counter goes back. */
  ended(worker: number): void;
  /** Of all workers, those that have ended included, in Prometheus's format. */
  text(): Promise<string>;
}

/**
 * Each metric says itself how it is put together: most are summed up; of ages, and of what all workers see alike, the
 * largest counts.
 * @param own what the supervisor counts itself
 */
export function createGroupFigures(own: () => Promise<Figures>): GroupFigures {
  const living = new Map<number, Figures>();
  let past: Promise<Figures> = Promise.resolve([]);

  return {
    note: (worker, figures) => void living.set(worker, figures.map(withWorst)),
    ended(worker) {
      const counted = (living.get(worker) ?? []).filter(countsUp);
      living.delete(worker);
      past = past.then((before) => together([before, counted]).getMetricsAsJSON());
    },
    async text() {
      return together([...living.values(), await past, await own()]).metrics();
    },
  };
}

function together(all: readonly Figures[]): Registry {
  return AggregatorRegistry.aggregate([...all]);
}

/** Here `type` is a word, whatever prom-client's declarations say. */
function countsUp({ type }: Figures[number]): boolean {
  return ['counter', 'histogram'].includes(String(type));
}

/** prom-client would take the average, in which one worker that is stuck does not show. */
function withWorst(metric: Figures[number]): Figures[number] {
  return metric.name.startsWith('nodejs_eventloop_lag') ? { ...metric, aggregator: 'max' } : metric;
}
