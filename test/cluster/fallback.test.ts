import { expect } from 'chai';
import fc from 'fast-check';
import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import type { Check, FallbackMode } from '../../src/limits/decide/check.js';
import { Fallback } from '../../src/node/decide/fallback.js';
import type { Membership } from '../../src/membership/membership.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { createFakeClock } from '../support/fake-clock.js';
import { checkOf, slidingWindow, tokenBucket } from '../support/rules.js';
import { TopClients } from '../../src/limits/top-clients.js';

const OTHERS = ['b:1', 'c:1', 'd:1'];

function createSetup(onUnavailable: FallbackMode, others = OTHERS) {
  const clock = createFakeClock(1_000);
  const membership = { self: () => ({ id: 'a:1' }), others: () => others } as unknown as Membership;
  const topClients = new TopClients(1);
  const fallback = new Fallback({ clock, membership, topClients, onUnavailable, maxClients: 100, maxBytes: 1e6 });
  return {
    clock,
    fallback: {
      decide(check: Check): Decision {
        const item = new CheckBatch().add(check);
        fallback.answer(item);
        return item.decision;
      },
    },
  };
}

/** How many of `count` requests under 10 a second pass at one instant. */
function passed(decide: () => Decision, count: number): number {
  return Array.from({ length: count }, decide).filter(({ allowed }) => allowed).length;
}

