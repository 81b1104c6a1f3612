import type { NodeId } from '../limits/ring/ring.js';
import type { MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/clock.js';
import { changeRecord, createMemberView } from './membership.js';
import type { KnownMember, MemberState, Membership, MembershipOptions } from './membership.js';
import type { Registration, RegistryView } from './registry.js';

export interface RegistryMembershipOptions extends MembershipOptions {
  /** No acting owner decides for a silent one, and this node decides only while its lease holds. */
  readonly strict: boolean;
  /** Called when this node finds that its registration is gone. */
  readonly onDeregistered: () => void;
}

/**
 * An acting owner decides after this part of the suspicion time. A member that does not answer is sent a heartbeat at
 * 0.2 or 0.3 of it, and the answer must have had time to arrive.
 */
const DOWN_PART = 0.7;

/** State and incarnation as the registry has them, beat as this node last heard it. */
interface RegisteredMember extends KnownMember {
  record: KnownMember['record'] & Registration;
  /** When this node sent the first message after which it heard nothing. */
  unansweredAtMs: number | undefined;
  /** The revision that the member acted on when it was last heard. */
  seenRevision: number;
  /** Whether the member says that it does not decide now, as its lease may have expired. */
  leaseExpired: boolean;
  /** Whether this node has admitted the member before the registry says so. */
  admitted: boolean;
}

/** Members as a registry has them, in the same order on every node. */
export interface RegistryMembership extends Membership {
  /** The revision of the view that this node acts on; 0 before the first. */
  epoch(): number;
  /** Whether the present incarnation of this node is registered. */
  isRegistered(): boolean;
  /** Whether a member has said that it acts on a view no older than this revision. */
  hasSeen(id: NodeId, revision: number): boolean;
  /** Takes over a view that comes from the registry itself. */
  adopt(view: RegistryView): void;
  /** Whether a view is of another registry than the present one, or later. */
  isNews(view: Pick<RegistryView, 'registry' | 'revision'>): boolean;
  /** Notes that this node is registered as joining since this revision. */
  registered(incarnation: number, revision: number): void;
  /** In strict mode: notes that this node's lease may have expired, or holds again. */
  setLeaseExpired(expired: boolean): void;
  /** Notes that this node's registration is gone. */
  deregistered(): void;
  /** Notes that this node sends a message to this member. */
  readonly messageSent: (id: NodeId) => void;
}

interface RegistryMembershipDeps {
  readonly clock: Clock;
}

/**
 * The registry says who is a member. Peers only pass its views on, and the latest one counts. This node measures
 * silence on demand: an idle cluster exchanges nothing, and a member is silent once a message to it stays unanswered.
 */
export function createRegistryMembership(
  deps: RegistryMembershipDeps,
  options: RegistryMembershipOptions,
): RegistryMembership {
  const { clock } = deps;
  const { suspectAfterMs, strict } = options;
  const view = createMemberView<RegisteredMember>(deps, options, {
    stateOf,
    isSilent,
    isHandingOver: (known) => known.refusedAtBeat === undefined && !isSilent(known),
  });
  const { known: others } = view;
  let own: Registration | undefined;
  let registeredAt: number | undefined;
  let leaseExpired = false;
  let registry = '';
  let epoch = 0;

  function silentMs({ unansweredAtMs, heardAtMs }: RegisteredMember, nowMs = clock.nowMs()): number {
    return unansweredAtMs === undefined ? 0 : nowMs - Math.max(unansweredAtMs, heardAtMs);
  }

  function isSilent(known: RegisteredMember, nowMs?: number): boolean {
    return known.leaseExpired || silentMs(known, nowMs) > suspectAfterMs * DOWN_PART;
  }

  function stateOf({ record, admitted }: RegisteredMember): Registration['state'] {
    return admitted ? 'active' : record.state;
  }

  function noteBeat(known: RegisteredMember, beat: number, heardAtMs: number): void {
    view.noteBeat(known, beat);
    if (beat > known.record.beat) known.record = { ...known.record, beat };
    known.heardAtMs = Math.max(known.heardAtMs, heardAtMs);
  }

  function enter({ id, incarnation, state, version, url }: Registration): void {
    const entry = { id, incarnation, state, version, url };
    if (id === view.self.id) {
      own = entry;
      return;
    }
    const known = others.get(id);
    if (known?.record.incarnation === incarnation) {
      known.record = { beat: known.record.beat, ...entry };
      if (state !== 'joining') known.admitted = false;
      return;
    }
    others.set(id, {
      record: { beat: 0, ...entry },
      heardAtMs: clock.nowMs(),
      unansweredAtMs: undefined,
      refusedAtBeat: undefined,
      actedForIncarnation: undefined,
      seenRevision: 0,
      leaseExpired: false,
      admitted: false,
    });
  }

  function adopt(next: RegistryView): void {
    ({ registry, revision: epoch } = next);
    own = undefined;
    const present = new Set(next.entries.map(({ id }) => id));
    for (const id of others.keys()) if (!present.has(id)) others.delete(id);
    next.entries.forEach(enter);
    const { incarnation } = (own as Registration | undefined) ?? { incarnation: -1 };
    if (registeredAt !== undefined && epoch >= registeredAt && incarnation !== view.self.incarnation) deregistered();
    else view.rebuild();
  }

  function deregistered(): void {
    registeredAt = undefined;
    view.self = changeRecord(view.self, { state: 'joining' });
    view.rebuild();
    options.onDeregistered();
  }

  /** As in the registry, so that a node that takes over the list has the same view; incarnation 0 without an entry. */
  const ownRecord = (): MemberRecord => changeRecord(view.self, own ?? { incarnation: 0, state: 'joining' });
  const records = (): readonly MemberRecord[] => [ownRecord(), ...[...others.values()].map(view.recordOf)];

  function admit({ id, incarnation }: MemberRecord): boolean {
    const known = others.get(id);
    if (known?.record.incarnation !== incarnation || known.record.state === 'leaving') return false;
    known.admitted = known.record.state === 'joining';
    view.rebuild();
    return true;
  }

  /** The revision that a peer acts on; 0 if it follows another registry, or none. */
  function revisionOf(theirs: string): number {
    const dot = theirs.lastIndexOf('.');
    return theirs.slice(0, dot) === registry ? Number(theirs.slice(dot + 1)) : 0;
  }

  /** Takes over the complete list of a peer, which is as good as the registry's. */
  function adoptFrom(theirs: string, learnt: readonly MemberRecord[]): void {
    const revision = revisionOf(theirs);
    if (!(revision > epoch)) return;
    const entries = learnt.filter((record): record is MemberRecord & Registration => record.incarnation > 0);
    adopt({ registry, revision, entries });
  }

  return {
    allowsActingOwner: !strict,
    keepsDownMembers: !strict,
    leaseExpired: () => leaseExpired,
    mustJoin: () => view.self.state === 'joining',
    self: () => (leaseExpired ? changeRecord(view.self, { state: 'left' }) : view.self),
    ring: () => view.ring(),
    ringVersion: () => view.ringVersion(),
    view: () => `${registry}.${epoch}`,
    epoch: () => epoch,
    isRegistered: () => registeredAt !== undefined,
    ...view.shared,
    records,
    recordsOf: (wanted) => view.recordsOf(wanted, ownRecord()),
    routedRecords: () => [
      ownRecord(),
      ...[...others.values()].map((known) => changeRecord(view.recordOf(known), { state: stateOf(known) })),
    ],
    silent: (forMs) =>
      [...others.values()]
        .filter((known) => known.leaseExpired || known.refusedAtBeat !== undefined || silentMs(known) > forMs)
        .map(view.recordOf),
    adopt,
    isDecider({ id, incarnation }) {
      if (!strict) return true;
      const known = others.get(id);
      return known?.record.incarnation === incarnation && stateOf(known) !== 'joining';
    },
    isBehind: (theirs) => revisionOf(theirs) > epoch,
    hasSeen: (id, revision) => (others.get(id)?.seenRevision ?? revision) >= revision,
    isNews: (next) => next.registry !== registry || next.revision > epoch,
    learn(learnt, from) {
      if (from !== undefined && 'view' in from) adoptFrom(from.view, learnt);
      if (from !== undefined && 'host' in from) learnt.filter(({ state }) => state === 'active').forEach(admit);
      for (const { id, incarnation, beat: theirBeat, silentMs: saidSilentMs } of learnt) {
        const known = others.get(id);
        if (known?.record.incarnation === incarnation && theirBeat > known.record.beat)
          noteBeat(known, theirBeat, clock.nowMs() - saidSilentMs);
      }
    },
    messageReceived({ id, incarnation, state, beat: theirBeat }, theirs, nowMs = clock.nowMs()) {
      const known = others.get(id);
      if (known?.record.incarnation !== incarnation) return;
      noteBeat(known, theirBeat, nowMs);
      known.unansweredAtMs = undefined;
      known.leaseExpired = state === 'left';
      known.seenRevision = revisionOf(theirs);
    },
    messageSent(id) {
      const known = others.get(id);
      if (known !== undefined) known.unansweredAtMs ??= clock.nowMs();
    },
    admit,
    announce: (state) => changeRecord(view.self, { state }),
    declare(state) {
      // A node that has left does not rejoin when its registration is gone.
      if (state === 'left') registeredAt = undefined;
      view.self = changeRecord(view.self, { state });
      view.rebuild();
    },
    registered(incarnation, revision) {
      registeredAt = revision;
      view.self = changeRecord(view.self, { incarnation, state: 'joining', beat: 0 });
      view.rebuild();
    },
    reincarnate() {
      registeredAt = undefined;
      view.self = changeRecord(view.self, { incarnation: view.self.incarnation + 1, state: 'joining', beat: 0 });
      view.rebuild();
    },
    deregistered,
    setLeaseExpired(expired) {
      if (expired === leaseExpired) return;
      leaseExpired = expired;
      // A client that was found to be this node's may not be decided here any more, or may be again.
      view.invalidate();
    },
    checkTimeouts: view.rebuild,
    resetTimers() {
      for (const known of others.values()) {
        if (known.unansweredAtMs !== undefined) known.unansweredAtMs = clock.nowMs();
      }
    },
    stateOf(id): MemberState | undefined {
      const { self } = view;
      if (id === self.id) return leaseExpired ? 'suspect' : self.state === 'left' ? 'leaving' : self.state;
      const known = others.get(id);
      if (known === undefined) return undefined;
      const state = stateOf(known);
      return state === 'active' && silentMs(known) > suspectAfterMs ? 'suspect' : state;
    },
  };
}
