import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { BucketTable, type Client } from '../../src/state/bucket-table.js';
import { decodeClients } from '../../src/state/client-format.js';
import type { ClientSnapshot } from '../../src/state/client.js';
import { Copies } from '../../src/state/copies.js';
import type { Settled } from '../../src/protocol/messages.js';
import { RecentDecisions } from '../../src/state/recent-decisions.js';
import { Reservations } from '../../src/state/reservations.js';
import { remaining } from '../../src/limits/bucket/bucket.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, type Check } from '../../src/limits/decide/check.js';
import { decide } from '../../src/limits/decide/decide.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import { createWorld, type World } from '../sim/world.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1'];
const PER_DAY = ruleOf('token-bucket', 100, 86_400_000, 100, undefined);
const SLIDING = ruleOf('sliding-window', 100, 86_400_000, 100, undefined);

async function startCluster(world: World, count: number): Promise<string[]> {
  const ids = IDS.slice(0, count);
  for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
  await world.run(500);
  return ids;
}

const checkOf = (clientId: string, rule: Rule, more: Partial<Check>): Check => {
  return createCheck(clientKey(clientId), [rule], more);
};

async function reserve(
  world: World,
  at: string,
  clientId: string,
  id: string,
  cost: number,
  rule = PER_DAY,
): Promise<boolean> {
  const check = checkOf(clientId, rule, { cost, reservation: id });
  const decision = await world.until(Promise.resolve(decideAlone(world.node(at).cluster.checks, check)), 5_000);
  expect(decision.reservation).to.equal(decision.allowed ? id : undefined);
  return decision.allowed;
}

const settle = (world: World, at: string, clientId: string, id: string, cost: number): Promise<Settled> =>
  world.until(world.node(at).cluster.settler.settle(clientId, id, cost), 10_000);

async function left(world: World, at: string, clientId: string, rule = PER_DAY): Promise<number> {
  const check = checkOf(clientId, rule, { peek: true });
  return (await world.until(Promise.resolve(decideAlone(world.node(at).cluster.checkRouter, check)), 5_000)).remaining;
}

const clients = Array.from({ length: 30 }, (_, i) => `client ${i}`);

