import type { NodeId } from '../../core/ring.js';
import type { MemberRecord } from '../messages.js';
import type { Clock, Discovery } from '../ports.js';
import type { Membership } from './membership.js';
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
  /** Addresses that are no members, to send heartbeats to at this beat: so two rings find each other. */
  seeds(): Promise<readonly NodeId[]>;
  /** The records that go with a heartbeat to a member. @param agreed whether it last had the same view */
  recordsFor(agreed: boolean, late: readonly MemberRecord[]): readonly MemberRecord[];
  /** Notes that this node sends a message to this member. */
  readonly messageSent: (id: NodeId) => void;
}

/** Dead members and seeds are sent one heartbeat per this many beats. */
const SEED_EVERY = 10;

/** Gossip: at each beat, a heartbeat to every member with which nothing else was exchanged. */
export function createGossipProbing(
  { clock, membership, discovery }: { clock: Clock; membership: Membership; discovery: Discovery },
  { beatMs }: { beatMs: number },
): Probing {
  let beats = 0;
  const isSeedBeat = (): boolean => beats % SEED_EVERY === 0;

  return {
    timeoutPart: 0.3,
    fetchesViews: false,
    targets(late, exchangedAtMs) {
      beats += 1;
      const nowMs = clock.nowMs();
      // If a member is not heard directly, all others are asked about it, whatever else was exchanged with them.
      const missed = late.some(({ id }) => membership.stateOf(id) !== 'dead');
      return membership.others().filter((id) => {
        const state = membership.stateOf(id);
        if (state === 'dead' || state === 'leaving') return isSeedBeat();
        return missed || nowMs - (exchangedAtMs(id) ?? -Infinity) >= beatMs;
      });
    },
    async seeds() {
      if (!isSeedBeat()) return [];
      const ids = await discovery.seeds();
      return ids.filter((id) => id !== membership.self.id && membership.stateOf(id) === undefined);
    },
    recordsFor: (agreed, late) => (agreed ? late : membership.records()),
    messageSent: () => undefined,
  };
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
      const few = Math.min(ASKED_ABOUT, present.length);
      return [...missed, ...Array.from({ length: few }, (_, i) => present[(turn + i) % present.length]!)];
    },
    seeds: () => Promise.resolve([]),
    recordsFor: (_agreed, late) => late,
    messageSent: membership.messageSent,
  };
}
