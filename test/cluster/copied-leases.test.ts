import { expect } from 'chai';
import type { Membership } from '../../src/membership/membership.js';
import { CopiedLeases } from '../../src/replication/copied-leases.js';
import { Placement } from '../../src/replication/placement.js';
import { BucketTable, type Client } from '../../src/state/bucket-table.js';
import { hasLeases, lend } from '../../src/limits/bucket/bucket.js';
import { createCheck } from '../../src/limits/decide/check.js';
import { decide } from '../../src/limits/decide/decide.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import type { NodeId, Ring } from '../../src/limits/ring/ring.js';
import { createFakeClock } from '../support/fake-clock.js';
import { tokenBucket } from '../support/rules.js';

const SELF = 'a:1';
const ALICE = clientKey('alice');

/** The members in their order as owner and successors of each client, with one replica. */
function ringOf(members: readonly NodeId[]): Ring {
  const replicas = (_: unknown, count: number): readonly NodeId[] => members.slice(1, 1 + count);
  return { members, owner: () => members[0], replicas } as unknown as Ring;
}

/** A node that knows a client of which 5 tokens are lent. */
function createHolder(...members: NodeId[]) {
  const clock = createFakeClock(1_000);
  const table = new BucketTable({ maxClients: 9 });
  const joiners = new Set<NodeId>();
  let ring = ringOf(members);
  const membership = {
    self: () => ({ id: SELF }),
    ring: () => ring,
    incarnations: () => new Map(),
  } as unknown as Membership;
  const placement = new Placement(membership, 1);
  const leases = new CopiedLeases({
    clock,
    table,
    membership,
    placement,
    isForJoiner: (id) => joiners.has(id),
    suspectAfterMs: 1_000,
  });
  const opened = table.open(ALICE);
  decide(opened, createCheck(ALICE, [tokenBucket(100, 3_600_000)]), clock.nowMs());
  lend(opened.first!, { id: 'x', tokens: 5, endMs: 9_000, spent: undefined });
  table.close(opened, clock.nowMs());
  const client = (): Client => table.peek('alice')!;
  return {
    clock,
    leases,
    joiners,
    client,
    isLent: () => hasLeases(client()),
    setRing(...next: NodeId[]): void {
      ring = ringOf(next);
      leases.ringChanged();
    },
  };
}

describe('the leases in copies', () => {
  it('are shown to the members that are to have one, to joiners that will, and to next owners until all is sent', () => {
    const { leases, joiners, client } = createHolder(SELF, 'b:1', 'c:1');
    const shown = (): NodeId[] => ['b:1', 'c:1', 'd:1'].filter((id) => leases.shows(id, client()));
    expect(shown()).to.deep.equal(['b:1']);
    joiners.add('d:1');
    expect(shown()).to.deep.equal(['b:1', 'd:1']);
    leases.addNextOwner('c:1');
    expect(shown()).to.deep.equal(['b:1', 'c:1', 'd:1']);
    leases.allSent();
    expect(shown()).to.deep.equal(['b:1', 'd:1']);
  });

  it('are dropped by a member to which the ring gives no copy, and by nobody else', () => {
    for (const [members, isLent] of [
      [[SELF, 'b:1'], true],
      [['b:1', SELF, 'c:1'], true],
      [['b:1', 'c:1', SELF], false],
      // It may be about to join, with a copy.
      [['b:1', 'c:1'], true],
    ] as const) {
      const holder = createHolder(...members);
      holder.leases.dropUnentitled(holder.client());
      expect(holder.isLent(), members.join()).to.equal(isLent);
    }
  });

  it('are dropped if they come to a holder that the ring has just replaced', () => {
    const holder = createHolder('b:1', SELF);
    const received = (): boolean => {
      holder.leases.copyReceived(holder.client());
      return holder.isLent();
    };
    expect(received()).to.equal(true);
    holder.setRing('b:1', 'c:1', SELF);
    holder.clock.advance(500);
    expect(received()).to.equal(false);
  });

  it('stay if they come later, or to a member that was no holder just before: it may be the next owner', () => {
    const late = createHolder('b:1', SELF);
    late.setRing('b:1', 'c:1', SELF);
    late.clock.advance(501);
    const never = createHolder('b:1', 'c:1', SELF);
    never.setRing('b:1', 'd:1', 'c:1', SELF);
    const formerly = createHolder('b:1', SELF);
    formerly.setRing('b:1', 'c:1', SELF);
    formerly.setRing('b:1', 'd:1', 'c:1', SELF);
    for (const holder of [late, never, formerly]) {
      holder.leases.copyReceived(holder.client());
      expect(holder.isLent()).to.equal(true);
    }
  });
});
