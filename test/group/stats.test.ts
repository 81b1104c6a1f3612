import { expect } from 'chai';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { GroupStats } from '../../src/app/group/group-metrics.js';
import type { Stats } from '../../src/app/group/protocol.js';

/** What a worker with these counts says. */
async function statsOf(
  decisions: number,
  more: { inFlight?: number; ageSeconds?: number; lagSeconds?: number } = {},
): Promise<Stats> {
  const registry = new Registry();
  const registers = [registry];
  const labels = { outcome: 'allowed' };
  new Counter({ name: 'decisions_total', help: '-', labelNames: ['outcome'], registers }).inc(labels, decisions);
  new Gauge({ name: 'in_flight', help: '-', registers }).set(more.inFlight ?? 0);
  new Gauge({ name: 'age_seconds', help: '-', aggregator: 'max', registers }).set(more.ageSeconds ?? 0);
  new Gauge({ name: 'nodejs_eventloop_lag_p99_seconds', help: '-', aggregator: 'average', registers }).set(
    more.lagSeconds ?? NaN,
  );
  const durations = new Histogram({ name: 'seconds', help: '-', buckets: [1], registers });
  for (let i = 0; i < decisions; i += 1) durations.observe(i % 2 === 0 ? 0.5 : 2);
  return registry.getMetricsAsJSON();
}

const none = (): Promise<Stats> => Promise.resolve([]);

describe('the stats of a group', () => {
  it('are sums, but for what all workers see alike, of which the largest counts', async () => {
    const group = new GroupStats(() => statsOf(100));
    group.note(0, await statsOf(3, { inFlight: 1, ageSeconds: 0.5, lagSeconds: 0.01 }));
    group.note(1, await statsOf(4, { inFlight: 2, ageSeconds: 0.25, lagSeconds: 0.05 }));
    const text = await group.text();
    expect(text).to.include('\ndecisions_total{outcome="allowed"} 107\n');
    expect(text).to.include('\nin_flight 3\n');
    expect(text).to.include('\nage_seconds 0.5\n');
    expect(text).to.match(/\nseconds_bucket\{le="1"\} 54\n/);
    expect(text).to.include('\nseconds_count 107\n');
  });

  it('show the event loop of the worker that is worst', async () => {
    const group = new GroupStats(none);
    group.note(0, await statsOf(0, { lagSeconds: 0.01 }));
    group.note(1, await statsOf(0, { lagSeconds: 0.05 }));
    expect(await group.text()).to.include('\nnodejs_eventloop_lag_p99_seconds 0.05\n');
  });

  it('take what a worker says last for what it counts', async () => {
    const group = new GroupStats(none);
    group.note(0, await statsOf(3));
    group.note(0, await statsOf(5));
    expect(await group.text()).to.include('\ndecisions_total{outcome="allowed"} 5\n');
  });

  it('let no counter go back when workers end, however often, and forget what they had in hand', async () => {
    const group = new GroupStats(none);
    for (let life = 1; life <= 3; life += 1) {
      group.note(0, await statsOf(10, { inFlight: 7 }));
      group.ended(0);
      group.ended(1);
      const text = await group.text();
      expect(text).to.include(`\ndecisions_total{outcome="allowed"} ${10 * life}\n`);
      expect(text).to.include(`\nseconds_count ${10 * life}\n`);
      expect(text).not.to.include('in_flight');
    }
  });
});