describe('the fallback', () => {
  it('admits an equal share of the limit of each node, so that all of them together admit the limit', () => {
    const { fallback } = createSetup('local');
    expect(passed(() => fallback.decide(checkOf([tokenBucket(12, 1_000)])), 12)).to.equal(3);
    expect(passed(() => createSetup('local', []).fallback.decide(checkOf([tokenBucket(12, 1_000)])), 1)).to.equal(1);
  });

  it('refills the share as the bucket would', () => {
    const { clock, fallback } = createSetup('local');
    const decide = (): Decision => fallback.decide(checkOf([tokenBucket(12, 1_200)]));
    expect(passed(decide, 5)).to.equal(3);
    clock.advance(400);
    expect(passed(decide, 5)).to.equal(1);
  });

  it('answers the limit and a true wait where the share of the limit is less than one', () => {
    const { clock, fallback } = createSetup('local', ['b:1', 'c:1']);
    const decide = (): Decision => fallback.decide(checkOf([tokenBucket(2, 1_000, 10)]));
    expect(decide()).to.include({ allowed: true, limit: 2, remaining: 2, retryAfterMs: 0, resetMs: 1_500 });
    expect(passed(decide, 5)).to.equal(2);
    // Two thirds of a token come back each second, of which 10/3 - 3 are there.
    expect(decide()).to.include({ allowed: false, limit: 2, remaining: 0, retryAfterMs: 1_000, resetMs: 4_500 });
    clock.advance(999);
    expect(decide()).to.include({ allowed: false, retryAfterMs: 1 });
    clock.advance(1);
    expect(decide()).to.include({ allowed: true, remaining: 0 });
    expect(decide()).to.include({ allowed: false, retryAfterMs: 1_500 });
  });

  it('answers true figures for each of several limits', () => {
    const { fallback } = createSetup('local', ['b:1', 'c:1']);
    const rules = [tokenBucket(2, 1_000, 10), slidingWindow(7, 60_000)];
    const decide = (): Decision => fallback.decide(checkOf(rules));
    expect(passed(decide, 5)).to.equal(2);
    const denied = decide();
    expect(denied).to.include({ allowed: false, limit: 7, remaining: 0 });
    expect(denied.limits!.map(({ limit, remaining }) => [limit, remaining])).to.deep.equal([
      [2, 1],
      [7, 0],
    ]);
    expect(fallback.decide(checkOf([...rules, tokenBucket(0, 9_000)])).retryAfterMs).to.equal(null);
  });

  it('admits together no more than one bucket in any span, whatever the numbers, and all of a share', () => {
    const rules = fc.record({ limit: fc.integer({ min: 1, max: 9 }), burst: fc.integer({ min: 1, max: 40 }) });
    const asks = fc.array(fc.record({ node: fc.nat(6), afterMs: fc.nat(700) }), { maxLength: 80, size: 'max' });
    fc.assert(
      fc.property(rules, fc.integer({ min: 1, max: 7 }), asks, ({ limit, burst }, nodes, asked) => {
        const others = Array.from({ length: nodes - 1 }, (_, i) => `n${i}:1`);
        const setups = Array.from({ length: nodes }, () => createSetup('local', others));
        const check = checkOf([tokenBucket(limit, 1_000, burst)]);
        const takenMs: number[] = [];
        let nowMs = 0;
        for (const { node, afterMs } of asked) {
          nowMs += afterMs;
          for (const { clock } of setups) clock.advance(afterMs);
          const { allowed, retryAfterMs } = setups[node % nodes]!.fallback.decide(check);
          expect(retryAfterMs).to.not.equal(null);
          if (allowed) takenMs.push(nowMs);
        }
        for (const [i, fromMs] of takenMs.entries()) {
          for (const [j, toMs] of takenMs.entries()) {
            if (j >= i) expect((j - i + 1) * 1_000).to.be.at.most(burst * 1_000 + (toMs - fromMs) * limit);
          }
        }
        const { fallback } = createSetup('local', others);
        expect(passed(() => fallback.decide(check), burst)).to.equal(Math.floor(burst / nodes));
      }),
    );
  });

  it('denies where a share is less than the request, and says to come back as the owner may allow it', () => {
    const { fallback } = createSetup('local');
    const decision = fallback.decide(checkOf([tokenBucket(3, 1_000)]));
    expect(decision).to.include({ allowed: false, limit: 3 });
    expect(decision.retryAfterMs).to.be.above(0);
    // No node would ever allow this one.
    expect(fallback.decide(checkOf([tokenBucket(3, 1_000)], { cost: 4 })).retryAfterMs).to.equal(null);
  });

  it('admits everything where open, and nothing where closed', () => {
    const rules = [tokenBucket(1, 1_000)];
    expect(passed(() => createSetup('open').fallback.decide(checkOf(rules)), 5)).to.equal(5);
    expect(passed(() => createSetup('closed').fallback.decide(checkOf(rules)), 5)).to.equal(0);
    expect(createSetup('open').fallback.decide(checkOf(rules)).limits).to.equal(undefined);
  });

  it('lists each of several limits, also where it knows the figures of none', () => {
    const rules = [tokenBucket(6, 1_000), slidingWindow(7, 60_000)];
    for (const onUnavailable of ['open', 'closed'] as const) {
      const retryAfterMs = onUnavailable === 'open' ? 0 : 1_000;
      const { limits } = createSetup(onUnavailable).fallback.decide(checkOf(rules));
      expect(limits).to.deep.equal([
        { algorithm: 'token-bucket', windowMs: 1_000, limit: 6, remaining: 0, retryAfterMs, resetMs: 0 },
        { algorithm: 'sliding-window', windowMs: 60_000, limit: 7, remaining: 0, retryAfterMs, resetMs: 0 },
      ]);
    }
    // A share of less than the cost.
    expect(createSetup('local').fallback.decide(checkOf(rules, { cost: 5 })).limits).to.have.lengthOf(2);
  });

  it('follows the policy of the check before the setting of the node', () => {
    const policy = { name: 'login', onUnavailable: 'closed' } as const;
    const check = checkOf([tokenBucket(100, 1_000)]);
    const { fallback } = createSetup('open');
    expect(fallback.decide({ ...check, terms: { policy: policy as never, listed: undefined } }).allowed).to.equal(
      false,
    );
    expect(fallback.decide(check).allowed).to.equal(true);
  });

  it('says of each decision that it is degraded, and whose it is', () => {
    const decision = createSetup('local').fallback.decide(checkOf([tokenBucket(100, 1_000)]));
    expect(decision).to.include({ degraded: true, source: 'fallback', owner: 'a:1' });
  });
});
