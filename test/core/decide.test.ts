import { expect } from 'chai';
import fc from 'fast-check';
import { isIdle, type Buckets } from '../../src/limits/bucket/bucket.js';
import { decide, type LimitStats, type Verdict } from '../../src/limits/decide/decide.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import {
  changingRules,
  costOf,
  histories,
  severalRules,
  timeOf,
  unsteadyHistories,
  type Step,
} from '../support/histories.js';
import { ask, checkOf, drain, noBuckets, slidingWindow, tokenBucket, tryAsk } from '../support/rules.js';

/** Asks as the history tells, its units those of each rule in turn; `look` sees every answer and what is left behind it. */
function play(
  rules: readonly Rule[],
  history: readonly Step[],
  look: (verdict: Verdict, buckets: Buckets, cost: number, nowMs: number) => void,
): void {
  const buckets = noBuckets();
  let nowMs = 4 * Math.max(...rules.map(({ windowMs }) => windowMs));
  let last: Verdict | undefined;
  for (const [i, step] of history.entries()) {
    const rule = rules[i % rules.length]!;
    nowMs = timeOf(step, rule, nowMs, last);
    const cost = costOf(step, rule, last);
    last = ask(buckets, rules, nowMs, cost);
    look(last, buckets, cost, nowMs);
  }
}

function expectTight(
  retryAfterMs: number,
  buckets: Buckets,
  rules: readonly Rule[],
  cost: number,
  nowMs: number,
): void {
  expect(retryAfterMs).to.be.above(0);
  if (!Number.isSafeInteger(nowMs + retryAfterMs)) return;
  expect(tryAsk(buckets, rules, nowMs + retryAfterMs - 1, cost).allowed, 'one ms earlier').to.equal(false);
  expect(tryAsk(buckets, rules, nowMs + retryAfterMs, cost).allowed, 'after retryAfterMs').to.equal(true);
}

