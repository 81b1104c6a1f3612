import { expect } from 'chai';
import type { Membership } from '../../src/membership/membership.js';
import { Placement } from '../../src/replication/placement.js';
import { DecisionGate } from '../../src/membership/decision-gate.js';
import { Router, route } from '../../src/membership/route.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import type { NodeId, Ring } from '../../src/limits/ring/ring.js';
import { createFakeClock } from '../support/fake-clock.js';

const client = clientKey('alice');
const SELF = 'h1:1';

/** What `SELF` knows: the owner of the client and its successors in their order, and who of them is down. */
function createView() {
  const view = {
    down: new Set<NodeId>(),
    states: new Map<NodeId, string>(),
    incarnations: new Map<NodeId, number>(),
    takeover: 'gossip' as Membership['takeover'],
    registrationExpired: false,
    readings: [] as (number | undefined)[],
    acting: 0,
    ring: undefined as unknown as Ring,
    setRing(...order: NodeId[]): void {
      view.ring = {
        members: order,
        owner: () => order[0],
        replicas: (_: unknown, count: number) => order.slice(1, 1 + count),
        findSuccessor: (_: unknown, may: (id: NodeId) => boolean) => order.slice(1).find(may),
      } as unknown as Ring;
    },
  };
  view.setRing();
  const membership = {
    self: () => ({ id: SELF }),
    ring: () => view.ring,
    incarnations: () => view.incarnations,
    isDown(id: NodeId, nowMs?: number) {
      view.readings.push(nowMs);
      return view.down.has(id);
    },
    stateOf: (id: NodeId) => view.states.get(id),
    registrationExpired: () => view.registrationExpired,
    noteActing: () => void (view.acting += 1),
    get takeover() {
      return view.takeover;
    },
  } as unknown as Membership;
  return Object.assign(view, { membership });
}

describe('the route of a client', () => {
  let view: ReturnType<typeof createView>;
  beforeEach(() => (view = createView()));
  const to = (nowMs?: number) => route(view.membership, client, nowMs);

  it('leads to nobody without members', () => {
    expect(to()).to.deep.equal({ kind: 'nobody' });
  });

  it('ends at the owner, which does not decide once its lease is over', () => {
    view.setRing(SELF, 'h2:1');
    expect(to()).to.deep.equal({ kind: 'own' });
    view.registrationExpired = true;
    expect(to()).to.deep.equal({ kind: 'nobody' });
  });

  it('leads to the owner while it is up, as of the given time', () => {
    view.setRing('h2:1', SELF);
    view.registrationExpired = true;
    expect(to(123)).to.deep.equal({ kind: 'forward', id: 'h2:1' });
    expect(view.readings).to.deep.equal([123]);
  });

  it('leads past an owner that is down to its first successor that is up, if that may act for it', () => {
    view.setRing('h2:1', 'h3:1', SELF, 'h4:1');
    view.down = new Set(['h2:1']);
    expect(to()).to.deep.equal({ kind: 'forward', id: 'h3:1' });
    view.down.add('h3:1').add(SELF);
    expect(to(5)).to.deep.equal({ kind: 'acting' });
    expect(view.readings.slice(-2)).to.deep.equal([5, 5]);
    view.setRing('h2:1', 'h3:1');
    expect(to()).to.deep.equal({ kind: 'nobody' });
    view.setRing('h2:1', 'h3:1', SELF);
    view.takeover = 'strict';
    expect(to()).to.deep.equal({ kind: 'nobody' });
  });

  it('is that of the moment, after a pause too, and it is noted who acts for an owner', () => {
    const pauses: number[] = [];
    const detectPause = (nowMs: number): void => {
      pauses.push(nowMs);
      if (view.ring.members.length === 0) view.setRing(SELF, 'h2:1');
    };
    const router = new Router({
      clock: createFakeClock(7),
      membership: view.membership,
      gate: new DecisionGate(),
      detectPause,
    });
    expect([router.deciderOf(client), view.acting]).to.deep.equal([SELF, 0]);
    view.setRing('h2:1', SELF);
    expect([router.deciderOf(client), view.acting]).to.deep.equal(['h2:1', 0]);
    view.down.add('h2:1');
    expect([router.deciderOf(client), view.acting]).to.deep.equal([SELF, 1]);
    view.setRing('h2:1');
    expect([router.deciderOf(client), view.acting]).to.deep.equal([undefined, 1]);
    expect(pauses).to.deep.equal([7, 7, 7, 7]);
  });
});

