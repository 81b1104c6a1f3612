import { memberPoints } from './member-points.js';
import { growRing, makeRing, ringChecksum, sortedMembers, type NodeId, type Ring } from './ring.js';

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

/** Number of members that `prepareRing` adds at once. A slice takes about 4 ms. */
const SLICE_MEMBERS = 4;

/**
 * Makes the ring of these members in slices. A later `createRing` finds the finished ring.
 * @param pause called between two slices, so that the process can do other work
 */
export async function prepareRing(memberIds: Iterable<NodeId>, from: Ring, pause: () => Promise<void>): Promise<void> {
  await growRing(from, sortedMembers(memberIds), { create: createRing, sliceMembers: SLICE_MEMBERS, pause });
}
