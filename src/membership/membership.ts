import { createRing } from '../limits/ring/rings.js';
import type { NodeId, Placed, Ring } from '../limits/ring/ring.js';
import type { DeclaredState, MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/system.js';

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

/** Another member, as this node knows it. */
export interface KnownMember {
  record: Omit<MemberRecord, 'silentMs' | 'suspected'>;
  /** When its beat last advanced, by whatever path this node learnt it. */
  heardAtMs: number;
  /** When this node sent the first message after which it heard nothing from the member. */
  unansweredAtMs: number | undefined;
  /** Its beat when it refused a connection; `undefined` once a later beat shows that it listens again. */
  refusedAtBeat: number | undefined;
  /** Its incarnation when this node last decided for it, or took it out of the ring. */
  actedForIncarnation: number | undefined;
}

/** How the clients of an owner that is down are decided. */
export type Takeover =
  /** A successor acts for it at once, until gossip takes it out of the ring. */
  | 'gossip'
  /** A successor acts for it at once, until its registration ends. It stays in the ring so long. */
  | 'registry'
  /** No node decides until its registration has ended. Then the next owner does. */
  | 'strict';

/**
 * The members, and the ring of those that are active. Gossip and a registry differ in how this node knows them. Each
 * node measures silence by its own clock.
 */
export abstract class Membership<K extends KnownMember = KnownMember> {
  abstract readonly takeover: Takeover;
  protected own: MemberRecord;
  protected readonly known = new Map<NodeId, K>();
  private activeRing = createRing([]);
  private activeIncarnations: ReadonlyMap<NodeId, number> = new Map();
  private version = 1;
  private severalLeave = false;

  constructor(
    protected readonly clock: Clock,
    protected readonly options: MembershipOptions,
  ) {
    const { self: id, version, url = '' } = options;
    this.own = { id, incarnation: 0, state: 'joining', beat: 0, version, url, silentMs: 0, suspected: false };
  }

  self(): MemberRecord {
    return this.own;
  }

  /** The active members that are alive. */
  ring(): Ring {
    return this.activeRing;
  }

  /** Counts the rings from 1. A result that was found under the same version is still valid. */
  ringVersion(): number {
    return this.version;
  }

  /** The incarnation of each member of the ring. A member that returns without having left makes a new ring. */
  incarnations(): ReadonlyMap<NodeId, number> {
    return this.activeIncarnations;
  }

  /** Whether this node may not decide although it is in the ring of others. */
  registrationExpired(): boolean {
    return false;
  }

  /** The revision of the registry from which the ring is made; `undefined` without a registry. */
  abstract epoch(): number | undefined;

  /** Whether this node has yet to join, or to rejoin. */
  mustJoin(): boolean {
    return this.own.state === 'joining';
  }

  /** All other members, dead ones included. */
  others(): readonly NodeId[] {
    return [...this.known.keys()];
  }

  /** `undefined` for a node that is no member. */
  stateOf(id: NodeId): MemberState | undefined {
    if (id === this.own.id)
      return this.registrationExpired() ? 'suspect' : this.own.state === 'left' ? 'leaving' : this.own.state;
    const known = this.known.get(id);
    return known && this.seenStateOf(known);
  }

  protected abstract seenStateOf(known: K): MemberState;

  /**
   * Whether an acting owner may decide for this member: it refused a connection, or has been silent for too long.
   * @param nowMs the present reading of the clock, if the caller has it
   */
  isDown(id: NodeId, nowMs?: number): boolean {
    const known = this.known.get(id);
    if (known === undefined) return id !== this.own.id;
    return known.refusedAtBeat !== undefined || this.isSilent(known, nowMs);
  }

  /** Whether the member has been silent for so long that an acting owner may decide for it. */
  protected abstract isSilent(known: K, nowMs?: number): boolean;

  /** Whether a leaving member may still hand over. */
  protected isHandingOver(known: K): boolean {
    return !this.isSilent(known);
  }

  /** Whether the ring has this member. */
  protected isInRing(known: K): boolean {
    return this.seenStateOf(known) === 'active';
  }

  /** Names the present list of ids, incarnations and states. Equal on two nodes that know the same. */
  abstract view(): string;

  /** Whether a node with this view may know more than this one. */
  abstract isBehind(view: string): boolean;

  records(): readonly MemberRecord[] {
    return [this.ownRecord(), ...[...this.known.values()].map((known) => this.recordOf(known))];
  }

  /** The records of those of these ids that are known. */
  recordsOf(ids: readonly NodeId[]): readonly MemberRecord[] {
    return ids.flatMap((id) => {
      const known = this.known.get(id);
      return id === this.own.id ? [this.ownRecord()] : known === undefined ? [] : [this.recordOf(known)];
    });
  }

  /** All records for a member that joins at the same time: members that this node accepted already count as active. */
  routedRecords(): readonly MemberRecord[] {
    return this.records();
  }

  /** The records of other members that should have been heard within `forMs` but were not, or that refuse connections. */
  silent(forMs: number): readonly MemberRecord[] {
    const missed: MemberRecord[] = [];
    for (const known of this.known.values()) if (this.isMissed(known, forMs)) missed.push(this.recordOf(known));
    return missed;
  }

  protected abstract isMissed(known: K, forMs: number): boolean;

  /** The record of this node as others are to know it. */
  protected ownRecord(): MemberRecord {
    return this.own;
  }

  protected recordOf(known: K, suspected = false): MemberRecord {
    return changeRecord(known.record, { silentMs: this.clock.nowMs() - known.heardAtMs, suspected });
  }

  /** Members that refused a connection and have not been heard since. */
  refusedIds(): readonly NodeId[] {
    return this.others().filter((id) => this.known.get(id)!.refusedAtBeat !== undefined);
  }

  /** Notes that a connection to this member was refused. */
  connectionRefused(id: NodeId): void {
    const known = this.known.get(id);
    if (known !== undefined) known.refusedAtBeat = known.record.beat;
  }

  /** Notes that this node sends a message to this member. */
  messageSent(id: NodeId): void {
    const known = this.known.get(id);
    if (known !== undefined) known.unansweredAtMs ??= this.clock.nowMs();
  }

  /**
   * Notes that a member has just sent a message, with its view.
   * @param nowMs the present reading of the clock, if the caller has it
   * @param askedAtMs when this node sent the member the message that this one answers; `undefined` if it answers none
   */
  abstract messageReceived(from: MemberRecord, view: string, nowMs?: number, askedAtMs?: number): void;

  /**
   * Takes over records that are later than the known ones. A record of an earlier life of this node makes it begin a
   * later one.
   * @param from the view of which the records are the complete list, or the member that accepted those that are active
   */
  abstract learn(records: readonly MemberRecord[], from?: { readonly view: string } | { readonly host: NodeId }): void;

  /** Adds a joining member to this node's ring. @returns false if this node does not know the member */
  abstract accept(record: MemberRecord): boolean;

  /** Whether decisions of this member count. In strict mode they do not after it was replaced. */
  abstract isDecider(from: MemberRecord): boolean;

  /** Notes that this node decides for the owner of this key, which is down. */
  noteActing(client: Placed): void {
    const owner = this.activeRing.owner(client);
    const incarnation = owner === undefined ? undefined : this.activeIncarnations.get(owner);
    if (incarnation !== undefined) this.noteActingFor(owner!, incarnation);
  }

  private noteActingFor(id: NodeId, incarnation: number): void {
    const known = this.known.get(id);
    if (known !== undefined) known.actedForIncarnation = incarnation;
  }

  /**
   * Whether this node may have decided for a member in its present incarnation, or may do so now.
   * @param incarnation of this node, as that member knows it: of what an earlier one did, this node knows nothing
   */
  mayHaveActedFor(from: MemberRecord, incarnation: number): boolean {
    if (this.own.state !== 'active' || this.own.incarnation !== incarnation) return true;
    if (this.activeIncarnations.get(from.id) !== from.incarnation || this.isDown(from.id)) return true;
    return this.known.get(from.id)?.actedForIncarnation === from.incarnation;
  }

  /** The record that this node will have once it declares `state`, for members that must learn it first. */
  abstract announce(state: DeclaredState): MemberRecord;
  /** Puts this node into its next state. */
  abstract declare(state: DeclaredState): void;
  /** Begins the next incarnation of this node, which has to rejoin. */
  abstract reincarnate(): void;

  /** Counts up this node's sign of life. */
  beat(): void {
    this.own = changeRecord(this.own, { beat: this.own.beat + 1 });
  }

  /** Updates the ring by the silence of the members, and forgets members that died long ago. */
  checkTimeouts(): void {
    this.rebuild();
  }

  /** After a pause of this node: gives the other members a full suspicion time to be heard again. */
  resetTimers(): void {
    const nowMs = this.clock.nowMs();
    for (const known of this.known.values()) if (known.unansweredAtMs !== undefined) known.unansweredAtMs = nowMs;
  }

  /** Makes the ring anew if its members or their incarnations have changed. */
  protected rebuild(): void {
    this.watchConcurrentLeaves();
    const active = new Map<NodeId, number>();
    if (this.own.state === 'active') active.set(this.own.id, this.own.incarnation);
    for (const [id, known] of this.known) if (this.isInRing(known)) active.set(id, known.record.incarnation);
    const former = this.activeIncarnations;
    if (active.size === former.size && [...active].every(([id, life]) => former.get(id) === life)) return;
    for (const [id, life] of former) if (active.get(id) !== life) this.noteActingFor(id, life);
    this.activeRing = createRing(active.keys(), this.activeRing);
    this.activeIncarnations = active;
    this.version += 1;
    this.options.onRingChange();
  }

  /** Makes results that were found under the present ring invalid. */
  protected invalidate(): void {
    this.version += 1;
  }

  /**
   * Two members that leave at once may each count on the other to take their clients, until both have handed over.
   */
  private watchConcurrentLeaves(): void {
    let leaving = 0;
    for (const known of this.known.values())
      if (known.record.state === 'leaving' && this.isHandingOver(known)) leaving += 1;
    // Once several leave, the last of them still counts: the one before it may have counted on it until now.
    const several = leaving > (this.severalLeave ? 0 : 1);
    if (several === this.severalLeave) return;
    this.severalLeave = several;
    this.options.onConcurrentLeave(several);
  }

  /** Notes a beat of a member, and whether it listens again. */
  protected noteBeat(known: K, beat: number): void {
    // A message that was under way when the member refused may carry one beat more.
    if (known.refusedAtBeat !== undefined && beat > known.refusedAtBeat + 1) known.refusedAtBeat = undefined;
  }
}

type RecordLike = Omit<MemberRecord, 'silentMs' | 'suspected'> & Partial<MemberRecord>;
export type RecordChange = Partial<Omit<MemberRecord, 'id' | 'version' | 'url'>>;

/**
 * Returns a record with some fields changed. Every decision reads the record of this node, and every heartbeat changes
 * it. V8 gives the results of repeated spreads new hidden classes, and then the code that reads them is compiled again.
 */
export function changeRecord(
  { id, incarnation, state, beat, version, url, silentMs = 0, suspected = false }: RecordLike,
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
    suspected: change.suspected ?? suspected,
  };
}
