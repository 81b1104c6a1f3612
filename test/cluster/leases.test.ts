import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { lend } from '../../src/limits/bucket/bucket.js';
import { decide } from '../../src/limits/decide/decide.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import type { Tamper } from '../sim/network.js';
import { mergeSnapshots, toSnapshots } from '../../src/limits/bucket/snapshot.js';
import { createWorld, type World } from '../sim/world.js';
import { noBuckets } from '../support/rules.js';
import { checkOf, drive, mostAbove, shareOf, startRing, type Answer } from './traffic.js';
import type { NodeStats } from '../../src/node/node-stats.js';

const HOUR_MS = 3_600_000;
const token = (limit: number, windowMs: number, capacity = limit): Rule =>
  ruleOf('token-bucket', limit, windowMs, capacity, undefined);
const sliding = (limit: number, windowMs: number): Rule => ruleOf('sliding-window', limit, windowMs, limit, undefined);

const isForwarded = ({ decision }: Answer): boolean => decision.source === 'forwarded';
const isLeased = ({ decision }: Answer): boolean => decision.source === 'lease';
const isDenied = ({ decision }: Answer): boolean => !decision.allowed;
const tokensOf = (answers: readonly Answer[]): number =>
  answers.reduce((sum, { check, decision }) => sum + (decision.allowed ? check.cost : 0), 0);

function leftAt(world: World, node: string, clientId: string): number {
  return world.node(node).cluster.admin.describeHere(clientId).buckets[0]!.remaining;
}

function chunksOf<T>(all: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
}

/** The owner of a client, the node with its copy, and one that has neither. */
function rolesOf(
  world: World,
  ids: readonly string[],
  clientId: string,
): { owner: string; heir: string; rest: string[] } {
  const ring = world.node(ids[0]!).cluster.membership.ring();
  const owner = ring.owner(clientId)!;
  const [heir] = ring.successors(clientId, 1);
  return { owner, heir: heir!, rest: ids.filter((id) => id !== owner && id !== heir) };
}

