import { expect } from 'chai';
import { NO_CLIENTS } from '../support/wire.js';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import type { Settled } from '../../src/protocol/messages.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { describeCluster } from '../../src/server/http/api/cluster-view.js';
import { ETCD } from '../sim/cuts.js';
import { createWorld, type SpawnOptions, type World } from '../sim/world.js';
import { checkOf } from './traffic.js';
import type { NodeStats } from '../../src/node/node-stats.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'];
const PER_HOUR = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);
const TTL_MS = 2_000;

async function startCluster(world: World, count: number, options: SpawnOptions = {}): Promise<string[]> {
  const ids = IDS.slice(0, count);
  const starts = ids.map((id) => world.spawn(id, { memberTtlMs: TTL_MS, ...options }).cluster.start());
  await world.until(Promise.all(starts), 10_000);
  await world.run(300);
  return ids;
}

async function ask(world: World, at: string, clientId: string): Promise<Decision> {
  const check = checkOf(clientId, [PER_HOUR]);
  return world.until(Promise.resolve(decideAlone(world.node(at).cluster.checkRouter, check)), 5_000);
}

async function exhaust(world: World, ids: readonly string[], clientId: string, times = 15): Promise<number> {
  let allowed = 0;
  for (let i = 0; i < times; i += 1) if ((await ask(world, ids[i % ids.length]!, clientId)).allowed) allowed += 1;
  return allowed;
}

const membersAt = (world: World, id: string): readonly string[] => world.node(id).cluster.membership.ring().members;
const epochAt = (world: World, id: string): number => world.node(id).cluster.stats().registry!.revision;
const ownerOf = (world: World, at: string, clientId: string): string =>
  world.node(at).cluster.membership.ring().owner(clientId)!;
const clients = (count: number): string[] => Array.from({ length: count }, (_, i) => `client ${i}`);

/** Cuts some nodes off from some places, both ways. */
function cut(world: World, from: readonly string[], to: readonly string[]): void {
  const isCut = (a: string, b: string): boolean => from.includes(a) && to.includes(b);
  world.setLink((a, b) => (isCut(a, b) || isCut(b, a) ? undefined : 1));
}