describe('a decision', () => {
  it('names the very ms at which a denied request would pass, or null exactly when it never can', () => {
    fc.assert(
      fc.property(severalRules, unsteadyHistories(), (rules, history) => {
        play(rules, history, ({ allowed, retryAfterMs }, buckets, cost, nowMs) => {
          const never = rules.some(({ limit, capacity }) => limit === 0 || cost > capacity);
          expect(retryAfterMs === null, 'null').to.equal(never);
          if (retryAfterMs === null) expect(allowed).to.equal(false);
          else if (allowed) expect(retryAfterMs).to.equal(0);
          else expectTight(retryAfterMs, buckets, rules, cost, nowMs);
        });
      }),
      { numRuns: 1_000 },
    );
  });

  it('names that ms also when it was only peeked at, under another limit than the one that is consumed under', () => {
    const askedAndPeeked = fc.constantFrom('token-bucket' as const, 'sliding-window' as const).chain((algorithm) =>
      fc.tuple(changingRules(algorithm, 1), changingRules(algorithm, 1)).map(([[asked], [other]]) => {
        const peeked = { ...other!, windowMs: asked!.windowMs };
        return { asked: asked!, peeked };
      }),
    );
    fc.assert(
      fc.property(askedAndPeeked, histories(10), ({ asked, peeked }, history) => {
        play([asked], history, (_, buckets, cost, nowMs) => {
          const { allowed, retryAfterMs } = decide(buckets, checkOf([peeked], { cost, peek: true }), nowMs);
          if (!allowed && retryAfterMs !== null) expectTight(retryAfterMs, buckets, [peeked], cost, nowMs);
        });
      }),
      { numRuns: 500 },
    );
  });

  it('says truly how much is left, and when nothing of the consumption is', () => {
    fc.assert(
      fc.property(severalRules, unsteadyHistories(), (rules, history) => {
        play(rules, history, (verdict, buckets, _, nowMs) => {
          const figures: readonly (LimitStats | Verdict)[] = verdict.limits ?? [verdict];
          for (const [i, { remaining }] of figures.entries()) {
            const rule = rules[i]!;
            if (remaining <= 20) expect(drain(structuredClone(buckets), rule, nowMs), 'one by one').to.equal(remaining);
            if (remaining > 0)
              expect(tryAsk(buckets, rule, nowMs, remaining).allowed, 'all that remains').to.equal(true);
            expect(tryAsk(buckets, rule, nowMs, remaining + 1).allowed, 'one more than remains').to.equal(false);
          }
          const restsAtMs = nowMs + verdict.resetMs;
          if (!Number.isSafeInteger(restsAtMs)) return;
          expect(isIdle(structuredClone(buckets), restsAtMs), 'at rest').to.equal(true);
          if (verdict.resetMs === 0) return;
          expect(isIdle(structuredClone(buckets), restsAtMs - 1), 'at rest one ms earlier').to.equal(false);
        });
      }),
      { numRuns: 1_000 },
    );
  });

  it('on several limits is allowed when each of them would allow it by itself, and charges all of them or none', () => {
    fc.assert(
      fc.property(severalRules, histories(), (rules, history) => {
        const alone = rules.map(noBuckets);
        play(rules, history, ({ allowed, limits }, _, cost, nowMs) => {
          const each = rules.map((rule, i) => tryAsk(alone[i]!, rule, nowMs, cost));
          expect(allowed).to.equal(each.every((one) => one.allowed));
          if (allowed) rules.forEach((rule, i) => ask(alone[i]!, rule, nowMs, cost));
          limits?.forEach(({ remaining, resetMs }, i) => {
            const peeked = decide(alone[i]!, checkOf([rules[i]!], { peek: true }), nowMs);
            expect({ remaining, resetMs }).to.deep.equal({ remaining: peeked.remaining, resetMs: peeked.resetMs });
          });
        });
      }),
      { numRuns: 1_000 },
    );
  });

  it('shows the limit that denies longest, or else the one with the least left, and each in the order they were asked', () => {
    const perSecond = tokenBucket(2, 1_000);
    const perMinute = slidingWindow(3, 60_000);
    const never = tokenBucket(0, 3_600_000);
    const buckets = noBuckets();
    const first = ask(buckets, [perMinute, perSecond], 0);
    expect(first).to.deep.include({ allowed: true, limit: 2, remaining: 1, retryAfterMs: 0, resetMs: 60_000 });
    expect(first.limits).to.deep.equal([
      { algorithm: 'sliding-window', windowMs: 60_000, limit: 3, remaining: 2, retryAfterMs: 0, resetMs: 60_000 },
      { algorithm: 'token-bucket', windowMs: 1_000, limit: 2, remaining: 1, retryAfterMs: 0, resetMs: 500 },
    ]);
    ask(buckets, [perMinute, perSecond], 0);
    const second = ask(buckets, [perMinute, perSecond], 0);
    expect(second).to.deep.include({ allowed: false, limit: 2, remaining: 0, retryAfterMs: 500, resetMs: 60_000 });
    expect(second.limits!.map(({ retryAfterMs }) => retryAfterMs)).to.deep.equal([0, 500]);
    ask(buckets, [perMinute, perSecond], 500);
    const third = ask(buckets, [perMinute, perSecond], 500);
    expect(third).to.deep.include({ allowed: false, limit: 3, remaining: 0, retryAfterMs: 59_500 });
    const fourth = ask(buckets, [perMinute, never, perSecond], 500);
    expect(fourth).to.deep.include({ allowed: false, limit: 0, remaining: 0, retryAfterMs: null });
  });

  it('shows the first of limits that are equally tight', () => {
    const buckets = noBuckets();
    const rules = [tokenBucket(1, 1_000, 5), slidingWindow(5, 60_000), tokenBucket(2, 2_000, 5)];
    expect(ask(buckets, rules, 0).limit).to.equal(1);
    expect(ask(buckets, [...rules].reverse(), 0).limit).to.equal(2);
  });

  it('has no wait under a limit that is new to the client, though another denies', () => {
    const buckets = noBuckets();
    ask(buckets, tokenBucket(1, 1_000), 0);
    const { allowed, retryAfterMs, limits } = ask(buckets, [slidingWindow(5, 60_000), tokenBucket(1, 1_000)], 0);
    expect({ allowed, retryAfterMs }).to.deep.equal({ allowed: false, retryAfterMs: 1_000 });
    expect(limits!.map((one) => one.retryAfterMs)).to.deep.equal([0, 1_000]);
  });
});
