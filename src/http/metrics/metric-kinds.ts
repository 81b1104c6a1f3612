import { Counter, Gauge } from 'prom-client';
import type { Registry } from 'prom-client';

type Labels = Readonly<Record<string, string>>;
/** How the workers of a group make one figure of theirs. */
type Together = 'sum' | 'max' | 'min';

/** Adds metrics of one type; what they are is read when Prometheus asks, and nothing is kept twice. */
interface Add {
  /** A single figure. */
  one(name: string, help: string, read: () => number, together?: Together): void;
  /** A figure for each value of one label. */
  by(
    label: string,
    name: string,
    help: string,
    read: () => Iterable<readonly [value: string, figure: number]>,
    together?: Together,
  ): void;
  /** A figure for each of several labels' values. */
  each(
    labels: readonly string[],
    name: string,
    help: string,
    read: () => Iterable<readonly [Labels, figure: number]>,
    together?: Together,
  ): void;
}

/** What only grows, and what may fall again. */
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
        for (const [labels, figure] of read()) this.inc(labels, figure);
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
        for (const [labels, figure] of read()) this.set(labels, figure);
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
      add([label], name, help, () => [...read()].map(([value, figure]) => [{ [label]: value }, figure]), together),
    each: (labels, name, help, read, together = 'sum') => add([...labels], name, help, read, together),
  };
}
