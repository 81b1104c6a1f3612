import { expect } from 'chai';
import {
  addBucket,
  advance,
  dropLeases,
  fits,
  hasLeases,
  hasLent,
  isIdle,
  lend,
  makeRoom,
  merge,
  remaining,
  resetMs,
  take,
  takeBack,
  usedUp,
  waitMs,
  type Bucket,
  type Buckets,
} from '../../src/limits/bucket/bucket.js';
import { ask, noBuckets, slidingWindow, tokenBucket } from '../support/rules.js';

const lease = (tokens: number, endMs: number, id = 'a') => ({ id, tokens, endMs, spent: undefined });

function bucketsOf({ first }: Buckets): Bucket[] {
  const list: Bucket[] = [];
  for (let bucket = first; bucket !== undefined; bucket = bucket.next) list.push(bucket);
  return list;
}

describe('the buckets of a client', () => {
  it('are at most 64: the oldest is dropped, and counted if its limit still held', () => {
    const buckets = noBuckets();
    const rules = Array.from({ length: 66 }, (_, i) => tokenBucket(10, 1_000_000 + i));
    const forgotten = rules.map((rule) => ask(buckets, rule, 0, 10).forgotten);
    expect(forgotten.slice(0, 64).every((count) => count === 0)).to.equal(true);
    expect(forgotten.slice(64)).to.deep.equal([1, 1]);
    expect(bucketsOf(buckets).map(({ rule }) => rule)).to.deep.equal(rules.slice(2).reverse());
    expect(ask(buckets, rules[2]!, 0).allowed).to.equal(false);
    expect(ask(buckets, rules[0]!, 0, 10).allowed).to.equal(true);
    const both = [tokenBucket(1, 2_000_000), slidingWindow(1, 2_000_000)];
    expect(ask(buckets, both, 0).forgotten, 'of several limits').to.equal(2);
  });

  it('drop those at rest for free, wherever they are among the others', () => {
    for (const resting of [0, 1, 2]) {
      const buckets = noBuckets();
      const rules = [1_000, 2_000, 3_000].map((windowMs, i) => tokenBucket(i === resting ? 1_000 : 1, windowMs));
      for (const rule of rules) ask(buckets, rule, 0);
      expect(makeRoom(buckets, 500)).to.equal(0);
      expect(bucketsOf(buckets).map(({ rule }) => rule)).to.deep.equal(rules.filter((_, i) => i !== resting).reverse());
    }
  });

  it('drop the oldest first where fewer are to stay, and say how many of them still counted', () => {
    const buckets = noBuckets();
    const rules = [1_000, 2_000, 3_000].map((windowMs) => slidingWindow(5, windowMs));
    for (const rule of rules) ask(buckets, rule, 0);
    expect(makeRoom(buckets, 500, 1)).to.equal(2);
    expect(bucketsOf(buckets).map(({ rule }) => rule)).to.deep.equal([rules[2]]);
  });

  it('know whether any of them has lent tokens, and whether any remembers a lease', () => {
    const buckets = noBuckets();
    expect([hasLent(buckets), hasLeases(buckets)]).to.deep.equal([false, false]);
    for (const windowMs of [1_000, 2_000, 3_000]) ask(buckets, tokenBucket(10, windowMs), 0);
    expect([hasLent(buckets), hasLeases(buckets)]).to.deep.equal([false, false]);
    const oldest = bucketsOf(buckets)[2]!;
    lend(oldest, lease(4, 100));
    expect([hasLent(buckets), hasLeases(buckets)]).to.deep.equal([true, true]);
    takeBack(oldest, 'a', 4, 50);
    expect([hasLent(buckets), hasLeases(buckets)]).to.deep.equal([false, true]);
    advance(oldest, 600);
    expect([hasLent(buckets), hasLeases(buckets)]).to.deep.equal([false, false]);
  });

  it('have all their tokens again when their leases are dropped', () => {
    const buckets = noBuckets();
    const [minute, hour] = [tokenBucket(10, 60_000), slidingWindow(10, 3_600_000)];
    ask(buckets, [minute, hour], 0);
    for (const [i, bucket] of bucketsOf(buckets).entries()) lend(bucket, lease(9, 5_000, `${i}`));
    expect(ask(buckets, [minute, hour], 0).allowed).to.equal(false);
    dropLeases(buckets);
    expect(hasLeases(buckets)).to.equal(false);
    expect(ask(buckets, [minute, hour], 0, 9).allowed).to.equal(true);
  });

  it('are at rest only when nothing is owed and nothing lent in any of them', () => {
    const buckets = noBuckets();
    expect(isIdle(buckets, 0)).to.equal(true);
    ask(buckets, [slidingWindow(10, 60_000), tokenBucket(10, 1_000)], 0);
    expect(isIdle(buckets, 59_999)).to.equal(false);
    expect(isIdle(buckets, 61_876)).to.equal(true);
    lend(buckets.first!, lease(1, 90_000));
    expect(isIdle(buckets, 61_876)).to.equal(false);
  });

  it('are used up as far as the one of which the largest part is used', () => {
    const buckets = noBuckets();
    expect(usedUp(buckets, 0)).to.equal(0);
    ask(buckets, tokenBucket(10, 1_000, 20), 0, 5);
    expect(usedUp(buckets, 0)).to.equal(0.25);
    ask(buckets, slidingWindow(10, 60_000), 0, 6);
    expect(usedUp(buckets, 0)).to.equal(0.6);
    ask(buckets, tokenBucket(4, 3_600_000), 0, 1);
    expect(usedUp(buckets, 0)).to.equal(0.6);
    expect(usedUp(buckets, 70_000)).to.be.closeTo(0.25, 0.001);
  });
});

