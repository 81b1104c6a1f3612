import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import type { World } from '../sim/world.js';
import { checkOf, startRing } from './traffic.js';

const RULE = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);
/** Of a suspicion time of 1,000 ms: a node asks others after a pause of 300, and they act after 500 of silence. */
const UNNOTICED_MS = 350;
const NOTICED_MS = 800;

interface View {
  readonly incarnation: number;
  readonly ringVersion: number;
}

const viewsOf = (world: World, ids: readonly string[]): View[] =>
  ids.map((id) => {
    const self = world.node(id).cluster.membership.self();
    const ringVersion = world.node(id).cluster.membership.ringVersion();
    return { incarnation: self.incarnation, ringVersion };
  });

const clientOf = (world: World, owner: string): string =>
  Array.from({ length: 100 }, (_, i) => `client ${i}`).find(
    (id) => world.node(owner).cluster.membership.ring().owner(id) === owner,
  )!;

function ask(world: World, at: string, clientId: string): Promise<Decision> {
  return new Promise((resolve) => {
    const check = checkOf(clientId, [RULE]);
    world.deliver(at, ({ cluster }) => void Promise.resolve(decideAlone(cluster.checkRouter, check)).then(resolve));
  });
}

/** Allowed of `times` checks, one after another, at the nodes in turn. */
async function exhaust(world: World, ids: readonly string[], clientId: string, times = 15): Promise<number> {
  let allowed = 0;
  for (let i = 0; i < times; i += 1)
    if ((await world.until(ask(world, ids[i % ids.length]!, clientId), 5_000)).allowed) allowed += 1;
  return allowed;
}

async function pause(world: World, id: string, forMs: number): Promise<void> {
  world.freeze(id);
  await world.run(forMs);
  world.thaw(id);
}

for (const [members, worldOptions] of [
  ['that gossip', {}],
  ['of a registry', { etcdRate: 1 }],
] as const) {
  describe(`members ${members}`, () => {
    it('pay one round trip for a pause that no node noticed, and keep their ring', async () => {
      const { world, ids, sent } = await startRing(3, {}, worldOptions);
      const clientId = clientOf(world, 'a:1');
      expect(await exhaust(world, ids, clientId, 4)).to.equal(4);
      const before = viewsOf(world, ids);
      sent.clear();
      world.freeze('a:1');
      const waiting = ask(world, 'a:1', clientId);
      await world.run(UNNOTICED_MS);
      world.thaw('a:1');
      const thawedMs = world.nowMs;
      expect(await world.until(waiting, 100)).to.include({ allowed: true, source: 'owner', degraded: false });
      expect(world.nowMs - thawedMs).to.be.within(2, 4);
      await world.run(3_000);
      expect(viewsOf(world, ids)).to.deep.equal(before);
      expect(sent.get('paused')).to.equal(2);
      expect(await exhaust(world, ids, clientId)).to.equal(5);
    });

    it('rejoin after a pause in which another node acted for them, and know what it admitted', async () => {
      const { world, ids } = await startRing(3, {}, worldOptions);
      const clientId = clientOf(world, 'a:1');
      const [before] = viewsOf(world, ['a:1']);
      world.freeze('a:1');
      const waiting = exhaust(world, ['b:1'], clientId, 4);
      await world.run(NOTICED_MS);
      expect(await waiting).to.equal(4);
      world.thaw('a:1');
      expect(await exhaust(world, ids, clientId)).to.equal(6);
      expect(viewsOf(world, ['a:1'])[0]!.incarnation).to.be.above(before!.incarnation);
    });

    it('rejoin after a pause so long that the others have forgotten them', async () => {
      const { world, ids } = await startRing(3, { suspectAfterMs: 100, memberTtlMs: 2_000 }, worldOptions);
      const clientId = clientOf(world, 'a:1');
      world.freeze('a:1');
      await world.run(5_000);
      expect(await exhaust(world, ['b:1', 'c:1'], clientId, 4)).to.equal(4);
      await world.run(61_000);
      world.thaw('a:1');
      expect(await exhaust(world, ids, clientId)).to.equal(6);
    });

    it('rejoin after a pause if a member that may have acted does not answer', async () => {
      const { world, ids } = await startRing(3, {}, worldOptions);
      const [before] = viewsOf(world, ['a:1']);
      world.setLink((from, to) => (from === 'c:1' && to === 'a:1' ? undefined : 1));
      await pause(world, 'a:1', UNNOTICED_MS);
      await world.run(1_500);
      world.setLink(() => 1);
      await world.run(4_000);
      expect(viewsOf(world, ['a:1'])[0]!.incarnation).to.be.above(before!.incarnation);
      expect(await exhaust(world, ids, clientOf(world, 'a:1'))).to.equal(10);
    });

    it('ask again after a second pause, before which the answers to the first were sent', async () => {
      const { world, ids } = await startRing(3, {}, worldOptions);
      const clientId = clientOf(world, 'a:1');
      const [before] = viewsOf(world, ['a:1']);
      await pause(world, 'a:1', UNNOTICED_MS);
      // The questions are on their way.
      await world.run(0.5);
      world.freeze('a:1');
      await world.run(5);
      const waiting = exhaust(world, ['b:1'], clientId, 4);
      await world.run(NOTICED_MS);
      expect(await waiting).to.equal(4);
      world.thaw('a:1');
      expect(await exhaust(world, ids, clientId)).to.equal(6);
      expect(viewsOf(world, ['a:1'])[0]!.incarnation).to.be.above(before!.incarnation);
    });

    it('let a joining member wait until they know whether another node acted for them', async () => {
      const { world, ids } = await startRing(3, {}, worldOptions);
      const clientId = clientOf(world, 'a:1');
      world.freeze('a:1');
      const waiting = exhaust(world, ['b:1'], clientId, 4);
      await world.run(NOTICED_MS);
      expect(await waiting).to.equal(4);
      // The handoff waits in a socket, and is read before all else.
      const joining = world.spawn('d:1', { seeds: ids }).cluster.start();
      await world.run(100);
      world.thaw('a:1');
      await world.until(joining, 10_000);
      expect(await exhaust(world, [...ids, 'd:1'], clientId)).to.equal(6);
    });
  });
}
