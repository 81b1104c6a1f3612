import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'chai';
import { createClient } from '../../src/client/index.js';
import { Latencies, ServiceLoadWatch, type LoadWatch, type LoadWatchOptions } from '../../src/client/load-watch.js';
import { TokenringError } from '../../src/lib/error.js';
import type { LoadReport } from '../../src/limits/request/request.js';
import { createFakeTime, type FakeTime } from '../support/fake-time.js';
import { startTestRing } from '../support/ring.js';

describe('latencies of an interval', () => {
  it('have the percentile that they have, up to 5% above it', () => {
    const latencies = new Latencies();
    expect([latencies.percentile(0.95), latencies.mean()]).to.deep.equal([0, 0]);
    for (let ms = 1; ms <= 1_000; ms += 1) latencies.add(ms);
    for (const [part, ms] of [
      [0.5, 500],
      [0.95, 950],
      [1, 1_000],
      [0, 0.1],
    ] as const)
      expect(latencies.percentile(part) / ms, String(part)).to.be.within(1 - 1e-9, 1.05);
    expect(latencies.mean()).to.equal(500.5);
    latencies.clear();
    expect([latencies.count, latencies.percentile(0.95), latencies.mean()]).to.deep.equal([0, 0, 0]);
    for (const ms of [0, 1e12]) latencies.add(ms);
    expect(latencies.percentile(0.1)).to.equal(0.1);
    expect(latencies.percentile(1)).to.be.within(86_400_000, 86_400_000 * 1.05);
  });
});

describe('a watch on a load', () => {
  let time: FakeTime;
  let reports: LoadReport[];
  let answer: () => Promise<{ factor: number; load: number }>;
  const watch = (options: LoadWatchOptions = {}): LoadWatch => {
    time = createFakeTime();
    reports = [];
    answer = () => Promise.resolve({ factor: 0.5, load: 0.9 });
    const report = (one: LoadReport): ReturnType<typeof answer> => {
      reports.push(one);
      return answer();
    };
    return new ServiceLoadWatch({ time, report, onStop: () => undefined, options });
  };

  it('reports once a second what took how long, and the part that failed', async () => {
    const load = watch();
    const [a, b, c] = [load.begin(), load.begin(), load.begin()];
    await time.pass(50);
    a();
    a(false);
    b(false);
    await time.pass(50);
    c();
    expect(load.last()).to.equal(undefined);
    await time.pass(900);
    expect(reports).to.have.lengthOf(1);
    expect(reports[0]!.latencyMs).to.be.within(100, 105);
    expect(reports[0]!.errors).to.equal(1 / 3);
    expect(reports[0]).not.to.have.property('load');
    expect(load.last()).to.deep.equal({ factor: 0.5, load: 0.9 });
    await time.pass(1_000);
    // Nothing was asked, so nothing was slow.
    expect(reports[1]).to.deep.equal({ latencyMs: 0, errors: 0 });
    load.stop();
    await time.pass(5_000);
    expect(reports).to.have.lengthOf(2);
  });

  it('reports what hangs as long as it has hung so far', async () => {
    const load = watch();
    const done = load.begin();
    await time.pass(4_000);
    expect(reports[0]!.latencyMs).to.be.within(1_000, 1_050);
    expect(reports[3]!.latencyMs).to.be.within(4_000, 4_200);
    done();
    await time.pass(2_000);
    expect(reports[4]!.latencyMs).to.be.within(4_000, 4_200);
    expect(reports[5]!.latencyMs).to.equal(0);
    load.stop();
  });

  it('takes what has lasted a minute for a stream, or for something whose end nobody tells, and counts it no more', async () => {
    const load = watch();
    const done = load.begin();
    for (let i = 0; i < 20_000; i += 1) load.begin();
    await time.pass(58_000);
    expect(reports.at(-1)!.latencyMs).to.be.above(57_000);
    await time.pass(4_000);
    expect(reports.at(-1)).to.deep.equal({ latencyMs: 0, errors: 0 });
    done(false);
    const next = load.begin();
    await time.pass(50);
    next();
    await time.pass(1_000);
    expect(reports.at(-1)!.latencyMs).to.be.within(50, 52.5);
    expect(reports.at(-1)!.errors).to.equal(0);
    load.stop();
  });

  it('reports means, the event loop and what a function says, where that is wanted', async () => {
    const mean = watch({ latency: 'mean', load: 'event-loop' });
    const [a, b] = [mean.begin(), mean.begin()];
    a();
    await time.pass(100);
    b();
    await time.pass(900);
    expect(reports).to.deep.equal([{ latencyMs: 50, errors: 0, load: 0.25 }]);
    mean.stop();
    for (const [says, reported] of [
      [0.5, 0.5],
      [7, 1],
      [-1, 0],
      [NaN, undefined],
    ] as const) {
      const own = watch({ load: () => says });
      await time.pass(1_000);
      expect(reports[0]!.load).to.equal(reported);
      own.stop();
    }
  });

  it('goes on when the function that says the load throws, and tells that it does', async () => {
    const errors: unknown[] = [];
    const broken = new Error('no meter');
    const load = watch({
      load: () => {
        throw broken;
      },
      onError: (error) => errors.push(error.cause),
    });
    await time.pass(2_000);
    expect(reports.map((one) => one.load)).to.deep.equal([undefined, undefined]);
    expect(errors).to.deep.equal([broken, broken]);
    load.stop();
  });

  it('goes on when a report fails, and sends none while one is under way', async () => {
    const errors: TokenringError[] = [];
    const load = watch({ onError: (error) => errors.push(error) });
    answer = () => Promise.reject(new TokenringError('not_found'));
    await time.pass(2_000);
    expect(errors.map(({ code }) => code)).to.deep.equal(['not_found', 'not_found']);
    let settle: () => void = () => undefined;
    answer = () => new Promise((resolve) => (settle = () => resolve({ factor: 1, load: 0 })));
    await time.pass(3_000);
    expect(reports).to.have.lengthOf(3);
    settle();
    await time.pass(1_000);
    expect(reports).to.have.lengthOf(4);
    let breakOff: () => void = () => undefined;
    answer = () => new Promise((_resolve, reject) => (breakOff = () => reject(new TokenringError('no_answer'))));
    await time.pass(1_000);
    load.stop();
    breakOff();
    await time.pass(1_000);
    expect(errors).to.have.lengthOf(2);
  });

  it('measures promises, passes on what becomes of them, and measures no more than so many at once', async () => {
    const load = watch();
    expect(await load.measure(() => 7)).to.equal(7);
    const error = new Error('x');
    expect(await load.measure(() => Promise.reject(error)).catch((reason: unknown) => reason)).to.equal(error);
    for (let i = 0; i < 20_000; i += 1) load.begin();
    await time.pass(1_000);
    expect(reports[0]!.errors).to.equal(0.5);
    load.stop();
    expect(() => watch({ intervalMs: 5 })).to.throw(TypeError, 'intervalMs: 5 is not valid, expected 100 to 60000');
  });
});

