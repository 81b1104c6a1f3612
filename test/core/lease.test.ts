import { expect } from 'chai';
import { lend, remaining, resetMs, advance, takeBack, waitMs } from '../../src/core/bucket/bucket.js';
import type { Bucket } from '../../src/core/bucket/bucket.js';
import type { Rule } from '../../src/core/bucket/rule.js';
import { ask, noBuckets, slidingWindow, tokenBucket } from '../support/rules.js';

const END_MS = 800;

/** A bucket of which 10 of 100 are spent, and 40 lent until `END_MS`. */
function lentFrom(rule: Rule): Bucket {
  const buckets = noBuckets();
  ask(buckets, rule, 0, 10);
  lend(buckets.first!, { id: 'a', tokens: 40, endMs: END_MS, spent: undefined });
  return buckets.first!;
}

function leftAt(bucket: Bucket, rule: Rule, nowMs: number): number {
  advance(bucket, nowMs);
  return remaining(bucket, rule);
}

describe('a lease', () => {
  for (const rule of [tokenBucket(100, 100_000), slidingWindow(100, 100_000)]) {
    describe(`of a ${rule.algorithm}`, () => {
      it('is out of the bucket until it comes back', () => {
        const bucket = lentFrom(rule);
        expect(leftAt(bucket, rule, 0)).to.equal(50);
        expect(takeBack(bucket, 'a', 30, 100)).to.equal(true);
        expect(leftAt(bucket, rule, 100)).to.equal(80);
      });

      it('comes back once, and with no more than it had', () => {
        const bucket = lentFrom(rule);
        expect(takeBack(bucket, 'b', 40, 100)).to.equal(false);
        expect(leftAt(bucket, rule, 100)).to.equal(50);
        expect(takeBack(bucket, 'a', 1_000, 100)).to.equal(true);
        expect(takeBack(bucket, 'a', 40, 100)).to.equal(false);
        expect(leftAt(bucket, rule, 100)).to.equal(90);
      });

      it('counts as spent once it is over', () => {
        const bucket = lentFrom(rule);
        expect(leftAt(bucket, rule, END_MS)).to.equal(50);
        expect(takeBack(bucket, 'a', 40, END_MS)).to.equal(false);
        expect(leftAt(bucket, rule, END_MS + 90_000)).to.equal(rule.algorithm === 'token-bucket' ? 100 : 50);
        expect(leftAt(bucket, rule, END_MS + 110_000)).to.equal(100);
      });
    });
  }

  it('decays no sooner than it can be spent', () => {
    const rule = tokenBucket(1_000, 1_000, 100);
    const bucket = lentFrom(rule);
    expect(leftAt(bucket, rule, 10)).to.equal(60);
    expect(leftAt(bucket, rule, END_MS - 1)).to.equal(60);
    expect(leftAt(bucket, rule, END_MS + 1)).to.equal(61);
    expect(leftAt(bucket, rule, END_MS + 40)).to.equal(100);
  });

  it('may be unspent in the end: what it holds back could pass when it is over', () => {
    const rule = tokenBucket(100, 100_000);
    const bucket = lentFrom(rule);
    advance(bucket, 0);
    expect(waitMs(bucket, rule, 60, 0)).to.equal(END_MS);
    expect(waitMs(bucket, rule, 91, 0)).to.equal(1_000);
    // What is spent by others would be back sooner.
    expect(waitMs(lentFrom(tokenBucket(100, 1_000)), tokenBucket(100, 1_000), 60, 0)).to.equal(100);
    expect(resetMs(bucket, 0)).to.equal(50_000);
  });
});
