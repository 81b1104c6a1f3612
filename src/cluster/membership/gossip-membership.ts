import type { DeclaredState, MemberRecord } from '../messages.js';
import type { Clock } from '../ports.js';
import { createMemberView } from './membership.js';
import type { KnownMember, MemberState, Membership, MembershipOptions } from './membership.js';

/** A member that is silent for this many suspicion times is dead; after the second number, it is forgotten. */
const DEAD_AFTER = 10;
const FORGOTTEN_AFTER = 600;
/**
 * Bound of the other members, dead ones included. A peer that knows the secret can name any number of addresses. This
 * node writes to each until it forgets it, and a ring of them takes long to build.
 */
const MAX_OTHERS = 1_024;

type Described = Omit<MemberRecord, 'silentMs'>;

const RANK: Readonly<Record<DeclaredState, number>> = { joining: 0, active: 1, leaving: 2, left: 3 };

function isGoing({ state }: Described): boolean {
  return state === 'leaving' || state === 'left';
}

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
  const ahead = (a - b) % INCARNATIONS;
  if (Math.abs(ahead) <= INCARNATIONS / 2) return ahead;
  return ahead - Math.sign(ahead) * INCARNATIONS;
}

/** Positive when `a` is later than `b`. */
function compare(a: Described, b: Described): number {
  return compareIncarnations(a.incarnation, b.incarnation) || RANK[a.state] - RANK[b.state] || a.beat - b.beat;
}

/** Members that tell each other of themselves by heartbeats, and suspect each other by silence. */
export function createGossipMembership({ clock }: { clock: Clock }, options: MembershipOptions): Membership {
  const { suspectAfterMs } = options;
  /** The state that this node has told others before it declared it. */
  let announced: MemberRecord | undefined;
  let digest: string | undefined;
  const view = createMemberView<KnownMember>({ clock }, options, {
    stateOf,
    isSilent: (known) => silentMs(known) > suspectAfterMs / 2,
    isHandingOver: (known) => silentMs(known) <= suspectAfterMs / 2,
  });
  const { known: others } = view;
  view.self = { ...view.self, incarnation: 1 };

  function silentMs(known: KnownMember): number {
    return clock.nowMs() - known.heardAtMs;
  }

  function stateOf(known: KnownMember): MemberState {
    const { state } = known.record;
    if (state === 'leaving' || state === 'left') return 'leaving';
    if (silentMs(known) > suspectAfterMs * DEAD_AFTER) return 'dead';
    return silentMs(known) > suspectAfterMs ? 'suspect' : state;
  }

  function isForgotten(record: Described, silentForMs: number): boolean {
    return silentForMs > suspectAfterMs * (isGoing(record) ? DEAD_AFTER : FORGOTTEN_AFTER);
  }

  /** Changes this node's own record, of which `announced` says nothing more. */
  function setSelf(next: Partial<MemberRecord>): void {
    announced = undefined;
    view.self = { ...view.self, ...next };
    digest = undefined;
  }

  /** @returns whether the ring may have changed; one more beat of a member that is up changes nothing */
  function learnOne({ silentMs: saidSilentMs, ...record }: MemberRecord): boolean {
    if (record.id === view.self.id) {
      // An announced state comes back to this node before it declares that state.
      if (compare(record, announced ?? view.self) <= 0) return false;
      setSelf({ incarnation: incarnationAfter(record.incarnation), state: 'joining' });
      return true;
    }
    const heardAtMs = clock.nowMs() - saidSilentMs;
    const known = others.get(record.id);
    if (known === undefined) {
      if (isForgotten(record, saidSilentMs) || others.size >= MAX_OTHERS) return false;
      // A member that this node has to learn may be one that it forgot, and whose clients it has decided for since.
      const mayHaveActed = view.self.state === 'active' && record.state !== 'joining';
      const actedForIncarnation = mayHaveActed ? record.incarnation : undefined;
      others.set(record.id, { record, heardAtMs, refusedAtBeat: undefined, actedForIncarnation });
      digest = undefined;
      return true;
    }
    if (compare(record, known.record) <= 0) return false;
    const declares = record.incarnation !== known.record.incarnation || record.state !== known.record.state;
    const returns = silentMs(known) > suspectAfterMs;
    if (declares) {
      digest = undefined;
      known.refusedAtBeat = undefined;
    }
    view.noteBeat(known, record.beat);
    known.record = record;
    known.heardAtMs = Math.max(known.heardAtMs, heardAtMs);
    return declares || returns;
  }

  const records = (): readonly MemberRecord[] => [view.self, ...[...others.values()].map(view.recordOf)];

  function learn(learnt: readonly MemberRecord[]): void {
    let changed = false;
    for (const record of learnt) changed = learnOne(record) || changed;
    if (changed) view.rebuild();
  }

  const membership: Membership = {
    allowsActingOwner: true,
    keepsDownMembers: false,
    leaseExpired: false,
    epoch: undefined,
    get mustJoin() {
      return view.self.state === 'joining';
    },
    get self() {
      return view.self;
    },
    get ring() {
      return view.ring;
    },
    get ringVersion() {
      return view.ringVersion;
    },
    get view() {
      return (digest ??= viewDigest([view.self, ...[...others.values()].map(({ record }) => record)]));
    },
    ...view.shared,
    records,
    routedRecords: records,
    recordsOf: (wanted) => view.recordsOf(wanted, view.self),
    silent: (forMs) => [...others.values()].filter((known) => silentMs(known) > forMs).map(view.recordOf),
    isDecider: () => true,
    isBehind: (theirs) => theirs !== membership.view,
    learn,
    messageReceived(from) {
      const before = others.get(from.id);
      const returns = before !== undefined && silentMs(before) > suspectAfterMs;
      const changed = learnOne(from);
      const known = others.get(from.id);
      if (known !== undefined) known.heardAtMs = clock.nowMs();
      if (changed || returns) view.rebuild();
    },
    admit(record) {
      learn([record]);
      return true;
    },
    announce(state) {
      announced = { ...view.self, state, beat: view.self.beat + 1 };
      return announced;
    },
    declare(state) {
      setSelf({ state, beat: view.self.beat + 1 });
      view.rebuild();
    },
    reincarnate() {
      setSelf({ incarnation: incarnationAfter(view.self.incarnation), state: 'joining', beat: 0 });
      view.rebuild();
    },
    checkTimeouts() {
      for (const [id, known] of others) {
        if (!isForgotten(known.record, silentMs(known))) continue;
        others.delete(id);
        digest = undefined;
      }
      view.rebuild();
    },
    resetTimers() {
      for (const known of others.values()) {
        if (silentMs(known) <= suspectAfterMs * DEAD_AFTER) known.heardAtMs = clock.nowMs();
      }
    },
    stateOf(id) {
      const { self } = view;
      if (id === self.id) return self.state === 'left' ? 'leaving' : self.state;
      const known = others.get(id);
      return known && stateOf(known);
    },
  };
  return membership;
}

/** FNV-1a over ids, incarnations and states in a fixed order. Beats are left out, as they always differ. */
function viewDigest(records: readonly Described[]): string {
  const text = records
    .map(({ id, incarnation, state }) => `${id} ${incarnation} ${state}`)
    .sort()
    .join('\n');
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16);
}
