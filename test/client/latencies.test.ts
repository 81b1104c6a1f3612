import { expect } from 'chai';
import fc from 'fast-check';
import { Latencies } from '../../src/client/load-watch.js';

describe('measured latencies', () => {
  it('have a percentile that is never below the exact one and at most 5% above it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.1, max: 86_400_000, noNaN: true }), { minLength: 1, maxLength: 200 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (durations, part) => {
          const latencies = new Latencies();
          for (const ms of durations) latencies.add(ms);
          const sorted = [...durations].sort((a, b) => a - b);
          const exact = sorted[Math.ceil(part * sorted.length) - 1]!;
          const rounding = 1e-9;
          expect(latencies.percentile(part)).to.be.within(exact * (1 - rounding), exact * 1.05 * (1 + rounding));
        },
      ),
    );
  });

  it('have the mean of all that was added, also below the resolution of percentiles', () => {
    const latencies = new Latencies();
    for (const ms of [0, 0.05, 10]) latencies.add(ms);
    expect(latencies.mean()).to.be.closeTo(10.05 / 3, 1e-12);
    expect(latencies.percentile(0.5)).to.equal(0.1);
    expect(latencies.count).to.equal(3);
  });

  it('are 0 where there are none, at first and after a clear', () => {
    const latencies = new Latencies();
    expect([latencies.count, latencies.mean(), latencies.percentile(0.95)]).to.deep.equal([0, 0, 0]);
    latencies.add(5);
    latencies.clear();
    expect([latencies.count, latencies.mean(), latencies.percentile(0.95)]).to.deep.equal([0, 0, 0]);
  });

  it('take a duration above the longest for the longest', () => {
    const latencies = new Latencies();
    latencies.add(1e12);
    expect(latencies.percentile(1)).to.be.within(86_400_000, 86_400_000 * 1.05);
  });
});
