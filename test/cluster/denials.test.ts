import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { BoundedMap } from '../../src/client/bounded-map.js';
import { Denials } from '../../src/limits/decide/denials.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import type { World } from '../sim/world.js';
import { checkOf, drive, shareOf, startRing, type Answer } from './traffic.js';

const HOUR_MS = 3_600_000;
const token = (limit: number, windowMs: number, capacity = limit): Rule =>
  ruleOf('token-bucket', limit, windowMs, capacity, undefined);
const sliding = (limit: number, windowMs: number): Rule => ruleOf('sliding-window', limit, windowMs, limit, undefined);

const isRemembered = ({ decision }: Answer): boolean => decision.source === 'deny-cache';
const isDenied = ({ decision }: Answer): boolean => !decision.allowed;

function others(world: World, ids: readonly string[], clientId: string): string[] {
  const owner = world.node(ids[0]!).cluster.membership.ring().owner(clientId);
  return ids.filter((id) => id !== owner);
}

describe('remembered denials', () => {
  it('turn away who hammers others than the owner, with at most one message in a hundred denials', async () => {
    const { world, ids, sent } = await startRing(3);
    const at = others(world, ids, 'abuser');
    const check = checkOf('abuser', [token(100, 60_000)]);
    await drive(world, at, { perSecond: 2_000, forMs: 100, check: () => check });
    sent.clear();
    const answers = await drive(world, at, { perSecond: 2_000, forMs: 10_000, check: () => check });
    const denied = answers.filter(isDenied).length;
    expect((sent.get('decide') ?? 0) + (sent.get('lease') ?? 0)).to.be.below(denied / 100);
    // What comes back meanwhile is admitted all the same.
    expect(answers.length - denied).to.be.within(16, 17);
  });

  it('cost no message at all where nothing comes back for an hour', async () => {
    const { world, ids, sent } = await startRing(3);
    const at = others(world, ids, 'abuser');
    const check = checkOf('abuser', [sliding(5, HOUR_MS)]);
    await drive(world, at, { perSecond: 100, forMs: 100, check: () => check });
    sent.clear();
    const answers = await drive(world, at, { perSecond: 5_000, forMs: 2_000, check: () => check });
    expect(shareOf(answers, isRemembered)).to.equal(1);
    expect(sent.get('decide')).to.equal(undefined);
  });

  it('end when the owner would allow again: nobody waits longer than it said', async () => {
    const { world, ids } = await startRing(3);
    const at = others(world, ids, 'eager').slice(0, 1);
    const check = checkOf('eager', [token(1, 500)]);
    const answers = await drive(world, at, { perSecond: 1_000, forMs: 4_100, check: () => check });
    const allowedAt = answers.filter(({ decision }) => decision.allowed).map(({ answeredMs }) => answeredMs);
    expect(allowedAt).to.have.lengthOf(9);
    // A question that comes as the denial ends takes its way to the owner and back.
    allowedAt.slice(1).forEach((ms, i) => expect(ms - allowedAt[i]!).to.be.within(500, 504));
  });

  it('are forgotten with the client on every node: a reset is felt at once', async () => {
    const { world, ids } = await startRing(3);
    const check = checkOf('abuser', [token(5, HOUR_MS)]);
    await drive(world, ids, { perSecond: 1_000, forMs: 100, check: () => check });
    await world.until(world.node('a:1').cluster.admin.forget('abuser'), 1_000);
    const answers = await drive(world, ids, { perSecond: 1_000, forMs: 3, check: () => check });
    expect(shareOf(answers, isDenied)).to.equal(0);
  });

  for (const [what, slow] of [
    ['an answer is under way', ['owner', 'other']],
    ['a question is under way', ['other', 'owner']],
    ['the owner hears of it late', ['heir', 'owner']],
  ] as const) {
    it(`are forgotten by a reset though ${what}`, async () => {
      const { world, ids } = await startRing(3);
      const ring = world.node('a:1').cluster.membership.ring();
      const owner = ring.owner('abuser')!;
      const [heir] = ring.successors('abuser', 1);
      const other = ids.find((id) => id !== owner && id !== heir)!;
      const check = checkOf('abuser', [token(10, HOUR_MS)]);
      const ask = { perSecond: 1_000, forMs: 1, check: () => check };
      await drive(world, [owner], { ...ask, forMs: 12 });
      const [from, to] = slow.map((role) => ({ owner, heir, other })[role]);
      world.setLink((a, b) => (a === from && b === to ? 20 : 1));
      world.deliver(other, ({ cluster }) => void decideAlone(cluster.checkRouter, check));
      await world.run(5);
      const reset = world.node(heir!).cluster.admin.forget('abuser');
      await world.run(5);
      world.deliver(other, ({ cluster }) => void decideAlone(cluster.checkRouter, check));
      await world.until(reset, 1_000);
      world.setLink(() => 1);
      await world.run(100);
      expect((await drive(world, [other], ask))[0]!.decision.allowed).to.equal(true);
    });
  }

  it('are no denial under another limit', async () => {
    const { world, ids } = await startRing(3);
    await drive(world, ids, { perSecond: 1_000, forMs: 100, check: () => checkOf('abuser', [token(5, HOUR_MS)]) });
    const check = checkOf('abuser', [token(50, HOUR_MS)]);
    const answers = await drive(world, ids, { perSecond: 1_000, forMs: 3, check: () => check });
    expect(shareOf(answers, isDenied)).to.equal(0);
  });

  it('are not kept while lent tokens may come back', async () => {
    const { world, ids } = await startRing(3);
    const owner = world.node('a:1').cluster.membership.ring().owner('shared')!;
    const [first, second] = others(world, ids, 'shared');
    const rules = [token(100, HOUR_MS)];
    const { leaseGranter } = world.node(owner).cluster;
    await drive(world, [owner], { perSecond: 1_000, forMs: 10, check: () => checkOf('shared', rules) });
    const [grant] = await world.until(
      leaseGranter.lease([{ clientId: 'shared', rules, tokens: 20 }], [], first!),
      1_000,
    );
    const all = checkOf('shared', rules, { cost: 80 });
    const before = await drive(world, [first!, second!], { perSecond: 1_000, forMs: 2, check: () => all });
    expect(shareOf(before, isDenied)).to.equal(1);
    leaseGranter.giveBack({ clientId: 'shared', id: grant!.id, unspent: 20 });
    const after = await drive(world, [first!], { perSecond: 1_000, forMs: 1, check: () => all });
    expect(shareOf(after, isDenied)).to.equal(0);
  });
});

