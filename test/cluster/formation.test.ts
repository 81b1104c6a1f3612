import { expect } from 'chai';
import type { MemberRecord } from '../../src/cluster/messages.js';
import type { Decision } from '../../src/core/decide/decision.js';
import { ruleOf } from '../../src/core/bucket/rule.js';
import { createWorld } from '../sim/world.js';
import type { World } from '../sim/world.js';
import { checkOf, startRing } from './traffic.js';

const RULE = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);
const ask = (world: World, at: string, clientId: string): Promise<Decision> =>
  Promise.resolve(world.node(at).cluster.limiter.check(checkOf(clientId, [RULE])));

describe('a ring in formation', () => {
  it('lets checks wait until it has members, and none is decided by a fallback', async () => {
    const { world, ids } = await startRing(3);
    const memberships = ids.map((id) => world.node(id).cluster.membership);
    for (const membership of memberships) membership.reincarnate();
    for (const membership of memberships) membership.learn(memberships.map((one) => one.self()));
    const answers = ids.map((id) => ask(world, id, 'alice'));
    for (const answer of answers)
      expect(await world.until(answer, 1_500)).to.include({ allowed: true, degraded: false, limit: 10 });
    await world.run(1_000);
    for (const id of ids) expect(world.node(id).cluster.membership.ring().members).to.deep.equal(ids);
  });

  it('lets checks wait no longer than for a slow owner', async () => {
    const { world } = await startRing(2);
    world.setLink(() => undefined);
    await world.run(1_500);
    const { membership } = world.node('b:1').cluster;
    membership.reincarnate();
    let source: string | undefined;
    void ask(world, 'b:1', 'alice').then((decision) => (source = decision.source));
    // A member that joins, comes first, and never gets there.
    for (let beat = 1; beat <= 14; beat += 1) {
      membership.learn([recordOf('a:1', { state: 'joining', incarnation: 9, beat })]);
      await world.run(100);
    }
    expect(source).to.equal(undefined);
    membership.learn([recordOf('a:1', { state: 'joining', incarnation: 9, beat: 15 })]);
    await world.run(150);
    expect(source).to.equal('fallback');
  });

  it('ends when its node closes, and the checks that waited are answered', async () => {
    const { world } = await startRing(2);
    world.setLink(() => undefined);
    await world.run(1_500);
    const { cluster } = world.node('a:1');
    cluster.membership.reincarnate();
    const waiting = ask(world, 'a:1', 'alice');
    cluster.close();
    expect(await world.until(waiting, 10)).to.include({ source: 'fallback' });
  });
});

function recordOf(id: string, more: Partial<MemberRecord>): MemberRecord {
  return {
    id,
    incarnation: 1,
    state: 'active',
    beat: 1,
    version: 'sim',
    url: '',
    silentMs: 0,
    doubted: false,
    ...more,
  };
}

describe('a member whose incarnation a peer named', () => {
  for (const incarnation of [2 ** 52, 2 ** 52 - 1, 2 ** 51, 7]) {
    it(`comes back under a later one: ${incarnation}`, async () => {
      const world = createWorld(1, { bytes: true });
      const ids = ['a:1', 'b:1', 'c:1'];
      for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
      await world.run(300);
      for (const id of ids)
        world.node(id).cluster.membership.learn([recordOf('a:1', { incarnation, beat: 2 ** 52, state: 'left' })]);
      await world.run(5_000);
      for (const id of ids) expect(world.node(id).cluster.membership.ring().members, id).to.deep.equal(ids);
      expect(await world.until(ask(world, 'a:1', 'alice'), 1_000)).to.include({ degraded: false });
    });
  }
});
