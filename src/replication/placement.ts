import { hostOf, type NodeId, type Placed, type Ring } from '../limits/ring/ring.js';
import type { Membership } from '../membership/membership.js';
import { route } from '../membership/route.js';

interface Move {
  readonly wasMine: boolean;
  readonly isMine: boolean;
  /** Whether other members lack what this node knows, even if ownership has not changed. */
  readonly peersLackState: boolean;
}

/**
 * The members that are to have a client's buckets, under the present ring and the ring for which the table was last
 * walked.
 */
export class Placement {
  private readonly self: NodeId;
  /** The ring for which the whole table was last walked, and the incarnations of its members. */
  private placedRing: Ring;
  private placedIncarnations: ReadonlyMap<NodeId, number>;

  constructor(
    private readonly membership: Membership,
    private readonly replicas: number,
  ) {
    this.self = membership.self().id;
    this.placedRing = membership.ring();
    this.placedIncarnations = membership.incarnations();
  }

  /**
   * The members other than this node that are to have a copy: the client's owner and its replicas. If one of them is
   * down and stays in the ring, as the registry has it, the next owner is one more.
   */
  targetsOf(client: Placed): readonly NodeId[] {
    const { membership } = this;
    const held = this.heldByRing(client);
    if (membership.takeover !== 'registry' || !held.some((id) => membership.isDown(id))) return held;
    const nextOwner = this.nextOwnerWithoutCopyOf(client, []);
    return nextOwner === undefined ? held : [...held, nextOwner];
  }

  /**
   * The members that must have a copy so that no crash of this node or of its host forgets the client. They are the
   * first target and, if that is on this host, one on another host that is up. There are none if the first target is
   * down.
   */
  syncReplicasOf(client: Placed): readonly NodeId[] {
    const [first, ...rest] = this.targetsOf(client);
    if (first === undefined || this.membership.isDown(first)) return [];
    const isElsewhere = (id: NodeId): boolean => hostOf(id) !== hostOf(this.self);
    const other = isElsewhere(first) ? undefined : rest.find((id) => isElsewhere(id) && !this.membership.isDown(id));
    return other === undefined ? [first] : [first, other];
  }

  /** Whether a ring makes this node the owner or a replica of the client. */
  isHolder(ring: Ring, client: Placed): boolean {
    return ring.owner(client) === this.self || ring.replicas(client, this.replicas).includes(this.self);
  }

  /** Whether this node is the owner or a replica of the client. */
  isEntitled(client: Placed): boolean {
    return this.isHolder(this.membership.ring(), client);
  }

  /** The member that decides for a client once this node and `leaving` are gone, if the ring gives it no copy. */
  nextOwnerWithoutCopyOf(client: Placed, leaving: readonly NodeId[]): NodeId | undefined {
    const ring = this.membership.ring();
    const stays = (id: NodeId): boolean => id !== this.self && !leaving.includes(id) && !this.membership.isDown(id);
    const nextOwner = ring.findSuccessor(client, stays);
    return nextOwner === undefined || this.heldByRing(client).includes(nextOwner) ? undefined : nextOwner;
  }

  /** Whether this node decides for a client, as owner or as acting owner. */
  decides(client: Placed): boolean {
    const { kind } = route(this.membership, client);
    return kind === 'own' || kind === 'acting';
  }

  /**
   * Whether these members all run on this node's host, and no other member of that host is in the ring. Then the next
   * owner has copies anyway.
   */
  isWholeHost(ids: readonly NodeId[]): boolean {
    const host = hostOf(this.self);
    return (
      ids.every((id) => hostOf(id) === host) &&
      this.membership.ring().members.every((id) => hostOf(id) !== host || ids.includes(id))
    );
  }

  /** Whether the table has been walked for the present ring. */
  isDone(): boolean {
    return this.placedRing === this.membership.ring();
  }

  /** Tells how a change of the ring affects this node's part for a client. */
  moveOf(client: Placed): Move {
    const isMine = this.membership.ring().owner(client) === this.self;
    const wasMine = this.placedRing.owner(client) === this.self;
    return { wasMine, isMine, peersLackState: isMine ? !this.sameHolders(client) : this.holdsOrphanedCopy(client) };
  }

  /** Notes that the table has been walked for the present ring. */
  done(): void {
    this.placedRing = this.membership.ring();
    this.placedIncarnations = this.membership.incarnations();
  }

  private sameHolders(client: Placed): boolean {
    const before = this.placedRing.replicas(client, this.replicas);
    // A member that has restarted since then has lost its copies.
    const incarnations = this.membership.incarnations();
    return this.membership
      .ring()
      .replicas(client, this.replicas)
      .every((id, i) => id === before[i] && incarnations.get(id) === this.placedIncarnations.get(id));
  }

  /**
   * Whether this node holds a copy from an owner that is gone, or has restarted, and has not handed over. The next owner
   * may know less. A node outside the ring, which is about to join it, holds such copies too. All members may stop before
   * they accept it. With a registry it does not send them, as the registry tells who was in the ring. A strict joiner that
   * sent them was never accepted (`test/e2e/strict.test.ts`).
   */
  private holdsOrphanedCopy(client: Placed): boolean {
    const before = this.placedRing.owner(client);
    if (before === undefined || this.membership.stateOf(before) === 'leaving') return false;
    const hasRestarted = this.membership.incarnations().get(before) !== this.placedIncarnations.get(before);
    if (this.membership.ring().members.includes(before) && !hasRestarted && !this.membership.isDown(before))
      return false;
    const joinsByGossip = this.membership.takeover === 'gossip' && !this.placedRing.members.includes(this.self);
    return joinsByGossip || this.placedRing.replicas(client, this.replicas).includes(this.self);
  }

  private heldByRing(client: Placed): readonly NodeId[] {
    const ring = this.membership.ring();
    const owner = ring.owner(client);
    const holders = ring.replicas(client, this.replicas);
    if (owner === this.self || owner === undefined) return holders;
    return [owner, ...holders.filter((id) => id !== this.self)];
  }
}
