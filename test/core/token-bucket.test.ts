import { expect } from 'chai';
import fc from 'fast-check';
import { isIdle } from '../../src/limits/bucket/bucket.js';
import type { Verdict } from '../../src/limits/decide/decide.js';
import { MAX_LIMIT, MAX_WINDOW_MS, ruleOf } from '../../src/limits/bucket/rule.js';
import { advance, waitMs } from '../../src/limits/bucket/token-bucket.js';
import { changingRules, costOf, histories, timeOf, tokenRules, unsteadyHistories } from '../support/histories.js';
import { TokenLog } from '../support/models.js';
import { ask, drain, noBuckets, tokenBucket, tryAsk } from '../support/rules.js';

const DAY_MS = 86_400_000;

describe('token bucket', () => {
  it('admits whenever no span of time has seen more than the burst and its refill, and only then', () => {
    fc.assert(
      fc.property(tokenRules, histories(40), fc.nat(1e12), (rule, history, startMs) => {
        const buckets = noBuckets();
        const log = new TokenLog();
        let nowMs = startMs;
        let last: Verdict | undefined;
        for (const step of history) {
          nowMs = timeOf(step, rule, nowMs, last);
          const cost = costOf(step, rule, last);
          last = ask(buckets, rule, nowMs, cost);
          expect(last.allowed, `${cost} at ${nowMs}`).to.equal(log.ask(rule, cost, nowMs));
        }
      }),
      { numRuns: 1_500 },
    );
  });

  it('stays exact when limit and burst change between requests and the clock steps back and forth', () => {
    fc.assert(
      fc.property(changingRules('token-bucket', 5), unsteadyHistories(40), (rules, history) => {
        const buckets = noBuckets();
        const log = new TokenLog();
        let nowMs = 4 * rules[0]!.windowMs;
        let last: Verdict | undefined;
        for (const [i, step] of history.entries()) {
          const rule = rules[i % rules.length]!;
          nowMs = timeOf(step, rule, nowMs, last);
          const cost = costOf(step, rule, last);
          last = ask(buckets, rule, nowMs, cost);
          expect(last.allowed, `${cost} of ${rule.limit} at ${nowMs}`).to.equal(log.ask(rule, cost, nowMs));
        }
      }),
      { numRuns: 1_500 },
    );
  });

  it('keeps the parts of its debt below a token, whatever comes back', () => {
    const rule = ruleOf('token-bucket', 2, 1_000, 5, undefined);
    for (const [tokens, part, elapsedMs, left] of [
      [2, 0, 500, { tokens: 1, part: 0 }],
      [2, 0, 1, { tokens: 1, part: 998 }],
      [2, 1, 1, { tokens: 1, part: 999 }],
      [2, 2, 1, { tokens: 2, part: 0 }],
      [0, 1, 1, { tokens: 0, part: 0 }],
      [1, 0, 1_000, { tokens: 0, part: 0 }],
    ] as const) {
      const debt = { tokens, part, atMs: 10 };
      advance(debt, rule, 10 + elapsedMs);
      expect(debt, `${tokens} and ${part} after ${elapsedMs} ms`).to.deep.equal({ ...left, atMs: 10 + elapsedMs });
    }
  });

  it('names waits that are exact above 2^53 parts too', () => {
    const rule = ruleOf('token-bucket', 7, MAX_WINDOW_MS, MAX_LIMIT, undefined);
    const parts = BigInt(MAX_LIMIT) * BigInt(MAX_WINDOW_MS);
    for (const part of [0, 1, 6, 7]) {
      const wait = waitMs({ tokens: MAX_LIMIT, part, atMs: 0 }, rule, 0);
      expect(wait).to.equal(Number((parts + BigInt(part) + 6n) / 7n));
    }
    // Twelve of 7 a window: ⌈12/7⌉ windows, and not a ms more or less.
    expect(waitMs({ tokens: 12, part: 0, atMs: 0 }, rule, 0)).to.equal(Math.ceil((12 * MAX_WINDOW_MS) / 7));
  });

  const full: [limit: number, windowMs: number, cost: number][] = [
    [1, 1, 1],
    [1, MAX_WINDOW_MS, 1],
    [3, 1_000, 1],
    [7, DAY_MS, 1],
    [997, 10_007, 1],
    [999_983, DAY_MS - 1, 1],
    [1_000_000, 1, 1],
    [1_000_000, MAX_WINDOW_MS, 1],
    [MAX_LIMIT, 7, 1_000],
    [MAX_LIMIT, MAX_WINDOW_MS, 4_000],
  ];
  for (const [limit, windowMs, cost] of full) {
    it(`lets ${limit} pass at one instant, by ${cost}, of ${limit} per ${windowMs} ms`, () => {
      expect(drain(noBuckets(), tokenBucket(limit, windowMs), 12_345, cost)).to.equal(limit);
    });
  }

  it('lets exactly the burst pass at one instant, and from then on the limit', () => {
    const rule = tokenBucket(3, 1_000, 10);
    const buckets = noBuckets();
    expect(drain(buckets, rule, 0)).to.equal(10);
    expect(drain(buckets, rule, 333)).to.equal(0);
    expect(drain(buckets, rule, 334)).to.equal(1);
    expect(drain(buckets, rule, 1_000)).to.equal(2);
    expect(drain(buckets, rule, 100_000)).to.equal(10);
  });

  it('is full again after any history exactly when it says so, not one ms earlier', () => {
    fc.assert(
      fc.property(tokenRules, histories(), (rule, history) => {
        const buckets = noBuckets();
        let nowMs = 0;
        let last: Verdict | undefined;
        for (const step of history) {
          nowMs = timeOf(step, rule, nowMs, last);
          last = ask(buckets, rule, nowMs, costOf(step, rule, last));
        }
        const { resetMs } = last!;
        fc.pre(Number.isSafeInteger(nowMs + resetMs));
        if (resetMs > 0) {
          expect(isIdle(structuredClone(buckets), nowMs + resetMs - 1), 'at rest one ms earlier').to.equal(false);
          expect(tryAsk(buckets, rule, nowMs + resetMs - 1, rule.capacity).allowed, 'full one ms earlier').to.equal(
            false,
          );
        }
        expect(isIdle(structuredClone(buckets), nowMs + resetMs), 'at rest').to.equal(true);
        expect(ask(buckets, rule, nowMs + resetMs, rule.capacity).allowed, 'full').to.equal(true);
      }),
      { numRuns: 1_000 },
    );
  });

  it('lets exactly the limit pass again once it has rested, for limits and windows that do not divide', () => {
    for (const [limit, windowMs] of [
      [3, 1_000],
      [7, DAY_MS],
      [997, 10_007],
      [6_007, 1_000_003],
    ] as const) {
      const rule = tokenBucket(limit, windowMs);
      const buckets = noBuckets();
      let nowMs = 1;
      // A third, the rest a little later, and the refill looked at in between at odd times.
      ask(buckets, rule, nowMs, Math.ceil(limit / 3));
      for (let i = 1; i < 50; i += 1) ask(buckets, rule, (nowMs += (i * 37) % 13), limit);
      drain(buckets, rule, nowMs);
      nowMs += ask(buckets, rule, nowMs).resetMs;
      expect(drain(buckets, rule, nowMs), `${limit} per ${windowMs} ms`).to.equal(limit);
    }
  });

  it('pays no refill out twice, however often it is looked at', () => {
    const rule = tokenBucket(7, DAY_MS, 1_000);
    const buckets = noBuckets();
    expect(drain(buckets, rule, 0)).to.equal(1_000);
    let passed = 0;
    for (let nowMs = 0; nowMs <= DAY_MS; nowMs += 1_009) passed += drain(buckets, rule, nowMs);
    expect(passed).to.equal(6);
    expect(drain(buckets, rule, DAY_MS)).to.equal(1);
  });
});
