import type { Steps } from '../../lib/turns.js';
import { CLIENT_HASH, clientKey, type ClientKey } from './client-hash.js';
import { md5Hex } from './md5.js';

/**
 * `host:port` or `[v6]:port`, the address at which peers reach a member. The ring accepts any text as a name. The text
 * before the last colon is the host.
 */
export type NodeId = string;

/** A client, by its key or by its name. A name is hashed on each call. */
export type Placed = Pick<ClientKey, 'hashHigh'> | string;

/**
 * Maps each client to the member that owns it. A ring is immutable: a change of members makes a new ring.
 * Nodes with the same list of members agree on every answer without messages, in any order of their lists.
 */
export interface Ring {
  /** Sorted by UTF-16 code unit, each once. */
  readonly members: readonly NodeId[];
  /**
   * 16 hex digits, equal on two nodes when their members are equal. A message names the ring of its sender with it.
   */
  readonly checksum: string;
  /** `undefined` only on an empty ring. */
  owner(client: Placed): NodeId | undefined;
  /**
   * The next `count` distinct members after the owner, nearest first, without the owner; fewer when the ring is
   * smaller. When the owner leaves, the first successor owns the client.
   */
  successors(client: Placed, count: number): NodeId[];
  /** The nearest successor for which `accepts` returns true. Calls `accepts` at most once for each member. */
  findSuccessor(client: Placed, accepts: (id: NodeId) => boolean): NodeId | undefined;
  /**
   * The replicas of the owner's buckets, nearest first. They are the first `count` successors. If all of these are on
   * the owner's host, the next successor on another host is added. So if the owner or its whole host fails, the next
   * acting owner is one of the replicas.
   * @param count at least 1
   * @returns the same frozen list on each call, and for all clients with the same replicas
   */
  replicas(client: Placed, count: number): readonly NodeId[];
  /** Fraction of the key space that each member owns, 0 to 1, in the order of `members`; sums to exactly 1. */
  shares(): ReadonlyMap<NodeId, number>;
  /** `createRing` makes the next ring from these points. */
  readonly points: RingPoints;
}

/**
 * The points of all members in one sorted array. Segment i begins after point i − 1 and ends with point i. The member
 * of point i owns it. The last segment ends with an extra point of the largest possible value. It belongs to the member
 * of the first point.
 */
interface RingPoints {
  /** Ascending; equal points in the order of their members' names. */
  readonly values: Uint32Array;
  /** For each point, the place of its member in `places`. */
  readonly owners: Uint16Array;
  /** A member keeps its place while it is in the ring, so a change copies the points of all others as they are. */
  readonly places: readonly (NodeId | undefined)[];
  /** For each cell of the key space, the first point at or after the beginning of the cell. */
  readonly firstOfCell: Uint32Array;
  /** The cell of a hash is the hash without its lower `cellBits` bits. */
  readonly cellBits: number;
}

/** Points are 32-bit hashes. */
const KEY_SPACE_BITS = 32;
const KEY_SPACE = 2 ** KEY_SPACE_BITS;
/** A cell holds 4 to 8 points, which fit in one cache line of the processor. */
const POINTS_PER_CELL_BITS = 2;
/** Largest number of members of one ring. */
const MAX_MEMBERS = 2 ** 16;

/**
 * Points of one member on the ring. All members of a cluster must use the same number.
 *
 * The share of a member varies by 1/√points. Measured over random names, the largest of 100 shares, in units of the
 * mean: with 1,280 points it was 1.07, but above 1.10 for one in thirty sets of names; with 2,048 points it was 1.06,
 * and 1.09 at worst.
 */
export const POINTS = 2048;

/**
 * The `POINTS` ketama points of a member, in ascending order: the MD5 digests of `member-0`, `member-1` …, each cut
 * into four little-endian words. They depend on the name alone. Nodes take them from hashring. Clients compute them, as
 * hashring needs Node.js.
 */
type MemberPoints = (member: NodeId) => Uint32Array;

/**
 * @param memberIds in any order; repeated ids count once
 * @param from a ring with mostly the same members; saves the sorting of the points of members in both rings
 */
export function makeRing(memberIds: Iterable<NodeId>, from: Ring | undefined, memberPoints: MemberPoints): Ring {
  const members = sortedMembers(memberIds);
  const points = changePoints(from?.points ?? makePoints(0, []), members, memberPoints);
  return ringOf(members, checksumOf(members), points);
}

