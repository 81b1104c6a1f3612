import { expect } from 'chai';
import { lend, remaining, resetMs, advance, takeBack, waitMs, type Bucket } from '../../src/limits/bucket/bucket.js';
import {
  addLease,
  endLeases,
  endOf,
  leasesFrom,
  leftMs,
  mergeLeases,
  type Lease,
  type Leases,
} from '../../src/limits/bucket/lease.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
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

const lease = (id: string, tokens: number, endMs: number, spent?: number): Lease => ({ id, tokens, endMs, spent });

describe('the leases of a bucket', () => {
  it('travel as the ms that are left, of one that is over until it is forgotten', () => {
    expect(leftMs(lease('a', 5, 900), 300)).to.equal(600);
    expect(leftMs(lease('a', 5, 900), 1_000)).to.equal(0);
    expect(leftMs(lease('a', 5, 900, 2), 300)).to.equal(1_100);
    expect(leftMs(lease('a', 5, 900, 2), 1_399)).to.equal(1);
    expect(leftMs(lease('a', 5, 900, 2), 1_401)).to.equal(0);
    for (const spent of [undefined, 2]) {
      const left = leftMs(lease('a', 5, 900, spent), 300);
      expect(endOf({ leftMs: left, spent }, 5_300)).to.equal(5_900);
    }
  });

  it('end in the order of their ends, each once, and are forgotten 500 ms after that was noticed', () => {
    const ended: string[] = [];
    const end = (nowMs: number, leases: Leases): Leases | undefined =>
      endLeases(leases, nowMs, ({ id, spent }) => void ended.push(`${id} ${spent} at ${nowMs}`));
    const all = leasesFrom([lease('late', 5, 900), lease('later', 7, 2_000), lease('soon', 6, 800)])!;
    expect([all.lent, all.dueMs]).to.deep.equal([18, 800]);
    expect(end(799, all)).to.equal(all);
    const one = end(800, all)!;
    expect([one.lent, one.dueMs, ended]).to.deep.equal([12, 900, ['soon 6 at 800']]);
    const two = end(1_299, one)!;
    expect([two.lent, two.dueMs]).to.deep.equal([7, 1_300]);
    const three = end(1_300, two)!;
    expect(three.list.map(({ id }) => id)).to.deep.equal(['late', 'later']);
    const four = end(2_500, three)!;
    expect(four.list.map(({ id }) => id)).to.deep.equal(['later']);
    expect(end(2_999, four)).to.equal(four);
    expect(end(3_000, four)).to.equal(undefined);
    expect(ended).to.deep.equal(['soon 6 at 800', 'late 5 at 1299', 'later 7 at 2500']);
    ended.length = 0;
    end(5_000, leasesFrom([lease('late', 5, 900), lease('soon', 6, 800)])!);
    expect(ended).to.deep.equal(['soon 6 at 5000', 'late 5 at 5000']);
  });

  it('are those that either copy knows', () => {
    const never = (): never => expect.fail('nothing is owed');
    const [a, b] = [addLease(undefined, lease('a', 5, 900)), addLease(undefined, lease('b', 6, 800))];
    expect(mergeLeases(undefined, undefined, never)).to.equal(undefined);
    expect(mergeLeases(a, undefined, never)).to.equal(a);
    expect(mergeLeases(undefined, b, never)).to.equal(b);
    expect(mergeLeases(a, b, never)).to.deep.equal({ list: [...a.list, ...b.list], lent: 11, dueMs: 800 });
  });

  for (const [what, ours, theirs, merged, owed] of [
    ['the later end of two that are open', [900], [1_000], [1_000], []],
    ['what is spent of one that is over elsewhere, which this side owes', [900], [700, 3], [700, 3], ['a 3']],
    ['what is spent of one that is over here, which the other side owes', [700, 3], [900], [700, 3], ['b 3']],
    ['the more that is spent of two that are over, and the earlier end', [700, 3], [900, 2], [700, 3], []],
    ['the more that is spent elsewhere, and the earlier end', [900, 2], [700, 3], [700, 3], []],
  ] as const) {
    it(`merge to ${what}`, () => {
      const owes: string[] = [];
      const [a, b, expected] = [ours, theirs, merged].map(([endMs, spent]) =>
        leasesFrom([lease('x', 5, endMs, spent)]),
      );
      expect(mergeLeases(a, b, (side, tokens) => void owes.push(`${side} ${tokens}`))).to.deep.equal(expected);
      expect(owes).to.deep.equal(owed);
    });
  }
});
