import type { NodeId } from '../core/ring.js';
import type { Membership } from './membership.js';

/** Who is to have a client's buckets, now and under the ring for which the table was last looked through. */
export interface Placement {
  /** Who else than this node: its owner, and the owner's successors. */
  readonly targetsOf: (clientId: string) => readonly NodeId[];
  /** Whether this node is the owner, or one of the successors. */
  readonly isEntitled: (clientId: string) => boolean;
  /** Who decides for a client of this node once it is gone. */
  readonly heirOf: (clientId: string) => NodeId | undefined;
  /** Whether the present ring is the one for which the table was looked through. */
  readonly isDone: boolean;
  /** What a change of the ring has made of this node's part. */
  moveOf(clientId: string): Move;
  /** Notes that the table was looked through for the present ring. */
  done(): void;
}

export interface Move {
  readonly wasMine: boolean;
  readonly isMine: boolean;
  /** Whether others lack what this node knows, though its owner is the same. */
  readonly isNews: boolean;
}

export function createPlacement(
  { membership }: { membership: Membership },
  { replicas }: { replicas: number },
): Placement {
  const self = membership.self.id;
  /** The ring under which the whole table was last looked through, and the lives of its members. */
  let placedRing = membership.ring;
  let placedLives = membership.lives();

  function sameSuccessors(clientId: string): boolean {
    const before = placedRing.successors(clientId, replicas);
    // One that has restarted since has lost its copies.
    const lives = membership.lives();
    return membership.ring
      .successors(clientId, replicas)
      .every((id, i) => id === before[i] && lives.get(id) === placedLives.get(id));
  }

  /** Whether this node holds a copy of what an owner knew that is gone without having handed over: who follows may know less. */
  function holdsLegacy(clientId: string): boolean {
    const before = placedRing.owner(clientId);
    if (before === undefined || membership.stateOf(before) === 'leaving') return false;
    if (membership.ring.members.includes(before) && !membership.isDown(before)) return false;
    return placedRing.successors(clientId, replicas).includes(self);
  }

  return {
    targetsOf(clientId) {
      const { ring } = membership;
      const owner = ring.owner(clientId);
      const successors = ring.successors(clientId, replicas);
      if (owner === self || owner === undefined) return successors;
      return [owner, ...successors.filter((id) => id !== self)];
    },
    isEntitled: (clientId) =>
      membership.ring.owner(clientId) === self || membership.ring.successors(clientId, replicas).includes(self),
    heirOf(clientId) {
      const { ring } = membership;
      return ring.successors(clientId, ring.members.length - 1).find((id) => id !== self && !membership.isDown(id));
    },
    get isDone() {
      return placedRing === membership.ring;
    },
    moveOf(clientId) {
      const isMine = membership.ring.owner(clientId) === self;
      const wasMine = placedRing.owner(clientId) === self;
      return { wasMine, isMine, isNews: isMine ? !sameSuccessors(clientId) : holdsLegacy(clientId) };
    },
    done() {
      placedRing = membership.ring;
      placedLives = membership.lives();
    },
  };
}