describe('reserved costs in a cluster', () => {
  for (const rule of [PER_DAY, SLIDING]) {
    it(`are settled once through any node: ${rule.algorithm}`, async () => {
      const world = createWorld(1, { bytes: true });
      const ids = await startCluster(world, 3);
      for (const [i, clientId] of clients.entries()) {
        expect(await reserve(world, ids[i % 3]!, clientId, 'r', 60, rule)).to.equal(true);
        expect(await reserve(world, ids[i % 3]!, clientId, 's', 60, rule)).to.equal(false);
        for (const [j, cost] of [10, 10, 99, 0].entries()) {
          const settled = await settle(world, ids[(i + j) % 3]!, clientId, 'r', cost);
          expect(settled).to.deep.include({ kind: 'settled' });
          if (settled.kind === 'settled')
            expect(settled.settlement).to.include({ cost: 10, reserved: 60, remaining: 90 });
        }
        expect(await left(world, ids[0]!, clientId, rule)).to.equal(90);
        expect(await settle(world, 'a:1', clientId, 's', 5)).to.deep.equal({ kind: 'unknown' });
      }
    });
  }

  it('stand at what was reserved until then, and cost more where they did', async () => {
    const world = createWorld(2);
    await startCluster(world, 3);
    await reserve(world, 'a:1', 'x', 'r', 60);
    await world.run(30_000);
    expect(await left(world, 'b:1', 'x')).to.equal(40);
    await settle(world, 'b:1', 'x', 'r', 75);
    expect(await left(world, 'c:1', 'x')).to.equal(25);
    await reserve(world, 'a:1', 'x', 'q', 5);
    await settle(world, 'c:1', 'x', 'q', 500);
    expect(await left(world, 'a:1', 'x')).to.equal(0);
  });

  it('are known, settled or not, to who decides after the owner was killed', async () => {
    const world = createWorld(3, { bytes: true });
    const ids = await startCluster(world, 4);
    for (const clientId of clients) {
      for (const id of ['r', 's']) await reserve(world, 'a:1', clientId, id, 40);
      await settle(world, 'b:1', clientId, 'r', 10);
    }
    await world.run(100);
    world.kill('c:1');
    await world.run(50);
    for (const clientId of clients) {
      expect(await left(world, 'a:1', clientId), clientId).to.equal(50);
      await settle(world, 'b:1', clientId, 'r', 0);
      expect(await left(world, 'a:1', clientId), clientId).to.equal(50);
      await settle(world, 'd:1', clientId, 's', 10);
      await settle(world, 'a:1', clientId, 's', 0);
      expect(await left(world, 'b:1', clientId), clientId).to.equal(80);
    }
    // Back, and the copies of all have met.
    await world.until(world.spawn('c:1', { seeds: ids }).cluster.start(), 20_000);
    await world.run(2_000);
    for (const clientId of clients) {
      expect(await left(world, 'c:1', clientId), clientId).to.equal(80);
      await settle(world, 'c:1', clientId, 's', 0);
      expect(await left(world, 'c:1', clientId), clientId).to.equal(80);
    }
  });

  it('go with the client to who joins, and away from who leaves', async () => {
    const world = createWorld(4, { bytes: true });
    const ids = await startCluster(world, 3);
    for (const clientId of clients) {
      for (const id of ['r', 's']) await reserve(world, 'a:1', clientId, id, 40);
      await settle(world, 'b:1', clientId, 'r', 10);
    }
    // Long enough that only who remembers all can know.
    await world.run(5_000);
    await world.until(world.spawn('d:1', { seeds: ids }).cluster.start(), 20_000);
    await world.until(world.node('b:1').cluster.leave(), 20_000);
    for (const clientId of clients) {
      expect(await settle(world, 'd:1', clientId, 'r', 0)).to.deep.include({ kind: 'settled' });
      await settle(world, 'd:1', clientId, 's', 0);
      expect(await left(world, 'a:1', clientId), clientId).to.equal(90);
    }
  });

  it('count once where both sides of a partition settle them', async () => {
    const world = createWorld(5);
    const ids = await startCluster(world, 3);
    for (const clientId of clients) await reserve(world, 'a:1', clientId, 'r', 60);
    await world.run(200);
    const side = (id: string): number => (id === 'c:1' ? 1 : 0);
    world.setLink((from, to) => (side(from) === side(to) ? 1 : undefined));
    await world.run(3_000);
    for (const clientId of clients) {
      for (const at of ['a:1', 'c:1']) await settle(world, at, clientId, 'r', 20);
    }
    world.setLink(() => 1);
    await world.run(4_000);
    for (const clientId of clients) {
      for (const at of ids) expect(await left(world, at, clientId), clientId).to.be.oneOf([80, 40]);
      await settle(world, 'b:1', clientId, 'r', 0);
      expect(await left(world, 'b:1', clientId), clientId).to.be.oneOf([80, 40]);
    }
  });

  it('are settled by no node that was away, before it knows what others settled', async () => {
    const world = createWorld(9);
    const ids = await startCluster(world, 3);
    const mine = clients.filter((clientId) => world.node('a:1').cluster.membership.ring().owner(clientId) === 'c:1');
    expect(mine.length).to.be.above(2);
    for (const clientId of mine) await reserve(world, 'a:1', clientId, 'r', 60);
    await world.run(200);
    world.freeze('c:1');
    // They wait in a socket, and are read before all else.
    const late = new Map<string, Promise<Settled>>();
    world.deliver('c:1', ({ cluster }) => {
      for (const clientId of mine) late.set(clientId, cluster.settler.settle(clientId, 'r', 0));
    });
    await world.run(2_000);
    for (const clientId of mine) await settle(world, 'b:1', clientId, 'r', 50);
    world.thaw('c:1');
    await world.run(20);
    for (const clientId of mine) {
      const settled = await world.until(late.get(clientId)!, 9_000);
      expect(settled).to.deep.include({ kind: 'settled' });
      if (settled.kind === 'settled') expect(settled.settlement, clientId).to.include({ cost: 50, remaining: 50 });
    }
    await world.run(2_000);
    for (const at of ids) expect(await left(world, at, mine[0]!), at).to.equal(50);
  });

  it('free at once who was denied for them, wherever that is remembered', async () => {
    const world = createWorld(10);
    const ids = await startCluster(world, 3);
    const owner = world.node('a:1').cluster.membership.ring().owner('x')!;
    const [other, third] = ids.filter((id) => id !== owner) as [string, string];
    await reserve(world, owner, 'x', 'r', 95);
    expect(await reserve(world, other, 'x', 's', 10)).to.equal(false);
    expect(await reserve(world, other, 'x', 's', 10)).to.equal(false);
    await settle(world, third, 'x', 'r', 90);
    expect(await reserve(world, other, 'x', 's', 10)).to.equal(true);
    await settle(world, third, 'x', 's', 10);
    // With nothing left to be settled, a denial holds.
    const denied = async (): Promise<Decision> =>
      world.until(
        Promise.resolve(decideAlone(world.node(other).cluster.checkRouter, checkOf('x', PER_DAY, {}))),
        5_000,
      );
    expect(await denied()).to.include({ allowed: false, source: 'forwarded' });
    expect(await denied()).to.include({ allowed: false, source: 'deny-cache' });
  });

  it('come back in full, in whatever order several are settled', async () => {
    const world = createWorld(11);
    await startCluster(world, 3);
    for (const id of ['r', 's', 't']) await reserve(world, 'a:1', 'x', id, 30);
    for (const id of ['t', 'r', 's']) await settle(world, 'b:1', 'x', id, 1);
    expect(await left(world, 'c:1', 'x')).to.equal(97);
  });

  it('are unknown after ten minutes, and stand', async () => {
    const world = createWorld(6);
    await startCluster(world, 1);
    await reserve(world, 'a:1', 'x', 'r', 60);
    await world.run(599_000);
    const before = await left(world, 'a:1', 'x');
    await world.run(2_000);
    expect(await settle(world, 'a:1', 'x', 'r', 0)).to.deep.equal({ kind: 'unknown' });
    expect(await left(world, 'a:1', 'x')).to.equal(before);
  });

  it('end with a reset', async () => {
    const world = createWorld(7);
    await startCluster(world, 3);
    await reserve(world, 'a:1', 'x', 'r', 60);
    await world.run(200);
    await world.until(world.node('b:1').cluster.admin.forget('x'), 5_000);
    expect(await settle(world, 'a:1', 'x', 'r', 0)).to.deep.equal({ kind: 'unknown' });
    expect(await left(world, 'a:1', 'x')).to.equal(100);
  });

  it('have no tokens lent for them, which could not be spent on any', async () => {
    const world = createWorld(12);
    const ids = await startCluster(world, 3);
    const owner = world.node('a:1').cluster.membership.ring().owner('x')!;
    const other = ids.find((id) => id !== owner)!;
    for (let i = 0; i < 50; i += 1) expect(await reserve(world, other, 'x', `r${i}`, 1)).to.equal(true);
    await world.run(20);
    expect(world.node(owner).cluster.stats().lentTokens).to.equal(0);
  });

  it('are made by the owner, where this node holds a lease too', async () => {
    const world = createWorld(8);
    const ids = await startCluster(world, 3);
    const often = ruleOf('token-bucket', 10_000, 60_000, 10_000, undefined);
    const owner = world.node('a:1').cluster.membership.ring().owner('x')!;
    const other = world.node(ids.find((id) => id !== owner)!).cluster;
    const ask = (more: Partial<Check>): Promise<Decision> =>
      world.until(Promise.resolve(decideAlone(other.checks, checkOf('x', often, more))), 5_000);
    let source: string | undefined;
    for (let i = 0; i < 200 && source !== 'lease'; i += 1) ({ source } = await ask({}));
    expect(source).to.equal('lease');
    expect(await ask({ reservation: 'r' })).to.include({ source: 'forwarded', reservation: 'r' });
    expect(await ask({})).to.include({ source: 'lease' });
  });

  it('are refused under a request id that was first used without one, through any node and after a takeover', async () => {
    const world = createWorld(8);
    const ids = await startCluster(world, 3);
    const owner = world.node('a:1').cluster.membership.ring().owner('x')!;
    const ask = (at: string, more: Partial<Check>): Promise<unknown> => {
      const answer = Promise.resolve(decideAlone(world.node(at).cluster.checks, checkOf('x', PER_DAY, more)));
      return world.until(
        answer.catch((error: unknown) => error),
        5_000,
      );
    };
    await ask(owner, { requestId: 'q' });
    await ask(owner, { requestId: 'p', reservation: 'r' });
    await world.run(500);
    const expectRefused = async (at: string): Promise<void> => {
      const repeat = await ask(at, { requestId: 'q', reservation: 's' });
      expect(repeat, at).to.include({ code: 'invalid_request', field: 'reserve' });
      expect(await ask(at, { requestId: 'p', reservation: 'r' }), at).to.include({ allowed: true, reservation: 'r' });
      expect(await settle(world, at, 'x', 's', 0), at).to.deep.equal({ kind: 'unknown' });
    };
    for (const id of ids) await expectRefused(id);
    world.kill(owner);
    await world.run(3_000);
    for (const id of ids) if (id !== owner) await expectRefused(id);
  });
});

