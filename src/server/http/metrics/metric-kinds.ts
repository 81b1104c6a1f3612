import { Counter, Gauge, type Registry } from 'prom-client';

type Labels = Readonly<Record<string, string>>;
/** Operation that combines the values of several workers. */
type Together = 'sum' | 'max' | 'min';

/** Adds metrics of one type. Values are read when Prometheus scrapes. */
interface Add {
  /** Adds one value. */
  one(name: string, help: string, read: () => number, together?: Together): void;
  /** Adds one value for each value of a label. */
  by(
    label: string,
    name: string,
    help: string,
    read: () => Iterable<readonly [value: string, amount: number]>,
    together?: Together,
  ): void;
  /** Adds one value for each combination of several labels. */
  each(
    labels: readonly string[],
    name: string,
    help: string,
    read: () => Iterable<readonly [Labels, amount: number]>,
    together?: Together,
  ): void;
}

/** Counters only grow; gauges may fall. */
export interface MetricKinds {
  readonly counter: Add;
  readonly gauge: Add;
}

/** Kinds of metrics that are added to this registry. */
export function metricKindsOf(registry: Registry): MetricKinds {
  const registers = [registry];
  const counter = adding((labelNames, name, help, read, aggregator) => {
    new Counter({
      name,
      help,
      labelNames,
      registers,
      aggregator,
      collect() {
        this.reset();
        for (const [labels, amount] of read()) this.inc(labels, amount);
      },
    });
  });
  const gauge = adding((labelNames, name, help, read, aggregator) => {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      aggregator,
      collect() {
        this.reset();
        for (const [labels, amount] of read()) this.set(labels, amount);
      },
    });
  });
  return { counter, gauge };
}

type AddEach = (
  labels: string[],
  name: string,
  help: string,
  read: () => Iterable<readonly [Labels, number]>,
  together: Together,
) => void;

function adding(add: AddEach): Add {
  return {
    one: (name, help, read, together = 'sum') => add([], name, help, () => [[{}, read()]], together),
    by: (label, name, help, read, together = 'sum') =>
      add([label], name, help, () => [...read()].map(([value, amount]) => [{ [label]: value }, amount]), together),
    each: (labels, name, help, read, together = 'sum') => add([...labels], name, help, read, together),
  };
}
