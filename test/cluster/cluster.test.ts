import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import type { MemberRecord } from '../../src/protocol/messages.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, type Check } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { describeCluster } from '../../src/server/http/api/cluster-view.js';
import { createWorld, type SpawnOptions, type World } from '../sim/world.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'];
const PER_HOUR = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);

function checkOf(clientId: string, more: Partial<Check> = {}): Check {
  return createCheck(clientKey(clientId), more.rules ?? [PER_HOUR], more);
}

async function startCluster(world: World, count: number, options: SpawnOptions = {}): Promise<string[]> {
  const ids = IDS.slice(0, count);
  for (const id of ids) await world.until(world.spawn(id, { seeds: ids, ...options }).cluster.start(), 10_000);
  await world.run(500);
  return ids;
}

async function ask(world: World, at: string, check: Check): Promise<Decision> {
  return world.until(Promise.resolve(decideAlone(world.node(at).cluster.checkRouter, check)), 5_000);
}

/** Asks the nodes in turn until denied; returns how many were allowed. */
async function exhaust(world: World, ids: readonly string[], clientId: string, times = 15): Promise<number> {
  let allowed = 0;
  for (let i = 0; i < times; i += 1)
    if ((await ask(world, ids[i % ids.length]!, checkOf(clientId))).allowed) allowed += 1;
  return allowed;
}

function ownerOf(world: World, at: string, clientId: string): string {
  return world.node(at).cluster.membership.ring().owner(clientId)!;
}

function clients(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `client ${i}`);
}