describe('leases', () => {
  describe('of a client far hotter than others, on three nodes asked evenly,', () => {
    it('leave at most 2% to forward at 20,000 a second under a generous limit', async () => {
      const { world, ids } = await startRing(3);
      const check = checkOf('hot', [token(1_000_000, 1_000)]);
      const answers = await drive(world, ids, { perSecond: 20_000, forMs: 2_000, check: () => check });
      expect(answers).to.have.lengthOf(40_000);
      expect(shareOf(answers, isDenied)).to.equal(0);
      expect(shareOf(answers, isForwarded)).to.be.at.most(0.02);
    });

    for (const rule of [token(1_000, 1_000), token(6_000, 60_000, 3_000), sliding(2_000, 30_000)]) {
      const { algorithm, limit, windowMs, capacity } = rule;
      it(`admit all but 2% of a ${algorithm} of ${limit} per ${windowMs} ms at ten times that, and never more`, async () => {
        const { world, ids } = await startRing(3);
        const forMs = 20_000;
        const check = checkOf('hot', [rule]);
        const perSecond = (10 * 1_000 * limit) / windowMs;
        const answers = await drive(world, ids, { perSecond, forMs, check: () => check });
        const bound = algorithm === 'token-bucket' ? capacity + (limit * forMs) / windowMs : limit;
        expect(tokensOf(answers)).to.be.within(0.98 * Math.min(bound, (perSecond * forMs) / 1_000), bound);
        if (algorithm === 'token-bucket') expect(mostAbove(answers, rule)).to.be.at.most(0);
      });
    }

    for (const rule of [token(1_000, 1_000), token(1_000, 1_000, 200), sliding(60_000, 60_000)]) {
      it(`deny nothing for 60 s at 95% of ${rule.algorithm} ${rule.limit} of ${rule.capacity}`, async () => {
        const { world, ids } = await startRing(3);
        const check = checkOf('hot', [rule]);
        const answers = await drive(world, ids, { perSecond: 950, forMs: 60_000, check: () => check });
        expect(shareOf(answers, isDenied)).to.equal(0);
        // A sliding window that is used for more than half is the owner's all the time.
        expect(shareOf(answers, isLeased)).to.be.above(rule.algorithm === 'token-bucket' ? 0.6 : 0.3);
      });
    }

    it('are not asked for by a hundred clients of moderate rate', async () => {
      const { world, ids } = await startRing(3);
      const checks = Array.from({ length: 100 }, (_, i) => checkOf(`client ${i}`, [token(1_000, 1_000)]));
      const drawn = (i: number): number => Math.floor(i / 3) % 100;
      await drive(world, ids, { perSecond: 6_000, forMs: 2_000, check: (i) => checks[drawn(i)]! });
      for (const id of ids) expect(world.node(id).cluster.stats().leasedClients).to.equal(0);
    });

    it('are given up when the client has gone quiet', async () => {
      const { world, ids } = await startRing(3);
      const { owner } = rolesOf(world, ids, 'hot');
      const rule = token(1_000, HOUR_MS);
      const check = checkOf('hot', [rule]);
      const answers = await drive(world, ids, { perSecond: 1_000, forMs: 300, check: () => check });
      await world.run(1_000);
      for (const id of ids) expect(world.node(id).cluster.stats().leasedClients).to.equal(0);
      expect(leftAt(world, owner, 'hot')).to.equal(1_000 - tokensOf(answers));
    });
  });

  it('cover several limits, and costs', async () => {
    const { world, ids } = await startRing(3);
    const rules = [token(8_000, HOUR_MS), sliding(4_000, HOUR_MS)];
    const answers = await drive(world, ids, {
      perSecond: 1_000,
      forMs: 2_500,
      check: (i) => checkOf('hot', rules, { cost: 1 + (i % 3) }),
    });
    expect(shareOf(answers, isLeased)).to.be.above(0.1);
    // The last few tokens do not fit the larger costs.
    expect(tokensOf(answers)).to.equal(4_000);
  });

  it('go by the limit that was asked for: another one is decided anew', async () => {
    const { world, ids } = await startRing(3);
    const before = token(10_000, HOUR_MS);
    await drive(world, ids, { perSecond: 3_000, forMs: 500, check: () => checkOf('hot', [before]) });
    const after = token(100, HOUR_MS);
    const answers = await drive(world, ids, { perSecond: 3_000, forMs: 500, check: () => checkOf('hot', [after]) });
    expect(shareOf(answers, isDenied)).to.equal(1);
  });

  it('are forgotten with the client: a reset gives the whole limit back, once', async () => {
    const { world, ids } = await startRing(3);
    const check = checkOf('hot', [token(1_000, HOUR_MS)]);
    await drive(world, ids, { perSecond: 1_000, forMs: 400, check: () => check });
    expect(await world.until(world.node('a:1').cluster.admin.forget('hot'), 1_000)).to.equal(true);
    for (const id of ids) expect(world.node(id).cluster.stats().leasedClients).to.equal(0);
    const answers = await drive(world, ids, { perSecond: 3_000, forMs: 1_000, check: () => check });
    expect(tokensOf(answers)).to.equal(1_000);
  });

  it('are known to a replica that has rejoined, though it walked a large table meanwhile', async () => {
    const rules = [token(100, HOUR_MS)];
    const world = createWorld(1);
    const ids = ['a:1', 'b:1', 'c:1', 'd:1'];
    for (const id of ids)
      await world.until(world.spawn(id, { seeds: ids, maxClients: 20_000 }).cluster.start(), 10_000);
    const ring = world.node('a:1').cluster.membership.ring();
    const isHot = (id: string): boolean => ring.owner(id) === 'a:1' && ring.successors(id, 2).join() === 'b:1,c:1';
    const hot = Array.from({ length: 200 }, (_, i) => `hot ${i}`).find(isHot)!;
    const crowd = Array.from({ length: 8_000 }, (_, i) => `client ${i}`);
    const ask = (id: string): unknown => decideAlone(world.node('a:1').cluster.checkRouter, checkOf(id, rules));
    // A walk begins with the latest clients, so it visits this one last.
    for (const clients of [[hot], ...chunksOf(crowd, 100)]) {
      clients.forEach(ask);
      await world.run(30);
    }
    world.freeze('b:1');
    await world.run(1_600);
    const request = { clientId: hot, rules, tokens: 20 };
    await world.until(world.node('a:1').cluster.leaseGranter.lease([request], [], 'c:1'), 1_000);
    // One slow member keeps the joiner out of the ring until its walk has ended.
    world.setLink((from, to) => (from === 'd:1' || to === 'd:1' ? 30 : 1));
    world.thaw('b:1');
    await world.run(100);
    expect(world.node('b:1').cluster.membership.mustJoin()).to.equal(true);
    while (world.node('b:1').cluster.membership.mustJoin()) await world.run(10);
    expect([leftAt(world, 'a:1', hot), leftAt(world, 'b:1', hot)]).to.deep.equal([79, 79]);
  });

  it('stay taken when the owner dies: who follows it knows of them, and their holder may go on spending', async () => {
    const { world, ids } = await startRing(3);
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const check = checkOf('hot', [token(1_000, HOUR_MS)]);
    const before = await drive(world, rest, { perSecond: 500, forMs: 400, check: () => check });
    expect(shareOf(before, isLeased)).to.be.above(0);
    world.kill(owner);
    const alive = ids.filter((id) => id !== owner);
    const after = await drive(world, alive, { perSecond: 2_000, forMs: 3_000, check: () => check });
    // Of the interval before the crash, what the owner took for its own callers would be admitted again: here that is nothing.
    expect(tokensOf(before) + tokensOf(after)).to.be.within(900, 1_000);
  });

  it('are lost until refilled with their holder, and never spent again', async () => {
    const { world, ids } = await startRing(3);
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const check = checkOf('hot', [token(1_000, HOUR_MS)]);
    const before = await drive(world, rest, { perSecond: 1_000, forMs: 300, check: () => check });
    const { lentTokens, returnedTokens } = world.node(owner).cluster.stats();
    const leased = before.filter(isLeased).length;
    for (const id of rest) world.kill(id);
    await world.run(2_000);
    const lost = lentTokens - returnedTokens - leased;
    expect(lost).to.be.above(0);
    expect(leftAt(world, owner, 'hot')).to.equal(1_000 - before.length - lost);
  });

  it('go back when their holder leaves', async () => {
    const { world, ids } = await startRing(3);
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const check = checkOf('hot', [sliding(10_000, HOUR_MS)]);
    const before = await drive(world, rest, { perSecond: 1_000, forMs: 300, check: () => check });
    await world.until(world.node(rest[0]!).cluster.leave(), 10_000);
    expect(leftAt(world, owner, 'hot')).to.equal(10_000 - tokensOf(before));
  });

  it('go back to who owns the client by now', async () => {
    const { world, ids } = await startRing(3);
    const check = checkOf('hot', [sliding(10_000, HOUR_MS)]);
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const before = await drive(world, rest, { perSecond: 1_000, forMs: 300, check: () => check });
    await world.until(world.node(owner).cluster.leave(), 10_000);
    await world.run(3_000);
    const { owner: next } = rolesOf(world, rest, 'hot');
    expect(next).not.to.equal(owner);
    expect(leftAt(world, next, 'hot')).to.equal(10_000 - tokensOf(before));
  });

  it('are not granted while no successor can be told of them', async () => {
    const { world, ids } = await startRing(3);
    const { owner, heir, rest } = rolesOf(world, ids, 'hot');
    world.freeze(heir);
    const check = checkOf('hot', [token(10_000, HOUR_MS)]);
    await drive(world, rest, { perSecond: 1_000, forMs: 200, check: () => check });
    expect(world.node(rest[0]!).cluster.stats().leasedClients).to.equal(1);
    expect(tokensOf(await drive(world, rest, { perSecond: 1, forMs: 1, check: () => check }))).to.equal(0);
    const answers = await drive(world, rest, { perSecond: 1_000, forMs: 100, check: () => check });
    expect(shareOf(answers, isLeased)).to.equal(0);
    expect(leftAt(world, owner, 'hot')).to.be.above(0);
  });

  it('are not granted where a successor answers at once that it cannot count on them', async () => {
    const answer: Tamper['answer'] = (_from, _to, given, { body: asked }) =>
      asked.kind === 'replicate' ? { ...given, body: { kind: 'not-yet', members: [] } } : given;
    const { world, ids } = await startRing(3, {}, { tamper: { answer } });
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const check = checkOf('hot', [sliding(10_000, HOUR_MS)]);
    const answers = await drive(world, rest, { perSecond: 1_000, forMs: 500, check: () => check });
    const { lentTokens, returnedTokens } = world.node(owner).cluster.stats();
    expect(lentTokens).to.be.above(0);
    expect(returnedTokens).to.equal(lentTokens);
    expect(shareOf(answers, isForwarded)).to.equal(1);
    expect(leftAt(world, owner, 'hot')).to.equal(10_000 - tokensOf(answers));
  });

  it("are never granted of the last half: near the limit each decision is the owner's", async () => {
    const { world, ids } = await startRing(3);
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const rule = token(1_000, HOUR_MS);
    const check = checkOf('hot', [rule], { cost: 501 });
    await drive(world, [owner], { perSecond: 1_000, forMs: 1, check: () => check });
    const answers = await drive(world, rest, { perSecond: 1_000, forMs: 499, check: () => checkOf('hot', [rule]) });
    expect(shareOf(answers, isForwarded)).to.equal(1);
    expect(tokensOf(answers)).to.equal(499);
  });

  it('leave what has a name of its own, and what only looks, to the owner', async () => {
    const { world, ids } = await startRing(3);
    const { rest } = rolesOf(world, ids, 'hot');
    const rules = [token(10_000, HOUR_MS)];
    await drive(world, rest, { perSecond: 1_000, forMs: 300, check: () => checkOf('hot', rules) });
    expect(world.node(rest[0]!).cluster.stats().leasedClients).to.equal(1);
    for (const more of [{ peek: true }, { requestId: 'a' }]) {
      const answers = await drive(world, rest, {
        perSecond: 1_000,
        forMs: 5,
        check: () => checkOf('hot', rules, more),
      });
      expect(shareOf(answers, isForwarded)).to.equal(1);
    }
  });
});

