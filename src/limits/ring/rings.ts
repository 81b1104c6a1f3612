import type { Steps } from '../../lib/turns.js';
import { memberPoints } from './member-points.js';
import { growing, makeRing, ringChecksum, sortedMembers, type NodeId, type Ring } from './ring.js';

/**
 * Rings in use, by checksum. Nodes of one process with the same members share one ring. A new ring stays at least until
 * the current turn of the event loop ends.
 */
const heldRings = new Map<string, WeakRef<Ring>>();

/**
 * @param memberIds in any order; repeated ids count once
 * @param from a ring with mostly the same members; saves the sorting of the points of members in both rings
 */
export function createRing(memberIds: Iterable<NodeId>, from?: Ring): Ring {
  const members = sortedMembers(memberIds);
  const checksum = ringChecksum(members);
  const held = heldRings.get(checksum)?.deref();
  if (held !== undefined && members.every((id, i) => id === held.members[i])) return held;
  const ring = makeRing(members, from, memberPoints);
  for (const [key, ref] of heldRings) if (ref.deref() === undefined) heldRings.delete(key);
  heldRings.set(checksum, new WeakRef(ring));
  return ring;
}

/** Number of members that a step of `growingRing` adds. It takes about 4 ms. */
const STEP_MEMBERS = 4;

/** Makes the ring of these members. A later `createRing` finds the finished ring. */
export function growingRing(memberIds: Iterable<NodeId>, from: Ring): Steps<Ring> {
  return growing(from, sortedMembers(memberIds), createRing, STEP_MEMBERS);
}
