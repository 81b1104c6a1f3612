import type { NodeId } from '../limits/ring/ring.js';
import type { Clock } from '../lib/clock.js';
import type { KnownMember } from './membership.js';
import { NEIGHBOURS, neighboursOf } from './neighbours.js';

/** A member that is silent for this many suspicion times is dead. */
export const DEAD_AFTER = 10;
/** A member that was not heard for this part of the suspicion time although it should have been is doubted. */
const DOUBTED_PART = 0.2;

export interface GossipMember extends KnownMember {
  /**
   * Since when the member's silence counts: this node sends it a heartbeat at each beat, because it is a neighbour or
   * is doubted. `undefined` otherwise.
   */
  probedSinceMs: number | undefined;
  /** When this node sent the first message after which it heard nothing from the member. */
  unansweredAtMs: number | undefined;
  /** When this node learnt the member's state and incarnation. */
  stateSinceMs: number;
}

export function isGoing({ state }: KnownMember['record']): boolean {
  return state === 'leaving' || state === 'left';
}

/**
 * Says of which members the silence counts. A node hears its neighbours at every beat. It probes any other member only
 * while there is a doubt: another node misses the member, or a message of this node stays unanswered.
 */
interface Doubts {
  /** The members with which this node exchanges heartbeats. */
  neighbours(): ReadonlySet<NodeId>;
  /** How long the member has been silent although it should have been heard. */
  readonly silentMs: (known: GossipMember, nowMs?: number) => number;
  /** @param forMs how long a neighbour may be silent; default: two heartbeats */
  readonly isDoubted: (known: GossipMember, forMs?: number) => boolean;
  /**
   * Begins to doubt a member, unless this node has heard it lately or probes it already. Its silence counts from now:
   * a member that lives answers the first probe.
   */
  begin(known: GossipMember): void;
  /** Ends the doubt of a member that this node, or another one, has just heard. */
  end(known: GossipMember): void;
  /**
   * Doubts members that owe an answer, and chooses the neighbours anew if the members have changed.
   * @returns whether a member has come, left, or been silent for too long
   */
  chooseNeighbours(): boolean;
  /** The members that this node has begun to doubt since the last call. */
  readonly takeNew: () => readonly NodeId[];
  /** Notes that this node sends a message to this member. */
  readonly messageSent: (id: NodeId) => void;
  /** After a pause of this node: gives the members that are not dead their whole time to be heard again. */
  readonly resetTimers: () => void;
}

export function createDoubts(
  { clock, self, others }: { clock: Clock; self: NodeId; others: ReadonlyMap<NodeId, GossipMember> },
  options: { readonly suspectAfterMs: number; readonly neighbours?: number | undefined },
): Doubts {
  const { suspectAfterMs } = options;
  const doubtedMs = suspectAfterMs * DOUBTED_PART;
  let neighbours: ReadonlySet<NodeId> = new Set();
  /** The members among which the neighbours were chosen. */
  let candidates: readonly NodeId[] = [];
  let newDoubts: NodeId[] = [];

  function silentMs({ record, heardAtMs, probedSinceMs }: GossipMember, nowMs = clock.nowMs()): number {
    // A leaving member sends to all.
    if (isGoing(record)) return nowMs - heardAtMs;
    return probedSinceMs === undefined ? 0 : nowMs - Math.max(heardAtMs, probedSinceMs);
  }

  function isDoubted(known: GossipMember, forMs = doubtedMs): boolean {
    if (known.record.state === 'left') return false;
    if (known.refusedAtBeat !== undefined || silentMs(known) > forMs) return true;
    return known.probedSinceMs !== undefined && !neighbours.has(known.record.id);
  }

  function begin(known: GossipMember): void {
    const nowMs = clock.nowMs();
    if (known.probedSinceMs !== undefined || isGoing(known.record) || nowMs - known.heardAtMs <= doubtedMs) return;
    known.probedSinceMs = nowMs;
    newDoubts.push(known.record.id);
  }

  function end(known: GossipMember): void {
    if (neighbours.has(known.record.id) || clock.nowMs() - known.heardAtMs > doubtedMs) return;
    known.probedSinceMs = undefined;
  }

  return {
    neighbours: () => neighbours,
    silentMs,
    isDoubted,
    begin,
    end,
    chooseNeighbours() {
      const nowMs = clock.nowMs();
      const present: NodeId[] = [];
      for (const [id, known] of others) {
        if (nowMs - (known.unansweredAtMs ?? nowMs) > doubtedMs) begin(known);
        if (!isGoing(known.record) && silentMs(known) <= suspectAfterMs) present.push(id);
      }
      if (present.length === candidates.length && present.every((id, i) => id === candidates[i])) return false;
      candidates = present;
      const before = neighbours;
      neighbours = neighboursOf(self, present, options.neighbours ?? NEIGHBOURS);
      for (const id of before) {
        const known = others.get(id);
        if (known !== undefined) end(known);
      }
      for (const id of neighbours) others.get(id)!.probedSinceMs ??= nowMs;
      return true;
    },
    takeNew() {
      const doubts = newDoubts;
      newDoubts = [];
      return doubts;
    },
    messageSent(id) {
      const known = others.get(id);
      if (known !== undefined) known.unansweredAtMs ??= clock.nowMs();
    },
    resetTimers() {
      const nowMs = clock.nowMs();
      for (const known of others.values()) {
        if (silentMs(known) > suspectAfterMs * DEAD_AFTER) continue;
        if (isGoing(known.record)) known.heardAtMs = nowMs;
        if (known.probedSinceMs !== undefined) known.probedSinceMs = nowMs;
        if (known.unansweredAtMs !== undefined) known.unansweredAtMs = nowMs;
      }
    },
  };
}
