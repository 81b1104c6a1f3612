import { fnv1a } from '../limits/ring/fnv1a.js';
import type { NodeId } from '../limits/ring/ring.js';

/** A member exchanges heartbeats with about this many others, however many there are. */
export const NEIGHBOURS = 8;

/** Each circle gives a member two neighbours. */
const PER_CIRCLE = 2;

/**
 * Chooses the members with which one exchanges heartbeats: all others if there are at most `count`. Otherwise, the
 * members stand in `count / 2` circles, in another order each, and the neighbours are those before and after the member
 * in each circle. So two nodes with the same members agree on who is a neighbour of whom. Such a graph has a small
 * diameter, and no cut with few edges (Law and Siu, "Distributed construction of random expander networks", 2003).
 * @param others without `self`, each once
 * @param count even, at least 2
 */
export function neighboursOf(self: NodeId, others: readonly NodeId[], count: number): ReadonlySet<NodeId> {
  if (others.length <= count) return new Set(others);
  const chosen = new Set<NodeId>();
  const own = fnv1a(self);
  const hashes = others.map(fnv1a);
  for (let circle = 0; circle < count / PER_CIRCLE; circle += 1) {
    const ownPlace = placeOf(own, circle);
    let [next, previous] = [0, 0];
    let [ahead, behind] = [Infinity, Infinity];
    for (let i = 0; i < hashes.length; i += 1) {
      // Around the circle, modulo 2^32.
      const distance = (placeOf(hashes[i]!, circle) - ownPlace) >>> 0;
      if (distance < ahead) [next, ahead] = [i, distance];
      if (-distance >>> 0 < behind) [previous, behind] = [i, -distance >>> 0];
    }
    chosen.add(others[next]!).add(others[previous]!);
  }
  return chosen;
}

/** The finalizer of MurmurHash3, so that the circles have independent orders. */
function placeOf(hash: number, circle: number): number {
  let place = hash + Math.imul(circle, 0x9e3779b9);
  place = Math.imul(place ^ (place >>> 16), 0x85ebca6b);
  place = Math.imul(place ^ (place >>> 13), 0xc2b2ae35);
  return (place ^ (place >>> 16)) >>> 0;
}
