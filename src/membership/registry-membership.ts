import type { NodeId } from '../limits/ring/ring.js';
import type { DeclaredState, MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/system.js';
import {
  Membership,
  changeRecord,
  type Takeover,
  type KnownMember,
  type MemberState,
  type MembershipOptions,
} from './membership.js';
import type { Registration, RegistryView } from './registry.js';

/**
 * An acting owner decides after this part of the suspicion time. A member that does not answer is sent a heartbeat at
 * 0.2 or 0.3 of it, and the answer must have had time to arrive.
 */
const DOWN_PART = 0.7;

/** State and incarnation as the registry has them, beat as this node last heard it. */
interface RegisteredMember extends KnownMember {
  record: KnownMember['record'] & Registration;
  /** The revision that the member acted on when it was last heard. */
  seenRevision: number;
  /** Whether the member says that it does not decide now, as its lease may have expired. */
  registrationExpired: boolean;
  /** Whether this node has accepted the member before the registry says so. */
  accepted: boolean;
}

/**
 * Members as a registry has them, in the same order on every node. Peers only pass its views on, and the latest one
 * counts. This node measures silence on demand: an idle cluster exchanges nothing, and a member is silent once a
 * message to it stays unanswered.
 */
export class RegistryMembership extends Membership<RegisteredMember> {
  readonly takeover: Takeover;
  private ownEntry: Registration | undefined;
  private registeredAt: number | undefined;
  private isRegistrationExpired = false;
  private registry = '';
  private revision = 0;

  /**
   * @param options.strict no acting owner decides for a silent member, and this node decides only while its lease holds
   * @param options.onDeregistered called when this node finds that its registration is gone
   */
  constructor(
    clock: Clock,
    protected override readonly options: MembershipOptions & {
      readonly strict: boolean;
      readonly onDeregistered: () => void;
    },
  ) {
    super(clock, options);
    this.takeover = options.strict ? 'strict' : 'registry';
  }

  /** While its lease may have expired, this node tells others that it does not decide. */
  override self(): MemberRecord {
    return this.isRegistrationExpired ? changeRecord(this.own, { state: 'left' }) : this.own;
  }

  override registrationExpired(): boolean {
    return this.isRegistrationExpired;
  }

  /** The revision of the view that this node acts on; 0 before the first. */
  epoch(): number {
    return this.revision;
  }

  view(): string {
    return `${this.registry}.${this.revision}`;
  }

  isBehind(theirs: string): boolean {
    return this.revisionOf(theirs) > this.revision;
  }

  /** Whether a view is of another registry than the present one, or later. */
  isNew(view: Pick<RegistryView, 'registry' | 'revision'>): boolean {
    return view.registry !== this.registry || view.revision > this.revision;
  }

  /** Whether the present incarnation of this node is registered. */
  isRegistered(): boolean {
    return this.registeredAt !== undefined;
  }

  /** Whether a member has said that it acts on a view no older than this revision. */
  hasSeen(id: NodeId, revision: number): boolean {
    return (this.known.get(id)?.seenRevision ?? revision) >= revision;
  }

  override routedRecords(): readonly MemberRecord[] {
    const others = [...this.known.values()];
    return [this.ownRecord(), ...others.map((one) => changeRecord(this.recordOf(one), { state: routedState(one) }))];
  }

  isDecider({ id, incarnation }: MemberRecord): boolean {
    if (!this.options.strict) return true;
    const known = this.known.get(id);
    return known?.record.incarnation === incarnation && routedState(known) !== 'joining';
  }

  /** Takes over a view that comes from the registry itself. */
  adopt(next: RegistryView): void {
    this.registry = next.registry;
    this.revision = next.revision;
    this.ownEntry = undefined;
    const present = new Set(next.entries.map(({ id }) => id));
    for (const id of this.known.keys()) if (!present.has(id)) this.known.delete(id);
    for (const entry of next.entries) this.enter(entry);
    const isGone = this.ownIncarnation() !== this.own.incarnation;
    if (this.registeredAt !== undefined && this.revision >= this.registeredAt && isGone) this.deregistered();
    else this.rebuild();
  }

  learn(learnt: readonly MemberRecord[], from?: { readonly view: string } | { readonly host: NodeId }): void {
    if (from !== undefined && 'view' in from) this.adoptFrom(from.view, learnt);
    if (from !== undefined && 'host' in from)
      for (const record of learnt) if (record.state === 'active') this.accept(record);
    for (const { id, incarnation, beat, silentMs } of learnt) {
      const known = this.known.get(id);
      if (known?.record.incarnation === incarnation && beat > known.record.beat)
        this.hear(known, beat, this.clock.nowMs() - silentMs);
    }
  }

  messageReceived(from: MemberRecord, theirs: string, nowMs = this.clock.nowMs()): void {
    const known = this.known.get(from.id);
    if (known?.record.incarnation !== from.incarnation) return;
    this.hear(known, from.beat, nowMs);
    known.unansweredAtMs = undefined;
    known.registrationExpired = from.state === 'left';
    known.seenRevision = this.revisionOf(theirs);
  }

  accept({ id, incarnation }: MemberRecord): boolean {
    const known = this.known.get(id);
    if (known?.record.incarnation !== incarnation || known.record.state === 'leaving') return false;
    known.accepted = known.record.state === 'joining';
    this.rebuild();
    return true;
  }

  announce(state: DeclaredState): MemberRecord {
    return changeRecord(this.own, { state });
  }

  declare(state: DeclaredState): void {
    // A node that has left does not rejoin when its registration is gone.
    if (state === 'left') this.registeredAt = undefined;
    this.own = changeRecord(this.own, { state });
    this.rebuild();
  }

  reincarnate(): void {
    this.beginLife(undefined, this.own.incarnation + 1);
  }

  /** Notes that this node is registered as joining since this revision. */
  registered(incarnation: number, revision: number): void {
    this.beginLife(revision, incarnation);
  }

  private beginLife(registeredAt: number | undefined, incarnation: number): void {
    this.registeredAt = registeredAt;
    this.own = changeRecord(this.own, { incarnation, state: 'joining', beat: 0 });
    this.rebuild();
  }

  /** Notes that this node's registration is gone. */
  deregistered(): void {
    this.registeredAt = undefined;
    this.own = changeRecord(this.own, { state: 'joining' });
    this.rebuild();
    this.options.onDeregistered();
  }

  /** In strict mode: notes that this node's lease may have expired, or holds again. */
  setRegistrationExpired(expired: boolean): void {
    if (expired === this.isRegistrationExpired) return;
    this.isRegistrationExpired = expired;
    // A client that was found to be this node's may not be decided here any more, or may be again.
    this.invalidate();
  }

  protected seenStateOf(known: RegisteredMember): MemberState {
    const state = routedState(known);
    return state === 'active' && this.silentMs(known) > this.options.suspectAfterMs ? 'suspect' : state;
  }

  protected override isInRing(known: RegisteredMember): boolean {
    return routedState(known) === 'active';
  }

  protected isSilent(known: RegisteredMember, nowMs?: number): boolean {
    return known.registrationExpired || this.silentMs(known, nowMs) > this.options.suspectAfterMs * DOWN_PART;
  }

  protected override isHandingOver(known: RegisteredMember): boolean {
    return known.refusedAtBeat === undefined && !this.isSilent(known);
  }

  protected isMissed(known: RegisteredMember, forMs: number): boolean {
    return known.registrationExpired || known.refusedAtBeat !== undefined || this.silentMs(known) > forMs;
  }

  /** As in the registry, so that a node that takes over the list has the same view; incarnation 0 without an entry. */
  protected override ownRecord(): MemberRecord {
    return changeRecord(this.own, this.ownEntry ?? { incarnation: 0, state: 'joining' });
  }

  private ownIncarnation(): number {
    return this.ownEntry?.incarnation ?? -1;
  }

  private silentMs({ unansweredAtMs, heardAtMs }: RegisteredMember, nowMs = this.clock.nowMs()): number {
    return unansweredAtMs === undefined ? 0 : nowMs - Math.max(unansweredAtMs, heardAtMs);
  }

  private hear(known: RegisteredMember, beat: number, heardAtMs: number): void {
    this.noteBeat(known, beat);
    if (beat > known.record.beat) known.record = { ...known.record, beat };
    known.heardAtMs = Math.max(known.heardAtMs, heardAtMs);
  }

  private enter({ id, incarnation, state, version, url }: Registration): void {
    const entry = { id, incarnation, state, version, url };
    if (id === this.own.id) {
      this.ownEntry = entry;
      return;
    }
    const known = this.known.get(id);
    if (known?.record.incarnation === incarnation) {
      known.record = { beat: known.record.beat, ...entry };
      if (state !== 'joining') known.accepted = false;
      return;
    }
    this.known.set(id, {
      record: { beat: 0, ...entry },
      heardAtMs: this.clock.nowMs(),
      unansweredAtMs: undefined,
      refusedAtBeat: undefined,
      actedForIncarnation: undefined,
      seenRevision: 0,
      registrationExpired: false,
      accepted: false,
    });
  }

  /** The revision that a peer acts on; 0 if it follows another registry, or none. */
  private revisionOf(theirs: string): number {
    const dot = theirs.lastIndexOf('.');
    return theirs.slice(0, dot) === this.registry ? Number(theirs.slice(dot + 1)) : 0;
  }

  /** Takes over the complete list of a peer, which is as good as the registry's. */
  private adoptFrom(theirs: string, learnt: readonly MemberRecord[]): void {
    const revision = this.revisionOf(theirs);
    if (!(revision > this.revision)) return;
    const entries = learnt.filter((record): record is MemberRecord & Registration => record.incarnation > 0);
    this.adopt({ registry: this.registry, revision, entries });
  }
}

/** The state for the ring: a member that this node has accepted counts as active. */
function routedState({ record, accepted }: RegisteredMember): Registration['state'] {
  return accepted ? 'active' : record.state;
}
