import { expect } from 'chai';
import fc from 'fast-check';
import {
  compareStrictness,
  MAX_LIMIT,
  MAX_WINDOW_MS,
  ruleOf,
  sameBucket,
  sameRules,
} from '../../src/limits/bucket/rule.js';

const fewOrAny = (min: number, max: number): fc.Arbitrary<number> =>
  fc.oneof(fc.integer({ min, max: min + 2 }), fc.integer({ min, max }));
const figures = fc.tuple(
  fc.constantFrom('token-bucket' as const, 'sliding-window' as const),
  fewOrAny(0, MAX_LIMIT),
  fewOrAny(1, MAX_WINDOW_MS),
  fewOrAny(1, MAX_LIMIT),
  fc.option(fc.constantFrom('', 'login', 'search'), { nil: undefined }),
  fc.option(fc.constantFrom('', 'login', 'reports'), { nil: undefined }),
);

describe('rule', () => {
  it('has the figures that it was asked for, whatever was asked for before', () => {
    fc.assert(
      fc.property(fc.array(figures, { minLength: 1, maxLength: 50, size: 'max' }), (asked) => {
        const rules = asked.map((each) => ruleOf(...each));
        rules.forEach((rule, i) => {
          const [algorithm, limit, windowMs, capacity, policy, scope] = asked[i]!;
          expect(rule).to.deep.equal({ algorithm, limit, windowMs, capacity, policy, scope });
        });
      }),
    );
  });

  it('has no limit of -0, which JSON has, but 0', () => {
    const rule = ruleOf('token-bucket', -0, 86_399_999, -0, 'minus zero');
    expect(Object.is(rule.limit, 0)).to.equal(true);
    expect(Object.is(rule.capacity, 0)).to.equal(true);
  });

  it('is kept among at most 1,024 recent rules', () => {
    const of = (limit: number) => ruleOf('token-bucket', limit, 86_399_999, limit, 'recent');
    const first = Array.from({ length: 3_000 }, (_, i) => of(i + 1));
    expect(first.filter((rule, i) => of(i + 1) === rule)).to.have.length.at.most(1_024);
  });

  it('is the same object when the same is asked for again, so that a million buckets share a few', () => {
    fc.assert(
      fc.property(figures, (asked) => {
        expect(ruleOf(...asked)).to.equal(ruleOf(...asked));
      }),
    );
  });

  it('is the same object still when all the other usual limits were asked for in between', () => {
    const limits = [10, 20, 50, 60, 100, 200, 500, 1_000, 5_000, 10_000];
    const usual = [1_000, 10_000, 60_000, 3_600_000, 86_400_000].flatMap((windowMs) =>
      limits.map((limit) => ['token-bucket', limit, windowMs, limit, undefined] as const),
    );
    const first = usual.map((each) => ruleOf(...each));
    usual.forEach((each, i) => {
      expect(ruleOf(...each) === first[i], `${each[1]} per ${each[2]} ms`).to.equal(true);
    });
  });

  it('counts the same consumption as another with the same scope, policy, algorithm and window, whatever its limit', () => {
    fc.assert(
      fc.property(figures, figures, (one, other) => {
        const [a, b] = [ruleOf(...one), ruleOf(...other)];
        const same = one[0] === other[0] && one[2] === other[2] && one[4] === other[4] && one[5] === other[5];
        expect(sameBucket(a, b)).to.equal(same);
        expect(sameBucket(a, { ...a, limit: b.limit, capacity: b.capacity })).to.equal(true);
      }),
    );
  });

  it('is stricter the less it refills, then the less it holds, and never both stricter and laxer than another', () => {
    const rule = ruleOf('token-bucket', 10, 1_000, 20, undefined);
    expect(compareStrictness({ ...rule, limit: 9, capacity: 99 }, rule)).to.be.below(0);
    expect(compareStrictness({ ...rule, capacity: 19 }, rule)).to.be.below(0);
    expect(compareStrictness({ ...rule }, rule)).to.equal(0);
    fc.assert(
      fc.property(figures, figures, (one, other) => {
        const [a, b] = [ruleOf(...one), ruleOf(...other)];
        expect(Math.sign(compareStrictness(a, b)) + Math.sign(compareStrictness(b, a))).to.equal(0);
      }),
    );
  });

  it('is another though it differs from the last one in one figure alone, by what might fall together', () => {
    for (const by of [1_024, 2_048, 1_024 * 1_024]) {
      const rule = ruleOf('token-bucket', 10, 1_000, 20, 'p');
      expect(ruleOf('token-bucket', 10 + by, 1_000, 20, 'p').limit).to.equal(10 + by);
      expect(ruleOf('token-bucket', 10, 1_000 + by, 20, 'p').windowMs).to.equal(1_000 + by);
      expect(ruleOf('token-bucket', 10, 1_000, 20 + by, 'p').capacity).to.equal(20 + by);
      expect(ruleOf('sliding-window', 10, 1_000, 20, 'p').algorithm).to.equal('sliding-window');
      expect(ruleOf('token-bucket', 10, 1_000, 20, 'q').policy).to.equal('q');
      expect(ruleOf('token-bucket', 10, 1_000, 20, 'p')).to.deep.equal(rule);
    }
  });
});

describe('two lists of rules', () => {
  const [a, b] = [ruleOf('token-bucket', 10, 1_000, 20, 'p'), ruleOf('sliding-window', 10, 1_000, 10, undefined)];

  it('are the same with equal rules in the same order, whether or not these are the same objects', () => {
    const list = [a, b];
    expect(sameRules(list, list)).to.equal(true);
    expect(sameRules([], [])).to.equal(true);
    expect(sameRules([a, b], [a, b])).to.equal(true);
    expect(sameRules([a, b], [{ ...a }, { ...b }])).to.equal(true);
  });

  it('are others with another order, number, limit, burst, or bucket', () => {
    for (const other of [
      [b, a],
      [a],
      [a, b, a],
      [a, { ...b, limit: 9 }],
      [{ ...a, capacity: 19 }, b],
      [{ ...a, windowMs: 999 }, b],
      [{ ...a, policy: 'q' }, b],
      [],
    ]) {
      expect(sameRules([a, b], other)).to.equal(false);
    }
  });
});
