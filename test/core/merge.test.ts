import { expect } from 'chai';
import fc from 'fast-check';
import { lend, merge, remaining, advance, takeBack, type Bucket } from '../../src/limits/bucket/bucket.js';
import { compareStrictness, MAX_WINDOW_MS, type Rule } from '../../src/limits/bucket/rule.js';
import { changingRules, costOf, histories, timeOf, type Step } from '../support/histories.js';
import { ask, noBuckets, slidingWindow, tokenBucket } from '../support/rules.js';

/** A node's copy of the bucket: what its own history has made of it by `nowMs`. */
function bucketOf(rules: readonly Rule[], history: readonly Step[], nowMs: number): Bucket {
  const buckets = noBuckets();
  let last = ask(buckets, rules[0]!, nowMs - 2 * rules[0]!.windowMs);
  let atMs = nowMs - 2 * rules[0]!.windowMs;
  for (const [i, step] of history.entries()) {
    const rule = rules[i % rules.length]!;
    const nextMs = timeOf(step, rule, atMs, last);
    if (nextMs > nowMs) break;
    atMs = nextMs;
    last = ask(buckets, rule, atMs, costOf(step, rule, last));
  }
  return buckets.first!;
}

/** The join of copies, of which each is left as it is. */
function joined(nowMs: number, first: Bucket, ...others: readonly Bucket[]): Bucket {
  const bucket = structuredClone(first);
  advance(bucket, nowMs);
  for (const other of others) merge(bucket, structuredClone(other), nowMs);
  return bucket;
}

/** The bucket as its owner's message, sent when the owner's clock read `sentMs`, is stamped by a clock that reads `nowMs`. */
function received(bucket: Bucket, sentMs: number, nowMs: number): Bucket {
  const copy = structuredClone(bucket);
  advance(copy, sentMs);
  copy.atMs = nowMs;
  if (copy.algorithm === 'sliding-window') copy.endsMs = copy.endsMs.map((endMs) => endMs - sentMs + nowMs);
  return copy;
}

function leftAt(bucket: Bucket, rule: Rule, nowMs: number): number {
  const copy = structuredClone(bucket);
  advance(copy, nowMs);
  return remaining(copy, rule);
}

/** Three nodes' copies of a bucket, whose latest rules differ as a rule, and moments after `nowMs`. */
const copies = fc.constantFrom('token-bucket' as const, 'sliding-window' as const).chain((algorithm) =>
  fc
    .record({
      rules: changingRules(algorithm, 4),
      histories: fc.tuple(histories(), histories(), histories()),
      nowMs: fc.integer({ min: 2 * MAX_WINDOW_MS, max: 3 * MAX_WINDOW_MS }),
      delayMs: fc.nat(2_000),
      later: fc.array(fc.double({ min: 0, max: 1.1, noNaN: true }), { minLength: 1, maxLength: 6 }),
    })
    .map(({ rules, histories, nowMs, delayMs, later }) => {
      const { windowMs } = rules[0]!;
      const [a, b, c] = histories.map((history, i) => bucketOf([...rules.slice(i), ...rules], history, nowMs));
      const laterMs = later.map((windows) => nowMs + Math.floor(windows * windowMs));
      return { a: a!, b: b!, c: c!, rules, nowMs, delayMs, laterMs, windowMs };
    }),
);

interface Knowledge {
  readonly tokens: number;
  readonly spentPart: number;
  readonly leftMs: number;
  readonly known: readonly string[];
}

/** What three copies know of a few leases: that it is open, or how it ended. Each ends one way only. */
const leases: fc.Arbitrary<Knowledge[]> = fc.array(
  fc.record({
    tokens: fc.integer({ min: 1, max: 1_000 }),
    spentPart: fc.constantFrom(0, 0.3, 1),
    leftMs: fc.integer({ min: 1, max: 800 }),
    known: fc.tuple(...[0, 1, 2].map(() => fc.constantFrom('open', 'over'))),
  }),
  { maxLength: 4 },
);

function withLeases(bucket: Bucket, which: number, all: readonly Knowledge[], nowMs: number): Bucket {
  advance(bucket, nowMs);
  for (const [i, { tokens, spentPart, leftMs, known }] of all.entries()) {
    const id = `lease ${i}`;
    lend(bucket, { id, tokens, endMs: nowMs + leftMs, spent: undefined });
    if (known[which] === 'over') takeBack(bucket, id, tokens - Math.floor(tokens * spentPart), nowMs);
  }
  return bucket;
}

/** The leases in one order, as sets. */
function inOrder(bucket: Bucket): Bucket {
  const copy = structuredClone(bucket);
  copy.leases?.list.sort((a, b) => a.id.localeCompare(b.id));
  return copy;
}

