import { expect } from 'chai';
import type { GossipMembership } from '../../src/membership/gossip-membership.js';
import { PeerRpc } from '../../src/membership/peer-rpc.js';
import type { Probing } from '../../src/membership/probing.js';
import type { MemberRecord, Sender, PeerResult, PeerTransport } from '../../src/protocol/messages.js';
import type { Timers } from '../../src/lib/system.js';
import { createFakeClock } from '../support/fake-clock.js';
import { loneMembership } from '../support/lone-membership.js';

function recordOf(id: string, beat = 1): MemberRecord {
  return { id, incarnation: 1, state: 'active', beat, version: '0', url: '', silentMs: 0, suspected: false };
}

function senderOf(from: MemberRecord): Sender {
  return { from, view: 'v', policies: '' };
}

function createRpc(
  send: PeerTransport['send'],
  soon: (membership: GossipMembership, action: () => void) => void = (_, action) => setImmediate(action),
): { rpc: PeerRpc; membership: GossipMembership } {
  const clock = createFakeClock(1_000);
  const membership = loneMembership(clock);
  const timers: Pick<Timers, 'soon'> = { soon: (action) => soon(membership, action) };
  const rpc = new PeerRpc({
    clock,
    timers: timers as Timers,
    membership,
    transport: { send },
    probing: {
      urgent: () => [],
      fetchesViews: false,
    } as unknown as Probing,
    policiesDigest: () => '',
    heardPolicies: () => undefined,
    heardDuplicate: () => undefined,
    suspectAfterMs: 1_000,
    beatMs: 100,
  });
  return { rpc, membership };
}

describe('an answer that names many new members', () => {
  it('is learnt after their ring was made in slices, with other work in between', async () => {
    const members = Array.from({ length: 41 }, (_, i) => recordOf(`many-${i}:1`));
    const turns: number[] = [];
    const { rpc, membership } = createRpc(
      () =>
        Promise.resolve({
          kind: 'answer',
          answer: { sender: senderOf(members[0]!), body: { kind: 'members', members } },
        }),
      (one, action) => {
        turns.push(one.ring().members.length);
        setImmediate(action);
      },
    );
    await rpc.ask('many-0:1', { kind: 'heartbeat', members: [] }, 1_000);
    expect(membership.ring().members).to.have.length(41);
    // The sender is known before its list is.
    expect(turns).to.deep.equal(new Array(9).fill(1));
  });
});

describe('a refused connection', () => {
  /** A member that was heard at beat 1, and an attempt to reach it that has not ended. */
  function createAttempt(): { rpc: PeerRpc; isDown: () => boolean; refuse: () => Promise<void> } {
    let settle: (result: PeerResult) => void = () => undefined;
    const { rpc, membership } = createRpc(() => new Promise((resolve) => (settle = resolve)));
    rpc.messageReceived(senderOf(recordOf('b:1', 1)));
    const asked = rpc.ask('b:1', { kind: 'heartbeat', members: [] }, 1_000);
    return {
      rpc,
      isDown: () => membership.isDown('b:1'),
      async refuse() {
        settle({ kind: 'refused' });
        expect(await asked).to.deep.equal({ kind: 'refused' });
      },
    };
  }

  it('shows that a member is down which was last heard before the attempt, in the same ms', async () => {
    const { isDown, refuse } = createAttempt();
    await refuse();
    expect(isDown()).to.equal(true);
  });

  for (const beat of [1, 2])
    it(`says nothing of a member that was heard during the attempt, at beat ${beat}`, async () => {
      const { rpc, isDown, refuse } = createAttempt();
      rpc.messageReceived(senderOf(recordOf('b:1', beat)));
      await refuse();
      expect(isDown()).to.equal(false);
    });
});
