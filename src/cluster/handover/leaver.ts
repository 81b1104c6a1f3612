import type { NodeId } from '../../core/ring.js';
import type { PeerRpc } from '../membership/peer-rpc.js';
import type { LeaseHolder } from '../leases/holder.js';
import type { Limiter } from '../decide/limiter.js';
import type { Membership } from '../membership/membership.js';
import type { DeclaredState, MemberRecord } from '../messages.js';
import type { Replicator } from '../replication/replicator.js';

/** Several that leave at the same time and know of each other, as they are stopped together. */
export interface GroupLeave {
  /** All of them, this node among them. */
  readonly ids: readonly NodeId[];
  /**
   * Resolves, each time, when all of them have called it as often as this node, or will not: with those that have, in an order
   * that is the same for all.
   */
  barrier(): Promise<readonly NodeId[]>;
}

export interface LeaverDeps {
  readonly membership: Membership;
  readonly limiter: Limiter;
  readonly leaseHolder: LeaseHolder;
  readonly replicator: Replicator;
  readonly peerRpc: PeerRpc;
}

/**
 * Takes an active member out of the ring with nothing forgotten: hold, send what those lack who decide next, say so, forward what
 * waited. Where nobody stays it goes on deciding.
 *
 * Those of one group do not count on each other: each hands over to those who stay, and they are out of the ring in one
 * step, when all have. Of others nobody knows who else leaves: they look again once they have said it.
 * @param drainMs how long each sending may take
 */
export async function leave(
  deps: LeaverDeps,
  { drainMs }: { drainMs: number },
  group: GroupLeave = aloneAs(deps.membership.self.id),
): Promise<void> {
  const { membership, limiter, leaseHolder, replicator, peerRpc } = deps;
  const self = membership.self.id;
  const outsiders = (): readonly NodeId[] => membership.others().filter((id) => !group.ids.includes(id));
  const stays = (id: NodeId): boolean => !membership.isDown(id) && membership.stateOf(id) !== 'leaving';

  const drain = (): Promise<void> => drained(deps, drainMs);

  async function tellAll(state: DeclaredState): Promise<void> {
    membership.declare(state);
    await peerRpc.tell(outsiders(), membership.records());
  }

  /** All are out of the ring at once, and one, the first, counts as leaving for all of them. */
  async function leaveTogether([first, ...rest]: readonly NodeId[]): Promise<void> {
    membership.learn(membership.recordsOf([first!]).map((record) => saying(record, 'leaving')));
    membership.learn(membership.recordsOf(rest).map((record) => saying(record, 'left')));
    await tellAll(self === first ? 'leaving' : 'left');
    // One who leaves too may have counted on this node until a moment ago.
    if (outsiders().some((id) => membership.stateOf(id) === 'leaving')) await drain();
    await group.barrier();
    await tellAll('left');
  }

  async function leaveAlone(): Promise<void> {
    membership.declare('leaving');
    await peerRpc.tell(membership.others(), membership.records());
    // Should others leave at the same time, this node's clients have other owners than it knew.
    await drain();
    membership.declare('left');
    await peerRpc.tell(membership.others(), membership.records());
  }

  if (!outsiders().some(stays)) return;
  // Who has died a moment ago is found out now, as its copies are gone with it.
  await Promise.all([leaseHolder.release(), peerRpc.tell(membership.ring.members, [])]);
  await drain();
  // So that nobody holds checks while another still has much to send.
  await group.barrier();
  const release = limiter.hold();
  replicator.handOffFrom(group.ids);
  await drain();
  // Those who part say of each other that they leave: it comes back to each, who must know that it is its own word.
  membership.announce('left');
  const ready = await group.barrier();
  if (group.ids.length > 1 && group.ids.every((id) => ready.includes(id))) await leaveTogether(ready);
  else await leaveAlone();
  release();
}

/** Until every owner and holder of copies has what the ring, which may change meanwhile, entitles it to. */
export async function drained(
  { membership, replicator }: Pick<LeaverDeps, 'membership' | 'replicator'>,
  drainMs: number,
): Promise<void> {
  for (let version = 0; version !== membership.ringVersion;) {
    version = membership.ringVersion;
    if (membership.ring.members.some((id) => id !== membership.self.id)) await replicator.drained(drainMs);
  }
}

function aloneAs(self: NodeId): GroupLeave {
  const ids = [self];
  return { ids, barrier: () => Promise.resolve(ids) };
}

/** A later word of this member, and earlier than any of its own that says the same. */
function saying(record: MemberRecord, state: DeclaredState): MemberRecord {
  return { ...record, state, beat: 0, silentMs: 0 };
}
