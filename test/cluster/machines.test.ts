import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import type { GroupLeave } from '../../src/node/leaver.js';
import type { Check } from '../../src/limits/decide/check.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { mutate } from '../sim/mutant.js';
import { createWorld, newNode, type World } from '../sim/world.js';
import { checkOf } from './traffic.js';

/** Two machines of three members each, and one of one. */
const A = ['a:1', 'a:2', 'a:3'];
const B = ['b:1', 'b:2', 'b:3'];
const ALL = [...A, ...B, 'c:1'];
const clients = (count: number): string[] => Array.from({ length: count }, (_, i) => `client ${i}`);
const CLIENTS = clients(120);
const PER_HOUR = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);

async function startAll(world: World, ids: readonly string[]): Promise<void> {
  for (const id of ids) await world.until(world.spawn(id, { seeds: ids, maxClients: 2_000 }).cluster.start(), 10_000);
  await world.run(500);
}

async function take(world: World, at: string, clientId: string, more: Partial<Check> = {}): Promise<boolean> {
  const check = checkOf(clientId, [PER_HOUR], more);
  const decision = await world.until(Promise.resolve(decideAlone(world.node(at).cluster.checkRouter, check)), 5_000);
  expect(decision.source).not.to.equal('fallback');
  return decision.allowed;
}

/** How often a client is allowed who asks until it is denied, at nodes in turn. */
async function exhaust(world: World, ids: readonly string[], clientId: string): Promise<number> {
  for (let times = 0; ; times += 1) if (!(await take(world, ids[times % ids.length]!, clientId))) return times;
}

function groupLeaveOf(ids: readonly string[]): (id: string) => GroupLeave {
  const rounds = new Map(ids.map((id) => [id, 0]));
  const wake: (() => void)[] = [];
  return (id) => ({
    ids,
    async barrier() {
      const round = rounds.get(id)! + 1;
      rounds.set(id, round);
      for (const call of wake.splice(0)) call();
      while ([...rounds.values()].some((one) => one < round)) await new Promise<void>((resolve) => wake.push(resolve));
      return ids;
    },
  });
}

async function leaveTogether(world: World, ids: readonly string[]): Promise<void> {
  const groupLeave = groupLeaveOf(ids);
  await world.until(Promise.all(ids.map((id) => world.node(id).cluster.leave(groupLeave(id)))), 10_000);
}