describe('merging copies of a bucket', () => {
  it('gives the same whatever comes first, in twos or all at once, or again', () => {
    fc.assert(
      fc.property(copies, fc.boolean(), ({ a, b, c, nowMs, delayMs }, justReceived) => {
        // As they are, or off the grid of this node's clock, as they come from another.
        const [x, y, z] = justReceived ? [a, b, c].map((copy) => received(copy, nowMs, nowMs + delayMs)) : [a, b, c];
        const atMs = nowMs + delayMs;
        expect(joined(atMs, x!, y!), 'commutative').to.deep.equal(joined(atMs, y!, x!));
        const xy = joined(atMs, x!, y!);
        expect(joined(atMs, xy, z!), 'associative').to.deep.equal(joined(atMs, x!, joined(atMs, y!, z!)));
        expect(joined(atMs, xy, x!, y!, xy), 'idempotent').to.deep.equal(xy);
      }),
      { numRuns: 1_000 },
    );
  });

  it('is never looser than either: owes as much as the larger, and gives back at the rate of the rule in force', () => {
    fc.assert(
      fc.property(copies, ({ a, b, rules, nowMs, laterMs }) => {
        const both = joined(nowMs, a, b);
        // The rule of the one that has seen more changes is the later one; the other would by now decay at its rate too.
        const inForce = (copy: Bucket): Bucket => {
          const settled = structuredClone(copy);
          advance(settled, nowMs);
          settled.rule = both.rule;
          return settled;
        };
        for (const atMs of [nowMs, ...laterMs]) {
          for (const rule of rules) {
            const strictest = Math.min(leftAt(inForce(a), rule, atMs), leftAt(inForce(b), rule, atMs));
            expect(leftAt(both, rule, atMs), `left at ${atMs}`).to.equal(strictest);
          }
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('puts the rule in force that has changed more often, and of two as often changed the stricter', () => {
    fc.assert(
      fc.property(copies, ({ a, b, nowMs }) => {
        const { rule, ruleChanges } = joined(nowMs, a, b);
        expect(ruleChanges).to.equal(Math.max(a.ruleChanges, b.ruleChanges));
        const latest = [a, b].filter((copy) => copy.ruleChanges === ruleChanges);
        expect(latest.every((copy) => compareStrictness(rule, copy.rule) <= 0)).to.equal(true);
        expect(latest.some((copy) => compareStrictness(rule, copy.rule) === 0)).to.equal(true);
      }),
      { numRuns: 500 },
    );
  });

  it('makes no difference sooner or later, under the same limit', () => {
    fc.assert(
      fc.property(copies, ({ a, b, nowMs, laterMs }) => {
        b.rule = a.rule;
        b.ruleChanges = a.ruleChanges;
        for (const atMs of laterMs) {
          expect(joined(atMs, joined(nowMs, a, b))).to.deep.equal(joined(atMs, a, b));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('makes a bucket stricter by no more than the time that its own copy was under way', () => {
    fc.assert(
      fc.property(copies, ({ a, rules, nowMs, delayMs, laterMs }) => {
        const arrivedMs = nowMs + delayMs;
        const late = received(a, nowMs, arrivedMs);
        const echoed = joined(arrivedMs, a, late);
        for (const atMs of laterMs.map((ms) => ms + delayMs)) {
          const left = leftAt(echoed, rules[0]!, atMs);
          expect(left).to.be.at.most(leftAt(a, rules[0]!, atMs));
          const beforeMs = Math.max(nowMs, atMs - delayMs);
          expect(left).to.be.at.least(leftAt(a, rules[0]!, beforeMs));
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('pays no interval twice where one copy was settled by a later reading of the clock', () => {
    const rule = tokenBucket(10, 1_000);
    const [ahead, behind] = [noBuckets(), noBuckets()];
    ask(ahead, rule, 1_000, 10);
    ask(behind, rule, 500, 8);
    for (const [into, from] of [
      [ahead, behind],
      [behind, ahead],
    ] as const) {
      const both = joined(400, into.first!, from.first!);
      expect(leftAt(both, rule, 1_000)).to.equal(0);
      expect(leftAt(both, rule, 1_500)).to.equal(5);
    }
  });

  it('stands the larger consumption, and of two limits the stricter', () => {
    const loose = tokenBucket(20, 1_000);
    const [here, there] = [noBuckets(), noBuckets()];
    ask(here, tokenBucket(10, 1_000), 0, 3);
    ask(there, loose, 0, 5);
    const both = joined(100, here.first!, there.first!);
    // 3 − 1 are owed here, 5 − 2 there; from now on the limit of 10 gives back one in 100 ms.
    expect(leftAt(both, loose, 100)).to.equal(17);
    expect(leftAt(both, loose, 300)).to.equal(19);
    expect(leftAt(both, loose, 400)).to.equal(20);
  });

  it('of sliding windows counts what each of them counts, for as long as it does', () => {
    const rule = slidingWindow(10, 32);
    const [here, there] = [noBuckets(), noBuckets()];
    ask(here, rule, 0, 4);
    ask(here, rule, 20, 1);
    ask(there, rule, 10, 3);
    const both = joined(30, here.first!, there.first!);
    expect([31, 32, 42, 52].map((nowMs) => 10 - leftAt(both, rule, nowMs))).to.deep.equal([5, 3, 1, 0]);
  });

  it('of sliding windows keeps at most 64 counts, and is looser than none, however many copies are off its grid', () => {
    const rule = slidingWindow(1_000, 3_200);
    // Stairs of 32 steps, each set a little later and lower than the one before, so that they cross at every step.
    const stairs = fc.uniqueArray(fc.nat(99), { minLength: 2, maxLength: 6 }).map((offsets) =>
      offsets
        .sort((a, b) => a - b)
        .map((offsetMs, i): Bucket => {
          const endsMs = Array.from({ length: 32 }, (_, step) => 100 + step * 100 + offsetMs);
          const counts = endsMs.map((_, step) => (step === 31 ? 30 - i : 10));
          return {
            algorithm: 'sliding-window',
            rule,
            ruleChanges: 0,
            endsMs,
            counts,
            atMs: 0,
            leases: undefined,
            next: undefined,
          };
        }),
    );
    fc.assert(
      fc.property(stairs, (copies) => {
        const all = joined(0, copies[0]!, ...copies.slice(1));
        expect(all.algorithm === 'sliding-window' && all.counts.length).to.be.within(32, 64);
        for (let nowMs = 0; nowMs <= 3_400; nowMs += 10) {
          const strictest = Math.min(...copies.map((copy) => leftAt(copy, rule, nowMs)));
          expect(leftAt(all, rule, nowMs), `left at ${nowMs}`).to.be.at.most(strictest);
        }
        expect(joined(0, all, ...copies), 'again').to.deep.equal(all);
      }),
      { numRuns: 50 },
    );
  });

  it('counts a lease once that ended while this node was frozen, though messages that waited show it as open', () => {
    const rule = tokenBucket(100, 3_600_000);
    const lent = (endMs: number): Bucket => {
      const buckets = noBuckets();
      ask(buckets, rule, 0, 10);
      lend(buckets.first!, { id: 'a', tokens: 40, endMs, spent: undefined });
      return buckets.first!;
    };
    const frozen = lent(800);
    // Sent at 300, and read by a clock that is 2,700 ms later.
    merge(frozen, received(lent(3_500), 300, 3_000), 3_000);
    expect(leftAt(frozen, rule, 3_000)).to.equal(50);
    expect(leftAt(frozen, rule, 4_500)).to.equal(50);
  });

  it('leaves a limit in force that was changed on one node, though it is laxer than what the others know', () => {
    const [here, there] = [noBuckets(), noBuckets()];
    for (const buckets of [here, there]) ask(buckets, tokenBucket(10, 1_000), 0, 5);
    // Asked with the same limit again and again: that is no change.
    for (let i = 0; i < 5; i += 1) ask(there, tokenBucket(10, 1_000), 0, 99);
    ask(here, tokenBucket(100, 1_000), 0);
    expect(joined(0, there.first!, here.first!).rule.limit).to.equal(100);
    expect(joined(0, here.first!, there.first!).rule.limit).to.equal(100);
  });

  it('knows of leases all that either knows, whatever comes first, and is never looser', () => {
    fc.assert(
      fc.property(copies, leases, (of, all) => {
        const { nowMs } = of;
        const [a, b, c] = [of.a, of.b, of.c].map((copy, i) => withLeases(structuredClone(copy), i, all, nowMs));
        /** A copy that has heard of all ends that a or b know of: what was not spent counts no more. */
        const hearing = (copy: Bucket, which: number): Bucket => {
          const ended = all.map((lease) => ({
            ...lease,
            known: lease.known.map((one) =>
              one === 'open' && lease.known.slice(0, 2).includes('over') ? 'over' : one,
            ),
          }));
          return withLeases(structuredClone(copy), which, ended, nowMs);
        };
        expect(inOrder(joined(nowMs, a!, b!)), 'commutative').to.deep.equal(inOrder(joined(nowMs, b!, a!)));
        const ab = joined(nowMs, a!, b!);
        const abc = inOrder(joined(nowMs, ab, c!));
        expect(abc, 'associative').to.deep.equal(inOrder(joined(nowMs, a!, joined(nowMs, b!, c!))));
        expect(inOrder(joined(nowMs, ab, a!, b!, ab)), 'idempotent').to.deep.equal(inOrder(ab));
        expect(leftAt(ab, ab.rule, nowMs)).to.be.at.most(
          Math.min(leftAt(hearing(of.a, 0), ab.rule, nowMs), leftAt(hearing(of.b, 1), ab.rule, nowMs)),
        );
      }),
      { numRuns: 1_000 },
    );
  });
});