/** Makes the ring of these members from another one. Each step adds `stepMembers` of them. */
export function* growing(
  from: Ring | undefined,
  memberIds: readonly NodeId[],
  create: (memberIds: readonly NodeId[], from: Ring | undefined) => Ring,
  stepMembers: number,
): Steps<Ring> {
  const known = new Set(from?.members);
  const added = memberIds.filter((id) => !known.has(id));
  const present = memberIds.filter((id) => known.has(id));
  let ring = from;
  for (let i = stepMembers; i < added.length; i += stepMembers) {
    ring = create([...present, ...added.slice(0, i)], ring);
    yield;
  }
  return create(memberIds, ring);
}

/** The host of `host:port`. A name without a port is its own host. */
export function hostOf(id: NodeId): string {
  const colon = id.lastIndexOf(':');
  return colon < 0 ? id : id.slice(0, colon);
}

/** Place of a client in the key space, as a fraction: 0 up to, but without, 1. */
export function pointOf({ hashHigh }: Pick<ClientKey, 'hashHigh'>): number {
  return (hashHigh >>> 0) / KEY_SPACE;
}

/** Computes the checksum of a ring without building it. The order of the members does not matter. */
export function ringChecksum(memberIds: Iterable<NodeId>): string {
  return checksumOf(sortedMembers(memberIds));
}

export function sortedMembers(memberIds: Iterable<NodeId>): NodeId[] {
  return [...new Set(memberIds)].sort();
}

function checksumOf(members: readonly NodeId[]): string {
  // In JSON, ['a,b'] and ['a', 'b'] differ.
  return md5Hex(JSON.stringify([CLIENT_HASH, POINTS, members])).slice(0, 16);
}

function ringOf(members: readonly NodeId[], checksum: string, points: RingPoints): Ring {
  const { values, owners, places, firstOfCell, cellBits } = points;
  const last = values.length - 1;
  const severalHosts = new Set(members.map(hostOf)).size > 1;
  const replicasByCount = new Map<number, ReplicaLists>();
  let shares: ReadonlyMap<NodeId, number> | undefined;

  function segmentOf(client: Placed): number {
    const value = (typeof client === 'string' ? clientKey(client) : client).hashHigh >>> 0;
    let segment = firstOfCell[value >>> cellBits]!;
    // The last point has the largest possible value, so the loop ends.
    while (values[segment]! < value) segment += 1;
    return segment === last ? 0 : segment;
  }

  /** Calls `visit` with each successor of a segment's owner, nearest first, until it returns true. */
  function visitSuccessors(segment: number, visit: (id: NodeId) => boolean): void {
    const seen = new Uint8Array(places.length);
    seen[owners[segment]!] = 1;
    let left = members.length - 1;
    for (let at = segment; left > 0;) {
      at = at + 1 < last ? at + 1 : 0;
      const place = owners[at]!;
      if (seen[place] === 1) continue;
      seen[place] = 1;
      left -= 1;
      if (visit(places[place]!)) return;
    }
  }

  function findReplicas(segment: number, count: number): NodeId[] {
    const found: NodeId[] = [];
    const ownerHost = hostOf(places[owners[segment]!]!);
    let needsOtherHost = severalHosts;
    visitSuccessors(segment, (id) => {
      const isElsewhere = hostOf(id) !== ownerHost;
      if (found.length < count || (needsOtherHost && isElsewhere)) found.push(id);
      if (isElsewhere) needsOtherHost = false;
      return found.length >= count && !needsOtherHost;
    });
    return found;
  }

  return {
    members,
    checksum,
    points,
    owner: (client) => places[owners[segmentOf(client)]!],
    successors(client, count) {
      const found: NodeId[] = [];
      if (count > 0 && members.length > 0) visitSuccessors(segmentOf(client), (id) => found.push(id) === count);
      return found;
    },
    findSuccessor(client, accepts) {
      let found: NodeId | undefined;
      if (members.length > 0)
        visitSuccessors(segmentOf(client), (id) => {
          if (accepts(id)) found = id;
          return found !== undefined;
        });
      return found;
    },
    replicas(client, count) {
      if (members.length < 2 || count < 1) return NOBODY;
      let lists = replicasByCount.get(count);
      if (lists === undefined) replicasByCount.set(count, (lists = new ReplicaLists(last)));
      const segment = segmentOf(client);
      return lists.get(segment) ?? lists.add(segment, findReplicas(segment, count));
    },
    shares: () => (shares ??= measureShares(members, points)),
  };
}

const NOBODY: readonly NodeId[] = Object.freeze([]);

/** The replicas of each segment. Segments with equal replicas share one list. */
class ReplicaLists {
  /** For each segment, the number of its list in `lists`; 0 until the list is found. */
  private readonly numbers: Uint32Array<ArrayBuffer>;
  private readonly lists: (readonly NodeId[] | undefined)[] = [undefined];
  private readonly numberByIds = new Map<string, number>();

