import type { NodeId } from '../limits/ring/ring.js';
import type { Clock } from '../lib/system.js';
import type { KnownMember } from './membership.js';
import { fnv1a } from '../limits/ring/fnv1a.js';

/** A member that is silent for this many suspicion times is dead. */
export const DEAD_AFTER = 10;
/** A member that was not heard for this part of the suspicion time although it should have been is suspected. */
const SUSPECTED_PART = 0.2;

export interface GossipMember extends KnownMember {
  /**
   * Since when the member's silence counts: this node sends it a heartbeat at each beat, because it is a neighbour or
   * is suspected. `undefined` otherwise.
   */
  probedSinceMs: number | undefined;
  /** When this node learnt the member's state and incarnation. */
  stateSinceMs: number;
}

export function isGoing({ state }: KnownMember['record']): boolean {
  return state === 'leaving' || state === 'left';
}

/**
 * Says of which members the silence counts. A node hears its neighbours at every beat. It probes any other member only
 * while there is a suspicion: another node misses the member, or a message of this node stays unanswered.
 */
export class Suspicion {
  private neighbourIds: ReadonlySet<NodeId> = new Set();
  /** The members among which the neighbours were chosen. */
  private candidates: readonly NodeId[] = [];
  private newSuspects: NodeId[] = [];
  private readonly clock: Clock;
  private readonly self: NodeId;
  private readonly others: ReadonlyMap<NodeId, GossipMember>;
  private readonly suspectAfterMs: number;
  private readonly neighbourCount: number;

  constructor(args: {
    clock: Clock;
    self: NodeId;
    others: ReadonlyMap<NodeId, GossipMember>;
    suspectAfterMs: number;
    /** About how many members this node exchanges heartbeats with: even, at least 2. Default 8. */
    neighbours: number | undefined;
  }) {
    this.clock = args.clock;
    this.self = args.self;
    this.others = args.others;
    this.suspectAfterMs = args.suspectAfterMs;
    this.neighbourCount = args.neighbours ?? NEIGHBOURS;
  }

  /** The members with which this node exchanges heartbeats. */
  neighbours(): ReadonlySet<NodeId> {
    return this.neighbourIds;
  }

  /** How long the member has been silent although it should have been heard. */
  silentMs({ record, heardAtMs, probedSinceMs }: GossipMember, nowMs = this.clock.nowMs()): number {
    // A leaving member sends to all.
    if (isGoing(record)) return nowMs - heardAtMs;
    return probedSinceMs === undefined ? 0 : nowMs - Math.max(heardAtMs, probedSinceMs);
  }

  /** @param forMs how long a neighbour may be silent; default: two heartbeats */
  isSuspected(known: GossipMember, forMs = this.suspectAfterMs * SUSPECTED_PART): boolean {
    if (known.record.state === 'left') return false;
    if (known.refusedAtBeat !== undefined || this.silentMs(known) > forMs) return true;
    return known.probedSinceMs !== undefined && !this.neighbourIds.has(known.record.id);
  }

  /**
   * Begins to suspect a member, unless this node has heard it lately or probes it already. Its silence counts from now:
   * a member that lives answers the first probe.
   */
  begin(known: GossipMember): void {
    const nowMs = this.clock.nowMs();
    if (known.probedSinceMs !== undefined || isGoing(known.record) || !this.isOld(known.heardAtMs, nowMs)) return;
    known.probedSinceMs = nowMs;
    this.newSuspects.push(known.record.id);
  }

  /** Ends the suspicion of a member that this node, or another one, has just heard. */
  end(known: GossipMember): void {
    if (!this.neighbourIds.has(known.record.id) && !this.isOld(known.heardAtMs)) known.probedSinceMs = undefined;
  }

  /** Returns the members that this node has begun to suspect since the last call. */
  takeNew(): readonly NodeId[] {
    const ids = this.newSuspects;
    this.newSuspects = [];
    return ids;
  }

  /**
   * Suspects members that owe an answer, and chooses the neighbours anew if the members have changed.
   * @returns whether a member has come, left, or been silent for too long
   */
  chooseNeighbours(): boolean {
    const nowMs = this.clock.nowMs();
    const present: NodeId[] = [];
    for (const [id, known] of this.others) {
      if (this.isOld(known.unansweredAtMs ?? nowMs, nowMs)) this.begin(known);
      if (!isGoing(known.record) && this.silentMs(known) <= this.suspectAfterMs) present.push(id);
    }
    if (present.length === this.candidates.length && present.every((id, i) => id === this.candidates[i])) return false;
    this.candidates = present;
    const before = this.neighbourIds;
    this.neighbourIds = neighboursOf(this.self, present, this.neighbourCount);
    for (const id of before) {
      const known = this.others.get(id);
      if (known !== undefined) this.end(known);
    }
    for (const id of this.neighbourIds) this.others.get(id)!.probedSinceMs ??= nowMs;
    return true;
  }

  private isOld(atMs: number, nowMs = this.clock.nowMs()): boolean {
    return nowMs - atMs > this.suspectAfterMs * SUSPECTED_PART;
  }
}

/** A member exchanges heartbeats with about this many others, however many there are. */
const NEIGHBOURS = 8;

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