describe('a client with many open reservations', () => {
  /** How often the list of the client's buckets is read for `checks` checks. */
  function readsOf(open: number, checks: number): number {
    const clock = createFakeClock(1_000);
    const table = new BucketTable({ maxClients: 9 });
    const reservations = new Reservations(clock, { maxBytes: 1e6 });
    const act = (reservation: string | undefined): number => {
      clock.advance(1);
      const check = checkOf('x', PER_DAY, { reservation });
      const client = table.open(check);
      let reads = 0;
      const counted = new Proxy(client, {
        get(target, key) {
          if (key === 'first') reads += 1;
          return Reflect.get(target, key, target) as unknown;
        },
      });
      reservations.observe(counted, check.rules, clock.nowMs());
      decide(counted, check, clock.nowMs());
      if (reservation !== undefined) reservations.add(counted, check, clock.nowMs());
      table.close(client, clock.nowMs());
      return reads;
    };
    for (let i = 0; i < open; i += 1) act(`r${i}`);
    let reads = 0;
    for (let i = 0; i < checks; i += 1) reads += act(i % 2 === 0 ? `s${i}` : undefined);
    return reads;
  }

  it('costs a check no more work than one with a single reservation', () => {
    expect(readsOf(256, 300)).to.equal(readsOf(1, 300));
    expect(readsOf(0, 300)).to.be.above(300);
  });
});

