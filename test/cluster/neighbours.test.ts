import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { GossipMembership } from '../../src/membership/gossip-membership.js';
import { neighboursOf } from '../../src/membership/suspicion.js';
import type { MemberRecord } from '../../src/protocol/messages.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { SUSPECT_AFTER_MS, createScaleCluster } from '../sim/scale-cluster.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';
import { checkOf } from './traffic.js';

const COUNT = 8;
const idsOf = (count: number): NodeId[] => Array.from({ length: count }, (_, i) => `10.0.0.${i}:9080`);
const without = (ids: readonly NodeId[], one: NodeId): NodeId[] => ids.filter((id) => id !== one);

describe('the neighbours of a member', () => {
  it('are all others while there are few', () => {
    for (const size of [1, 2, COUNT + 1]) {
      const [self, ...others] = idsOf(size);
      expect([...neighboursOf(self!, others, COUNT)]).to.deep.equal(others);
    }
  });

  for (const size of [10, 30, 300]) {
    it(`among ${size} are at most 8, have it as a neighbour too, and connect all within a few steps`, () => {
      const ids = idsOf(size);
      const graph = new Map(ids.map((id) => [id, neighboursOf(id, without(ids, id).reverse(), COUNT)]));
      for (const [id, neighbours] of graph) {
        expect(neighbours.size).to.be.within(3, COUNT);
        expect(neighbours).not.to.include(id);
        for (const other of neighbours) expect(graph.get(other)).to.include(id);
      }
      const reached = new Set([ids[0]!]);
      for (let step = 0; step < 5; step += 1)
        for (const id of [...reached]) for (const to of graph.get(id)!) reached.add(to);
      expect(reached.size).to.equal(size);
    });
  }
});

describe('a member with many others', () => {
  const ids = idsOf(30);
  const [self, ...others] = ids;
  let clock: FakeClock;
  let membership: GossipMembership;
  let stranger: NodeId;

  function recordOf(id: NodeId, more: Partial<MemberRecord> = {}): MemberRecord {
    return {
      id,
      incarnation: 1,
      state: 'active',
      beat: 1,
      version: '0',
      url: '',
      silentMs: 0,
      suspected: false,
      ...more,
    };
  }

  /** All members but one send something. */
  function hearAllBut(silent: NodeId, beat: number): void {
    for (const id of without(others, silent)) membership.messageReceived(recordOf(id, { beat }), '');
  }

  beforeEach(() => {
    clock = createFakeClock(100_000);
    membership = new GossipMembership(clock, {
      self: self!,
      version: '0',
      suspectAfterMs: 1_000,
      onRingChange: () => undefined,
      onConcurrentLeave: () => undefined,
    });
    membership.learn(others.map((id) => recordOf(id)));
    membership.declare('active');
    stranger = others.find((id) => !membership.suspicion.neighbours().has(id))!;
  });

  it('suspects a neighbour by its silence, and no other member', () => {
    const [neighbour] = membership.suspicion.neighbours();
    clock.advance(501);
    expect(membership.isDown(neighbour!)).to.equal(true);
    expect(membership.isDown(stranger)).to.equal(false);
    clock.advance(500);
    membership.checkTimeouts();
    expect(membership.stateOf(neighbour!)).to.equal('suspect');
    expect(membership.ring().members).to.include(stranger);
  });

  it('probes a member that another node misses, and suspects it by the silence from then on', () => {
    clock.advance(400);
    membership.learn([recordOf(stranger, { silentMs: 400, suspected: true })]);
    expect(membership.suspicion.takeNew()).to.deep.equal([stranger]);
    expect(membership.silent(200).map(({ id }) => id)).to.include(stranger);
    clock.advance(500);
    expect(membership.isDown(stranger)).to.equal(false);
    clock.advance(1);
    expect(membership.isDown(stranger)).to.equal(true);
    hearAllBut(stranger, 2);
    clock.advance(499);
    membership.checkTimeouts();
    expect(membership.ring().members).to.include(stranger);
    clock.advance(1);
    membership.checkTimeouts();
    expect(membership.ring().members).not.to.include(stranger);
  });

  it('doubts no member that it has just heard, whatever another node says', () => {
    clock.advance(400);
    membership.messageReceived(recordOf(stranger, { beat: 2 }), '');
    membership.learn([recordOf(stranger, { beat: 2, silentMs: 400, suspected: true })]);
    expect(membership.suspicion.takeNew()).to.deep.equal([]);
  });

  it('doubts a member that leaves a message unanswered for two heartbeats', () => {
    membership.messageSent(stranger);
    clock.advance(200);
    membership.checkTimeouts();
    expect(membership.suspicion.takeNew()).to.deep.equal([]);
    clock.advance(1);
    membership.checkTimeouts();
    expect(membership.suspicion.takeNew()).to.deep.equal([stranger]);
  });

  it('ends its doubt when a third node has heard the member lately, and not for an old sign of life', () => {
    clock.advance(400);
    membership.learn([recordOf(stranger, { silentMs: 400, suspected: true })]);
    membership.learn([recordOf(stranger, { beat: 2, silentMs: 300 })]);
    expect(membership.silent(200).map(({ id }) => id)).to.include(stranger);
    membership.learn([recordOf(stranger, { beat: 3, silentMs: 100 })]);
    expect(membership.silent(200).map(({ id }) => id)).not.to.include(stranger);
    clock.advance(600);
    expect(membership.isDown(stranger)).to.equal(false);
  });

  it('takes over from the others, when it joins, who is dead, and one that nobody heard lately', () => {
    membership.reincarnate();
    membership.learn([
      recordOf('dead:1', { silentMs: 30_000, suspected: true }),
      recordOf('quiet:1', { silentMs: 30_000 }),
    ]);
    expect(membership.stateOf('dead:1')).to.equal('dead');
    expect(membership.ring().members).to.include('quiet:1').and.not.to.include('dead:1');
  });

  it('asks an address that others name, twice in four heartbeats, and takes it for a member once that has spoken', () => {
    const [ring, view] = [membership.ring(), membership.view()];
    membership.learn([recordOf('new:1'), recordOf('joins:1', { state: 'joining' })]);
    expect(membership.unconfirmed.take()).to.deep.equal(['new:1', 'joins:1']);
    clock.advance(200);
    membership.learn([recordOf('new:1', { beat: 2 })]);
    expect(membership.unconfirmed.take()).to.deep.equal([]);
    clock.advance(1);
    membership.learn([recordOf('new:1', { beat: 3 })]);
    expect(membership.unconfirmed.take()).to.deep.equal(['new:1']);
    expect(membership.ring()).to.equal(ring);
    expect(membership.view()).to.equal(view);
    expect(membership.records().map(({ id }) => id)).not.to.include('new:1');
    membership.messageReceived(recordOf('new:1', { beat: 4 }), '');
    membership.accept(recordOf('joins:1'));
    expect(membership.ring().members).to.include('new:1').and.to.include('joins:1');
  });

  it('asks at most 64 addresses at a time that others name', () => {
    const names = Array.from({ length: 100 }, (_, i) => recordOf(`made-up:${i + 1}`));
    membership.learn(names);
    expect(membership.unconfirmed.take()).to.have.length(64);
    clock.advance(201);
    membership.learn(names.slice(64));
    expect(membership.unconfirmed.take()).to.have.length(36);
  });
});

