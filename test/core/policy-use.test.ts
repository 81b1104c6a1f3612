import { expect } from 'chai';
import { PolicyUse, sumOfUses } from '../../src/policy/policy-use.js';

describe('the use of policies', () => {
  it('counts the requests of the last hour, to the minute, and the time since the last', () => {
    let nowMs = 1_000_000;
    const use = new PolicyUse({ nowMs: () => nowMs });
    expect(use.inLastHour('api')).to.deep.equal({ asks: 0, lastMs: undefined });
    const table: [laterMs: number, notes: number, asks: number, lastMs: number | undefined][] = [
      [0, 3, 3, 0],
      [30_000, 0, 3, 30_000],
      [29 * 60_000, 2, 5, 0],
      [30 * 60_000, 1, 6, 0],
      // The first three are older than an hour.
      [60_000, 0, 3, 60_000],
      [28 * 60_000, 0, 3, 29 * 60_000],
      [2 * 60_000, 0, 1, 31 * 60_000],
      [30 * 60_000, 0, 0, undefined],
      [1_000 * 60_000, 1, 1, 0],
    ];
    for (const [laterMs, notes, asks, lastMs] of table) {
      nowMs += laterMs;
      for (let i = 0; i < notes; i += 1) use.note('api');
      expect(use.inLastHour('api'), `${nowMs}`).to.deep.equal({ asks, lastMs });
    }
    expect(use.inLastHour('other')).to.deep.equal({ asks: 0, lastMs: undefined });
  });

  it('forgets the names that came first beyond the number of policies', () => {
    const use = new PolicyUse({ nowMs: () => 0 });
    for (let i = 0; i <= 1_000; i += 1) use.note(`p${i}`);
    expect(use.inLastHour('p0').asks).to.equal(0);
    expect(use.inLastHour('p1000').asks).to.equal(1);
  });

  it('adds up what several nodes count', () => {
    expect(sumOfUses([])).to.deep.equal({ asks: 0, lastMs: undefined });
    const uses = [
      { asks: 2, lastMs: 50 },
      { asks: 0, lastMs: undefined },
      { asks: 3, lastMs: 40 },
    ];
    expect(sumOfUses(uses)).to.deep.equal({ asks: 5, lastMs: 40 });
  });
});