describe('a denial that is remembered', () => {
  const rule = token(10, 1_000);
  const denied: Decision = {
    allowed: false,
    limit: 10,
    remaining: 0,
    retryAfterMs: 300,
    resetMs: 1_000,
    owner: 'o:1',
    source: 'forwarded',
    degraded: false,
    limits: undefined,
  };
  const check = checkOf('c', [rule], { cost: 3 });

  function remembered(more: Partial<Decision> = {}, asked = check) {
    const denials = new Denials(new BoundedMap(2));
    denials.remember(asked, { ...denied, ...more }, denials.asking(1_000), 1_020);
    return denials;
  }

  it('holds from when the owner was asked, and its figures count down from its answer', () => {
    const denials = remembered();
    expect(denials.recall(check, 1_120)).to.deep.include({ retryAfterMs: 200, resetMs: 900, source: 'deny-cache' });
    expect(denials.recall(check, 1_299)).to.deep.include({ allowed: false, retryAfterMs: 21 });
    expect(denials.recall(check, 1_300)).to.equal(undefined);
    expect(denials.size()).to.equal(0);
  });

  it('holds for larger costs, which wait for longer, and not for smaller ones', () => {
    const denials = remembered();
    expect(denials.recall(checkOf('c', [rule], { cost: 2 }), 1_100)).to.equal(undefined);
    expect(denials.recall(checkOf('c', [rule], { cost: 5 }), 1_020)).to.include({ retryAfterMs: 500 });
    expect(denials.recall(checkOf('c', [rule], { cost: 10 }), 1_020)).to.include({ retryAfterMs: 1_000 });
    expect(denials.recall(checkOf('c', [rule], { cost: 11 }), 1_020)).to.include({ retryAfterMs: null });
  });

  it('is asked of the owner again at a larger cost under a sliding window or several limits', () => {
    for (const rules of [[sliding(10, 1_000)], [rule, token(20, 60_000)]]) {
      const denials = remembered({}, checkOf('c', rules, { cost: 3 }));
      expect(denials.recall(checkOf('c', rules, { cost: 3 }), 1_020)).to.include({ retryAfterMs: 300 });
      expect(denials.recall(checkOf('c', rules, { cost: 5 }), 1_020)).to.equal(undefined);
    }
  });

  it('counts the waits of each limit down, and leaves those at zero that did not deny', () => {
    const algorithm = 'token-bucket';
    const hour = { algorithm, windowMs: HOUR_MS, limit: 20, remaining: 9, retryAfterMs: 0, resetMs: HOUR_MS } as const;
    const second = { algorithm, windowMs: 1_000, limit: 10, remaining: 0, retryAfterMs: 300, resetMs: 1_000 } as const;
    const denials = remembered({ limits: [hour, second] });
    expect(denials.recall(check, 1_120)?.limits).to.deep.equal([
      { ...hour, resetMs: HOUR_MS - 100 },
      { ...second, retryAfterMs: 200, resetMs: 900 },
    ]);
  });

  it('is not kept if its wait is over when it arrives', () => {
    expect(remembered({ retryAfterMs: 21 }).size()).to.equal(1);
    expect(remembered({ retryAfterMs: 20 }).size()).to.equal(0);
  });

  it('is forgotten with all others', () => {
    const denials = remembered();
    denials.clear();
    expect(denials.recall(check, 1_100)).to.equal(undefined);
  });

  it('holds for ever where no time helps', () => {
    const denials = remembered({ retryAfterMs: null });
    expect(denials.recall(check, 9e12)).to.include({ allowed: false, retryAfterMs: null });
  });

  it('holds no longer than it is to be remembered, where the end of it may not be heard', () => {
    for (const retryAfterMs of [null, 300]) {
      const denials = new Denials(new BoundedMap(2), 100);
      denials.remember(check, { ...denied, retryAfterMs }, denials.asking(1_000), 1_020);
      const left = retryAfterMs && retryAfterMs - 79;
      expect(denials.recall(check, 1_099)).to.include({ allowed: false, retryAfterMs: left });
      expect(denials.recall(check, 1_100)).to.equal(undefined);
    }
  });

  it('is not kept of a request with an id, nor of one who stood in for the owner', () => {
    expect(remembered({}, checkOf('c', [rule], { cost: 3, requestId: 'r' })).size()).to.equal(0);
    expect(remembered({ degraded: true }).size()).to.equal(0);
    expect(remembered().recall(checkOf('c', [rule], { cost: 3, requestId: 'r' }), 1_100)).to.equal(undefined);
  });

  it('is not kept of a peek, nor where denials were forgotten while the answer was under way', () => {
    expect(remembered({}, { ...check, peek: true }).size()).to.equal(0);
    const denials = new Denials(new BoundedMap(2));
    const asking = denials.asking(1_000);
    denials.forget('c');
    denials.remember(check, denied, asking, 1_020);
    expect(denials.size()).to.equal(0);
    denials.clear();
    denials.remember(check, denied, asking, 1_020);
    expect(denials.size()).to.equal(0);
  });

  it('is of that client alone, whatever others are called, and makes room for the latest', () => {
    const denials = remembered();
    for (const clientId of ['C', 'c ', '__proto__', ''])
      expect(denials.recall(checkOf(clientId, [rule], { cost: 3 }), 1_100), clientId).to.equal(undefined);
    for (const clientId of ['d', 'e'])
      denials.remember(checkOf(clientId, [rule]), denied, denials.asking(1_000), 1_020);
    expect(denials.size()).to.equal(2);
    expect(denials.recall(check, 1_100)).to.equal(undefined);
  });
});
