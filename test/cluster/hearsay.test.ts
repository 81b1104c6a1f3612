import { expect } from 'chai';
import type { DeclaredState, MemberRecord } from '../../src/protocol/messages.js';
import { createWorld, type World } from '../sim/world.js';

const IDS = ['a:1', 'b:1', 'c:1'];

async function startCluster(world: World): Promise<void> {
  for (const id of IDS) await world.until(world.spawn(id, { seeds: IDS }).cluster.start(), 10_000);
  await world.run(500);
}

/** A later record of `b:1`, which it did not make. */
function forged(world: World, state: DeclaredState): MemberRecord {
  const own = world.node('b:1').cluster.membership.self();
  return { ...own, state, beat: own.beat + 1_000 };
}

/** Somebody who knows the peer secret sends a heartbeat. */
function send(world: World, to: string, from: MemberRecord, members: readonly MemberRecord[]): Promise<unknown> {
  const sender = { from, view: '', policies: '' };
  return world.node(to).cluster.receive({ sender, body: { kind: 'heartbeat', members } });
}

function stateOfB(world: World, at: string): string | undefined {
  return world.node(at).cluster.membership.stateOf('b:1');
}

/** All versions of the ring, and the incarnation of `b:1`. */
function ringOf(world: World): unknown {
  const versions = IDS.map((id) => world.node(id).cluster.membership.ringVersion());
  return [...versions, world.node('b:1').cluster.membership.self().incarnation];
}

describe('a member', () => {
  for (const state of ['active', 'leaving', 'left'] as const) {
    it(`that another says is ${state} later than it says itself stays in the ring of all`, async () => {
      const world = createWorld(1);
      await startCluster(world);
      const before = ringOf(world);
      const stranger = { ...forged(world, 'left'), id: 'x:9' };
      for (const to of IDS) void send(world, to, stranger, [forged(world, state)]);
      for (let i = 0; i < 30; i += 1) {
        await world.run(100);
        for (const at of IDS) expect(stateOfB(world, at)).to.equal('active');
      }
      expect(ringOf(world)).to.deep.equal(before);
    });
  }

  for (const state of ['leaving', 'left'] as const) {
    it(`in whose name another says that it is ${state} is back once it has answered, and does not rejoin`, async () => {
      const world = createWorld(2);
      await startCluster(world);
      const { incarnation } = world.node('b:1').cluster.membership.self();
      void send(world, 'c:1', forged(world, state), []);
      await world.run(1);
      expect(stateOfB(world, 'c:1')).to.equal('leaving');
      for (let i = 0; i < 30; i += 1) {
        await world.run(100);
        for (const at of ['a:1', 'b:1']) expect(stateOfB(world, at)).to.equal('active');
      }
      expect(stateOfB(world, 'c:1')).to.equal('active');
      expect(world.node('b:1').cluster.membership.self().incarnation).to.equal(incarnation);
    });
  }

  it('whose word that it leaves is lost on the way to another is out of the ring of that one, too', async () => {
    const world = createWorld(3);
    await startCluster(world);
    world.setLink((from, to) => (from === 'b:1' && to === 'c:1' ? undefined : 1));
    await world.until(world.node('b:1').cluster.leave(), 20_000);
    world.node('b:1').cluster.close();
    world.kill('b:1');
    await world.run(500);
    expect(world.node('c:1').cluster.membership.ring().members).to.deep.equal(['a:1', 'c:1']);
    expect(stateOfB(world, 'c:1')).to.be.oneOf(['leaving', undefined]);
  });

  it('that has left with the same id as before comes back as another', async () => {
    const world = createWorld(4);
    await startCluster(world);
    await world.until(world.node('b:1').cluster.leave(), 20_000);
    world.node('b:1').cluster.close();
    world.kill('b:1');
    await world.until(world.spawn('b:1', { seeds: IDS }).cluster.start(), 10_000);
    await world.run(500);
    for (const at of IDS) expect(world.node(at).cluster.membership.ring().members).to.deep.equal(IDS);
  });
});