describe('a cluster whose members are written down in etcd', () => {
  it('that starts together becomes one ring, of one revision', async () => {
    const world = createWorld(1, { etcdRate: 1 });
    const ids = await startCluster(world, 5);
    for (const id of ids) expect(membersAt(world, id), id).to.deep.equal(ids);
    expect(new Set(ids.map((id) => epochAt(world, id)))).to.have.lengthOf(1);
    for (const clientId of clients(10)) expect(await exhaust(world, ids, clientId)).to.equal(10);
  });

  it('has where callers reach each node written down too, for all', async () => {
    const world = createWorld(1, { etcdRate: 1 });
    for (const id of IDS.slice(0, 3)) {
      const url = id === 'c:1' ? undefined : `http://public-${id}`;
      await world.until(world.spawn(id, { memberTtlMs: TTL_MS, url }).cluster.start(), 10_000);
    }
    await world.run(300);
    for (const id of IDS.slice(0, 3)) {
      const urls = describeCluster(world.node(id).cluster.membership).members.map(({ url }) => url);
      expect(urls, id).to.deep.equal(['http://public-a:1', 'http://public-b:1', undefined]);
    }
  });

  it('forgets nothing when an owner is lost while its dead successor is still in the ring, nor then who stands in for both', async () => {
    const world = createWorld(5, { etcdRate: 1 });
    const ids = await startCluster(world, 4, { memberTtlMs: 20_000 });
    const ring = world.node('a:1').cluster.membership.ring();
    const mine = clients(200).filter((id) => ring.owner(id) === 'a:1' && ring.successors(id, 1)[0] === 'b:1');
    expect(mine).to.have.length.above(5);
    for (const clientId of mine) for (let i = 0; i < 4; i += 1) await ask(world, 'a:1', clientId);
    await world.run(300);
    world.kill('b:1', false);
    await world.run(1_500);
    // Some are used before the owner is lost, some are not.
    for (const clientId of mine.slice(2)) await ask(world, 'a:1', clientId);
    await world.run(300);
    world.kill('a:1', false);
    await world.run(1_500);
    const [heir, last] = mine.map((id) => ring.successors(id, 3)).map((order) => order.slice(1))[0]!;
    const theirs = mine.filter((id) => ring.successors(id, 2)[1] === heir);
    for (const clientId of theirs) expect((await ask(world, last!, clientId)).owner).to.equal(heir);
    await world.run(300);
    world.kill(heir!, false);
    await world.run(1_500);
    expect(membersAt(world, last!)).to.deep.equal(ids, 'else it is shown of a ring that has changed');
    for (const clientId of theirs) {
      const used = 5 + (mine.indexOf(clientId) < 2 ? 0 : 1);
      expect(await exhaust(world, [last!], clientId), clientId).to.equal(10 - used);
    }
  });

  it('forgets nothing when an owner is lost, however many copies wait for its dead successor', async () => {
    const world = createWorld(5, { etcdRate: 1 });
    const [a, b, c] = (await startCluster(world, 3, { memberTtlMs: 30_000, maxClients: 30_000 })) as [
      string,
      string,
      string,
    ];
    const ring = world.node(a).cluster.membership.ring();
    const mine: string[] = [];
    for (let i = 0; mine.length < 21_000; i += 1)
      if (ring.owner(`client ${i}`) === a && ring.successors(`client ${i}`, 1)[0] === b) mine.push(`client ${i}`);
    const { checkRouter } = world.node(a).cluster;
    const use = (clientId: string): void => void decideAlone(checkRouter, checkOf(clientId, [PER_HOUR]));
    const [idle, busy] = [mine.slice(0, 20), mine.slice(20)];
    for (const clientId of idle) for (let i = 0; i < 4; i += 1) use(clientId);
    await world.run(300);
    world.kill(b, false);
    for (const clientId of busy) use(clientId);
    await world.run(5_000);
    expect(world.node(a).cluster.stats().unplacedClients).to.equal(0);
    world.kill(a, false);
    await world.run(1_500);
    expect(membersAt(world, c)).to.deep.equal([a, b, c], 'else it is shown of a ring that has changed');
    for (const clientId of idle) expect(await exhaust(world, [c], clientId), clientId).to.equal(6);
  });

  it('comes to every client, though a member goes down again and again before all are looked at', async () => {
    const world = createWorld(5, { etcdRate: 1 });
    const [a, b, c] = (await startCluster(world, 3, { memberTtlMs: 30_000, maxClients: 70_000 })) as [
      string,
      string,
      string,
    ];
    const { cluster } = world.node(a);
    const { membership, checkRouter } = cluster;
    const stats = (): NodeStats => cluster.stats();
    const mine: string[] = [];
    for (let i = 0; mine.length < 60_000; i += 1)
      if (membership.ring().owner(`client ${i}`) === a) mine.push(`client ${i}`);
    const seldom = mine.slice(0, 200).filter((id) => membership.ring().successors(id, 1)[0] === b);
    const use = (clientId: string): void => void decideAlone(checkRouter, checkOf(clientId, [PER_HOUR]));
    for (const clientId of mine) for (let i = 0; i < (seldom.includes(clientId) ? 4 : 1); i += 1) use(clientId);
    await world.run(2_000);
    expect(stats().unplacedClients).to.equal(0);
    // A look takes more than two seconds.
    for (let flap = 0; flap < 5; flap += 1) {
      cut(world, [b], [a, c]);
      for (const clientId of mine.slice(-20)) use(clientId);
      await world.run(950);
      expect(membership.isDown(b)).to.equal(true);
      if (flap === 4) break;
      world.setLink(() => 1);
      await world.run(600);
      expect(membership.isDown(b)).to.equal(false);
    }
    world.kill(a, false);
    await world.run(1_500);
    expect(membersAt(world, c)).to.deep.equal([a, b, c], 'else it is shown of a ring that has changed');
    for (const clientId of seldom) expect(await exhaust(world, [c], clientId), clientId).to.equal(6);
  });

  it('exchanges nothing while nothing is asked', async () => {
    const world = createWorld(2, { etcdRate: 1, log: true });
    await startCluster(world, 3);
    const before = world.log.length;
    await world.run(10_000);
    expect(world.log.slice(before)).to.deep.equal([]);
  });

  it('forgets nothing when nodes join and leave', async () => {
    const world = createWorld(3, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    for (const clientId of clients(30)) expect(await exhaust(world, ids, clientId, 7)).to.equal(7);
    await world.until(world.spawn('d:1', { memberTtlMs: TTL_MS }).cluster.start(), 10_000);
    await world.run(300);
    await world.until(world.node('a:1').cluster.leave(), 10_000);
    // It drains, and forwards what still comes.
    for (const clientId of clients(30)) expect(await ask(world, 'a:1', clientId)).to.include({ allowed: true });
    await world.run(1_000);
    expect(world.etcd!.entries.map(({ id }) => id)).to.have.members(['b:1', 'c:1', 'd:1']);
    world.node('a:1').cluster.close();
    world.kill('a:1');
    await world.run(300);
    for (const id of ['b:1', 'c:1', 'd:1']) expect(membersAt(world, id)).to.deep.equal(['b:1', 'c:1', 'd:1']);
    for (const clientId of clients(30)) expect(await exhaust(world, ['b:1', 'c:1', 'd:1'], clientId)).to.equal(2);
  });

  it('has a successor stand in for a dead owner at once, and drops it when its lease ends', async () => {
    const world = createWorld(4, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    const mine = clients(40).filter((clientId) => ownerOf(world, 'b:1', clientId) === 'a:1');
    for (const clientId of mine) expect(await exhaust(world, ids, clientId, 6)).to.equal(6);
    await world.run(200);
    world.kill('a:1');
    const startedMs = world.nowMs;
    const decision = await ask(world, 'b:1', mine[0]!);
    expect(decision).to.include({ allowed: true, degraded: true });
    expect(world.nowMs - startedMs).to.be.below(100);
    await world.run(TTL_MS + 100);
    for (const id of ['b:1', 'c:1']) expect(membersAt(world, id)).to.deep.equal(['b:1', 'c:1']);
    expect(await exhaust(world, ['b:1', 'c:1'], mine[0]!)).to.equal(3);
    for (const clientId of mine.slice(1)) expect(await exhaust(world, ['b:1', 'c:1'], clientId)).to.equal(4);
  });

  it('has a successor stand in for an owner whose machine is gone about a suspicion time after it was first missed', async () => {
    const world = createWorld(5, { etcdRate: 1 });
    await startCluster(world, 3);
    const clientId = clients(40).find((one) => ownerOf(world, 'b:1', one) === 'a:1')!;
    world.kill('a:1', true);
    const startedMs = world.nowMs;
    expect(await ask(world, 'b:1', clientId)).to.include({ allowed: true, degraded: true });
    expect(world.nowMs - startedMs).to.be.within(400, 1_100);
  });

  it('suspects nobody whom another member still hears', async () => {
    const world = createWorld(6, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    cut(world, ['a:1'], ['b:1']);
    for (let i = 0; i < 40; i += 1) {
      void decideAlone(world.node('a:1').cluster.checkRouter, createCheck(clientKey(`client ${i}`), [PER_HOUR]));
      await world.run(100);
      for (const id of ids) {
        const { membership } = world.node(id).cluster;
        for (const other of ids) expect(membership.isDown(other), `${other} for ${id} at ${i}`).to.equal(false);
      }
    }
  });

  it('goes on with the last view while all of etcd is away', async () => {
    const world = createWorld(7, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    cut(world, ids, [ETCD]);
    await world.run(5 * TTL_MS);
    for (const clientId of clients(10)) expect(await exhaust(world, ids, clientId)).to.equal(10);
    world.setLink(() => 1);
    await world.run(TTL_MS);
    for (const id of ids) expect(membersAt(world, id)).to.deep.equal(ids);
    for (const clientId of clients(10)) expect(await exhaust(world, ids, clientId)).to.equal(0);
  });

  it('tells one that is cut off from etcd alone, by its peers, that it is out, and takes it back', async () => {
    const world = createWorld(8, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    cut(world, ['a:1'], [ETCD]);
    await world.run(2 * TTL_MS);
    for (const id of ids) expect(membersAt(world, id), id).to.deep.equal(['b:1', 'c:1']);
    for (const clientId of clients(20)) expect(await exhaust(world, ids, clientId)).to.equal(10);
    world.setLink(() => 1);
    await world.run(TTL_MS);
    for (const id of ids) expect(membersAt(world, id), id).to.deep.equal(ids);
    for (const clientId of clients(20)) expect(await exhaust(world, ids, clientId)).to.equal(0);
  });

  it('reads again where a watch has ended, was compacted, or is dead without a word', async () => {
    const world = createWorld(9, { etcdRate: 1 });
    await startCluster(world, 3);
    world.etcd!.breakWatches();
    await world.until(world.spawn('d:1', { memberTtlMs: TTL_MS }).cluster.start(), 10_000);
    await world.run(TTL_MS);
    expect(membersAt(world, 'a:1')).to.deep.equal(['a:1', 'b:1', 'c:1', 'd:1']);
    // The stream to one dies silently, and what it would have told is compacted.
    let dead = true;
    world.setLink((from, to) => (dead && from === ETCD && to === 'a:1' ? undefined : 1));
    world.kill('d:1');
    await world.run(TTL_MS + 10);
    world.etcd!.compact();
    dead = false;
    await world.run(TTL_MS);
    expect(membersAt(world, 'a:1')).to.deep.equal(['a:1', 'b:1', 'c:1']);
  });

  it('forms again when all data of etcd is lost, and has forgotten nothing', async () => {
    const world = createWorld(10, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    for (const clientId of clients(20)) expect(await exhaust(world, ids, clientId, 7)).to.equal(7);
    await world.run(200);
    world.etcd!.wipe();
    await world.run(3 * TTL_MS);
    for (const id of ids) expect(membersAt(world, id), id).to.deep.equal(ids);
    for (const clientId of clients(20)) expect(await exhaust(world, ids, clientId)).to.equal(3);
  });

  it('has one ring when all start at the same moment, however late some hear', async () => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const world = createWorld(seed, { etcdRate: 1 });
      world.setLink((_from, _to, random) => random.between(1, 60));
      const ids = await startCluster(world, 5);
      await world.run(1_000);
      for (const id of ids) expect(membersAt(world, id), `${id}, seed ${seed}`).to.deep.equal(ids);
    }
  });

  it('has no use for a write that was given up and arrives late', async () => {
    const world = createWorld(11, { etcdRate: 1 });
    let slow = true;
    world.setLink((from, to) => (slow && from === 'a:1' && to === ETCD ? 900 : 1));
    const started = world.spawn('a:1', { memberTtlMs: TTL_MS }).cluster.start();
    await world.run(2_000);
    slow = false;
    await world.until(started, 10_000);
    await world.run(1_500);
    expect(world.etcd!.entries.map(({ id, state }) => `${id} ${state}`)).to.deep.equal(['a:1 active']);
    expect(membersAt(world, 'a:1')).to.deep.equal(['a:1']);
  });
});

describe('a strict node', () => {
  const STRICT = { strict: true, onUnavailable: 'closed' as const };

  it('stops deciding before its lease ends at etcd, however the clocks of both run, and goes on when it can renew', async () => {
    for (const [etcdRate, clockRate] of [
      [1.02, 0.98],
      [1, 1],
      [0.98, 1.02],
    ] as const) {
      const world = createWorld(20, { etcdRate });
      const options = { memberTtlMs: TTL_MS, clockRate, clockOffsetMs: 123_456, ...STRICT };
      await world.until(world.spawn('a:1', options).cluster.start(), 10_000);
      await world.run(330);
      world.setLink(() => undefined);
      const cutAtMs = world.nowMs;
      let lastMs = 0;
      let endedMs = 0;
      for (let i = 0; i < 300; i += 1) {
        const { allowed, source } = await ask(world, 'a:1', `client ${i}`);
        if (allowed) lastMs = world.nowMs;
        else expect(source).to.equal('fallback');
        if (endedMs === 0 && world.etcd!.entries.length === 0) endedMs = world.nowMs;
        await world.run(9);
      }
      expect(lastMs).to.be.within(cutAtMs + 0.7 * TTL_MS, endedMs - 1);
      world.setLink(() => 1);
      await world.run(TTL_MS);
      expect(await ask(world, 'a:1', 'after')).to.include({ allowed: true, source: 'owner' });
    }
  });

  it('that could not renew for a while, and nobody has replaced, goes on without joining again', async () => {
    const world = createWorld(21, { etcdRate: 0.5 });
    const ids = await startCluster(world, 3, STRICT);
    const revision = epochAt(world, 'a:1');
    cut(world, ids, [ETCD]);
    await world.run(1.2 * TTL_MS);
    for (const id of ids) expect(await ask(world, id, 'client 1')).to.include({ allowed: false, source: 'fallback' });
    world.setLink(() => 1);
    await world.run(TTL_MS);
    expect(epochAt(world, 'a:1')).to.equal(revision);
    expect(await exhaust(world, ids, 'client 1')).to.equal(10);
  });

  it('stands in for nobody, and decides for a dead owner once its lease has ended', async () => {
    const world = createWorld(22, { etcdRate: 1 });
    const ids = await startCluster(world, 3, STRICT);
    const mine = clients(40).filter((clientId) => ownerOf(world, 'b:1', clientId) === 'a:1');
    for (const clientId of mine) expect(await exhaust(world, ids, clientId, 6)).to.equal(6);
    world.kill('a:1');
    for (const id of ['b:1', 'c:1'])
      expect(await ask(world, id, mine[0]!)).to.include({ allowed: false, source: 'fallback' });
    await world.run(TTL_MS + 500);
    for (const clientId of mine) expect(await exhaust(world, ['b:1', 'c:1'], clientId)).to.equal(4);
  });

  it('admits nothing that its successor has not acknowledged, nor on behalf of one who was replaced', async () => {
    const world = createWorld(23, { etcdRate: 1 });
    const ids = await startCluster(world, 3, STRICT);
    const clientId = clients(40).find((one) => ownerOf(world, 'b:1', one) === 'a:1')!;
    const [successor] = world.node('a:1').cluster.membership.ring().successors(clientId, 1);
    const sender = { from: world.node('a:1').cluster.membership.self(), view: '', policies: '' };
    const replicate = { sender, body: { kind: 'replicate' as const, clients: NO_CLIENTS } };
    expect((await world.node(successor!).cluster.receive(replicate)).body.kind).to.equal('kept');
    cut(world, ['a:1'], [successor!]);
    expect(await ask(world, 'a:1', clientId)).to.include({ allowed: false, source: 'fallback' });
    cut(world, ['a:1'], [...ids, ETCD]);
    await world.run(2 * TTL_MS);
    expect((await world.node(successor!).cluster.receive(replicate)).body.kind).to.equal('not-yet');
    expect(membersAt(world, successor!)).not.to.include('a:1');
  });

  it('settles a cost only where who decides next knows of it, and there once, though it was sent again', async () => {
    const world = createWorld(24, { etcdRate: 1 });
    const ids = await startCluster(world, 3, STRICT);
    const clientId = clients(40).find((one) => ownerOf(world, 'b:1', one) === 'a:1')!;
    const [successor] = world.node('a:1').cluster.membership.ring().successors(clientId, 1);
    const check = checkOf(clientId, [PER_HOUR], { cost: 2 });
    const { checks } = world.node('a:1').cluster;
    const reserved = await world.until(Promise.resolve(decideAlone(checks, { ...check, reservation: 'r' })), 5_000);
    expect(reserved).to.include({ allowed: true, reservation: 'r' });
    const settle = (at: string): Promise<Settled> =>
      world.until(world.node(at).cluster.settler.settle(clientId, 'r', 7), 20_000);
    cut(world, ['a:1'], [successor!]);
    expect(await settle('a:1')).to.deep.equal({ kind: 'unavailable' });
    cut(world, ['a:1'], [...ids, ETCD]);
    await world.run(2 * TTL_MS);
    const settled = await settle(successor!);
    expect(settled).to.deep.include({ kind: 'settled' });
    if (settled.kind === 'settled') expect(settled.settlement).to.include({ cost: 7, reserved: 2, remaining: 3 });
    expect(await exhaust(world, [successor!], clientId)).to.equal(3);
  });
});