describe('copies of reserved costs', () => {
  /** What one node knows of one client. */
  function createHolder(clock: FakeClock): {
    copies: Copies;
    /** @param whole false: with the changes only */
    copy(whole?: boolean): Uint8Array;
    reserve(rule: Rule, id: string, cost: number): void;
    settle(id: string, cost: number): void;
    owed(): number;
  } {
    const table = new BucketTable({ maxClients: 9 });
    const reservations = new Reservations(clock, { maxBytes: 1e6 });
    const recent = new RecentDecisions(clock, 'a:1', 1e6);
    const client = (): Client => table.peek('x')!;
    const change = (by: (opened: Client, nowMs: number) => void): void => {
      const opened = table.open(clientKey('x'));
      by(opened, clock.nowMs());
      table.close(opened, clock.nowMs());
    };
    const copies = new Copies({ clock, table, recent, reservations, self: 'a:1' });
    return {
      copies,
      copy(whole = true) {
        const batch = copies.createBatch();
        batch.add(client(), whole);
        return batch.take();
      },
      reserve(rule, id, cost) {
        const check = checkOf('x', rule, { cost, reservation: id });
        change((opened, nowMs) => {
          reservations.observe(opened, check.rules, nowMs);
          decide(opened, check, nowMs);
          reservations.add(opened, check, nowMs);
        });
      },
      settle: (id, cost) => change((opened, nowMs) => reservations.settle(opened, id, cost, nowMs)),
      owed: () => 100 - remaining(client().first!, client().first!.rule),
    };
  }

  for (const rule of [PER_DAY, SLIDING]) {
    it(`are brought to the same settlements before they are merged, whoever has heard: ${rule.algorithm}`, () => {
      const clock = createFakeClock(1_000);
      const [owner, holder] = [createHolder(clock), createHolder(clock)];
      owner.reserve(rule, 'r', 60);
      owner.reserve(rule, 's', 10);
      const before = owner.copy();
      holder.copies.merge(before);
      owner.settle('r', 10);
      expect([owner.owed(), holder.owed()]).to.deep.equal([20, 70]);
      // What was under way comes late, and again; and the holder hears of the settlement.
      owner.copies.merge(before);
      owner.copies.merge(holder.copy());
      holder.copies.merge(owner.copy());
      holder.copies.merge(before);
      expect([owner.owed(), holder.owed()]).to.deep.equal([20, 20]);
      for (const one of [owner, holder]) {
        one.settle('r', 0);
        one.settle('s', 0);
        expect(one.owed()).to.equal(10);
      }
    });
  }

  it('are settled once though the request that made them comes again late, and anew once its id may be used again', () => {
    const clock = createFakeClock(1_000);
    const [owner, holder] = [createHolder(clock), createHolder(clock)];
    const meet = (): void => holder.copies.merge(owner.copy());
    owner.reserve(PER_DAY, 'r', 20);
    owner.settle('r', 5);
    meet();
    clock.advance(3_000);
    owner.reserve(PER_DAY, 'r', 20);
    owner.settle('r', 0);
    meet();
    expect([owner.owed(), holder.owed()]).to.deep.equal([25, 25]);
    clock.advance(60_000);
    owner.reserve(PER_DAY, 'r', 20);
    meet();
    expect([owner.owed(), holder.owed()]).to.deep.equal([45, 45]);
    holder.settle('r', 10);
    expect(holder.owed()).to.equal(35);
  });

  it('are not settled by an older one of the same id that a node still remembers', () => {
    const clock = createFakeClock(1_000);
    const [owner, holder] = [createHolder(clock), createHolder(clock)];
    owner.reserve(PER_DAY, 'r', 20);
    owner.settle('r', 5);
    holder.copies.merge(owner.copy());
    clock.advance(60_000);
    owner.reserve(PER_DAY, 'r', 20);
    owner.copies.merge(holder.copy());
    expect(owner.owed()).to.equal(25);
    owner.settle('r', 18);
    owner.copies.merge(holder.copy());
    expect(owner.owed()).to.equal(23);
  });

  it('name the larger of two settlements once they meet, if each node made one without the other', () => {
    const clock = createFakeClock(1_000);
    const [owner, holder] = [createHolder(clock), createHolder(clock)];
    owner.reserve(PER_DAY, 'r', 20);
    holder.copies.merge(owner.copy());
    owner.settle('r', 5);
    holder.settle('r', 30);
    const [first, second] = [owner, holder].map((one) => one.copy());
    owner.copies.merge(second!);
    holder.copies.merge(first!);
    for (const one of [owner, holder]) {
      const [[, , , reserved = []]] = decodeClients(one.copy(false)) as [ClientSnapshot];
      expect([one.owed(), reserved.map(({ settled }) => settled)]).to.deep.equal([30, [30]]);
    }
  });

  it('owe what cost more than was reserved, though an older copy comes late', () => {
    const clock = createFakeClock(1_000);
    const [owner, holder] = [createHolder(clock), createHolder(clock)];
    owner.reserve(PER_DAY, 'r', 10);
    const before = owner.copy();
    holder.copies.merge(before);
    owner.settle('r', 90);
    holder.copies.merge(owner.copy());
    owner.copies.merge(before);
    owner.copies.merge(holder.copy());
    expect([owner.owed(), holder.owed()]).to.deep.equal([90, 90]);
  });
});