describe('leases, as they were once attacked,', () => {
  it('are had by all, whatever costs one client asks for', async () => {
    const { world, ids } = await startRing(3, {}, { bytes: true });
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const ring = world.node(owner).cluster.membership.ring();
    const greedy = Array.from({ length: 300 }, (_, i) => `greedy ${i}`).filter((id) => ring.owner(id) === owner);
    let asked = 0;
    const answers = await drive(world, rest.slice(0, 1), {
      perSecond: 3_000,
      forMs: 3_000,
      check(i) {
        if (i % 2 === 0) return checkOf('hot', [token(1_000_000, 1_000)]);
        asked += 1;
        // Falling costs get past the denial that is remembered.
        const clientId = greedy[Math.floor(asked / 40) % greedy.length]!;
        return checkOf(clientId, [token(1, HOUR_MS)], { cost: 1_000_000_000 - (asked % 40) });
      },
    });
    const hot = answers.filter(({ check }) => check.clientId === 'hot');
    expect(shareOf(hot, isLeased)).to.be.above(0.9);
  });

  it('are not taken by who is about to leave', async () => {
    const { world, ids } = await startRing(3);
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const traffic = { perSecond: 10_000, forMs: 300, check: () => checkOf('hot', [sliding(100_000, HOUR_MS)]) };
    const before = await drive(world, rest, traffic);
    const leaver = world.node(rest[0]!).cluster;
    await world.until(leaver.leave(), 10_000);
    const after = await drive(world, rest, traffic);
    leaver.close();
    world.kill(rest[0]!);
    await world.run(3_000);
    expect(leftAt(world, owner, 'hot')).to.equal(100_000 - tokensOf(before) - tokensOf(after));
  });

  it('are known to every successor: two that die at once free none', async () => {
    const { world, ids } = await startRing(5, { replicas: 2, replicationIntervalMs: 500 });
    const ring = world.node('a:1').cluster.membership.ring();
    const owner = ring.owner('hot')!;
    const [first, second] = ring.successors('hot', 2);
    const holder = ids.find((id) => ![owner, first, second].includes(id))!;
    const check = checkOf('hot', [sliding(10_000, HOUR_MS)]);
    const before: Answer[] = [];
    while (!before.some(isLeased)) {
      before.push(...(await drive(world, [holder], { perSecond: 15_000, forMs: 3, check: () => check })));
    }
    world.kill(owner);
    world.kill(first!);
    const between = await drive(world, [holder], { perSecond: 15_000, forMs: 300, check: () => check });
    await world.run(3_000);
    const alive = ids.filter((id) => id !== owner && id !== first);
    const after = await drive(world, alive, { perSecond: 20_000, forMs: 1_500, check: () => check });
    // What the owner itself took since its last copy may be admitted again: that is what came before the first lease.
    const taken = tokensOf(before) + tokensOf(between) + tokensOf(after);
    expect(taken - before.filter(isForwarded).length).to.be.at.most(10_000);
  });

  it('deny a large cost for 800 ms at most, and say so', async () => {
    const { world, ids } = await startRing(3);
    const { owner, rest } = rolesOf(world, ids, 'hot');
    const rules = [sliding(1_000, HOUR_MS)];
    await drive(world, rest, { perSecond: 1_000, forMs: 60, check: () => checkOf('hot', rules) });
    const large = { perSecond: 1_000, forMs: 1, check: () => checkOf('hot', rules, { cost: 850 }) };
    const [denied] = await drive(world, [owner], large);
    expect(denied!.decision.allowed).to.equal(false);
    expect(denied!.decision.retryAfterMs).to.be.within(1, 800);
    await world.run(denied!.decision.retryAfterMs!);
    expect((await drive(world, [owner], large))[0]!.decision.allowed).to.equal(true);
  });

  it('are forgotten when they are over, however often two nodes tell each other of them', () => {
    const [a, b] = [noBuckets(), noBuckets()];
    const rule = token(1_000, HOUR_MS);
    decide(a, checkOf('hot', [rule]), 0);
    for (let nowMs = 0; nowMs < 20_000; nowMs += 50) {
      if (nowMs < 10_000 && nowMs % 400 === 0)
        lend(a.first!, { id: `lease ${nowMs}`, tokens: 1, endMs: nowMs + 800, spent: undefined });
      mergeSnapshots(b, toSnapshots(a, nowMs), nowMs + 1);
      mergeSnapshots(a, toSnapshots(b, nowMs + 25), nowMs + 26);
      expect(a.first!.leases?.list.length ?? 0).to.be.at.most(5);
    }
    expect(a.first!.leases).to.equal(undefined);
  });
});

