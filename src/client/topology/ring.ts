import { md5 } from '../../limits/ring/md5.js';
import { makeRing, POINTS } from '../../limits/ring/ring.js';
import type { NodeId, Ring } from '../../limits/ring/ring.js';

const WORDS_PER_DIGEST = 4;

/** Makes the same ring as the nodes do. Takes about 0.5 ms for each member that is not in `from`. */
export function createRing(memberIds: Iterable<NodeId>, from?: Ring): Ring {
  return makeRing(memberIds, from, memberPoints);
}

function memberPoints(member: NodeId): Uint32Array {
  const points = new Uint32Array(POINTS);
  for (let at = 0; at < POINTS; at += WORDS_PER_DIGEST)
    md5(`${member}-${at / WORDS_PER_DIGEST}`, points.subarray(at, at + WORDS_PER_DIGEST));
  return points.sort();
}
