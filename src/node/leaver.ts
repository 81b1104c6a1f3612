import type { NodeId } from '../limits/ring/ring.js';
import type { PeerRpc } from '../membership/peer-rpc.js';
import type { LeaseHolder } from './leases/holder.js';
import type { DecisionGate } from '../membership/decision-gate.js';
import { changeRecord, type Membership } from '../membership/membership.js';
import type { DeclaredState, MemberRecord } from '../protocol/messages.js';
import type { Replicator } from '../replication/replicator.js';
import type { Timers } from '../lib/system.js';
import type { RegistryMember } from './registry-member.js';

/** A member by registration asks others this often whether they have seen that it leaves, with this pause in between. */
const LEAVE_TRIES = 20;
const LEAVE_PAUSE_MS = 50;

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

/** Takes an active member out of the ring with nothing lost. */
export class Leaver {
  private readonly timers: Timers;
  private readonly membership: Membership;
  private readonly gate: DecisionGate;
  private readonly leaseHolder: LeaseHolder;
  private readonly replicator: Replicator;
  private readonly peerRpc: PeerRpc;
  private readonly drainMs: number;

  constructor(args: {
    timers: Timers;
    membership: Membership;
    gate: DecisionGate;
    leaseHolder: LeaseHolder;
    replicator: Replicator;
    peerRpc: PeerRpc;
    /** Bound of the time that one drain takes. */
    drainMs: number;
  }) {
    this.timers = args.timers;
    this.membership = args.membership;
    this.gate = args.gate;
    this.leaseHolder = args.leaseHolder;
    this.replicator = args.replicator;
    this.peerRpc = args.peerRpc;
    this.drainMs = args.drainMs;
  }

  /**
   * By gossip: hands over, says that this node leaves, and forwards the checks that waited. If no other member stays, it
   * goes on deciding.
   *
   * The nodes of a group do not count on each other. Each hands over to members that stay, and when all have, they leave
   * the ring in one step. A node does not know what members outside its group do, so it drains once more after it has
   * said that it leaves.
   */
  async leave(group: GroupLeave = this.alone()): Promise<void> {
    const { membership } = this;
    const stays = (id: NodeId): boolean => !membership.isDown(id) && membership.stateOf(id) !== 'leaving';
    if (!this.outsiders(group).some(stays)) return;
    const release = await this.handOver(group);
    const ready = await group.barrier();
    if (group.ids.length > 1 && group.ids.every((id) => ready.includes(id))) await this.leaveTogether(group, ready);
    else await this.leaveAlone();
    release();
  }

  /** By registration: the same. The registry orders the leaves, so a group needs no barrier. */
  async deregister({ membership, session }: RegistryMember, { ids }: GroupLeave = this.alone()): Promise<void> {
    if (membership.mustJoin()) {
      membership.declare('left');
      return session.deregister();
    }
    const release = await this.handOver({ ids, barrier: () => Promise.resolve(ids) });
    const revision = await session.publish('leaving');
    membership.declare('leaving');
    // Other nodes forward checks to this one until they know that it leaves.
    for (let i = 0; revision !== undefined && i < LEAVE_TRIES; i += 1) {
      await this.peerRpc.tell(membership.others());
      const up = membership.others().filter((id) => !membership.isDown(id));
      if (up.every((id) => membership.hasSeen(id, revision))) break;
      await this.timers.sleep(LEAVE_PAUSE_MS);
    }
    // If others leave at the same time, the clients of this node have other next owners than it knew.
    await this.drain();
    membership.declare('left');
    await session.deregister();
    release();
  }

  private alone(): GroupLeave {
    const ids = [this.membership.self().id];
    return { ids, barrier: () => Promise.resolve(ids) };
  }

  private outsiders(group: GroupLeave): readonly NodeId[] {
    return this.membership.others().filter((id) => !group.ids.includes(id));
  }

  /**
   * For this node, the whole group is out of the ring at once. Each node tells the others of itself alone. Until all
   * have, an outsider may forward to one of them, which holds the check or sends it back. The first node counts as
   * leaving for all of them.
   */
  private async leaveTogether(group: GroupLeave, [first, ...rest]: readonly NodeId[]): Promise<void> {
    const { membership } = this;
    const told = this.declareTo(this.outsiders(group), membership.self().id === first ? 'leaving' : 'left');
    membership.learn(membership.recordsOf([first!]).map((record) => withState(record, 'leaving')));
    membership.learn(membership.recordsOf(rest).map((record) => withState(record, 'left')));
    await told;
    // An outsider that leaves too may have counted on this node until now.
    if (this.outsiders(group).some((id) => membership.stateOf(id) === 'leaving')) await this.drain();
    await group.barrier();
    await this.declareTo(this.outsiders(group), 'left');
  }

  private async leaveAlone(): Promise<void> {
    await this.declareTo(this.membership.others(), 'leaving');
    // If others leave at the same time, the clients of this node have other next owners than it knew.
    await this.drain();
    await this.declareTo(this.membership.others(), 'left');
  }

  /** Each message tells the state of its sender. */
  private async declareTo(ids: readonly NodeId[], state: DeclaredState): Promise<void> {
    this.membership.declare(state);
    await this.peerRpc.tell(ids);
  }

  /**
   * Sends to the next owners of this node's clients all that they lack, and holds checks from the last change on.
   * @returns a function that releases the checks
   */
  private async handOver(group: GroupLeave): Promise<() => void> {
    const { membership, gate, leaseHolder, replicator, peerRpc } = this;
    // A member that died a moment ago is noticed here: the copies that it held are gone.
    await Promise.all([leaseHolder.release(), peerRpc.tell(membership.ring().members)]);
    await this.drain();
    // No node of the group holds checks while another one still has much to send.
    await group.barrier();
    const release = gate.close();
    replicator.handOffFrom(group.ids);
    await this.drain();
    return release;
  }

  /** Resolves when every owner and replica has what the ring entitles it to, even if the ring changes meanwhile. */
  private async drain(): Promise<void> {
    const { membership, replicator } = this;
    for (let version = 0; version !== membership.ringVersion();) {
      version = membership.ringVersion();
      if (membership.ring().members.some((id) => id !== membership.self().id)) await replicator.drained(this.drainMs);
    }
  }
}

/** A later record of this member, but earlier than any in which the member says the same itself. */
function withState(record: MemberRecord, state: DeclaredState): MemberRecord {
  return changeRecord(record, { state, beat: 0, silentMs: 0, suspected: false });
}
