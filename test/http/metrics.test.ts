import { expect } from 'chai';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SOURCES } from '../../src/limits/decide/decision.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, liveNode, newClient, post } from '../support/http.js';
import { CLOSE, connect, exchange } from './wire.js';

type Metrics = ReadonlyMap<string, number>;

/** Samples by name and labels, as in `up{job="x"}`, after a look at the form of the text. */
function readMetrics(text: string): Metrics {
  const samples = new Map<string, number>();
  const types = new Map<string, string>();
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line);
    if (type !== null) {
      expect(types.has(type[1]!), `${type[1]} is there twice`).to.equal(false);
      types.set(type[1]!, type[2]!);
    }
    if (line.startsWith('#')) continue;
    const sample = /^([a-zA-Z_:][\w:]*(?:\{(?:[a-z_]+="[^"]*",?)+\})?) (\S+)$/.exec(line);
    expect(sample, line).not.to.equal(null);
    expect(samples.has(sample![1]!), `${sample![1]} is there twice`).to.equal(false);
    samples.set(sample![1]!, Number(sample![2]));
  }
  return samples;
}

describe('GET /metrics', () => {
  let node: RunningNode;
  before(async () => {
    // A node of its own: the figures must add up.
    node = await liveNode('--max-clients', '50', '--memory-mb', '512');
  });
  const scrape = async (): Promise<Metrics> => readMetrics((await call(node, '/metrics')).text);
  const owner = (outcome: string): string => `tokenring_decisions_total{outcome="${outcome}",source="owner"}`;

  it('is Prometheus text with every metric there from the start', async () => {
    const answer = await call(node, '/metrics');
    expect(answer.status).to.equal(200);
    expect(answer.headers['content-type']).to.match(/^text\/plain; version=0\.0\.4/);
    const metrics = readMetrics(answer.text);
    for (const outcome of ['allowed', 'denied']) {
      for (const source of ['owner', 'forwarded', 'lease', 'deny-cache', 'fallback']) {
        expect(metrics.get(`tokenring_decisions_total{outcome="${outcome}",source="${source}"}`)).to.equal(0);
      }
    }
    for (const name of [
      ...SOURCES.map((source) => `tokenring_decision_seconds_count{source="${source}"}`),
      'tokenring_degraded_decisions_total',
      'tokenring_clients',
      'tokenring_requests_in_flight',
      'tokenring_unexpired_evictions_total',
    ]) {
      expect(metrics.get(name), name).to.equal(0);
    }
    expect(metrics.get('nodejs_eventloop_lag_seconds')).to.be.at.least(0);
    expect(metrics.get('process_resident_memory_bytes')).to.be.above(1e6);
    expect(metrics.get('tokenring_memory_budget_bytes')).to.equal(512 * 1024 * 1024);
    expect(metrics.get('tokenring_suspect_after_seconds')).to.equal(1);
  });

  it('tells of the store only where there is one', async () => {
    expect((await call(node, '/metrics')).text).not.to.include('tokenring_store');
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-metrics-'));
    const other = await liveNode('--store', `lmdb:${join(folder, 'store')}`);
    after(() => rmSync(folder, { recursive: true, force: true }));
    await allow(other, { clientId: newClient(), limit: 3, window: '1d' });
    const written = 'tokenring_store_written_clients_total';
    const waits = async (): Promise<Metrics> => readMetrics((await call(other, '/metrics')).text);
    let metrics = await waits();
    for (let i = 0; i < 200 && metrics.get(written) === 0; i += 1) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      metrics = await waits();
    }
    expect(metrics.get(written)).to.equal(1);
    for (const [name, value] of Object.entries({ up: 1, waiting_clients: 0, lag_seconds: 0, failures_total: 0 })) {
      expect(metrics.get(`tokenring_store_${name}`), name).to.equal(value);
    }
  });

  it('adds up: decisions by outcome, their durations, clients, problems', async () => {
    const before = await scrape();
    const question = { clientId: newClient(), limit: 3, window: '1d' };
    for (let i = 0; i < 5; i += 1) await allow(node, question);
    await allow(node, { ...question, peek: true });
    await post(node, '/v1/allow/batch', { requests: [{ ...question, clientId: newClient() }, question, {}] });
    await post(node, '/v1/allow', {});
    await post(node, '/v1/allow', '{');
    await call(node, '/nowhere');
    const metrics = await scrape();
    const grown = (name: string): number => metrics.get(name)! - (before.get(name) ?? 0);
    expect(grown(owner('allowed'))).to.equal(4);
    expect(grown(owner('denied'))).to.equal(4);
    expect(grown('tokenring_problems_total{code="invalid_request"}')).to.equal(2);
    expect(grown('tokenring_problems_total{code="invalid_json"}')).to.equal(1);
    expect(grown('tokenring_problems_total{code="not_found"}')).to.equal(1);
    expect(grown('tokenring_clients')).to.equal(2);
    expect(grown('tokenring_degraded_decisions_total')).to.equal(0);
    for (const [source, requests] of Object.entries({ owner: 6, batch: 1 })) {
      expect(grown(`tokenring_decision_seconds_count{source="${source}"}`)).to.equal(requests);
      expect(grown(`tokenring_decision_seconds_bucket{le="+Inf",source="${source}"}`)).to.equal(requests);
      expect(grown(`tokenring_decision_seconds_sum{source="${source}"}`)).to.be.within(0.00001, 5);
    }
  });

  it('counts the problems of what never became a request', async () => {
    const before = await scrape();
    for (const bytes of ['SHOUT / HTTP/9\r\n\r\n', `GET / HTTP/1.1\r\n${CLOSE}\r\n`, `GET /${'x'.repeat(20_000)}`]) {
      expect((await exchange(node.port, bytes))[0]?.status, bytes).to.be.within(400, 431);
    }
    const metrics = await scrape();
    const grown = (code: string): number => {
      const name = `tokenring_problems_total{code="${code}"}`;
      return metrics.get(name)! - (before.get(name) ?? 0);
    };
    expect([grown('invalid_request'), grown('headers_too_large')]).to.deep.equal([2, 1]);
  });

  it('has a histogram for each source whose buckets only grow, up to the count', async () => {
    const metrics = await scrape();
    for (const source of [...SOURCES, 'batch']) expectHistogram(metrics, source);
  });
  function expectHistogram(metrics: Metrics, source: string): void {
    const buckets = [...metrics].filter(
      ([name]) => name.startsWith('tokenring_decision_seconds_bucket') && name.includes(`source="${source}"`),
    );
    const bounds = buckets.map(([name]) => Number(/le="([^"]*)"/.exec(name)![1]!.replace('+Inf', 'Infinity')));
    const counts = buckets.map(([, count]) => count);
    expect(bounds).to.deep.equal(bounds.toSorted((a, b) => a - b));
    expect(counts).to.deep.equal(counts.toSorted((a, b) => a - b));
    expect(counts.at(-1)).to.equal(metrics.get(`tokenring_decision_seconds_count{source="${source}"}`));
    expect(bounds.at(-1)).to.equal(Infinity);
    expect(bounds, 'an objective of 5 ms').to.include(0.005);
  }

  it('says the same twice when nothing happened, however many ask at once', async () => {
    const ours = (metrics: Metrics): [string, number][] =>
      [...metrics].filter(([name]) => /^tokenring_(decision|problems|clients|unexpired|requests)/.test(name));
    const first = ours(await scrape());
    const others = await Promise.all(Array.from({ length: 5 }, scrape));
    for (const metrics of others) expect(ours(metrics)).to.deep.equal(first);
  });

  it('counts requests in flight while they are, and no longer when their connection breaks', async () => {
    const head = 'POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n';
    const [wrong, broken] = await Promise.all([connect(node.port), connect(node.port)]);
    for (const wire of [wrong, broken]) wire.send(head);
    const inFlight = async (expected: number): Promise<void> => {
      for (let tries = 0; tries < 200; tries += 1) {
        if ((await scrape()).get('tokenring_requests_in_flight') === expected) return;
      }
      expect.fail(`never ${expected} in flight`);
    };
    await inFlight(2);
    wrong.send('{"a": "b"');
    expect((await wrong.answers(1))[0]?.status).to.equal(400);
    await inFlight(1);
    broken.destroy();
    await inFlight(0);
    wrong.destroy();
  });

  it('counts the clients dropped at the bound though a limit still counted against them', async () => {
    const before = (await scrape()).get('tokenring_unexpired_evictions_total')!;
    const requests = Array.from({ length: 100 }, () => ({ clientId: newClient(), limit: 3, window: '1d' }));
    await post(node, '/v1/allow/batch', { requests });
    const metrics = await scrape();
    expect(metrics.get('tokenring_clients')).to.equal(50);
    expect(metrics.get('tokenring_unexpired_evictions_total')! - before).to.be.within(50, 100);
  });

  it('names no client, whatever its name', async () => {
    await allow(node, { clientId: 'mallory"} 1\n', limit: 0, window: '1s' });
    await call(node, '/v1/clients/mallory');
    await call(node, '/mallory');
    expect((await call(node, '/metrics')).text).not.to.include('mallory');
  });
});