describe('the leaseGranter', () => {
  it('takes back no more than it lent, from nobody but who has the lease, and once', async () => {
    const { world, ids } = await startRing(3);
    const { owner, heir: holder, rest } = rolesOf(world, ids, 'hot');
    const { cluster } = world.node(owner);
    const { leaseGranter, checkRouter } = cluster;
    const stats = (): NodeStats => cluster.stats();
    const rules = [token(100, HOUR_MS)];
    await drive(world, [owner], { perSecond: 1_000, forMs: 10, check: () => checkOf('hot', rules) });
    const request = { clientId: 'hot', rules, tokens: 20 };
    const [grant] = await world.until(leaseGranter.lease([request], [], holder), 1_000);
    expect(grant?.tokens).to.equal(20);
    expect(leftAt(world, owner, 'hot')).to.equal(70);
    const back = (id: string, unspent: number, from = holder): Promise<unknown> =>
      world.until(leaseGranter.lease([], [{ clientId: 'hot', id, unspent }], from), 1_000);
    await back('another', 20);
    expect(leftAt(world, owner, 'hot')).to.equal(70);
    await back(grant!.id, 20, rest[0]);
    expect(leftAt(world, owner, 'hot')).to.equal(70);
    await back(grant!.id, 1_000_000);
    expect(stats().returnedTokens).to.equal(20);
    expect(leftAt(world, owner, 'hot')).to.equal(90);
    await back(grant!.id, 20);
    expect(leftAt(world, owner, 'hot')).to.equal(90);
    expect(await decideAlone(checkRouter, checkOf('hot', rules, { cost: 91 }))).to.include({
      allowed: false,
      source: 'owner',
    });
  });

  it('lends no more than a share of what may be lent, and nothing of what it does not know', async () => {
    const { world, ids } = await startRing(3);
    const { owner } = rolesOf(world, ids, 'hot');
    const { leaseGranter } = world.node(owner).cluster;
    const rules = [token(100, HOUR_MS)];
    await drive(world, [owner], { perSecond: 1_000, forMs: 10, check: () => checkOf('hot', rules) });
    const wishOf = (
      clientId: string,
      of: readonly Rule[],
    ): { clientId: string; rules: readonly Rule[]; tokens: number } => ({
      clientId,
      rules: of,
      tokens: 1_000,
    });
    const requests = [wishOf('hot', rules), wishOf('hot', [token(200, HOUR_MS)]), wishOf('nobody', rules)];
    const grants = await world.until(leaseGranter.lease(requests, [], ids[0]!), 1_000);
    expect(grants.map((grant) => grant?.tokens)).to.deep.equal([20, undefined, undefined]);
  });
});