  constructor(segments: number) {
    this.numbers = new Uint32Array(segments);
  }

  get(segment: number): readonly NodeId[] | undefined {
    return this.lists[this.numbers[segment]!];
  }

  add(segment: number, ids: NodeId[]): readonly NodeId[] {
    const key = JSON.stringify(ids);
    let number = this.numberByIds.get(key);
    if (number === undefined) this.numberByIds.set(key, (number = this.lists.push(Object.freeze(ids)) - 1));
    this.numbers[segment] = number;
    return this.lists[number]!;
  }
}

/**
 * Makes the points of these members from those of another ring. Drops the points of members that left, and merges in
 * those of new members.
 */
function changePoints(from: RingPoints, members: readonly NodeId[], memberPoints: MemberPoints): RingPoints {
  if (members.length > MAX_MEMBERS) throw new RangeError(`a ring has at most ${MAX_MEMBERS} members`);
  const staying = new Set(members);
  const places = from.places.map((id) => (id !== undefined && staying.has(id) ? id : undefined));
  const isSmaller = places.some((id, place) => id !== from.places[place]);
  const rest = isSmaller ? dropPoints(from, places, memberPoints) : from;
  const added = placeAdded(members, places);
  if (added.length === 0) return { ...rest, places };
  const addedPoints = sortPoints(
    added,
    added.map((place) => memberPoints(places[place]!)),
    places,
  );
  return rest.values.length === 1 ? addedPoints : mergePoints(rest, addedPoints);
}

/** Makes room for `size` points and the last one, which has the largest possible value. */
function makePoints(size: number, places: readonly (NodeId | undefined)[]): RingPoints {
  const bits = Math.max(1, Math.floor(Math.log2(size)) - POINTS_PER_CELL_BITS);
  const values = new Uint32Array(size + 1);
  values[size] = KEY_SPACE - 1;
  const firstOfCell = new Uint32Array(2 ** bits);
  return { values, owners: new Uint16Array(size + 1), places, firstOfCell, cellBits: KEY_SPACE_BITS - bits };
}

/** Drops the points of the members that are no longer in `places`. */
function dropPoints(from: RingPoints, places: readonly (NodeId | undefined)[], memberPoints: MemberPoints): RingPoints {
  const dropped = from.places.flatMap((id, place) => (id === undefined || places[place] === id ? [] : [place]));
  const points = makePoints(from.values.length - 1 - dropped.length * POINTS, places);
  if (dropped.length > MAX_SPLICED) return copyStaying(from, points);
  const positions = new Uint32Array(dropped.length * POINTS);
  dropped.forEach((place, k) => {
    let at = -1;
    memberPoints(from.places[place]!).forEach((value, i) => {
      // About one name in 2,000 has two equal points. The second of them comes after the first.
      at = Math.max(at + 1, firstAtOrAfter(from, value));
      while (from.owners[at] !== place) at += 1;
      positions[k * POINTS + i] = at;
    });
  });
  positions.sort();
  let kept = 0;
  let next = 0;
  for (const at of positions) {
    kept = copyRun(from, points, next, at, kept);
    next = at + 1;
  }
  copyRun(from, points, next, from.values.length - 1, kept);
  if (points.cellBits !== from.cellBits) return indexCells(points);
  let before = 0;
  for (let cell = 0; cell < points.firstOfCell.length; cell += 1) {
    const first = from.firstOfCell[cell]!;
    while (positions[before]! < first) before += 1;
    points.firstOfCell[cell] = first - before;
  }
  return points;
}

/** The points of up to this many members are looked up one by one. Those between them are copied in runs. */
const MAX_SPLICED = 4;

/** Copies the points of the members that are in both. */
function copyStaying({ values, owners }: RingPoints, points: RingPoints): RingPoints {
  const stays = Uint8Array.from(points.places, (id) => (id === undefined ? 0 : 1));
  let kept = 0;
  for (let i = 0; i < values.length - 1; i += 1) {
    const owner = owners[i]!;
    if (stays[owner] === 0) continue;
    points.values[kept] = values[i]!;
    points.owners[kept] = owner;
    kept += 1;
  }
  return indexCells(points);
}

/** A call that copies a run costs as much as this many points in a loop. */
const SHORT_RUN = 32;

