import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import type { MemberRecord } from '../../src/protocol/messages.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { createWorld, type World } from '../sim/world.js';
import { checkOf, startRing } from './traffic.js';

const RULE = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);
const ask = (world: World, at: string, clientId: string): Promise<Decision> =>
  Promise.resolve(decideAlone(world.node(at).cluster.checkRouter, checkOf(clientId, [RULE])));

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
    suspected: false,
    ...more,
  };
}

describe('a ring of which a peer names ever new members', () => {
  it('keeps its members, answers at once, and lets others join and leave', async () => {
    const world = createWorld(1, { bytes: true });
    const ids = ['a:1', 'b:1', 'c:1'];
    for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
    await world.run(300);
    const rings = new Set<string>();
    let names = 0;
    async function attack(rounds: number): Promise<void> {
      for (let round = 0; round < rounds; round += 1) {
        const from = recordOf('liar:1', { state: 'joining', beat: round });
        for (const id of ids) {
          const members = Array.from({ length: 10 }, () => recordOf(`made-up:${(names += 1)}`, {}));
          const sender = { from, view: 'x', policies: '' };
          void world.node(id).cluster.receive({ sender, body: { kind: 'heartbeat', members } });
        }
        const asked = ids.map((id) => ask(world, id, `client ${round}`));
        for (const decision of await world.until(Promise.all(asked), 50))
          expect(decision).to.include({ allowed: true, degraded: false });
        await world.run(100);
        for (const id of ids) rings.add(world.node(id).cluster.membership.ring().members.join());
      }
    }

    await attack(20);
    expect([...rings]).to.deep.equal(['a:1,b:1,c:1']);
    const joined = world.spawn('d:1', { seeds: ids }).cluster.start();
    await attack(10);
    await world.until(joined, 10);
    await world.until(world.node('b:1').cluster.leave(), 5_000);
    await world.run(500);
    for (const id of ['a:1', 'c:1', 'd:1'])
      expect(world.node(id).cluster.membership.ring().members, id).to.deep.equal(['a:1', 'c:1', 'd:1']);
  });
});

describe('a ring of which a peer names ever new lives of a member', () => {
  it('does not change, admits no more than the limit, and knows the member when it has begun anew', async () => {
    const world = createWorld(1, { bytes: true });
    const ids = ['a:1', 'b:1', 'c:1'];
    for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
    await world.run(300);
    const versions = ids.map((id) => world.node(id).cluster.membership.ringVersion());
    let admitted = 0;
    async function attack(rounds: number): Promise<void> {
      for (let round = 0; round < rounds; round += 1) {
        const from = recordOf('liar:1', { state: 'joining', beat: round });
        const members = [recordOf('a:1', { state: 'joining', incarnation: round + 2 })];
        for (const id of ids) {
          const sender = { from, view: 'x', policies: '' };
          void world.find(id)?.cluster.receive({ sender, body: { kind: 'heartbeat', members } });
        }
        const answers = await world.until(Promise.all(['b:1', 'c:1'].map((id) => ask(world, id, 'alice'))), 1_000);
        for (const { allowed } of answers) if (allowed) admitted += 1;
        await world.run(100);
      }
    }

    await attack(20);
    expect(admitted).to.equal(10);
    expect(ids.map((id) => world.node(id).cluster.membership.ringVersion())).to.deep.equal(versions);
    world.kill('a:1');
    await world.run(100);
    const back = world.spawn('a:1', { seeds: ids }).cluster.start();
    await attack(30);
    await world.until(back, 10);
    for (const id of ids) expect(world.node(id).cluster.membership.ring().members, id).to.deep.equal(ids);
    expect(admitted).to.be.at.most(20);
  });
});

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
