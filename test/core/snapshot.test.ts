import { expect } from 'chai';
import { lend, takeBack, type Buckets } from '../../src/limits/bucket/bucket.js';
import { agedBy, joinAged, mergeSnapshots, toLastingState, toSnapshots } from '../../src/limits/bucket/snapshot.js';
import { ask, noBuckets, slidingWindow, tokenBucket } from '../support/rules.js';

const MINUTE = tokenBucket(10, 60_000);
const WINDOW = slidingWindow(10, 32_000);

/** A client that has taken 4 and 3, and of whose minute 2 are lent for a second. */
function client(): Buckets {
  const buckets = noBuckets();
  ask(buckets, MINUTE, 0, 4);
  lend(buckets.first!, { id: 'a', tokens: 2, endMs: 1_000, spent: undefined });
  ask(buckets, WINDOW, 0, 3);
  return buckets;
}

describe('the snapshots of a client', () => {
  it('make of another node what they are of, with the leases, at its own clock', () => {
    const copy = noBuckets();
    expect(mergeSnapshots(copy, toSnapshots(client(), 500), 90_500)).to.equal(0);
    for (const rule of [MINUTE, WINDOW]) {
      const [one, other] = [ask(client(), rule, 700, 20), ask(copy, rule, 90_700, 20)];
      expect(other).to.include({ remaining: one.remaining, resetMs: one.resetMs });
    }
    expect(ask(copy, MINUTE, 90_700, 4).allowed).to.equal(true);
    expect(ask(copy, MINUTE, 90_700).allowed).to.equal(false);
  });

  it('hold no bucket at rest, unless its lease is remembered and shown', () => {
    const buckets = noBuckets();
    ask(buckets, WINDOW, 0);
    expect(toSnapshots(buckets, 31_999)).to.have.length(1);
    expect(toSnapshots(buckets, 32_000)).to.deep.equal([]);
    ask(buckets, tokenBucket(1_000, 1_000), 32_000);
    lend(buckets.first!, { id: 'a', tokens: 2, endMs: 32_100, spent: undefined });
    takeBack(buckets.first!, 'a', 2, 32_001);
    const [snapshot] = toSnapshots(buckets, 32_100);
    expect(snapshot).to.deep.include({ state: [0, 0], leases: [{ id: 'a', tokens: 2, leftMs: 500, spent: 0 }] });
    expect(toSnapshots(buckets, 32_100, false)).to.deep.equal([]);
    expect(toSnapshots(buckets, 32_600)).to.deep.equal([]);
  });

  it('in a store count all that is lent as spent, and say when nothing is left', () => {
    const { snapshots, resetMs } = toLastingState(client(), 0);
    expect(snapshots.map(({ state }) => state)).to.deep.equal([
      [32_000, 3],
      [6, 0],
    ]);
    expect(resetMs).to.equal(36_000);
    expect(snapshots.some((one) => 'leases' in one)).to.equal(false);
    expect(toLastingState(client(), 60_000)).to.deep.equal({ snapshots: [], resetMs: 0 });
  });

  it('of a store age, and join later ones', () => {
    const { snapshots } = toLastingState(client(), 0);
    expect(agedBy(snapshots, 6_000).map(({ state }) => state)).to.have.deep.members([
      [26_000, 3],
      [5, 0],
    ]);
    expect(agedBy(snapshots, 36_000)).to.deep.equal([]);
    const later = noBuckets();
    ask(later, MINUTE, 0, 9);
    const joined = joinAged(snapshots, 6_000, toSnapshots(later, 0));
    expect(joined.snapshots.map(({ state }) => state)).to.have.deep.members([
      [26_000, 3],
      [9, 0],
    ]);
    expect(joined.resetMs).to.equal(54_000);
  });

  it('of more buckets than a client may have drop the oldest, and count them', () => {
    const buckets = noBuckets();
    for (let i = 0; i < 64; i += 1) ask(buckets, tokenBucket(10, 1_000_000 + i), 0);
    const more = noBuckets();
    for (let i = 0; i < 3; i += 1) ask(more, slidingWindow(10, 1_000_000 + i), 0);
    expect(mergeSnapshots(buckets, toSnapshots(more, 0), 0)).to.equal(3);
  });
});
