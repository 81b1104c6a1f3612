import type { NodeId } from '../limits/ring/ring.js';
import type { PeerRpc } from '../membership/peer-rpc.js';
import type { LeaseHolder } from './leases/holder.js';
import type { DecisionGate } from './decide/decision-gate.js';
import { changeRecord } from '../membership/membership.js';
import type { Membership } from '../membership/membership.js';
import type { DeclaredState, MemberRecord } from '../protocol/messages.js';
import type { Replicator } from '../replication/replicator.js';

/** Nodes that leave together and know of each other, as one supervisor stops them. */
export interface GroupLeave {
  /** All nodes of the group, this one among them. */
  readonly ids: readonly NodeId[];
  /**
   * Resolves when all nodes of the group have called it as often as this one, or will not any more.
   * @returns those that have, in an order that is the same for all
   */
  barrier(): Promise<readonly NodeId[]>;
}

export interface LeaverDeps {
  readonly membership: Membership;
  readonly gate: DecisionGate;
  readonly leaseHolder: LeaseHolder;
  readonly replicator: Replicator;
  readonly peerRpc: PeerRpc;
}

interface LeaverOptions {
  /** Bound of the time that one drain takes. */
  readonly drainMs: number;
  readonly group: GroupLeave;
}

export function aloneAs(self: NodeId): GroupLeave {
  const ids = [self];
  return { ids, barrier: () => Promise.resolve(ids) };
}

/**
 * Takes an active member out of the ring with nothing lost: it hands over, says that it leaves, and forwards the checks
 * that waited. If no other member stays, it goes on deciding.
 *
 * The nodes of a group do not count on each other. Each hands over to members that stay, and when all have, they leave
 * the ring in one step. A node does not know what members outside its group do, so it drains once more after it has
 * said that it leaves.
 */
export async function leave(deps: LeaverDeps, { drainMs, group }: LeaverOptions): Promise<void> {
  const { membership, peerRpc } = deps;
  const self = membership.self().id;
  const outsiders = (): readonly NodeId[] => membership.others().filter((id) => !group.ids.includes(id));
  const stays = (id: NodeId): boolean => !membership.isDown(id) && membership.stateOf(id) !== 'leaving';

  /** Each message tells the state of its sender. */
  async function declareTo(ids: readonly NodeId[], state: DeclaredState): Promise<void> {
    membership.declare(state);
    await peerRpc.tell(ids, []);
  }

  /**
   * For this node, the whole group is out of the ring at once. Each node tells the others of itself alone. Until all
   * have, an outsider may forward to one of them, which holds the check or sends it back. The first node counts as
   * leaving for all of them.
   */
  async function leaveTogether([first, ...rest]: readonly NodeId[]): Promise<void> {
    const told = declareTo(outsiders(), self === first ? 'leaving' : 'left');
    membership.learn(membership.recordsOf([first!]).map((record) => withState(record, 'leaving')));
    membership.learn(membership.recordsOf(rest).map((record) => withState(record, 'left')));
    await told;
    // An outsider that leaves too may have counted on this node until now.
    if (outsiders().some((id) => membership.stateOf(id) === 'leaving')) await drain(deps, drainMs);
    await group.barrier();
    await declareTo(outsiders(), 'left');
  }

  async function leaveAlone(): Promise<void> {
    await declareTo(membership.others(), 'leaving');
    // If others leave at the same time, the clients of this node have other next owners than it knew.
    await drain(deps, drainMs);
    await declareTo(membership.others(), 'left');
  }

  if (!outsiders().some(stays)) return;
  const release = await handOver(deps, { drainMs, group });
  const ready = await group.barrier();
  if (group.ids.length > 1 && group.ids.every((id) => ready.includes(id))) await leaveTogether(ready);
  else await leaveAlone();
  release();
}

/**
 * Sends to the next owners of this node's clients all that they lack, and holds checks from the last change on.
 * @returns a function that releases the checks
 */
export async function handOver(deps: LeaverDeps, { drainMs, group }: LeaverOptions): Promise<() => void> {
  const { membership, gate, leaseHolder, replicator, peerRpc } = deps;
  // A member that died a moment ago is noticed here: the copies that it held are gone.
  await Promise.all([leaseHolder.release(), peerRpc.tell(membership.ring().members, [])]);
  await drain(deps, drainMs);
  // No node of the group holds checks while another one still has much to send.
  await group.barrier();
  const release = gate.close();
  replicator.handOffFrom(group.ids);
  await drain(deps, drainMs);
  return release;
}

/** Resolves when every owner and replica has what the ring entitles it to, even if the ring changes meanwhile. */
export async function drain(
  { membership, replicator }: Pick<LeaverDeps, 'membership' | 'replicator'>,
  drainMs: number,
): Promise<void> {
  for (let version = 0; version !== membership.ringVersion();) {
    version = membership.ringVersion();
    if (membership.ring().members.some((id) => id !== membership.self().id)) await replicator.drained(drainMs);
  }
}

/** A later record of this member, but earlier than any in which the member says the same itself. */
function withState(record: MemberRecord, state: DeclaredState): MemberRecord {
  return changeRecord(record, { state, beat: 0, silentMs: 0, doubted: false });
}
