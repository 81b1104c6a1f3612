import { expect } from 'chai';
import fc from 'fast-check';
import { loadOf, relax, scaleRules, adjust } from '../../src/policy/adaptive.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';

const ADAPTIVE = { target: 0.8, min: 0.1, latencyMs: 50, errors: 0.01 };

describe('limits that follow the load', () => {
  it('shrink above the target and grow below it, within their bounds', () => {
    const part = fc.double({ min: 0.1, max: 1, noNaN: true });
    fc.assert(
      fc.property(part, fc.double({ min: 0, max: 1, noNaN: true }), part, (factor, load, target) => {
        const next = adjust(factor, load, { target, min: 0.1 });
        expect(next).to.be.within(0.1, 1);
        expect(next - factor).to.be.at.most(0.051);
        expect(next).to.be.at.least(factor * 0.69);
        if (load > target * 1.02) expect(next).to.be.at.most(factor + 0.001);
        if (load < target * 0.98) expect(next).to.be.at.least(factor - 0.001);
      }),
    );
  });

  it('change by steps that depend on the distance to the target', () => {
    for (const [factor, load, target, next] of [
      // Above the target, by 0.4 of the excess, and by 0.3 at most.
      [1, 0.6, 0.5, 0.92],
      [0.933, 0.57, 0.5, 0.881],
      [1, 0.9, 0.5, 0.7],
      // At full load the excess is unknown; with a target of 1 there is none.
      [1, 1, 0.9, 0.7],
      [0.5, 1, 1, 0.5],
      // Below the target, by 0.4 of the distance, 0.05 at most, and at least 0.001 unless it is within 2%.
      [0.5, 0.45, 0.5, 0.52],
      [0.5, 0.1, 0.5, 0.55],
      [0.01, 0.45, 0.5, 0.011],
      [0.01, 0.495, 0.5, 0.01],
      [0.5, 0.5, 0.5, 0.5],
    ] as const) {
      const after = adjust(factor, load, { target, min: 0.001 });
      expect(after, `${factor} at a load of ${load} with a target of ${target}`).to.equal(next);
    }
  });

  it('never scale a limit below 1, and keep a limit of 0', () => {
    const [small, none] = [ruleOf('token-bucket', 3, 1, 9, 'p'), ruleOf('sliding-window', 0, 1, 0, 'p')];
    expect(scaleRules([small, none], 0.1)).to.deep.equal([ruleOf('token-bucket', 1, 1, 1, 'p'), none]);
    expect(scaleRules([small], 0.5)).to.deep.equal([ruleOf('token-bucket', 1, 1, 4, 'p')]);
    const rules = [small];
    expect(scaleRules(rules, 1)).to.equal(rules);
  });

  it('take the largest load of a report', () => {
    expect(loadOf({ load: 0.5 }, ADAPTIVE)).to.equal(0.5);
    expect(loadOf({ latencyMs: 50 }, ADAPTIVE)).to.equal(0.8);
    expect(loadOf({ errors: 0.01 }, ADAPTIVE)).to.equal(0.8);
    expect(loadOf({ load: 0.9, latencyMs: 1, errors: 0 }, ADAPTIVE)).to.equal(0.9);
    expect(loadOf({ load: 0.1, latencyMs: 5_000 }, ADAPTIVE)).to.equal(1);
    expect(loadOf({ latencyMs: 50 / 8 }, ADAPTIVE), 'a cube root').to.be.closeTo(0.4, 1e-9);
    expect(loadOf({ errors: 0.01 / 8 }, ADAPTIVE), 'a cube root').to.be.closeTo(0.4, 1e-9);
    expect(loadOf({ latencyMs: 50 }, { target: 0.8, min: 0.1 })).to.equal(undefined);
    expect(loadOf({}, ADAPTIVE)).to.equal(undefined);
  });

  it('settle at the target of a latency that rises as in a queue, from any factor', () => {
    for (const begin of [0.1, 0.4, 1]) {
      // The service can serve half of the demand. Its latency is 10/(1 − used) ms: 10 when idle, 50 at the target.
      let factor = begin;
      let used = factor / 0.5;
      for (let s = 0; s < 100; s += 1) {
        const latencyMs = used >= 1 ? 10_000 : 10 / (1 - used);
        used = factor / 0.5;
        factor = adjust(factor, loadOf({ latencyMs }, ADAPTIVE)!, ADAPTIVE);
        if (s >= 30) expect(used, `from ${begin}, at ${s} s`).to.be.within(0.72, 0.88);
      }
    }
  });

  it('return to their written values step by step without reports', () => {
    let factor = 0.1;
    for (let steps = 0; steps < 17; steps += 1) factor = relax(factor);
    expect(factor).to.be.within(0.9, 0.96);
    expect(relax(relax(factor))).to.equal(1);
  });
});
