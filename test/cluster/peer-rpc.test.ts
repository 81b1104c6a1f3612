import { expect } from 'chai';
import { createGossipMembership } from '../../src/cluster/membership/gossip-membership.js';
import { createPeerRpc } from '../../src/cluster/membership/peer-rpc.js';
import type { Probing } from '../../src/cluster/membership/probing.js';
import type { MemberRecord } from '../../src/cluster/messages.js';
import type { PeerTransport, Timers } from '../../src/cluster/ports.js';
import { createFakeClock } from '../support/fake-clock.js';

function recordOf(id: string): MemberRecord {
  return { id, incarnation: 1, state: 'active', beat: 1, version: '0', url: '', silentMs: 0, doubted: false };
}

describe('an answer that names many new members', () => {
  it('is learnt after their ring was made in slices, with other work in between', async () => {
    const clock = createFakeClock(1_000);
    const membership = createGossipMembership(
      { clock },
      {
        self: 'a:1',
        version: '0',
        suspectAfterMs: 1_000,
        onRingChange: () => undefined,
        onConcurrentLeave: () => undefined,
      },
    );
    const members = Array.from({ length: 41 }, (_, i) => recordOf(`many-${i}:1`));
    const sender = { from: members[0]!, view: 'v', policies: '' };
    const transport: PeerTransport = {
      send: () => Promise.resolve({ kind: 'answer', answer: { sender, body: { kind: 'members', members } } }),
    };
    const turns: number[] = [];
    const timers: Pick<Timers, 'soon'> = {
      soon(action) {
        turns.push(membership.ring.members.length);
        setImmediate(action);
      },
    };
    const rpc = createPeerRpc(
      {
        clock,
        timers: timers as Timers,
        membership,
        transport,
        probing: {
          messageSent: () => undefined,
          urgent: () => [],
          timeoutPart: 1,
          fetchesViews: false,
        } as unknown as Probing,
        policiesDigest: () => '',
        heardPolicies: () => undefined,
      },
      { suspectAfterMs: 1_000, beatMs: 100 },
    );
    await rpc.ask('many-0:1', { kind: 'heartbeat', members: [] }, 1_000);
    expect(membership.ring.members).to.have.length(41);
    // The sender is known before its list is.
    expect(turns).to.deep.equal(new Array(9).fill(1));
  });
});