/** Copies the points from `begin` up to `end` to the place `to`. @returns the place after them */
function copyRun(from: RingPoints, points: RingPoints, begin: number, end: number, to: number): number {
  if (end - begin < SHORT_RUN) {
    for (let at = begin; at < end; at += 1, to += 1) {
      points.values[to] = from.values[at]!;
      points.owners[to] = from.owners[at]!;
    }
    return to;
  }
  points.values.set(from.values.subarray(begin, end), to);
  points.owners.set(from.owners.subarray(begin, end), to);
  return to + end - begin;
}

/** The first point at or after a value: the last one if there is none before it. */
function firstAtOrAfter({ values, firstOfCell, cellBits }: RingPoints, value: number): number {
  let at = firstOfCell[value >>> cellBits]!;
  while (values[at]! < value) at += 1;
  return at;
}

/** Gives each new member a place, in the order of `members`. @returns the new places */
function placeAdded(members: readonly NodeId[], places: (NodeId | undefined)[]): number[] {
  const placed = new Set(places);
  let place = 0;
  return members
    .filter((id) => !placed.has(id))
    .map((id) => {
      while (places[place] !== undefined) place += 1;
      places[place] = id;
      return place;
    });
}

/**
 * Sorts the points of the added members with a counting sort. The values are spread evenly, so each cell gets only a
 * few. These are sorted by insertion. Equal values stay in the order of the members.
 */
function sortPoints(
  added: readonly number[],
  lists: readonly Uint32Array[],
  places: readonly (NodeId | undefined)[],
): RingPoints {
  const points = makePoints(added.length * POINTS, places);
  const { values, owners, firstOfCell, cellBits } = points;
  const ends = new Uint32Array(firstOfCell.length);
  for (const list of lists) for (let i = 0; i < POINTS; i += 1) ends[list[i]! >>> cellBits]! += 1;
  let sum = 0;
  for (let cell = 0; cell < ends.length; cell += 1) {
    firstOfCell[cell] = sum;
    sum += ends[cell]!;
    ends[cell] = firstOfCell[cell]!;
  }
  lists.forEach((list, k) => {
    for (let i = 0; i < POINTS; i += 1) {
      const value = list[i]!;
      const cell = value >>> cellBits;
      let at = ends[cell]!;
      for (; at > firstOfCell[cell]! && values[at - 1]! > value; at -= 1) {
        values[at] = values[at - 1]!;
        owners[at] = owners[at - 1]!;
      }
      values[at] = value;
      owners[at] = added[k]!;
      ends[cell]! += 1;
    }
  });
  return points;
}

/** Merges two sorted lists of points. Copies the old points up to each added one, then the added one. */
function mergePoints(from: RingPoints, added: RingPoints): RingPoints {
  const size = from.values.length - 1;
  const addedSize = added.values.length - 1;
  const { places } = added;
  const points = makePoints(size + addedSize, places);
  let next = 0;
  let to = 0;
  for (let i = 0; i < addedSize; i += 1) {
    const value = added.values[i]!;
    const owner = added.owners[i]!;
    let end = Math.max(next, firstAtOrAfter(from, value));
    while (end < size && from.values[end] === value && places[from.owners[end]!]! < places[owner]!) end += 1;
    to = copyRun(from, points, next, end, to);
    next = end;
    points.values[to] = value;
    points.owners[to] = owner;
    to += 1;
  }
  copyRun(from, points, next, size, to);
  if (points.cellBits !== from.cellBits) return indexCells(points);
  let before = 0;
  for (let cell = 0; cell < points.firstOfCell.length; cell += 1) {
    while (before < addedSize && added.values[before]! >>> points.cellBits < cell) before += 1;
    points.firstOfCell[cell] = from.firstOfCell[cell]! + before;
  }
  return points;
}

function indexCells(points: RingPoints): RingPoints {
  const { values, firstOfCell, cellBits } = points;
  const last = values.length - 1;
  let cells = 0;
  for (let i = 0; i < last; i += 1) {
    const cell = values[i]! >>> cellBits;
    while (cells <= cell) firstOfCell[cells++] = i;
  }
  firstOfCell.fill(last, cells);
  return points;
}

/** The range of a point begins after the point before it, and ends with the point itself. */
function measureShares(members: readonly NodeId[], { values, owners, places }: RingPoints): Map<NodeId, number> {
  const owned = new Float64Array(places.length);
  const last = values.length - 1;
  let before = (last === 0 ? 0 : values[last - 1]!) - KEY_SPACE;
  for (let i = 0; i < last; i += 1) {
    owned[owners[i]!]! += values[i]! - before;
    before = values[i]!;
  }
  const shares = new Map(places.map((id, place) => [id, owned[place]! / KEY_SPACE]));
  return new Map(members.map((member) => [member, shares.get(member)!]));
}
