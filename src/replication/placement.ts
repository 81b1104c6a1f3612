import { hostOf, type NodeId, type Placed, type Ring } from '../limits/ring/ring.js';
import type { Membership } from '../membership/membership.js';
import { route } from '../membership/route.js';

/**
 * The members that are to have a client's buckets, under the present ring and the ring for which the table was last
 * walked.
 */
export interface Placement {
  /**
   * The members other than this node that are to have a copy: the client's owner and its replicas. If one of them is
   * down and stays in the ring (`lags`), the next owner is one more.
   */
  readonly targetsOf: (client: Placed) => readonly NodeId[];
  /**
   * The members that must have a copy so that no crash of this node or of its host forgets the client. They are the
   * first target and, if that is on this host, one on another host that is up. There are none if the first target is
   * down.
   */
  readonly syncReplicasOf: (client: Placed) => readonly NodeId[];
  /** Whether a ring makes this node the owner or a replica of the client. */
  readonly isHolder: (ring: Ring, client: Placed) => boolean;
  /** Whether this node is the owner or a replica of the client. */
  readonly isEntitled: (client: Placed) => boolean;
  /** The member that decides for a client once this node and `leaving` are gone, if the ring gives it no copy. */
  readonly nextOwnerWithoutCopyOf: (client: Placed, leaving: readonly NodeId[]) => NodeId | undefined;
  /** Whether this node decides for a client, as owner or as acting owner. */
  readonly decides: (client: Placed) => boolean;
  /**
   * Whether these members all run on this node's host, and no other member of that host is in the ring. Then the next
   * owner has copies anyway.
   */
  readonly isWholeHost: (ids: readonly NodeId[]) => boolean;
  /** Whether members that are down stay in the ring for long. With a registry, they stay until their lease ends. */
  readonly lags: boolean;
  /** Whether the table has been walked for the present ring. */
  isDone(): boolean;
  /** Tells how a change of the ring affects this node's part for a client. */
  moveOf(client: Placed): Move;
  /** Notes that the table has been walked for the present ring. */
  done(): void;
}

interface Move {
  readonly wasMine: boolean;
  readonly isMine: boolean;
  /** Whether other members lack what this node knows, even if ownership has not changed. */
  readonly isNews: boolean;
}

export function createPlacement(
  { membership }: { membership: Membership },
  { replicas }: { replicas: number },
): Placement {
  const self = membership.self().id;
  const lags = membership.keepsDownMembers;
  /** The ring for which the whole table was last walked, and the incarnations of its members. */
  let placedRing = membership.ring();
  let placedIncarnations = membership.incarnations();

  function sameHolders(client: Placed): boolean {
    const before = placedRing.replicas(client, replicas);
    // A member that has restarted since then has lost its copies.
    const incarnations = membership.incarnations();
    return membership
      .ring()
      .replicas(client, replicas)
      .every((id, i) => id === before[i] && incarnations.get(id) === placedIncarnations.get(id));
  }

  /**
   * Whether this node holds a copy from an owner that is gone, or has restarted, and has not handed over. The next owner
   * may know less. A node outside the ring, which is about to join it, holds such copies too. All members may stop before
   * they admit it. With a registry it does not send them, as the registry tells who was in the ring. A strict joiner that
   * sent them was never admitted (`test/e2e/strict.test.ts`).
   */
  function holdsLegacy(client: Placed): boolean {
    const before = placedRing.owner(client);
    if (before === undefined || membership.stateOf(before) === 'leaving') return false;
    const hasRestarted = membership.incarnations().get(before) !== placedIncarnations.get(before);
    if (membership.ring().members.includes(before) && !hasRestarted && !membership.isDown(before)) return false;
    const joinsByGossip = !lags && membership.allowsActingOwner && !placedRing.members.includes(self);
    return joinsByGossip || placedRing.replicas(client, replicas).includes(self);
  }

  function isHolder(ring: Ring, client: Placed): boolean {
    return ring.owner(client) === self || ring.replicas(client, replicas).includes(self);
  }

  function heldByRing(client: Placed): readonly NodeId[] {
    const ring = membership.ring();
    const owner = ring.owner(client);
    const holders = ring.replicas(client, replicas);
    if (owner === self || owner === undefined) return holders;
    return [owner, ...holders.filter((id) => id !== self)];
  }

  function targetsOf(client: Placed): readonly NodeId[] {
    const held = heldByRing(client);
    const nextOwner = lags && held.some((id) => membership.isDown(id)) ? nextOwnerWithoutCopyOf(client, []) : undefined;
    return nextOwner === undefined ? held : [...held, nextOwner];
  }

  function nextOwnerWithoutCopyOf(client: Placed, leaving: readonly NodeId[]): NodeId | undefined {
    const ring = membership.ring();
    const stays = (id: NodeId): boolean => id !== self && !leaving.includes(id) && !membership.isDown(id);
    const nextOwner = ring.findSuccessor(client, stays);
    return nextOwner === undefined || heldByRing(client).includes(nextOwner) ? undefined : nextOwner;
  }

  return {
    targetsOf,
    syncReplicasOf(client) {
      const [first, ...rest] = targetsOf(client);
      if (first === undefined || membership.isDown(first)) return [];
      const isElsewhere = (id: NodeId): boolean => hostOf(id) !== hostOf(self);
      const other = isElsewhere(first) ? undefined : rest.find((id) => isElsewhere(id) && !membership.isDown(id));
      return other === undefined ? [first] : [first, other];
    },
    isHolder,
    isEntitled: (client) => isHolder(membership.ring(), client),
    nextOwnerWithoutCopyOf,
    decides: (client) => route(membership, client).kind === 'mine',
    lags,
    isWholeHost(ids) {
      const host = hostOf(self);
      return (
        ids.every((id) => hostOf(id) === host) &&
        membership.ring().members.every((id) => hostOf(id) !== host || ids.includes(id))
      );
    },
    isDone: () => placedRing === membership.ring(),
    moveOf(client) {
      const isMine = membership.ring().owner(client) === self;
      const wasMine = placedRing.owner(client) === self;
      return { wasMine, isMine, isNews: isMine ? !sameHolders(client) : holdsLegacy(client) };
    },
    done() {
      placedRing = membership.ring();
      placedIncarnations = membership.incarnations();
    },
  };
}