describe('a ring of 20', () => {
  const RULE = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);

  it('notices a member that is gone within 1.5 suspicion times, and acts for it within 0.9', async () => {
    const { world, ids } = await createScaleCluster(1, 20, 100);
    await world.run(500);
    const victim = ids[3]!;
    const others = without(ids, victim);
    const knows = (test: (id: NodeId) => boolean): boolean => others.every(test);
    const membershipOf = (id: NodeId) => world.node(id).cluster.membership;
    world.kill(victim, true);
    await world.run(0.9 * SUSPECT_AFTER_MS);
    expect(knows((id) => membershipOf(id).isDown(victim))).to.equal(true);
    await world.run(0.6 * SUSPECT_AFTER_MS);
    expect(knows((id) => !membershipOf(id).ring().members.includes(victim))).to.equal(true);
  });

  it('notices members that are gone with all their neighbours', async () => {
    const { world, ids } = await createScaleCluster(1, 20, 100);
    await world.run(500);
    const victim = ids[3]!;
    const gone = [victim, ...neighboursOf(victim, without(ids, victim), COUNT)];
    for (const id of gone) world.kill(id, true);
    await world.run(6 * SUSPECT_AFTER_MS);
    for (const id of ids.filter((one) => !gone.includes(one)))
      expect(world.node(id).cluster.membership.ring().members.length).to.equal(20 - gone.length);
  });

  it('does not change while a third node hears two that are cut off from each other', async () => {
    const { world, ids } = await createScaleCluster(1, 20, 100);
    await world.run(500);
    const [a] = ids;
    const b = ids.find((id) => id !== a && !neighboursOf(a!, without(ids, a!), COUNT).has(id))!;
    world.setLink((from, to) => ((from === a && to === b) || (from === b && to === a) ? undefined : 1));
    const { membership, checkRouter } = world.node(a!).cluster;
    const clientId = Array.from({ length: 1_000 }, (_, i) => `client ${i}`).find(
      (id) => membership.ring().owner(id) === b,
    )!;
    const version = membership.ringVersion();
    for (let i = 0; i < 40; i += 1) {
      void decideAlone(checkRouter, checkOf(clientId, [RULE]));
      await world.run(100);
      expect(membership.isDown(b)).to.equal(false);
    }
    expect(membership.ringVersion()).to.equal(version);
  });
});
