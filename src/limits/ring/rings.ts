import HashRing from 'hashring';
import type { Steps } from '../../lib/turns.js';
import { growing, makeRing, ringChecksum, sortedMembers, POINTS, type NodeId, type Ring } from './ring.js';
import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';

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

/** libketama cuts a 16-byte MD5 into four points of 4 bytes. */
const POINTS_PER_DIGEST = 4;

/** The points of recently used members. Each array takes 8 KiB. */
const pointsByMember = new LRUCache<string, Uint32Array>({ max: 1024 });

/**
 * Computes the ketama points of a member with hashring, in ascending order. They depend on the name alone. A new member
 * takes about 1 ms.
 *
 * Each member gets its own hashring, because adding a member to a ring of many sorts all points again. In its hashring,
 * the member is called "0", because hashring uses names as keys of plain objects and splits them at colons.
 */
export function memberPoints(member: string): Uint32Array {
  let points = pointsByMember.get(member);
  if (points === undefined) {
    const servers = { 0: { vnodes: POINTS / POINTS_PER_DIGEST } };
    const ring = new HashRing(servers, (key) => md5(member + key.slice(1)), {
      // hashring takes `vnodes` literally only where it differs from this default. Otherwise it multiplies it by the
      // server's share of the weights and rounds down, so at 7, 14 or 49 members each of them loses points.
      'vnode count': 0,
      replicas: POINTS_PER_DIGEST,
      'max cache size': 1,
    });
    // The types of the package declare only one number for each server.
    const values = ring.points(['0']) as unknown as Record<string, number[]>;
    points = Uint32Array.from(values['0']!);
    pointsByMember.set(member, points);
  }
  return points;
}

/**
 * Takes 0.5 µs. The digest goes through a string, because `node:crypto` takes 1 µs to return a buffer, and `createHash`
 * takes 1.6 µs.
 */
function md5(key: string): Buffer {
  return Buffer.from(hash('md5', key, 'binary'), 'binary');
}
