import { expect } from 'chai';
import { createFallback } from '../../src/cluster/decide/fallback.js';
import type { OnUnavailable } from '../../src/cluster/decide/fallback.js';
import type { Membership } from '../../src/cluster/membership/membership.js';
import type { Decision } from '../../src/core/decide/decision.js';
import { createFakeClock } from '../support/fake-clock.js';
import { checkOf, tokenBucket } from '../support/rules.js';
import { createTopClients } from '../../src/core/top-clients.js';

const OTHERS = ['b:1', 'c:1', 'd:1'];

function createSetup(onUnavailable: OnUnavailable, others = OTHERS) {
  const clock = createFakeClock(1_000);
  const membership = { self: () => ({ id: 'a:1' }), others: () => others } as unknown as Membership;
  const fallback = createFallback(
    { clock, membership, topClients: createTopClients({ seed: 1 }) },
    { onUnavailable, maxClients: 100, maxBytes: 1e6 },
  );
  return { clock, fallback };
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