describe('a cluster', () => {
  it('that starts together becomes one ring', async () => {
    const world = createWorld(1);
    const starts = IDS.map((id) => world.spawn(id, { seeds: IDS }).cluster.start());
    await world.until(Promise.all(starts), 10_000);
    await world.run(1_000);
    const checksums = IDS.map((id) => world.node(id).cluster.membership.ring().checksum);
    expect(new Set(checksums)).to.have.lengthOf(1);
    expect(world.node('a:1').cluster.membership.ring().members).to.deep.equal(IDS);
  });

  it('tells each where callers reach the others', async () => {
    const world = createWorld(1, { bytes: true });
    for (const id of ['a:1', 'b:1', 'c:1']) {
      const url = id === 'c:1' ? undefined : `http://public-${id}`;
      await world.until(world.spawn(id, { seeds: ['a:1'], url }).cluster.start(), 10_000);
    }
    await world.run(500);
    for (const id of ['a:1', 'b:1', 'c:1']) {
      const urls = describeCluster(world.node(id).cluster.membership).members.map(({ url }) => url);
      expect(urls, id).to.deep.equal(['http://public-a:1', 'http://public-b:1', undefined]);
    }
  });

  it('gives a client its limit once, whichever nodes are asked', async () => {
    const world = createWorld(2);
    const ids = await startCluster(world, 3);
    for (const clientId of clients(20)) expect(await exhaust(world, ids, clientId)).to.equal(10);
  });

  it('says who decided', async () => {
    const world = createWorld(3);
    const ids = await startCluster(world, 3);
    for (const clientId of clients(10)) {
      const owner = ownerOf(world, 'a:1', clientId);
      for (const at of ids) {
        const decision = await ask(world, at, checkOf(clientId));
        expect(decision).to.include({ owner, source: at === owner ? 'owner' : 'forwarded', degraded: false });
      }
    }
  });

  it('goes on where a killed owner was, from the copies of its successors', async () => {
    const world = createWorld(4);
    const ids = await startCluster(world, 3);
    const all = clients(50);
    for (const clientId of all) for (let i = 0; i < 6; i += 1) await ask(world, ids[i % 3]!, checkOf(clientId));
    await world.run(100);
    world.kill('b:1');
    const alive = ['a:1', 'c:1'];
    for (const clientId of all) expect(await exhaust(world, alive, clientId)).to.equal(4);
  });

  it('answers for a killed owner within 300 ms', async () => {
    const world = createWorld(5);
    await startCluster(world, 3);
    const clientId = clients(99).find((id) => ownerOf(world, 'a:1', id) === 'b:1')!;
    world.kill('b:1');
    const beforeMs = world.nowMs;
    const decision = await ask(world, 'a:1', checkOf(clientId));
    expect(decision).to.include({ allowed: true, degraded: true });
    expect(decision.source).to.be.oneOf(['owner', 'forwarded']);
    expect(world.nowMs - beforeMs).to.be.below(300);
  });

  it('goes on with two of five killed at once, with two replicas', async () => {
    const world = createWorld(6);
    const ids = await startCluster(world, 5, { replicas: 2 });
    const all = clients(60);
    for (const clientId of all) for (let i = 0; i < 5; i += 1) await ask(world, ids[i]!, checkOf(clientId));
    await world.run(100);
    world.kill('b:1');
    world.kill('d:1');
    for (const clientId of all) expect(await exhaust(world, ['a:1', 'c:1', 'e:1'], clientId)).to.equal(5);
  });

  it('forgets nothing when a node leaves', async () => {
    const world = createWorld(7);
    const ids = await startCluster(world, 3);
    const all = clients(50);
    for (const clientId of all) for (let i = 0; i < 6; i += 1) await ask(world, ids[i % 3]!, checkOf(clientId));
    await world.until(world.node('b:1').cluster.leave(), 20_000);
    for (const clientId of all) expect(await exhaust(world, ids, clientId)).to.equal(4);
  });

  it('forgets nothing when two nodes leave at the same moment', async () => {
    const world = createWorld(13);
    const ids = await startCluster(world, 5);
    const all = clients(100);
    for (const clientId of all) for (let i = 0; i < 6; i += 1) await ask(world, ids[i % 5]!, checkOf(clientId));
    const leaving = Promise.all(['d:1', 'e:1'].map((id) => world.node(id).cluster.leave()));
    const allowed = new Map<string, number>();
    for (let round = 0; round < 6; round += 1) {
      for (const clientId of all) {
        const decision = await ask(world, ids[round % 3]!, checkOf(clientId));
        if (decision.allowed) allowed.set(clientId, (allowed.get(clientId) ?? 0) + 1);
      }
    }
    await world.until(leaving, 20_000);
    for (const clientId of all) expect(allowed.get(clientId), clientId).to.equal(4);
  });

  it('goes on under a limit that was raised where its owner was, and under its rate', async () => {
    const world = createWorld(14);
    const ids = await startCluster(world, 3);
    const raised = ruleOf('token-bucket', 1_000, 3_600_000, 1_000, undefined);
    const all = clients(20);
    for (const clientId of all) {
      await ask(world, ids[0]!, checkOf(clientId, { cost: 10 }));
      await ask(world, ids[0]!, checkOf(clientId, { rules: [raised], cost: 990 }));
    }
    await world.run(100);
    for (const clientId of all) {
      const owner = ownerOf(world, 'a:1', clientId);
      const [successor] = world.node(owner).cluster.membership.ring().successors(clientId, 1);
      const [there] = world.node(owner).cluster.admin.describeHere(clientId).buckets;
      const [copy] = world.node(successor!).cluster.admin.describeHere(clientId).buckets;
      expect(copy!.limit).to.equal(1_000);
      expect(copy!.resetMs - there!.resetMs).to.be.within(0, 100);
    }
  });

  it('gives the first decision on a request id again where the client has moved', async () => {
    const world = createWorld(15);
    const ids = await startCluster(world, 3);
    const all = clients(30);
    for (const clientId of all) await ask(world, ids[0]!, checkOf(clientId, { requestId: 'r', cost: 3 }));
    await world.run(5_000);
    await world.until(world.spawn('d:1', { seeds: ids }).cluster.start(), 10_000);
    await world.until(world.node('b:1').cluster.leave(), 20_000);
    for (const clientId of all) {
      const again = await ask(world, 'a:1', checkOf(clientId, { requestId: 'r', cost: 3 }));
      expect(again, clientId).to.include({ allowed: true, remaining: 7 });
      expect((await ask(world, 'd:1', checkOf(clientId, { peek: true }))).remaining).to.equal(7);
    }
  });

  it('forgets nothing when a node joins, and gives it its share', async () => {
    const world = createWorld(8);
    const ids = await startCluster(world, 3);
    const all = clients(200);
    for (const clientId of all) for (let i = 0; i < 6; i += 1) await ask(world, ids[i % 3]!, checkOf(clientId));
    await world.until(world.spawn('d:1', { seeds: ids }).cluster.start(), 10_000);
    const owned = all.filter((clientId) => ownerOf(world, 'd:1', clientId) === 'd:1');
    expect(owned.length).to.be.greaterThan(20);
    for (const clientId of all) expect(await exhaust(world, IDS.slice(0, 4), clientId)).to.equal(4);
  });

  it('does not let a node that was frozen decide on what it knew', async () => {
    const world = createWorld(9);
    const ids = await startCluster(world, 3);
    const all = clients(50);
    for (const clientId of all) await ask(world, ids[0]!, checkOf(clientId));
    await world.run(100);
    world.freeze('b:1');
    for (const clientId of all) expect(await exhaust(world, ['a:1', 'c:1'], clientId)).to.equal(9);
    world.thaw('b:1');
    for (const clientId of all) expect(await exhaust(world, ['b:1'], clientId, 2)).to.equal(0);
    await world.run(2_000);
    expect(world.node('b:1').cluster.membership.ring().members).to.deep.equal(ids);
    for (const clientId of all) expect(await exhaust(world, ids, clientId, 3)).to.equal(0);
  });

  it('agrees on the stricter state after a partition', async () => {
    const world = createWorld(10);
    const ids = await startCluster(world, 3);
    const all = clients(50);
    const side = (id: string): number => (id === 'c:1' ? 1 : 0);
    world.setLink((from, to) => (side(from) === side(to) ? 1 : undefined));
    await world.run(2_000);
    for (const clientId of all) expect(await exhaust(world, ['a:1', 'b:1'], clientId)).to.equal(10);
    for (const clientId of all) expect(await exhaust(world, ['c:1'], clientId, 4)).to.equal(4);
    world.setLink(() => 1);
    await world.run(2_000);
    for (const id of ids) expect(world.node(id).cluster.membership.ring().members, id).to.deep.equal(ids);
    for (const clientId of all) expect(await exhaust(world, ids, clientId, 3)).to.equal(0);
  });

  it('agrees on the stricter state after a partition that heals bit by bit', async () => {
    let hidden = false;
    /** What nobody tells a node that is just back: that there is one more. */
    const without = (to: string, members: readonly MemberRecord[]) =>
      hidden && to === 'a:1' ? members.filter(({ id }) => id !== 'b:1') : members;
    const world = createWorld(15, {
      tamper: {
        message: (_from, to, { sender, body }) =>
          body.kind === 'heartbeat'
            ? { sender, body: { ...body, members: without(to, body.members) } }
            : { sender, body },
        answer: (_from, to, { sender, body }) =>
          'members' in body ? { sender, body: { ...body, members: without(to, body.members) } } : { sender, body },
      },
    });
    const ids = await startCluster(world, 3);
    const all = clients(50);
    const cutFromA = (...from: string[]) =>
      world.setLink((a, b) => ([a, b].includes('a:1') && from.some((id) => a === id || b === id) ? undefined : 1));
    cutFromA('b:1', 'c:1');
    await world.run(2_000);
    for (const clientId of all) expect(await exhaust(world, ['a:1'], clientId)).to.equal(10);
    hidden = true;
    cutFromA('b:1');
    // Long enough to look through the table under the ring of two.
    await world.run(500);
    hidden = false;
    world.setLink(() => 1);
    await world.run(2_000);
    for (const id of ids) expect(world.node(id).cluster.membership.ring().members, id).to.deep.equal(ids);
    for (const clientId of all) expect(await exhaust(world, ids, clientId, 3)).to.equal(0);
  });

  it('suspects nobody whom another member still hears, however busy all are', async () => {
    const world = createWorld(13);
    const ids = await startCluster(world, 3);
    const cut = ['a:1', 'b:1'];
    world.setLink((from, to) => (cut.includes(from) && cut.includes(to) ? undefined : 1));
    for (let i = 0; i < 600; i += 1) {
      const { checkRouter, membership } = world.node(ids[i % 3]!).cluster;
      void decideAlone(checkRouter, checkOf(`client ${i % 50}`));
      await world.run(5);
      // One that is down is stood in for: two would decide for its clients.
      for (const id of ids) expect(membership.isDown(id), `${id} for ${membership.self().id} at ${i}`).to.equal(false);
    }
  });

  it('tells of members only where the lists differ, or where one is missed', async () => {
    const told: number[] = [];
    const world = createWorld(14, {
      tamper: {
        message(_from, _to, sent) {
          if (sent.body.kind === 'heartbeat') told.push(sent.body.members.length);
          return sent;
        },
        answer(_from, _to, sent) {
          if ('members' in sent.body) told.push(sent.body.members.length);
          return sent;
        },
      },
    });
    await startCluster(world, 5);
    await world.run(500);
    told.length = 0;
    await world.run(1_000);
    expect(told.length).to.be.greaterThan(100);
    expect(Math.max(...told)).to.equal(0);
    world.kill('e:1', true);
    await world.run(300);
    expect(Math.max(...told)).to.equal(1);
  });

  it('lets a killed node come back with an empty memory', async () => {
    const world = createWorld(11);
    const ids = await startCluster(world, 3);
    const all = clients(50);
    for (const clientId of all) for (let i = 0; i < 6; i += 1) await ask(world, ids[i % 3]!, checkOf(clientId));
    await world.run(100);
    world.kill('b:1');
    await world.until(world.spawn('b:1', { seeds: ids }).cluster.start(), 10_000);
    for (const clientId of all) expect(await exhaust(world, ids, clientId)).to.equal(4);
  });

  it('forgets nothing over a rolling restart', async () => {
    const world = createWorld(12);
    const ids = await startCluster(world, 3);
    const all = clients(50);
    for (const clientId of all) for (let i = 0; i < 6; i += 1) await ask(world, ids[i % 3]!, checkOf(clientId));
    for (const id of ids) {
      await world.until(world.node(id).cluster.leave(), 20_000);
      world.node(id).cluster.close();
      world.kill(id);
      await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
    }
    for (const clientId of all) expect(await exhaust(world, ids, clientId)).to.equal(4);
  });
});
