import { hash } from 'node:crypto';
import HashRing from 'hashring';
import { LRUCache } from 'lru-cache';

/**
 * `host:port` or `[v6]:port`, under which its peers reach a member. For its place on the ring any text is a name; what comes
 * before the last colon is its host.
 */
export type NodeId = string;

/**
 * Which member decides for which client. Immutable: a change of members is a new ring, swapped in whole.
 * All members that hold the same list, in whatever order they learnt it, agree on every answer without talking.
 */
export interface Ring {
  /** Sorted by UTF-16 code unit, each once. */
  readonly members: readonly NodeId[];
  /** 16 hex digits; equal on two nodes when their members are, so that a message can say under which ring it was sent. */
  readonly checksum: string;
  /** `undefined` only on an empty ring. */
  owner(clientId: string): NodeId | undefined;
  /**
   * The next `count` distinct members after the owner, nearest first, never the owner; fewer when the ring is smaller.
   * When the owner leaves, the first of them owns the client.
   */
  successors(clientId: string, count: number): readonly NodeId[];
  /**
   * Who is to hold copies of the owner's buckets, nearest first: the first `count` successors, at least 1, and, where all of
   * these are on the owner's host, the next one that is not. So whether the owner is gone or its whole host, the first
   * successor that is left, which decides next, is one of these.
   */
  replicas(clientId: string, count: number): readonly NodeId[];
  /** Fraction of the key space that each member owns, 0 to 1, in the order of `members`; sums to exactly 1. */
  shares(): ReadonlyMap<NodeId, number>;
}

interface RingOptions {
  /** Clients whose place is remembered, at least 1; default 65,536. Room for all is made at once: 5 ms at the default. */
  readonly cachedClients?: number;
  /**
   * How many successors, or holders of copies, are remembered with the owner, 0 or more; default 1. More may be asked for, at
   * the price of hashing the client again. Meant to be what is asked for on every decision: the replicas of a bucket.
   */
  readonly cachedSuccessors?: number;
}

/**
 * The share of a member varies by 1/√points. Over random names the largest of 100 shares, in units of the mean, was
 * 1.07 with 1,280 points, but above 1.10 for one in thirty sets of names; with 2,048 it was 1.06, and 1.09 at worst.
 * All members of a cluster must use the same number.
 */
const POINTS = 2048;

/** What a digest gives: libketama cuts a 16-byte MD5 into four points of 4 bytes. */
const POINTS_PER_DIGEST = 4;
const POINT_BYTES = 4;

/** Points are the values of a hash of 32 bits. */
const KEY_SPACE = 2 ** 32;

/** The points of a member depend on its name alone: rings share them, and 1,024 members keep 8 MiB. */
const pointsByMember = new LRUCache<NodeId, Buffer>({ max: 1024 });

/**
 * @param memberIds in any order, and more than once without harm
 *
 * Blocks for 0.2 ms a member at 10 members and 0.6 at 100, most of it hashring's sort, besides making room for the cache;
 * for 1 ms more a member never seen before.
 */
export function createRing(memberIds: Iterable<NodeId>, options: RingOptions = {}): Ring {
  const { cachedClients = 65_536, cachedSuccessors = 1 } = options;
  // Sorted, as of two equal points hashring prefers the one it was given first.
  const members = [...new Set(memberIds)].sort();
  const kept = Math.min(1 + cachedSuccessors, members.length);
  const points = place(members);
  const severalHosts = new Set(members.map(hostOf)).size > 1;
  const cache = new LRUCache<string, readonly NodeId[]>({ max: cachedClients });
  let shares: ReadonlyMap<NodeId, number> | undefined;

  /** `count` members clockwise from the client, 1 to all. Not by `get`, whose cache is a plain object: see `__proto__`. */
  function walk(clientId: string, count: number): readonly NodeId[] {
    return points.range(clientId, count).map((index) => members[Number(index)]!);
  }

  /** The owner and the first `count - 1` successors, and one on another host behind them if they are all on one. */
  function walkToOtherHost(clientId: string, count: number): readonly NodeId[] {
    const found = walk(clientId, count);
    const isElsewhere = (id: NodeId): boolean => hostOf(id) !== hostOf(found[0]!);
    if (!severalHosts || found.some(isElsewhere)) return found;
    let other: NodeId | undefined;
    for (let wider = 2 * count; other === undefined; wider *= 2)
      other = walk(clientId, Math.min(wider, members.length)).find(isElsewhere);
    return [...found, other];
  }

  /** The owner and the remembered successors, and whoever else holds copies then. */
  function nearest(clientId: string): readonly NodeId[] {
    if (members.length <= 1) return members;
    let found = cache.get(clientId);
    if (found === undefined) {
      found = kept > 1 ? walkToOtherHost(clientId, kept) : walk(clientId, kept);
      cache.set(clientId, found);
    }
    return found;
  }

  return {
    members,
    checksum: ringChecksum(members),
    owner: (clientId) => nearest(clientId)[0],
    successors(clientId, count) {
      const wanted = Math.min(1 + count, members.length);
      return (wanted <= kept ? nearest(clientId) : walk(clientId, wanted)).slice(1, wanted);
    },
    replicas(clientId, count) {
      const wanted = Math.min(1 + count, members.length);
      if (wanted <= 1) return [];
      return (wanted === kept ? nearest(clientId) : walkToOtherHost(clientId, wanted)).slice(1);
    },
    shares: () => (shares ??= measureShares(members)),
  };
}

