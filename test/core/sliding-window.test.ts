import { expect } from 'chai';
import fc from 'fast-check';
import { isIdle } from '../../src/limits/bucket/bucket.js';
import type { Verdict } from '../../src/limits/decide/decide.js';
import { MAX_LIMIT, MAX_WINDOW_MS } from '../../src/limits/bucket/rule.js';
import { changingRules, costOf, timeOf, unsteadyHistories, windowRules } from '../support/histories.js';
import { WindowLog } from '../support/models.js';
import { ask, drain, noBuckets, slidingWindow, tryAsk } from '../support/rules.js';

/** How much longer than the window anything may count: less than window/32. */
const lingerMs = (windowMs: number): number => Math.ceil(windowMs / 32) - 1;

describe('sliding window', () => {
  it('never sees more than the limit in a span of the window, nor counts anything for window/32 longer than that', () => {
    fc.assert(
      fc.property(
        changingRules('sliding-window', 3),
        unsteadyHistories(60),
        fc.nat(1e6),
        (rules, history, offsetMs) => {
          const { windowMs } = rules[0]!;
          const buckets = noBuckets();
          const log = new WindowLog();
          let nowMs = 4 * windowMs + offsetMs;
          let last: Verdict | undefined;
          for (const [i, step] of history.entries()) {
            const rule = rules[i % rules.length]!;
            nowMs = timeOf(step, rule, nowMs, last);
            const cost = costOf(step, rule, last);
            last = ask(buckets, rule, nowMs, cost);
            if (last.allowed) {
              expect(log.used(windowMs, nowMs) + cost, `admitted at ${nowMs}`).to.be.at.most(rule.limit);
              log.admit(cost);
            } else {
              const lingering = log.used(windowMs, nowMs, lingerMs(windowMs));
              expect(lingering + cost, `denied at ${nowMs}`).to.be.above(rule.limit);
            }
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });

  for (const [limit, windowMs, cost] of [
    [1, 1, 1],
    [3, 1_000, 1],
    [7, 86_400_000, 1],
    [200_000, MAX_WINDOW_MS, 1],
    [MAX_LIMIT, 31, 4_000],
  ] as const) {
    it(`lets ${limit} pass at one instant, by ${cost}, of ${limit} per ${windowMs} ms, and again a window later`, () => {
      const rule = slidingWindow(limit, windowMs);
      const buckets = noBuckets();
      for (const nowMs of [12_345, 12_345 + windowMs + lingerMs(windowMs)]) {
        expect(drain(buckets, rule, nowMs, cost)).to.equal(limit);
      }
    });
  }

  it('is empty again after any history when it says so, and counts something one ms earlier', () => {
    fc.assert(
      fc.property(windowRules, unsteadyHistories(), (rule, history) => {
        const buckets = noBuckets();
        let nowMs = 4 * rule.windowMs;
        let last: Verdict | undefined;
        for (const step of history) {
          nowMs = timeOf(step, rule, nowMs, last);
          last = ask(buckets, rule, nowMs, costOf(step, rule, last));
        }
        const { resetMs } = last!;
        if (resetMs > 0) {
          expect(isIdle(structuredClone(buckets), nowMs + resetMs - 1), 'at rest one ms earlier').to.equal(false);
          expect(tryAsk(buckets, rule, nowMs + resetMs - 1, rule.limit).allowed, 'empty one ms earlier').to.equal(
            false,
          );
        }
        expect(isIdle(structuredClone(buckets), nowMs + resetMs), 'at rest').to.equal(true);
        expect(ask(buckets, rule, nowMs + resetMs, rule.limit).allowed, 'empty').to.equal(true);
      }),
      { numRuns: 1_000 },
    );
  });

  it('keeps at most 34 counts, however many requests it admits', () => {
    for (const windowMs of [1, 31, 32, 33, 63, 64, 65, 1_000, 10_007]) {
      const rule = slidingWindow(MAX_LIMIT, windowMs);
      const buckets = noBuckets();
      for (let nowMs = 5; nowMs < 5 + 3 * windowMs; nowMs += 1) {
        ask(buckets, rule, nowMs);
        const bucket = buckets.first!;
        expect(bucket.algorithm === 'sliding-window' && bucket.counts.length, `${windowMs} ms`).to.be.within(1, 34);
      }
    }
  });
});
