import type { NodeId } from '../limits/ring/ring.js';
import type { MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/clock.js';
import type { Discovery } from './discovery.js';
import type { GossipMembership } from './gossip-membership.js';
import type { RegistryMembership } from './registry-membership.js';

/** Decides which members this node sends heartbeats to, and what these say. Gossip and a registry differ here. */
export interface Probing {
  /** A heartbeat waits for its answer for this part of the suspicion time. */
  readonly timeoutPart: number;
  /**
   * Whether this node fetches the list of every peer whose view is later than its own. Under gossip it fetches none
   * from a peer that has just sent a list, as both compare lists with each heartbeat.
   */
  readonly fetchesViews: boolean;
  /**
   * The members to send heartbeats to at this beat; called once per beat.
   * @param late members that were not heard lately
   * @param exchangedAtMs when this node last exchanged a message with a member; `undefined` if never
   */
  targets(late: readonly MemberRecord[], exchangedAtMs: (id: NodeId) => number | undefined): readonly NodeId[];
  /**
   * The addresses to send heartbeats to at once: members that this node has begun to doubt, those to tell of it, and
   * those of which this node has only heard.
   */
  urgent(): readonly NodeId[];
  /** Addresses that are no members, to send heartbeats to at this beat: so two rings find each other. */
  seeds(): Promise<readonly NodeId[]>;
  /** The records that go with a heartbeat to a member. @param agreed whether it last had the same view */
  recordsFor(agreed: boolean, late: readonly MemberRecord[]): readonly MemberRecord[];
  /** Notes that this node sends a message to this member. */
  readonly messageSent: (id: NodeId) => void;
}

/** Seeds, leaving members, and a few dead ones are sent one heartbeat per this many beats. */
const SEED_EVERY = 10;
/** This many others, besides the neighbours, are asked about members that this node misses. */
const ASKED_BESIDES = 8;
/** Bounds of the members that are sent a heartbeat at one beat because they are silent or dead. */
const MAX_SILENT = 64;
const MAX_DEAD = 8;

/**
 * Gossip: at each beat, a heartbeat to every neighbour with which nothing else was exchanged, to the members that are
 * missed, and to one other member in turn. So the cost of a beat does not grow with the number of members.
 */
export function createGossipProbing(
  { clock, membership, discovery }: { clock: Clock; membership: GossipMembership; discovery: Discovery },
  { beatMs }: { beatMs: number },
): Probing {
  let beats = 0;
  const isSeedBeat = (): boolean => beats % SEED_EVERY === 0;

  /** The members that are no neighbours, by what they are sent. */
  function rest(): Readonly<Record<'present' | 'leaving' | 'dead', readonly NodeId[]>> {
    const ids = { present: [] as NodeId[], leaving: [] as NodeId[], dead: [] as NodeId[] };
    for (const id of membership.others()) {
      const state = membership.stateOf(id)!;
      if (state === 'leaving' || state === 'dead') ids[state].push(id);
      else if (!membership.neighbours().has(id)) ids.present.push(id);
    }
    return ids;
  }

  return {
    // Longer than a member has to answer before others act for it.
    timeoutPart: 0.5,
    fetchesViews: false,
    targets(late, exchangedAtMs) {
      beats += 1;
      const nowMs = clock.nowMs();
      const { present, leaving, dead } = rest();
      // The next one in turn has perhaps lost all its neighbours.
      const targets = new Set(inTurn(present, 1, beats));
      const missed = late.filter(({ id }) => membership.stateOf(id) !== 'dead');
      if (missed.length > 0) {
        for (const { id } of inTurn(missed, MAX_SILENT, beats * MAX_SILENT)) targets.add(id);
        // The same ones for some beats: at the first, they may not have heard the member either.
        for (const id of inTurn(present, ASKED_BESIDES, Math.floor(beats / SEED_EVERY))) targets.add(id);
      }
      // Missed members are looked for among all neighbours, also those with which other messages were exchanged.
      const isDue = (id: NodeId): boolean => missed.length > 0 || nowMs - (exchangedAtMs(id) ?? -Infinity) >= beatMs;
      for (const id of membership.neighbours()) if (isDue(id)) targets.add(id);
      if (membership.self().state === 'leaving') for (const id of present) if (isDue(id)) targets.add(id);
      for (const id of leaving) targets.delete(id);
      if (isSeedBeat()) for (const id of [...leaving, ...inTurn(dead, MAX_DEAD, beats / SEED_EVERY)]) targets.add(id);
      return [...targets];
    },
    urgent() {
      const doubts = membership.takeNewDoubts();
      const unheard = membership.takeUnheard();
      // A node that does not decide has time, and must not speak before it knows that nobody else has its id.
      if (membership.self().state !== 'active') return [];
      return doubts.length === 0 ? unheard : [...unheard, ...doubts, ...membership.neighbours()];
    },
    async seeds() {
      if (!isSeedBeat()) return [];
      const ids = await discovery.seeds();
      return ids.filter((id) => id !== membership.self().id && membership.stateOf(id) === undefined);
    },
    recordsFor: (agreed, late) => (agreed ? inTurn(late, MAX_SILENT, beats * MAX_SILENT) : membership.records()),
    messageSent: membership.messageSent,
  };
}

/** `count` items, from a place that `turn` gives around the list; all if there are no more. */
function inTurn<T>(items: readonly T[], count: number, turn: number): readonly T[] {
  if (items.length <= count) return items;
  return Array.from({ length: count }, (_, i) => items[(turn + i) % items.length]!);
}

/**
 * This many other members are asked about a member that does not answer, and for the latest view if the registry is
 * away.
 */
const ASKED_ABOUT = 3;

/** With a registry: heartbeats go only to members that do not answer, and to a few others that may have heard them. */
export function createRegistryProbing({
  membership,
  isReachable,
}: {
  membership: RegistryMembership;
  /** Whether the registry answers. */
  isReachable: () => boolean;
}): Probing {
  let turn = 0;

  return {
    // Longer than under gossip: here a slow answer must be heard too.
    timeoutPart: 0.5,
    fetchesViews: true,
    targets(late) {
      if (late.length === 0 && isReachable()) return [];
      const missed = new Set(late.map(({ id }) => id));
      const present = membership.others().filter((id) => !missed.has(id));
      turn += ASKED_ABOUT;
      return [...missed, ...inTurn(present, ASKED_ABOUT, turn)];
    },
    urgent: () => [],
    seeds: () => Promise.resolve([]),
    recordsFor: (_agreed, late) => late,
    messageSent: membership.messageSent,
  };
}