describe('the placement of a client', () => {
  let view: ReturnType<typeof createView>;
  beforeEach(() => (view = createView()));
  const place = (replicas = 1) => new Placement(view.membership, replicas);

  it('has copies at the owner and its replicas, but for this node', () => {
    expect(place().targetsOf(client)).to.deep.equal([]);
    view.setRing(SELF, 'h2:1', 'h3:1', 'h4:1');
    expect([place().targetsOf(client), place(2).targetsOf(client)]).to.deep.equal([['h2:1'], ['h2:1', 'h3:1']]);
    view.setRing('h2:1', SELF, 'h3:1');
    expect([place().targetsOf(client), place(2).targetsOf(client)]).to.deep.equal([['h2:1'], ['h2:1', 'h3:1']]);
  });

  it('has one more copy at the next owner while a holder is down that stays in the ring', () => {
    view.setRing(SELF, 'h2:1', 'h3:1', 'h4:1');
    view.down.add('h2:1');
    expect(place().targetsOf(client)).to.deep.equal(['h2:1']);
    view.takeover = 'strict';
    expect(place().targetsOf(client)).to.deep.equal(['h2:1']);
    view.takeover = 'registry';
    expect(place().targetsOf(client)).to.deep.equal(['h2:1', 'h3:1']);
    expect(place(2).targetsOf(client)).to.deep.equal(['h2:1', 'h3:1']);
    view.down = new Set(['h4:1']);
    expect(place().targetsOf(client)).to.deep.equal(['h2:1']);
    view.setRing('h2:1', SELF, 'h4:1', 'h3:1');
    expect(place(2).targetsOf(client)).to.deep.equal(['h2:1', 'h4:1', 'h3:1']);
  });

  it('is safe with the first copy, or with one more on another host that is up', () => {
    view.setRing(SELF, 'h2:1', 'h3:1');
    expect(place(2).syncReplicasOf(client)).to.deep.equal(['h2:1']);
    view.setRing(SELF, 'h1:2', 'h1:3', 'h2:1', 'h3:1');
    expect(place(4).syncReplicasOf(client)).to.deep.equal(['h1:2', 'h2:1']);
    view.down.add('h2:1');
    expect(place(4).syncReplicasOf(client)).to.deep.equal(['h1:2', 'h3:1']);
    expect(place(3).syncReplicasOf(client)).to.deep.equal(['h1:2']);
    view.down.add('h1:2');
    expect(place(4).syncReplicasOf(client)).to.deep.equal([]);
    view.setRing(SELF);
    expect(place().syncReplicasOf(client)).to.deep.equal([]);
  });

  it('entitles the owner and its replicas, and the one of them decides that is up', () => {
    view.setRing(SELF, 'h2:1');
    expect([place().isEntitled(client), place().decides(client)]).to.deep.equal([true, true]);
    view.setRing('h2:1', SELF);
    expect([place().isEntitled(client), place().decides(client)]).to.deep.equal([true, false]);
    view.down.add('h2:1');
    expect(place().decides(client)).to.equal(true);
    view.setRing('h2:1', 'h3:1', SELF);
    expect(place().isEntitled(client)).to.equal(false);
  });

  it('knows the next owner, once this node and others are gone, if that has no copy', () => {
    view.setRing(SELF, 'h2:1', 'h3:1', 'h4:1');
    const next = (...leaving: NodeId[]) => place().nextOwnerWithoutCopyOf(client, leaving);
    expect(next()).to.equal(undefined);
    expect(next('h2:1')).to.equal('h3:1');
    view.down.add('h3:1');
    expect(next('h2:1')).to.equal('h4:1');
    expect(next('h2:1', 'h4:1')).to.equal(undefined);
    view.setRing('h2:1', SELF, 'h4:1');
    expect(next('h2:1')).to.equal('h4:1');
  });

  it('knows whether members are all of this host', () => {
    view.setRing(SELF, 'h1:2', 'h2:1');
    const placement = place();
    const isWholeHost = (...ids: NodeId[]) => placement.isWholeHost(ids);
    expect([isWholeHost(SELF, 'h1:2'), isWholeHost(SELF), isWholeHost(SELF, 'h1:2', 'h2:1')]).to.deep.equal([
      true,
      false,
      false,
    ]);
  });

  describe('after a change of the ring', () => {
    const moveOf = (placement: ReturnType<typeof place>) => placement.moveOf(client);

    it('is news for the holders of this node, if one of them changed or has begun another life', () => {
      view.incarnations = new Map([['h2:1', 1]]);
      view.setRing(SELF, 'h2:1', 'h3:1');
      const placement = place();
      expect([placement.isDone(), moveOf(placement)]).to.deep.equal([
        true,
        { wasMine: true, isMine: true, peersLackState: false },
      ]);
      view.setRing(SELF, 'h2:1', 'h4:1');
      expect([placement.isDone(), moveOf(placement).peersLackState]).to.deep.equal([false, false]);
      view.setRing(SELF, 'h3:1');
      expect(moveOf(placement).peersLackState).to.equal(true);
      view.setRing(SELF, 'h2:1');
      view.incarnations = new Map([['h2:1', 2]]);
      expect(moveOf(placement).peersLackState).to.equal(true);
      placement.done();
      expect([placement.isDone(), moveOf(placement).peersLackState]).to.deep.equal([true, false]);
      view.setRing('h2:1', SELF);
      expect(moveOf(placement)).to.deep.equal({ wasMine: true, isMine: false, peersLackState: false });
      view.setRing(SELF, 'h2:1', 'h3:1');
      const two = place(2);
      view.setRing(SELF, 'h2:1', 'h4:1');
      expect(moveOf(two).peersLackState).to.equal(true);
    });

    it('is news where this node has a copy of an owner that is gone, down, or restarted, and has not handed over', () => {
      view.setRing('h2:1', SELF, 'h3:1');
      const placement = place();
      const peersLackState = (): boolean => moveOf(placement).peersLackState;
      expect(moveOf(placement)).to.deep.equal({ wasMine: false, isMine: false, peersLackState: false });
      view.down.add('h2:1');
      expect(peersLackState()).to.equal(true);
      view.down.clear();
      expect(peersLackState()).to.equal(false);
      view.incarnations = new Map([['h2:1', 2]]);
      expect(peersLackState(), 'an owner that has restarted').to.equal(true);
      view.setRing('h3:1', 'h4:1');
      expect(peersLackState()).to.equal(true);
      view.states.set('h2:1', 'leaving');
      expect(peersLackState()).to.equal(false);
    });

    it('is no news where this node had no copy, unless it is about to join by gossip', () => {
      for (const [members, takeover, peersLackState] of [
        [['h2:1', 'h3:1', SELF], 'gossip', false],
        [['h2:1', 'h3:1'], 'gossip', true],
        [['h2:1', 'h3:1'], 'registry', false],
        [['h2:1', 'h3:1'], 'strict', false],
        [[], 'gossip', false],
      ] as const) {
        view.takeover = takeover;
        view.setRing(...members);
        const placement = place();
        view.setRing('h4:1', 'h5:1');
        expect(moveOf(placement).peersLackState, members.join()).to.equal(peersLackState);
      }
    });
  });
});