describe('a service that has its load reported by the client', function () {
  this.timeout(60_000);
  let close: () => Promise<void>;
  afterEach(() => close());

  it('is asked for about what it can do, though its clients want three times as much', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-load-'));
    const path = join(folder, 'policies.json');
    const adaptive = { target: 0.8, min: 0.05, latencyMs: 80, errors: 0.05 };
    writeFileSync(path, JSON.stringify({ policies: { service: { limit: 400, window: '10s', burst: 8, adaptive } } }));
    const ring = await startTestRing(2, ['--policies', path, '--policies-state', 'none']);
    const client = createClient({ nodes: ring.urls });
    close = async () => {
      await client.close();
      await ring.close();
      rmSync(folder, { recursive: true });
    };
    const load = client.watchLoad('service');
    // 100 a second: four at a time, 40 ms each; who finds 40 waiting is turned away.
    const service = createService(4, 40, 40);
    const seconds: { admitted: number; failed: number }[] = [];
    for (let s = 0; s < 16; s += 1) {
      const second = { admitted: 0, failed: 0 };
      seconds.push(second);
      const endMs = performance.now() + 1_000;
      for (let asked = 0; performance.now() < endMs; asked += 3) {
        for (const i of [0, 1, 2]) {
          void client.check({ clientId: `client ${(asked + i) % 10}`, policy: 'service' }).then(({ allowed }) => {
            if (!allowed) return;
            second.admitted += 1;
            load.measure(service).catch(() => (second.failed += 1));
          });
        }
        await pause(10);
      }
    }
    const of = (part: { admitted: number; failed: number }[]): { admitted: number; failed: number } => ({
      admitted: part.reduce((sum, { admitted }) => sum + admitted, 0) / part.length,
      failed: part.reduce((sum, { failed }) => sum + failed, 0) / part.length,
    });
    const [first, late] = [of(seconds.slice(1, 3)), of(seconds.slice(-6))];
    expect(first.admitted, JSON.stringify(seconds)).to.be.above(1.5 * late.admitted);
    expect(late.failed / late.admitted, JSON.stringify(seconds)).to.be.below(0.15);
    expect(first.failed / first.admitted).to.be.above(0.3);
    expect(load.last()?.factor).to.be.within(0.1, 0.5);
  });
});

/** Does so many at a time, each in so long; more wait, and one too many fails. */
function createService(slots: number, eachMs: number, maxWaiting: number): () => Promise<void> {
  let busy = 0;
  const waiting: (() => void)[] = [];
  return async () => {
    if (busy === slots) {
      if (waiting.length >= maxWaiting) throw new Error('too much to do');
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else busy += 1;
    await pause(eachMs);
    const next = waiting.shift();
    if (next === undefined) busy -= 1;
    else next();
  };
}
