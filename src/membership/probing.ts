import type { NodeId } from '../limits/ring/ring.js';
import type { MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/system.js';
import type { Discovery } from './discovery.js';
import type { GossipMembership } from './gossip-membership.js';
import type { RegistryMembership } from './registry-membership.js';

/** Decides which members this node sends heartbeats to, and what these say. Gossip and a registry differ here. */
export interface Probing {
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
   * The addresses to send heartbeats to at once: members that this node has begun to suspect, those to tell of it, and
   * those of which this node has only heard.
   */
  urgent(): readonly NodeId[];
  /** Addresses that are no members, to send heartbeats to at this beat: so two rings find each other. */
  seeds(): Promise<readonly NodeId[]>;
  /** The records that go with a heartbeat to a member. @param agreed whether it last had the same view */
  recordsFor(agreed: boolean, late: readonly MemberRecord[]): readonly MemberRecord[];
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
export class GossipProbing implements Probing {
  readonly fetchesViews = false;
  private beats = 0;

  constructor(
    private readonly clock: Clock,
    private readonly membership: GossipMembership,
    private readonly discovery: Discovery,
    private readonly beatMs: number,
  ) {}

  targets(late: readonly MemberRecord[], exchangedAtMs: (id: NodeId) => number | undefined): readonly NodeId[] {
    this.beats += 1;
    const { beats, membership } = this;
    const nowMs = this.clock.nowMs();
    const neighbours = membership.suspicion.neighbours();
    const { present, leaving, dead } = this.rest();
    // The next one in turn has perhaps lost all its neighbours.
    const targets = new Set(inTurn(present, 1, beats));
    const missed = late.filter(({ id }) => membership.stateOf(id) !== 'dead');
    if (missed.length > 0) {
      for (const { id } of inTurn(missed, MAX_SILENT, beats * MAX_SILENT)) targets.add(id);
      // The same ones for some beats: at the first, they may not have heard the member either.
      for (const id of inTurn(present, ASKED_BESIDES, Math.floor(beats / SEED_EVERY))) targets.add(id);
    }
    // Missed members are looked for among all neighbours, also those with which other messages were exchanged.
    const isDue = (id: NodeId): boolean => missed.length > 0 || nowMs - (exchangedAtMs(id) ?? -Infinity) >= this.beatMs;
    for (const id of neighbours) if (isDue(id)) targets.add(id);
    if (membership.self().state === 'leaving') for (const id of present) if (isDue(id)) targets.add(id);
    for (const id of leaving) targets.delete(id);
    if (this.isSeedBeat())
      for (const id of [...leaving, ...inTurn(dead, MAX_DEAD, beats / SEED_EVERY)]) targets.add(id);
    return [...targets];
  }

  urgent(): readonly NodeId[] {
    const suspected = this.membership.suspicion.takeNew();
    const unconfirmed = this.membership.unconfirmed.take();
    // A node that does not decide has time, and must not speak before it knows that nobody else has its id.
    if (this.membership.self().state !== 'active') return [];
    if (suspected.length === 0) return unconfirmed;
    return [...unconfirmed, ...suspected, ...this.membership.suspicion.neighbours()];
  }

  async seeds(): Promise<readonly NodeId[]> {
    if (!this.isSeedBeat()) return [];
    const ids = await this.discovery.seeds();
    return ids.filter((id) => this.membership.stateOf(id) === undefined);
  }

  recordsFor(agreed: boolean, late: readonly MemberRecord[]): readonly MemberRecord[] {
    return agreed ? inTurn(late, MAX_SILENT, this.beats * MAX_SILENT) : this.membership.records();
  }

  private isSeedBeat(): boolean {
    return this.beats % SEED_EVERY === 0;
  }

  /** The members that are no neighbours, by what they are sent. */
  private rest(): Readonly<Record<'present' | 'leaving' | 'dead', readonly NodeId[]>> {
    const { membership } = this;
    const ids = { present: [] as NodeId[], leaving: [] as NodeId[], dead: [] as NodeId[] };
    for (const id of membership.others()) {
      const state = membership.stateOf(id)!;
      if (state === 'leaving' || state === 'dead') ids[state].push(id);
      else if (!membership.suspicion.neighbours().has(id)) ids.present.push(id);
    }
    return ids;
  }
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
export class RegistryProbing implements Probing {
  readonly fetchesViews = true;
  private turn = 0;

  /** @param isReachable whether the registry answers */
  constructor(
    private readonly membership: RegistryMembership,
    private readonly isReachable: () => boolean,
  ) {}

  targets(late: readonly MemberRecord[]): readonly NodeId[] {
    if (late.length === 0 && this.isReachable()) return [];
    const missed = new Set(late.map(({ id }) => id));
    const present = this.membership.others().filter((id) => !missed.has(id));
    this.turn += ASKED_ABOUT;
    return [...missed, ...inTurn(present, ASKED_ABOUT, this.turn)];
  }

  urgent(): readonly NodeId[] {
    return [];
  }

  seeds(): Promise<readonly NodeId[]> {
    return Promise.resolve([]);
  }

  recordsFor(_agreed: boolean, late: readonly MemberRecord[]): readonly MemberRecord[] {
    return late;
  }
}