describe('members of one machine', () => {
  it('forget nothing when they are all lost at once, without their machine saying so', async () => {
    const world = createWorld(1);
    await startAll(world, ALL);
    for (const clientId of CLIENTS) for (let i = 0; i < 6; i += 1) await take(world, ALL[i]!, clientId);
    await world.run(100);
    for (const id of A) world.kill(id, true);
    await world.run(3_000);
    const left = [...B, 'c:1'];
    for (const id of left) expect(world.node(id).cluster.membership.ring().members).to.deep.equal(left);
    for (const clientId of CLIENTS) expect(await exhaust(world, left, clientId), clientId).to.equal(4);
  });

  it('forget nothing of a decision that was to be replicated, though all are lost the moment it is answered', async () => {
    const world = createWorld(2);
    await startAll(world, ALL);
    for (const clientId of CLIENTS) await take(world, 'c:1', clientId, { cost: 7, replicated: true });
    for (const id of B) world.kill(id, true);
    await world.run(3_000);
    for (const clientId of CLIENTS) expect(await exhaust(world, [...A, 'c:1'], clientId), clientId).to.equal(3);
  });

  it('forget nothing when one of them is lost, and hand it its clients when it is back', async () => {
    const world = createWorld(3);
    await startAll(world, ALL);
    for (const clientId of CLIENTS) for (let i = 0; i < 6; i += 1) await take(world, ALL[i]!, clientId);
    await world.run(100);
    world.kill('a:2');
    await world.run(50);
    await world.until(world.spawn('a:2', { seeds: ALL }).cluster.start(), 10_000);
    await world.run(500);
    expect(CLIENTS.filter((id) => world.node('a:2').cluster.membership.ring().owner(id) === 'a:2')).not.to.have.length(
      0,
    );
    for (const clientId of CLIENTS) expect(await exhaust(world, ALL, clientId), clientId).to.equal(4);
  });

  it('forget nothing when they leave together, and hold up nobody who stays', async () => {
    const world = createWorld(4);
    await startAll(world, ALL);
    for (const clientId of CLIENTS) for (let i = 0; i < 6; i += 1) await take(world, ALL[i]!, clientId);
    await leaveTogether(world, A);
    const left = [...B, 'c:1'];
    for (const id of left) {
      expect(world.node(id).cluster.membership.ring().members).to.deep.equal(left);
      expect(world.node(id).cluster.gate.isClosed).to.equal(false);
    }
    // Those who have left go on forwarding.
    for (const clientId of CLIENTS) expect(await take(world, 'a:1', clientId)).to.equal(true);
    for (const id of A) world.kill(id);
    for (const clientId of CLIENTS) expect(await exhaust(world, left, clientId), clientId).to.equal(3);
  });

  it('forget nothing when some leave together and others of their host stay', async () => {
    const world = createWorld(5);
    await startAll(world, ALL);
    // Of 100 clients one is decided by those who leave, and then by the third, which has no copy.
    const many = clients(1_000);
    for (const clientId of many) await take(world, 'c:1', clientId, { cost: 6 });
    await leaveTogether(world, ['a:1', 'a:2']);
    for (const id of ['a:1', 'a:2']) world.kill(id);
    for (const clientId of many) expect(await exhaust(world, ['a:3', ...B], clientId), clientId).to.equal(4);
  });

  it('forget nothing when those of another machine leave together at the same moment', async () => {
    const world = createWorld(7);
    await startAll(world, ALL);
    for (const clientId of CLIENTS) for (let i = 0; i < 6; i += 1) await take(world, ALL[i]!, clientId);
    await Promise.all([leaveTogether(world, A), leaveTogether(world, B)]);
    for (const id of [...A, ...B]) world.kill(id);
    for (const clientId of CLIENTS) expect(await exhaust(world, ['c:1'], clientId), clientId).to.equal(4);
  });

  it('agree with members of a version that knows nothing of machines, and have their copies elsewhere all the same', async () => {
    const patch = { file: 'limits/ring/ring.ts', find: 'let needsOtherHost = severalHosts;' };
    const older = await mutate([{ ...patch, replace: 'let needsOtherHost = false;' }]);
    const world = createWorld(8, {
      createNode: (deps, options) => (A.includes(options.self) ? newNode : older)(deps, options),
    });
    await startAll(world, ALL);
    const rings = ALL.map((id) => world.node(id).cluster.membership.ring());
    expect(new Set(rings.map(({ checksum }) => checksum)).size).to.equal(1);
    for (const clientId of CLIENTS) {
      expect(
        new Set(rings.map((ring) => [ring.owner(clientId), ...ring.successors(clientId, 6)].join())).size,
      ).to.equal(1);
      for (let i = 0; i < 6; i += 1) await take(world, ALL[i]!, clientId);
    }
    await world.run(100);
    const theirs = CLIENTS.filter((clientId) => A.includes(rings[0]!.owner(clientId)!));
    for (const id of A) world.kill(id, true);
    await world.run(3_000);
    for (const clientId of theirs) expect(await exhaust(world, [...B, 'c:1'], clientId), clientId).to.equal(4);
  });

  it('go on deciding on what they know when nobody else stays', async () => {
    for (const ids of [A, ['a:1']]) {
      const world = createWorld(6);
      await startAll(world, ids);
      for (const clientId of CLIENTS) for (let i = 0; i < 6; i += 1) await take(world, ids[i % ids.length]!, clientId);
      await leaveTogether(world, ids);
      for (const clientId of CLIENTS) expect(await exhaust(world, ids, clientId), clientId).to.equal(4);
    }
  });
});
