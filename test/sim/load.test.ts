import { expect } from 'chai';
import { DAY, DAY_END_S, runService, settledAfterS, TARGET, type Second } from './load-service.js';
import { PATIENCE_MS } from './patience.js';

const TEN = Array.from({ length: 10 }, () => 100);
const total = (seconds: readonly Second[], client: number): number =>
  seconds.reduce((sum, { admitted }) => sum + admitted[client]!, 0);

describe('a service whose limits follow its load', function () {
  this.timeout(PATIENCE_MS);

  let day: Second[];
  before(async () => {
    day = await runService(DAY, TARGET, DAY_END_S);
  });

  it('is within a tenth of its target less than 30 s after each step of demand or capacity, and stays there', () => {
    const steps = DAY.filter(({ fromS, silent }) => fromS > 0 && silent !== true);
    for (const { fromS, says } of steps) {
      const toS = DAY.find((next) => next.fromS > fromS)!.fromS;
      const settledS = settledAfterS(day, TARGET.target, fromS, toS);
      expect(settledS, says)
        .to.be.below(30)
        .and.below(toS - fromS);
      // Second by second, no more than that above or below.
      for (const { s, load } of day.slice(fromS + Math.max(settledS, 15), toS)) {
        expect(load, `${says}, at ${s} s`).to.be.within(TARGET.target * 0.9, TARGET.target * 1.1);
      }
    }
  });

  it('has its clients treated alike', () => {
    for (const [fromS, toS] of [
      [60, 90],
      [120, 150],
      [180, 210],
      [270, 300],
    ] as const) {
      const admitted = TEN.map((_, i) => total(day.slice(fromS, toS), i));
      expect(Math.max(...admitted) / Math.min(...admitted), `${fromS} s`).to.be.below(1.05);
    }
  });

  it('goes back to the limits as they are written, step by step, when it does not report any more', () => {
    const silent = day.slice(300);
    for (const [i, { factor }] of silent.entries()) {
      const before = silent[i - 1]?.factor ?? factor;
      expect(factor - before).to.be.within(-0.05, 0.11);
    }
    expect(silent[5]!.factor).to.be.below(0.3);
    expect(silent.at(-1)!.factor).to.equal(1);
  });

  it('leaves each client the least part of its limit, whatever the load', async () => {
    const phases = [{ fromS: 0, says: 'hardly any capacity', capacity: 40, demands: TEN }];
    const seconds = await runService(phases, { target: 0.8, min: 0.2 }, 40);
    for (const { factor, admitted } of seconds.slice(20)) {
      expect(factor).to.equal(0.2);
      // A fifth of 120 a second.
      for (const one of admitted) expect(one).to.be.within(22, 26);
    }
  });

  it('gives who asks for less than its share all that it asks for', async () => {
    const phases = [{ fromS: 0, says: 'one modest client', capacity: 400, demands: [5, ...TEN] }];
    const seconds = (await runService(phases, TARGET, 60)).slice(30);
    expect(total(seconds, 0)).to.be.within(140, 160);
    const others = TEN.map((_, i) => total(seconds, i + 1));
    expect(Math.max(...others) / Math.min(...others)).to.be.below(1.05);
  });

  it('settles whatever the seed', async () => {
    for (const seed of [2, 3, 4]) {
      const phases = [
        { fromS: 0, says: 'ample', capacity: 1_800, demands: TEN },
        { fromS: 10, says: 'a tenth of it', capacity: 180, demands: TEN },
      ];
      const seconds = await runService(phases, TARGET, 50, seed);
      expect(settledAfterS(seconds, TARGET.target, 10, 50), `seed ${seed}`).to.be.below(30);
    }
  });

  it('goes back to the limits as they are written where who steers is lost with the reports', async () => {
    const phases = [
      { fromS: 0, says: 'hardly any capacity', capacity: 200, demands: TEN },
      { fromS: 20, says: 'all lost', capacity: 200, demands: TEN, silent: true, kills: true },
    ];
    const seconds = await runService(phases, TARGET, 55);
    expect(seconds[26]!.factor).to.be.below(0.4);
    expect(seconds.at(-1)!.factor).to.equal(1);
  });
});
