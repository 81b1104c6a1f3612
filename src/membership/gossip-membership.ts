import { fnv1a } from '../limits/ring/fnv1a.js';
import type { DeclaredState, MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/system.js';
import {
  Membership,
  changeRecord,
  type KnownMember,
  type MemberState,
  type MembershipOptions,
  type RecordChange,
} from './membership.js';
import { DEAD_AFTER, Suspicion, isGoing, type GossipMember } from './suspicion.js';
import type { NodeId } from '../limits/ring/ring.js';

/** A silent member is forgotten after this many suspicion times. */
const FORGOTTEN_AFTER = 600;
/**
 * Bound of the other members, dead ones included. A peer that knows the secret can name any number of addresses. This
 * node writes to each until it forgets it, and a ring of them takes long to build.
 */
const MAX_OTHERS = 1_024;

type Described = KnownMember['record'];
/** What the node that passes a record on says of its silence. */
type Heard = Pick<MemberRecord, 'silentMs' | 'suspected'>;

const RANK: Readonly<Record<DeclaredState, number>> = { joining: 0, active: 1, leaving: 2, left: 3 };

/**
 * Incarnations are numbers of a circle, from 1 to this one, so that each of them has a later one. Otherwise a member
 * could not return once a peer had named the largest as its own. The wire carries 2^52 at most.
 */
const INCARNATIONS = 2 ** 52 - 1;

function incarnationAfter(incarnation: number): number {
  return (incarnation % INCARNATIONS) + 1;
}

/** Positive when `a` is later than `b`: less than half of the circle ahead of it (RFC 1982). */
function compareIncarnations(a: number, b: number): number {
  if (a === b) return 0;
  const ahead = (a - b) % INCARNATIONS;
  if (Math.abs(ahead) <= INCARNATIONS / 2) return ahead;
  return ahead - Math.sign(ahead) * INCARNATIONS;
}

/** Positive when `a` is later than `b`. */
function compare(a: Described, b: Described): number {
  return compareIncarnations(a.incarnation, b.incarnation) || RANK[a.state] - RANK[b.state] || a.beat - b.beat;
}

/**
 * Members that tell each other of themselves by heartbeats. Each node exchanges heartbeats with a few neighbours. A node
 * that misses a neighbour says so, and the word spreads. Every node that hears it, or whose own messages stay
 * unanswered, probes the member itself, and suspects it by the silence since then.
 */
export class GossipMembership extends Membership<GossipMember> {
  readonly takeover = 'gossip';
  readonly suspicion: Suspicion;
  readonly unconfirmed: UnconfirmedMembers;
  /** The state that this node has told others before it declared it. */
  private announced: MemberRecord | undefined;
  private digest: string | undefined;

  /** @param options.neighbours about how many members this node exchanges heartbeats with: even, at least 2. Default 8 */
  constructor(clock: Clock, options: MembershipOptions & { readonly neighbours?: number | undefined }) {
    super(clock, options);
    const { self, suspectAfterMs, neighbours } = options;
    this.own = changeRecord(this.own, { incarnation: 1 });
    this.unconfirmed = new UnconfirmedMembers(clock, suspectAfterMs);
    this.suspicion = new Suspicion({ clock, self, others: this.known, suspectAfterMs, neighbours });
  }

  epoch(): undefined {
    return undefined;
  }

  view(): string {
    return (this.digest ??= viewDigest([this.own, ...[...this.known.values()].map(({ record }) => record)]));
  }

  isDecider(): boolean {
    return true;
  }

  isBehind(theirs: string): boolean {
    return theirs !== this.view();
  }

  learn(learnt: readonly MemberRecord[]): void {
    let changed = false;
    for (const record of learnt) changed = this.learnOne(record, false) || changed;
    if (changed) this.rebuild();
  }

  messageReceived(from: MemberRecord, _view: string, nowMs = this.clock.nowMs(), askedAtMs?: number): void {
    const before = this.known.get(from.id);
    const returns = before !== undefined && this.isOut(before, nowMs);
    // A node that leaves with others knows of them before they say it.
    const isRefuted = !isGoing(this.own) && before !== undefined && refutes(from, before, askedAtMs);
    if (isRefuted) {
      before.record = { ...before.record, state: from.state, beat: from.beat };
      this.digest = undefined;
    }
    const changed = this.learnOne(from, true) || isRefuted;
    const known = before ?? this.known.get(from.id);
    if (known !== undefined) {
      known.heardAtMs = nowMs;
      known.unansweredAtMs = undefined;
      this.suspicion.end(known);
    }
    if (changed || returns) this.rebuild();
  }

  accept(record: MemberRecord): boolean {
    if (this.learnOne(record, true)) this.rebuild();
    return true;
  }

  announce(state: DeclaredState): MemberRecord {
    this.announced = changeRecord(this.own, { state, beat: this.own.beat + 1 });
    return this.announced;
  }

  declare(state: DeclaredState): void {
    this.setOwn({ state, beat: this.own.beat + 1 });
    this.rebuild();
  }

  reincarnate(): void {
    this.setOwn({ incarnation: incarnationAfter(this.own.incarnation), state: 'joining', beat: 0 });
    this.rebuild();
  }

  override checkTimeouts(): void {
    let hasGoing = false;
    for (const [id, known] of this.known) {
      hasGoing ||= isGoing(known.record);
      if (!this.isForgotten(known.record, this.suspicion.silentMs(known))) continue;
      this.known.delete(id);
      this.digest = undefined;
    }
    if (this.suspicion.chooseNeighbours() || hasGoing) super.rebuild();
  }

  override resetTimers(): void {
    const nowMs = this.clock.nowMs();
    for (const known of this.known.values()) {
      if (this.suspicion.silentMs(known) > this.options.suspectAfterMs * DEAD_AFTER) continue;
      if (isGoing(known.record)) known.heardAtMs = nowMs;
      if (known.probedSinceMs !== undefined) known.probedSinceMs = nowMs;
      if (known.unansweredAtMs !== undefined) known.unansweredAtMs = nowMs;
    }
  }

  protected override rebuild(): void {
    this.suspicion.chooseNeighbours();
    super.rebuild();
  }

  protected seenStateOf(known: GossipMember): MemberState {
    const { state } = known.record;
    if (state === 'leaving' || state === 'left') return 'leaving';
    const silentMs = this.suspicion.silentMs(known);
    if (silentMs > this.options.suspectAfterMs * DEAD_AFTER) return 'dead';
    return silentMs > this.options.suspectAfterMs ? 'suspect' : state;
  }

  protected isSilent(known: GossipMember, nowMs?: number): boolean {
    return this.suspicion.silentMs(known, nowMs) > this.options.suspectAfterMs / 2;
  }

  /** Whether the member has been silent for so long that it is out of the ring. */
  private isOut(known: GossipMember, nowMs?: number): boolean {
    return this.suspicion.silentMs(known, nowMs) > this.options.suspectAfterMs;
  }

  protected isMissed(known: GossipMember, forMs: number): boolean {
    return this.suspicion.isSuspected(known, forMs);
  }

  protected override recordOf(known: GossipMember): MemberRecord {
    return super.recordOf(known, this.suspicion.isSuspected(known));
  }

  private isForgotten(record: Described, silentForMs: number): boolean {
    return silentForMs > this.options.suspectAfterMs * (isGoing(record) ? DEAD_AFTER : FORGOTTEN_AFTER);
  }

  /** Changes this node's own record, of which `announced` says nothing more. */
  private setOwn(change: RecordChange): void {
    this.announced = undefined;
    this.own = changeRecord(this.own, change);
    this.digest = undefined;
  }

  /**
   * A member of the ring takes an address for a member only once that has spoken itself. It believes in a new life of a
   * member that it hears only then, too. Otherwise a peer could change the ring all the time with what it makes up. A
   * node that joins takes over the ring of the others.
   */
  private isHearsay({ state }: Described): boolean {
    return this.own.state === 'active' && (state === 'active' || state === 'joining');
  }

  /**
   * @param isOwn whether the member itself has sent the record
   * @returns whether the ring may have changed; one more beat of a member that is up changes nothing
   */
  private learnOne(learnt: MemberRecord, isOwn: boolean): boolean {
    const known = this.known.get(learnt.id);
    // Nearly every message repeats what this node knows of its sender.
    if (known !== undefined && !learnt.suspected && compare(learnt, known.record) <= 0) return false;
    const { silentMs, suspected, ...record } = learnt;
    if (record.id === this.own.id) return this.learnOfSelf(record);
    if (known === undefined) return this.learnNew(record, { silentMs, suspected }, isOwn);
    return this.learnLater(known, record, { silentMs, suspected }, isOwn);
  }

  /**
   * Only this node knows its state, and no other process has its id while it is in the ring: what others say of it was
   * made up. While it joins, a later record is of an earlier life. An announced state comes back before this node
   * declares it.
   */
  private learnOfSelf(record: Described): boolean {
    if (this.own.state !== 'joining' || compare(record, this.announced ?? this.own) <= 0) return false;
    this.setOwn({ incarnation: incarnationAfter(record.incarnation), state: 'joining' });
    return true;
  }

  private learnNew(record: Described, { silentMs, suspected }: Heard, isOwn: boolean): boolean {
    const nowMs = this.clock.nowMs();
    const isMissed = suspected && silentMs > this.options.suspectAfterMs;
    if (this.isForgotten(record, isGoing(record) || isMissed ? silentMs : 0) || this.known.size >= MAX_OTHERS)
      return false;
    if (!isOwn && this.isHearsay(record)) {
      this.unconfirmed.name(record.id);
      return false;
    }
    // A member that this node has to learn may be one that it forgot, and whose clients it has decided for since.
    const mayHaveActed = this.own.state === 'active' && record.state !== 'joining';
    const known: GossipMember = {
      record,
      heardAtMs: nowMs - silentMs,
      refusedAtBeat: undefined,
      actedForIncarnation: mayHaveActed ? record.incarnation : undefined,
      // Others have found it silent for a suspicion time. It does not enter the ring of this node first.
      probedSinceMs: isMissed ? nowMs - silentMs : undefined,
      unansweredAtMs: undefined,
      stateSinceMs: nowMs,
    };
    this.known.set(record.id, known);
    if (suspected) this.suspicion.begin(known);
    this.digest = undefined;
    return true;
  }

  /** What others say of a member that is heard only makes this node ask it: that it has begun a new life, or leaves. */
  private learnLater(known: GossipMember, record: Described, { silentMs, suspected }: Heard, isOwn: boolean): boolean {
    const nowMs = this.clock.nowMs();
    const isNewLife = record.incarnation !== known.record.incarnation;
    // Once it is down, others decide for it anyway. Then a node that missed its own word believes that it has left.
    const isHeard = isNewLife ? !this.isOut(known) : isGoing(record) && !this.isDown(record.id);
    if (!isOwn && isHeard && this.isHearsay(known.record)) {
      this.unconfirmed.name(record.id);
      return false;
    }
    const order = compare(record, known.record);
    if (suspected && order >= 0) this.suspicion.begin(known);
    // A node that joins decides nothing. It takes over what others have found, as its ring has to be theirs. So does a
    // node that the member refused: their rings must not differ until its own probes have gone on for long enough.
    const mayTakeOver = this.own.state === 'joining' || known.refusedAtBeat !== undefined;
    const isMissed = suspected && silentMs > this.options.suspectAfterMs;
    if (isMissed && order === 0 && mayTakeOver && !this.isOut(known)) {
      known.probedSinceMs = known.heardAtMs = Math.min(known.heardAtMs, nowMs - silentMs);
      return true;
    }
    if (order <= 0) return false;
    const declares = isNewLife || record.state !== known.record.state;
    const returns = this.isOut(known);
    if (declares) {
      this.digest = undefined;
      known.refusedAtBeat = undefined;
      known.stateSinceMs = nowMs;
    }
    this.noteBeat(known, record.beat);
    known.record = record;
    known.heardAtMs = Math.max(known.heardAtMs, nowMs - silentMs);
    this.suspicion.end(known);
    return declares || returns;
  }
}

/**
 * Whether a member that this node knows as leaving has answered as active after it was asked. So it had not left then,
 * and the record of its leave was made up, or is of an earlier process.
 */
function refutes(answerer: MemberRecord, known: GossipMember, askedAtMs = -Infinity): boolean {
  const isSameLife = answerer.incarnation === known.record.incarnation;
  return isGoing(known.record) && answerer.state === 'active' && isSameLife && askedAtMs > known.stateSinceMs;
}

/** Hashes ids, incarnations and states in a fixed order. Beats are left out, as they always differ. */
function viewDigest(records: readonly Described[]): string {
  const text = records
    .map(({ id, incarnation, state }) => `${id} ${incarnation} ${state}`)
    .sort()
    .join('\n');
  return (fnv1a(text) >>> 0).toString(16);
}

/** Bound of the addresses that are asked at a time. Others name the rest again. */
const MAX_ASKED = 64;
/** An address that was asked is asked again after this part of the suspicion time, if it is still named. */
const ASKED_AGAIN_PART = 0.2;

/** Addresses of which others say something that counts only from themselves: that members are there, or leave. */
class UnconfirmedMembers {
  private readonly askedAtMs = new Map<NodeId, number>();
  private readonly toAsk: NodeId[] = [];

  constructor(
    private readonly clock: Clock,
    private readonly suspectAfterMs: number,
  ) {}

  /** Notes that an address was named. */
  name(id: NodeId): void {
    const nowMs = this.clock.nowMs();
    for (const [asked, atMs] of this.askedAtMs)
      if (nowMs - atMs > this.suspectAfterMs * ASKED_AGAIN_PART) this.askedAtMs.delete(asked);
    if (this.askedAtMs.has(id) || this.askedAtMs.size >= MAX_ASKED) return;
    this.askedAtMs.set(id, nowMs);
    this.toAsk.push(id);
  }

  /** Returns the addresses to ask now. */
  take(): readonly NodeId[] {
    return this.toAsk.splice(0);
  }
}
