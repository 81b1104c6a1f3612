import { expect } from 'chai';
import fc from 'fast-check';
import { decide, type Verdict } from '../../src/limits/decide/decide.js';
import { costOf, histories, rules, severalRules, timeOf } from '../support/histories.js';
import {
  ask,
  decideAndKeep,
  checkOf,
  consumed,
  drain,
  noBuckets,
  slidingWindow,
  tokenBucket,
} from '../support/rules.js';

describe('consumption', () => {
  it('is as if it had never been asked after a denial, and after a peek under whatever limit', () => {
    const peeks = fc.array(fc.tuple(rules, fc.boolean()), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(severalRules, peeks, histories(), (asked, peeked, history) => {
        const [all, passed] = [noBuckets(), noBuckets()];
        let nowMs = 0;
        let last: Verdict | undefined;
        for (const [i, step] of history.entries()) {
          const rule = asked[i % asked.length]!;
          nowMs = timeOf(step, rule, nowMs, last);
          const cost = costOf(step, rule, last);
          // Now a rule of its own, now another limit of a bucket that is in use.
          const [other, sameBucket] = peeked[i % peeked.length]!;
          const peek = sameBucket ? { ...rule, limit: other.limit, capacity: other.capacity } : other;
          decide(all, checkOf([peek], { cost, peek: true }), nowMs);
          last = ask(all, asked, nowMs, cost);
          if (last.allowed) expect(ask(passed, asked, nowMs, cost)).to.deep.equal(last);
          expect(consumed(all, nowMs)).to.deep.equal(consumed(passed, nowMs));
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('leaves nothing behind of a client who was only denied or peeked at', () => {
    const buckets = noBuckets();
    expect(ask(buckets, tokenBucket(0, 1_000), 0).allowed).to.equal(false);
    expect(ask(buckets, slidingWindow(5, 1_000), 0, 6).allowed).to.equal(false);
    expect(ask(buckets, [tokenBucket(5, 1_000), slidingWindow(0, 60_000)], 0).allowed).to.equal(false);
    expect(decide(buckets, checkOf([tokenBucket(5, 1_000)], { peek: true }), 0)).to.deep.equal({
      allowed: true,
      limit: 5,
      remaining: 5,
      retryAfterMs: 0,
      resetMs: 0,
      limits: undefined,
      changed: false,
      forgotten: 0,
    });
    expect(buckets.first).to.equal(undefined);
  });

  it('has changed for those who keep copies after an admission or another limit, not after a denial or a peek', () => {
    const rule = tokenBucket(5, 1_000);
    const buckets = noBuckets();
    const peek = checkOf([tokenBucket(9, 1_000)], { peek: true });
    const changes = [
      ask(buckets, rule, 0, 6),
      ask(buckets, rule, 0, 5),
      ask(buckets, rule, 0),
      decideAndKeep(buckets, peek, 0),
      ask(buckets, tokenBucket(0, 1_000), 0),
      ask(buckets, tokenBucket(4, 1_000), 0),
      ask(buckets, tokenBucket(4, 1_000), 0),
      ask(buckets, tokenBucket(4, 1_000, 5), 0),
    ].map(({ changed }) => changed);
    expect(changes).to.deep.equal([false, true, false, false, false, true, false, true]);
  });

  it('has changed also under several limits, when all admit or one of them has another limit', () => {
    const [second, minute] = [tokenBucket(5, 1_000), slidingWindow(9, 60_000)];
    const buckets = noBuckets();
    const changes = [
      ask(buckets, [second, minute], 0, 6),
      ask(buckets, [second, minute], 0, 5),
      ask(buckets, [second, minute], 0),
      decideAndKeep(buckets, checkOf([tokenBucket(9, 1_000), minute], { peek: true }), 0),
      ask(buckets, [tokenBucket(0, 1_000), minute], 0),
      ask(buckets, [second, slidingWindow(8, 60_000)], 0),
      ask(buckets, [second, slidingWindow(8, 60_000)], 0),
    ].map(({ changed }) => changed);
    expect(changes).to.deep.equal([false, true, false, false, false, true, false]);
    expect(ask(buckets, [second, minute], 1_000, 4)).to.include({ allowed: true, remaining: 0 });
  });

  it('is not that of a peek under several limits', () => {
    const [second, minute] = [tokenBucket(5, 1_000), slidingWindow(9, 60_000)];
    const buckets = noBuckets();
    expect(decide(buckets, checkOf([second, minute], { cost: 5, peek: true }), 0).allowed).to.equal(true);
    expect(buckets.first).to.equal(undefined);
  });

  it('is told apart by policy, algorithm and window, not by limit or burst', () => {
    const rule = tokenBucket(5, 1_000);
    const others = [
      tokenBucket(5, 1_001),
      slidingWindow(5, 1_000),
      { ...rule, policy: 'login' },
      { ...rule, policy: '' },
    ];
    const buckets = noBuckets();
    ask(buckets, rule, 0, 5);
    for (const other of others) expect(ask(buckets, other, 0, 5).allowed).to.equal(true);
    for (const other of others) expect(ask(buckets, other, 0).allowed).to.equal(false);
    expect(ask(buckets, tokenBucket(6, 1_000), 0, 2)).to.deep.include({ allowed: false, remaining: 1 });
    expect(ask(buckets, tokenBucket(5, 1_000, 7), 0, 2)).to.deep.include({ allowed: true, remaining: 0 });
  });

  it('is kept when limit or burst change, which apply at once, to the rate of refill too', () => {
    const buckets = noBuckets();
    expect(ask(buckets, tokenBucket(10, 1_000), 0, 8).remaining).to.equal(2);
    expect(ask(buckets, tokenBucket(100, 1_000), 0).remaining).to.equal(91);
    // 9 are owed, and 10 ms give one back at the new rate.
    expect(ask(buckets, tokenBucket(100, 1_000), 10)).to.deep.include({ remaining: 91, resetMs: 90 });
    expect(ask(buckets, tokenBucket(4, 1_000), 10)).to.deep.include({
      allowed: false,
      remaining: 0,
      retryAfterMs: 1_500,
      resetMs: 2_250,
    });
    expect(ask(buckets, tokenBucket(4, 1_000), 1_509).allowed).to.equal(false);
    expect(ask(buckets, tokenBucket(4, 1_000), 1_510).allowed).to.equal(true);
    expect(ask(buckets, tokenBucket(4, 1_000, 20), 1_510).remaining).to.equal(15);
  });

  for (const [rule, off, restMs] of [
    [tokenBucket(10, 1_000), tokenBucket(0, 1_000, 10), 1_000],
    [slidingWindow(10, 1_000), slidingWindow(0, 1_000), 1_024],
  ] as const) {
    it(`is kept, and decays on, while the limit of a ${rule.algorithm} is 0`, () => {
      const buckets = noBuckets();
      ask(buckets, rule, 0, 10);
      const denied = { allowed: false, limit: 0, remaining: 0, retryAfterMs: null };
      expect(ask(buckets, off, 0)).to.deep.include({ ...denied, resetMs: restMs });
      expect(ask(buckets, rule, 0).allowed).to.equal(false);
      expect(ask(buckets, off, 500)).to.deep.include({ ...denied, resetMs: restMs - 500 });
      expect(ask(buckets, rule, restMs, 10).allowed).to.equal(true);
    });
  }

  it('of a token bucket is not given back for an interval of the clock that came twice', () => {
    const rule = tokenBucket(10, 1_000);
    const buckets = noBuckets();
    const passed = [0, 500, 100, 400, 0, 500, 600, 300, 700].map((nowMs) => drain(buckets, rule, nowMs));
    expect(passed).to.deep.equal([10, 5, 0, 0, 0, 0, 1, 0, 1]);
    // The wait covers the way back to where the clock was.
    expect(ask(buckets, rule, 250)).to.deep.include({ retryAfterMs: 550, resetMs: 1_450 });
  });

  it('of a sliding window is not forgotten for an earlier reading of the clock', () => {
    const rule = slidingWindow(10, 1_000);
    const buckets = noBuckets();
    expect(drain(buckets, rule, 2_000)).to.equal(10);
    expect(drain(buckets, rule, 500)).to.equal(0);
    expect(drain(buckets, rule, 1_999)).to.equal(0);
    // It counts until 3,000, rounded up to the grid of 32 ms.
    expect(ask(buckets, rule, 500)).to.deep.include({ retryAfterMs: 2_508, resetMs: 2_508 });
  });

  it('under a window that is done makes room when another window is asked with', () => {
    const buckets = noBuckets();
    const lengths: number[] = [];
    for (let i = 0; i < 1_000; i += 1) {
      ask(buckets, [tokenBucket(10, 1_000 + i), slidingWindow(10, 100 + i)], i * 200);
      let length = 0;
      for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) length += 1;
      lengths.push(length);
    }
    expect(Math.max(...lengths)).to.be.at.most(12);
  });
});