/** Of `host:port`, and of a name without a port, which is its own. */
export function hostOf(id: NodeId): string {
  const colon = id.lastIndexOf(':');
  return colon < 0 ? id : id.slice(0, colon);
}

/** The checksum of the ring of these members, in whatever order, without building it. */
export function ringChecksum(memberIds: Iterable<NodeId>): string {
  // JSON tells ['a,b'] and ['a', 'b'] apart.
  return hash('md5', JSON.stringify([POINTS, [...new Set(memberIds)].sort()])).slice(0, 16);
}

/**
 * The last few rings, up to 128 members in all at 140 KB a member: a donor's ring with the joiner in it is the one that
 * membership builds a moment later, and a node that comes back brings the same ring again.
 */
const recentPlaces = new LRUCache<string, HashRing>({ maxSize: 128 });
/** Larger ones are shared while anyone holds them: at 1,000 members each is 140 MB, and 2 s to build. */
const heldPlaces = new Map<string, WeakRef<HashRing>>();

/**
 * The hashring, in which a member goes by its index in `members`.
 *
 * hashring would hash `name-0`, `name-1`, … for four points each, and sort them all. It is given one vnode a member with
 * all its points instead, remembered and in ascending order: the same ring (ketama's) in a third of the time, as its
 * sort only has to merge. Indices, because it uses names as keys of plain objects and splits them at colons.
 */
function place(members: readonly NodeId[]): HashRing {
  const key = JSON.stringify(members);
  const placed = recentPlaces.get(key) ?? heldPlaces.get(key)?.deref();
  if (placed !== undefined) return placed;
  let digest: (key: string) => Buffer = (name) => memberPoints(members[Number.parseInt(name, 10)]!);
  const servers = Object.fromEntries(members.map((_, index) => [index, { vnodes: 1 }]));
  const points = new HashRing(servers, (key) => digest(key), {
    // Explicit vnodes are taken literally only where they differ from this default; else they are multiplied by the
    // server's share of the weights and rounded down, so that at 7, 14 or 49 members all lose points.
    'vnode count': 0,
    replicas: POINTS,
  });
  digest = md5;
  if (members.length > 0) recentPlaces.set(key, points, { size: members.length });
  for (const [held, ref] of heldPlaces) if (ref.deref() === undefined) heldPlaces.delete(held);
  heldPlaces.set(key, new WeakRef(points));
  return points;
}

/** Ascending, 4 bytes each, little-endian: as hashring reads them. */
function memberPoints(member: NodeId): Buffer {
  let points = pointsByMember.get(member);
  if (points === undefined) {
    const values = new Uint32Array(POINTS);
    for (let i = 0; i < POINTS; i += POINTS_PER_DIGEST) {
      const digest = md5(`${member}-${i / POINTS_PER_DIGEST}`);
      for (let j = 0; j < POINTS_PER_DIGEST; j += 1) values[i + j] = digest.readUInt32LE(j * POINT_BYTES);
    }
    points = Buffer.alloc(POINTS * POINT_BYTES);
    values.sort();
    for (let i = 0; i < POINTS; i += 1) points.writeUInt32LE(values[i]!, i * POINT_BYTES);
    pointsByMember.set(member, points);
  }
  return points;
}

/** 0.5 µs. By way of a string, as `node:crypto` takes 1 µs to hand over a buffer, and `createHash` 1.6 µs. */
function md5(key: string): Buffer {
  return Buffer.from(hash('md5', key, 'binary'), 'binary');
}

/** A point owns what lies between the point before it, exclusive, and itself. About 0.3 ms a member. */
function measureShares(members: readonly NodeId[]): ReadonlyMap<NodeId, number> {
  // A point and the index of its member in one number under 2^53: so they sort natively, equal points by member.
  const size = members.length;
  const points = new Float64Array(size * POINTS);
  for (const [index, member] of members.entries()) {
    const own = memberPoints(member);
    for (let i = 0; i < POINTS; i += 1) points[index * POINTS + i] = own.readUInt32LE(i * POINT_BYTES) * size + index;
  }
  points.sort();
  const owned = new Float64Array(size);
  let before = Math.floor((points.at(-1) ?? 0) / size) - KEY_SPACE;
  for (let i = 0; i < points.length; i += 1) {
    const value = Math.floor(points[i]! / size);
    owned[points[i]! % size]! += value - before;
    before = value;
  }
  return new Map(members.map((member, index) => [member, owned[index]! / KEY_SPACE]));
}
