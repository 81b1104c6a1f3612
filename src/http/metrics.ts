import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Metric } from 'prom-client';
import { SOURCES } from '../cluster/decision.js';
import type { BucketTable } from '../cluster/bucket-table.js';
import { DURATION_BOUNDS } from './counters.js';
import type { Counters } from './counters.js';

/** What the metrics read when Prometheus asks; nothing is kept twice. */
export interface MetricSources {
  readonly counters: Counters;
  readonly table: Pick<BucketTable, 'size' | 'unexpiredEvictions'>;
}

/** The node's own registry: event-loop lag, memory and garbage collection come with prom-client's default metrics. */
export function createMetrics({ counters, table }: MetricSources): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];

  new Counter({
    name: 'tokenring_decisions_total',
    help: 'Decisions by outcome and by who decided; peeks included',
    labelNames: ['outcome', 'source'],
    registers,
    collect() {
      this.reset();
      for (const source of SOURCES) {
        this.inc({ outcome: 'allowed', source }, counters.allowed[source]);
        this.inc({ outcome: 'denied', source }, counters.denied[source]);
      }
    },
  });
  new Counter({
    name: 'tokenring_problems_total',
    help: 'Requests and batch items answered with a problem, by its code',
    labelNames: ['code'],
    registers,
    collect() {
      this.reset();
      for (const [code, count] of counters.problems) this.inc({ code }, count);
    },
  });
  new Counter({
    name: 'tokenring_unexpired_evictions_total',
    help: 'Clients dropped at the bound of the bucket table though a limit still counted against them',
    registers,
    collect() {
      this.reset();
      this.inc(table.unexpiredEvictions);
    },
  });
  new Gauge({
    name: 'tokenring_clients',
    help: 'Clients in the bucket table, owned and copied',
    registers,
    collect() {
      this.set(table.size);
    },
  });
  new Gauge({
    name: 'tokenring_requests_in_flight',
    help: 'Requests on the decision endpoints that are not answered yet',
    registers,
    collect() {
      this.set(counters.inFlight);
    },
  });
  registry.registerMetric(decisionSeconds(counters));
  return registry;
}

/** prom-client's own histogram can only be fed one observation at a time; this one is read from plain counters. */
function decisionSeconds(counters: Counters): Metric {
  const name = 'tokenring_decision_seconds';
  const get = (): unknown => {
    let cumulative = 0;
    const values = counters.durations.map((count, i) => {
      cumulative += count;
      return { metricName: `${name}_bucket`, labels: { le: DURATION_BOUNDS[i] ?? '+Inf' }, value: cumulative };
    });
    const sum = { metricName: `${name}_sum`, labels: {}, value: counters.durationSumSeconds };
    const count = { metricName: `${name}_count`, labels: {}, value: cumulative };
    const help = 'From the arrival of a request on a decision endpoint to its answer';
    return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values: [...values, sum, count] });
  };
  return { name, get, reset: () => undefined } as unknown as Metric;
}