describe('a bucket', () => {
  it('is the client itself where it can be: a token bucket is no second object', () => {
    const buckets = noBuckets();
    ask(buckets, slidingWindow(10, 60_000), 0);
    ask(buckets, tokenBucket(10, 60_000), 0);
    expect(buckets.first).to.equal(buckets);
    ask(buckets, tokenBucket(10, 70_000), 0);
    expect(buckets.first).not.to.equal(buckets);
    expect(bucketsOf(buckets).map(({ rule }) => rule.windowMs)).to.deep.equal([70_000, 60_000, 60_000]);
  });

  it('owes nothing when it is used again, whatever was owed when it was dropped', () => {
    const buckets = noBuckets();
    ask(buckets, tokenBucket(10, 60_000), 0, 10);
    expect(makeRoom(buckets, 1, 0)).to.equal(1);
    expect(ask(buckets, tokenBucket(10, 60_000), 1, 10)).to.include({ allowed: true, remaining: 0 });
  });

  it('takes of a part of a token none: a whole one is to be there', () => {
    const rule = tokenBucket(1, 1_000, 10);
    const buckets = noBuckets();
    ask(buckets, rule, 0, 5);
    const bucket = buckets.first!;
    advance(bucket, 999);
    expect([fits(bucket, rule, 5), fits(bucket, rule, 6), remaining(bucket, rule)]).to.deep.equal([true, false, 5]);
    advance(bucket, 1_000);
    expect([fits(bucket, rule, 6), fits(bucket, rule, 7), remaining(bucket, rule)]).to.deep.equal([true, false, 6]);
  });

  it('with tokens lent rests and waits as if all were spent when their leases end, in whatever order', () => {
    const rule = slidingWindow(100, 32_000);
    for (const ends of [
      [5_000, 1_500],
      [1_500, 5_000],
    ]) {
      const buckets = noBuckets();
      ask(buckets, rule, 0, 10);
      const bucket = buckets.first!;
      ends.forEach((endMs, i) => lend(bucket, lease(30, endMs, `${i}`)));
      advance(bucket, 0);
      // 10 count until 32 s, 30 from 1.5 s until 34 s (on the grid of 1 s), and 30 from 5 s until 37 s.
      expect(resetMs(bucket, 0)).to.equal(37_000);
      // At 5 s no lease is open: in the best case all 60 are back.
      expect(waitMs(bucket, rule, 80, 0)).to.equal(5_000);
      expect(waitMs(bucket, rule, 90, 0)).to.equal(5_000);
      expect(waitMs(bucket, rule, 91, 0)).to.equal(32_000);
      take(bucket, 30);
      expect(waitMs(bucket, rule, 61, 0)).to.equal(32_000);
      expect(bucket).to.deep.include({ counts: [40] });
    }
  });

  it('waits no longer for what is owed to end than it takes, though tokens are lent for longer', () => {
    const rule = slidingWindow(100, 1_600);
    for (const ends of [
      [500, 5_000],
      [5_000, 500],
    ]) {
      const buckets = noBuckets();
      ask(buckets, rule, 0, 40);
      const bucket = buckets.first!;
      lend(bucket, lease(30, 9_000, 'over'));
      ends.forEach((endMs, i) => lend(bucket, lease(30, endMs, `${i}`)));
      takeBack(bucket, 'over', 30, 0);
      expect(waitMs(bucket, rule, 30, 0)).to.equal(1_600);
      // 30 more are spent at 500 ms at the latest, and end 1,600 ms later.
      expect(waitMs(bucket, rule, 50, 0)).to.equal(2_100);
      expect(resetMs(bucket, 0)).to.equal(6_600);
    }
  });

  it('is as if it had never lent what comes back whole', () => {
    for (const rule of [tokenBucket(10, 60_000), slidingWindow(10, 60_000)]) {
      const buckets = noBuckets();
      const bucket = addBucket(buckets, rule, 0);
      lend(bucket, lease(5, 800));
      const copy = structuredClone(bucket);
      expect(takeBack(bucket, 'a', 5, 100)).to.equal(true);
      merge(copy, structuredClone(bucket), 100);
      for (const one of [bucket, copy]) expect(resetMs(one, 100)).to.equal(0);
      expect(isIdle(buckets, 100)).to.equal(true);
    }
  });

  it('that owes nothing has no wait to its rest, though the clock went back', () => {
    for (const rule of [tokenBucket(10, 1_000), slidingWindow(10, 1_000)]) {
      const bucket = addBucket(noBuckets(), rule, 500);
      expect(resetMs(bucket, 300)).to.equal(0);
    }
  });

  it('waits for the latest of the open leases, not for those that are over', () => {
    const rule = tokenBucket(100, 1e6);
    const buckets = noBuckets();
    ask(buckets, rule, 0);
    const bucket = buckets.first!;
    [lease(30, 800, 'a'), lease(30, 400, 'b'), lease(1, 5_000, 'c')].forEach((one) => lend(bucket, one));
    takeBack(bucket, 'c', 1, 0);
    expect(waitMs(bucket, rule, 90, 0)).to.equal(800);
    // The clock went back: the wait covers the way to where it was.
    advance(bucket, 200);
    expect(waitMs(bucket, rule, 90, 150)).to.equal(650);
  });

  it('takes the latest rule of two copies, whichever of them learns of it', () => {
    const [old, middle, last] = [tokenBucket(10, 60_000), tokenBucket(5, 60_000), tokenBucket(7, 60_000)];
    const ahead = noBuckets();
    for (const rule of [old, middle, last]) ask(ahead, rule, 0);
    const behind = noBuckets();
    for (const rule of [old, middle]) ask(behind, rule, 0);
    const [changed, unchanged] = [structuredClone(behind.first!), structuredClone(ahead.first!)];
    merge(changed, structuredClone(ahead.first!), 0);
    merge(unchanged, structuredClone(behind.first!), 0);
    for (const bucket of [changed, unchanged])
      expect(bucket).to.deep.include({ rule: last, ruleChanges: 2, tokens: 3 });
  });

  it('that was ahead of the clock stays there when merged, so that no interval is refilled twice', () => {
    const rule = tokenBucket(10, 1_000);
    const [early, late] = [noBuckets(), noBuckets()];
    ask(early, rule, 100, 10);
    ask(late, rule, 500, 10);
    merge(early.first!, late.first!, 200);
    advance(early.first!, 500);
    expect(remaining(early.first!, rule)).to.equal(0);
  });
});
