import { createRing } from '../limits/ring/rings.js';
import type { NodeId, Placed, Ring } from '../limits/ring/ring.js';
import type { DeclaredState, MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/clock.js';

/** State of a member as this node sees it: the declared one, or `suspect` or `dead` when the member is silent. */
export type MemberState = Exclude<DeclaredState, 'left'> | 'suspect' | 'dead';

export interface MembershipOptions {
  readonly self: NodeId;
  readonly version: string;
  /** Address of the public API, if this node knows it. */
  readonly url?: string | undefined;
  /** A member that is silent for longer leaves the ring. */
  readonly suspectAfterMs: number;
  /** Called after the ring has changed. */
  readonly onRingChange: () => void;
  /**
   * Called with true when several members begin to leave at once, before the ring changes; with false when all have
   * left.
   */
  readonly onConcurrentLeave: (leaving: boolean) => void;
}

/** The members and their ring, for code that decides, replicates and routes. */
export interface Members {
  self(): MemberRecord;
  /** The active members that are alive. */
  ring(): Ring;
  /** Counts the rings from 1. A result that was found under the same version is still valid. */
  ringVersion(): number;
  /** Whether a successor decides for an owner that is down. */
  readonly allowsActingOwner: boolean;
  /** Whether a member that is down stays in the ring, with an acting owner, until its registration ends. */
  readonly keepsDownMembers: boolean;
  /** Whether this node may not decide although it is in the ring of others. */
  leaseExpired(): boolean;
  /** The revision of the registry from which the ring is made; `undefined` without a registry. */
  epoch(): number | undefined;
  /** The incarnation of each member of the ring. A member that returns without having left makes a new ring. */
  incarnations(): ReadonlyMap<NodeId, number>;
  /** All other members, dead ones included. */
  others(): readonly NodeId[];
  /**
   * Whether an acting owner may decide for this member: it refused a connection, or has been silent for too long.
   * @param nowMs the present reading of the clock, if the caller has it
   */
  isDown(id: NodeId, nowMs?: number): boolean;
  /** `undefined` for a node that is no member. */
  stateOf(id: NodeId): MemberState | undefined;
  /** Notes that this node decides for the owner of this key, which is down. */
  noteActing(client: Placed): void;
}

/** The members as gossip or a registry knows them. Each node measures silence by its own clock. */
export interface Membership extends Members {
  /** Whether this node has yet to join, or to rejoin. */
  mustJoin(): boolean;
  /** Names the present list of ids, incarnations and states. Equal on two nodes that know the same. */
  view(): string;
  records(): readonly MemberRecord[];
  /** The records of those of these ids that are known. */
  recordsOf(ids: readonly NodeId[]): readonly MemberRecord[];
  /** All records for a member that joins at the same time: members that this node admitted already count as active. */
  routedRecords(): readonly MemberRecord[];
  /** The records of other members that should have been heard within `forMs` but were not, or that refuse connections. */
  silent(forMs: number): readonly MemberRecord[];
  /** Members that refused a connection and have not been heard since. */
  refusedIds(): readonly NodeId[];
  /**
   * Takes over records that are later than the known ones. A record of an earlier life of this node makes it begin a
   * later one.
   * @param from the view of which the records are the complete list, or the member that admitted those that are active
   */
  learn(records: readonly MemberRecord[], from?: { readonly view: string } | { readonly host: NodeId }): void;
  /** Whether decisions of this member count. In strict mode they do not after it was replaced. */
  isDecider(from: MemberRecord): boolean;
  /**
   * Whether this node may have decided for a member in its present incarnation, or may do so now.
   * @param incarnation of this node, as that member knows it: of what an earlier one did, this node knows nothing
   */
  mayHaveActedFor(from: MemberRecord, incarnation: number): boolean;
  /** Whether a node with this view may know more than this one. */
  isBehind(view: string): boolean;
  /**
   * Notes that a member has just sent a message, with its view.
   * @param nowMs the present reading of the clock, if the caller has it
   * @param askedAtMs when this node sent the member the message that this one answers; `undefined` if it answers none
   */
  messageReceived(from: MemberRecord, view: string, nowMs?: number, askedAtMs?: number): void;
  /** Notes that a connection to this member was refused. */
  connectionRefused(id: NodeId): void;
  /** Adds a joining member to this node's ring. @returns false if this node does not know the member */
  admit(record: MemberRecord): boolean;
  /** The record that this node will have once it declares `state`, for members that must learn it first. */
  announce(state: DeclaredState): MemberRecord;
  /** Puts this node into its next state. */
  declare(state: DeclaredState): void;
  /** Begins the next incarnation of this node, which has to rejoin. */
  reincarnate(): void;
  /** Counts up this node's sign of life. */
  beat(): void;
  /** Updates the ring by the silence of the members, and forgets members that died long ago. */
  checkTimeouts(): void;
  /** After a pause of this node: gives the other members a full suspicion time to be heard again. */
  resetTimers(): void;
}

/** Another member, as this node knows it. */
export interface KnownMember {
  record: Omit<MemberRecord, 'silentMs' | 'doubted'>;
  /** When its beat last advanced, by whatever path this node learnt it. */
  heardAtMs: number;
  /** Its beat when it refused a connection; `undefined` once a later beat shows that it listens again. */
  refusedAtBeat: number | undefined;
  /** Its incarnation when this node last decided for it, or took it out of the ring. */
  actedForIncarnation: number | undefined;
}

/** The rules by which gossip and a registry differ. */
interface MemberRules<K> {
  readonly stateOf: (known: K) => MemberState;
  /** Whether the member has been silent for so long that an acting owner may decide for it. */
  readonly isSilent: (known: K, nowMs?: number) => boolean;
  /** Whether a leaving member may still hand over. */
  readonly isHandingOver: (known: K) => boolean;
  /** Absent if no node tells others of its doubts. */
  readonly isDoubted?: (known: K) => boolean;
}

/** The functions that every membership has in common. */
type SharedFunctions = Pick<
  Membership,
  'incarnations' | 'others' | 'isDown' | 'refusedIds' | 'connectionRefused' | 'beat' | 'noteActing' | 'mayHaveActedFor'
>;

/** The state of every membership: this node, the other members, and the ring of those that are active. */
interface MemberView<K extends KnownMember> extends Pick<Membership, 'ring' | 'ringVersion'> {
  readonly shared: SharedFunctions;
  self: MemberRecord;
  readonly known: Map<NodeId, K>;
  /** Makes the ring anew if its members or their incarnations have changed. */
  readonly rebuild: () => void;
  /** Makes results that were found under the present ring invalid. */
  invalidate(): void;
  readonly recordOf: (known: K) => MemberRecord;
  /** @param own the record of this node, if that is asked for */
  recordsOf(ids: readonly NodeId[], own: MemberRecord): readonly MemberRecord[];
  /** Notes a beat of a member, and whether it listens again. */
  noteBeat(known: K, beat: number): void;
}

type RecordLike = Omit<MemberRecord, 'silentMs' | 'doubted'> & Partial<MemberRecord>;
export type RecordChange = Partial<Omit<MemberRecord, 'id' | 'version' | 'url'>>;

/**
 * Returns a record with some fields changed. Every decision reads the record of this node, and every heartbeat changes
 * it. V8 gives the results of repeated spreads new hidden classes, and then the code that reads them is compiled again.
 */
export function changeRecord(
  { id, incarnation, state, beat, version, url, silentMs = 0, doubted = false }: RecordLike,
  change: RecordChange,
): MemberRecord {
  return {
    id,
    incarnation: change.incarnation ?? incarnation,
    state: change.state ?? state,
    beat: change.beat ?? beat,
    version,
    url,
    silentMs: change.silentMs ?? silentMs,
    doubted: change.doubted ?? doubted,
  };
}

export function createMemberView<K extends KnownMember>(
  { clock }: { clock: Clock },
  options: MembershipOptions,
  rules: MemberRules<K>,
): MemberView<K> {
  const known = new Map<NodeId, K>();
  let ring = createRing([]);
  let incarnations: ReadonlyMap<NodeId, number> = new Map();
  let ringVersion = 1;
  let severalLeave = false;

  /**
   * Two members that leave at once may each count on the other to take their clients, until both have handed over.
   */
  function watchConcurrentLeaves(): void {
    let leaving = 0;
    for (const one of known.values()) if (one.record.state === 'leaving' && rules.isHandingOver(one)) leaving += 1;
    // Once several leave, the last of them still counts: the one before it may have counted on it until now.
    const several = leaving > (severalLeave ? 0 : 1);
    if (several === severalLeave) return;
    severalLeave = several;
    options.onConcurrentLeave(several);
  }

  function noteActingFor(id: NodeId, incarnation: number): void {
    const one = known.get(id);
    if (one !== undefined) one.actedForIncarnation = incarnation;
  }

  const shared: SharedFunctions = {
    incarnations: () => incarnations,
    others: () => [...known.keys()],
    beat: () => void (view.self = changeRecord(view.self, { beat: view.self.beat + 1 })),
    connectionRefused(id) {
      const one = known.get(id);
      if (one !== undefined) one.refusedAtBeat = one.record.beat;
    },
    refusedIds() {
      const ids: NodeId[] = [];
      for (const [id, one] of known) if (one.refusedAtBeat !== undefined) ids.push(id);
      return ids;
    },
    isDown(id, nowMs) {
      const one = known.get(id);
      if (one === undefined) return id !== view.self.id;
      return one.refusedAtBeat !== undefined || rules.isSilent(one, nowMs);
    },
    noteActing(client) {
      const owner = ring.owner(client);
      const incarnation = owner === undefined ? undefined : incarnations.get(owner);
      if (incarnation !== undefined) noteActingFor(owner!, incarnation);
    },
    mayHaveActedFor(from, incarnation) {
      const { self } = view;
      if (self.state !== 'active' || self.incarnation !== incarnation) return true;
      if (incarnations.get(from.id) !== from.incarnation || shared.isDown(from.id)) return true;
      return known.get(from.id)?.actedForIncarnation === from.incarnation;
    },
  };

  const view: MemberView<K> = {
    shared,
    self: {
      id: options.self,
      incarnation: 0,
      state: 'joining',
      beat: 0,
      version: options.version,
      url: options.url ?? '',
      silentMs: 0,
      doubted: false,
    },
    known,
    ring: () => ring,
    ringVersion: () => ringVersion,
    rebuild() {
      watchConcurrentLeaves();
      const active = new Map<NodeId, number>();
      const { id: self, state, incarnation } = view.self;
      if (state === 'active') active.set(self, incarnation);
      for (const [id, one] of known) if (rules.stateOf(one) === 'active') active.set(id, one.record.incarnation);
      if (active.size === ring.members.length && [...active].every(([id, life]) => incarnations.get(id) === life))
        return;
      for (const [id, life] of incarnations) if (active.get(id) !== life) noteActingFor(id, life);
      ring = createRing(active.keys(), ring);
      incarnations = active;
      ringVersion += 1;
      options.onRingChange();
    },
    invalidate: () => void (ringVersion += 1),
    recordOf: (one) =>
      changeRecord(one.record, {
        silentMs: clock.nowMs() - one.heardAtMs,
        doubted: rules.isDoubted?.(one) ?? false,
      }),
    recordsOf: (ids, own) =>
      ids.flatMap((id) => {
        const one = known.get(id);
        return id === own.id ? [own] : one === undefined ? [] : [view.recordOf(one)];
      }),
    noteBeat(one, beat) {
      // A message that was under way when the member refused may carry one beat more.
      if (one.refusedAtBeat !== undefined && beat > one.refusedAtBeat + 1) one.refusedAtBeat = undefined;
    },
  };
  return view;
}
