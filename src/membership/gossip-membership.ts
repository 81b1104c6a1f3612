import { fnv1a } from '../limits/ring/fnv1a.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { DeclaredState, MemberRecord } from '../protocol/messages.js';
import type { Clock } from '../lib/clock.js';
import { changeRecord, createMemberView } from './membership.js';
import { DEAD_AFTER, createDoubts, isGoing } from './doubts.js';
import type { GossipMember } from './doubts.js';
import type { KnownMember, MemberState, Membership, MembershipOptions, RecordChange } from './membership.js';
import { createUnheard } from './unheard.js';

/** A silent member is forgotten after this many suspicion times. */
const FORGOTTEN_AFTER = 600;
/**
 * Bound of the other members, dead ones included. A peer that knows the secret can name any number of addresses. This
 * node writes to each until it forgets it, and a ring of them takes long to build.
 */
const MAX_OTHERS = 1_024;

type Described = KnownMember['record'];

/** Members that tell each other of themselves by heartbeats. */
export interface GossipMembership extends Membership {
  /** The members with which this node exchanges heartbeats. */
  neighbours(): ReadonlySet<NodeId>;
  /** Notes that this node sends a message to this member. */
  readonly messageSent: (id: NodeId) => void;
  /** The members that this node has begun to doubt since the last call. */
  takeNewDoubts(): readonly NodeId[];
  /** Addresses to ask, as others have said something of them since the last call that counts only from themselves. */
  readonly takeUnheard: () => readonly NodeId[];
}

interface GossipMembershipOptions extends MembershipOptions {
  /** About how many members this node exchanges heartbeats with: even, at least 2. Default 8. */
  readonly neighbours?: number | undefined;
}

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
 * Each node exchanges heartbeats with a few neighbours. A node that misses a neighbour says so, and the word spreads.
 * Every node that hears it, or whose own messages stay unanswered, probes the member itself, and suspects it by the
 * silence since then.
 */
export function createGossipMembership(
  { clock }: { clock: Clock },
  options: GossipMembershipOptions,
): GossipMembership {
  const { suspectAfterMs } = options;
  /** The state that this node has told others before it declared it. */
  let announced: MemberRecord | undefined;
  let digest: string | undefined;
  const unheard = createUnheard({ clock }, options);
  const view = createMemberView<GossipMember>({ clock }, options, {
    stateOf,
    isSilent: (known, nowMs) => silentMs(known, nowMs) > suspectAfterMs / 2,
    isHandingOver: (known) => silentMs(known) <= suspectAfterMs / 2,
    isDoubted: (known) => isDoubted(known),
  });
  const { known: others } = view;
  view.self = changeRecord(view.self, { incarnation: 1 });
  const doubts = createDoubts({ clock, self: options.self, others }, options);
  const { silentMs, isDoubted } = doubts;

  function rebuild(): void {
    doubts.chooseNeighbours();
    view.rebuild();
  }

  function stateOf(known: GossipMember): MemberState {
    const { state } = known.record;
    if (state === 'leaving' || state === 'left') return 'leaving';
    if (silentMs(known) > suspectAfterMs * DEAD_AFTER) return 'dead';
    return silentMs(known) > suspectAfterMs ? 'suspect' : state;
  }

  function isForgotten(record: Described, silentForMs: number): boolean {
    return silentForMs > suspectAfterMs * (isGoing(record) ? DEAD_AFTER : FORGOTTEN_AFTER);
  }

  /** Changes this node's own record, of which `announced` says nothing more. */
  function setSelf(change: RecordChange): void {
    announced = undefined;
    view.self = changeRecord(view.self, change);
    digest = undefined;
  }

  /**
   * A member of the ring takes an address for a member only once that has spoken itself. It believes in a new life of a
   * member that it hears only then, too. Otherwise a peer could change the ring all the time with what it makes up. A
   * node that joins takes over the ring of the others.
   */
  function isHearsay({ state }: Described): boolean {
    return view.self.state === 'active' && (state === 'active' || state === 'joining');
  }

  /**
   * What others say of a member that is heard only makes this node ask it: that it has begun a new life, or leaves.
   * @param isOwn whether the member itself has sent the record
   * @returns whether the ring may have changed; one more beat of a member that is up changes nothing
   */
  function learnOne(learnt: MemberRecord, isOwn: boolean): boolean {
    const known = others.get(learnt.id);
    // Nearly every message repeats what this node knows of its sender.
    if (known !== undefined && !learnt.doubted && compare(learnt, known.record) <= 0) return false;
    const { silentMs: saidSilentMs, doubted, ...record } = learnt;
    if (record.id === view.self.id) {
      // Only this node knows its state, and no other process has its id while it is in the ring: what others say of it
      // was made up. While it joins, a later record is of an earlier life. An announced state comes back before this
      // node declares it.
      if (view.self.state !== 'joining' || compare(record, announced ?? view.self) <= 0) return false;
      setSelf({ incarnation: incarnationAfter(record.incarnation), state: 'joining' });
      return true;
    }
    const heardAtMs = clock.nowMs() - saidSilentMs;
    const isMissed = doubted && saidSilentMs > suspectAfterMs;
    if (known === undefined) {
      if (isForgotten(record, isGoing(record) || isMissed ? saidSilentMs : 0) || others.size >= MAX_OTHERS)
        return false;
      if (!isOwn && isHearsay(record)) {
        unheard.name(record.id);
        return false;
      }
      // A member that this node has to learn may be one that it forgot, and whose clients it has decided for since.
      const mayHaveActed = view.self.state === 'active' && record.state !== 'joining';
      const actedForIncarnation = mayHaveActed ? record.incarnation : undefined;
      const learnt: GossipMember = {
        record,
        heardAtMs,
        refusedAtBeat: undefined,
        actedForIncarnation,
        // Others have found it silent for a suspicion time. It does not enter the ring of this node first.
        probedSinceMs: isMissed ? heardAtMs : undefined,
        unansweredAtMs: undefined,
        stateSinceMs: clock.nowMs(),
      };
      others.set(record.id, learnt);
      if (doubted) doubts.begin(learnt);
      digest = undefined;
      return true;
    }
    const isNewLife = record.incarnation !== known.record.incarnation;
    // Once it is down, others decide for it anyway. Then a node that missed its own word believes that it has left.
    const isHeard = isNewLife ? silentMs(known) <= suspectAfterMs : isGoing(record) && !view.shared.isDown(record.id);
    if (!isOwn && isHeard && isHearsay(known.record)) {
      unheard.name(record.id);
      return false;
    }
    const order = compare(record, known.record);
    if (doubted && order >= 0) doubts.begin(known);
    // A node that joins decides nothing. It takes over what others have found, as its ring has to be theirs. So does a
    // node that the member refused: their rings must not differ until its own probes have gone on for long enough.
    const mayTakeOver = view.self.state === 'joining' || known.refusedAtBeat !== undefined;
    if (isMissed && order === 0 && mayTakeOver && silentMs(known) <= suspectAfterMs) {
      known.probedSinceMs = known.heardAtMs = Math.min(known.heardAtMs, heardAtMs);
      return true;
    }
    if (order <= 0) return false;
    const declares = record.incarnation !== known.record.incarnation || record.state !== known.record.state;
    const returns = silentMs(known) > suspectAfterMs;
    if (declares) {
      digest = undefined;
      known.refusedAtBeat = undefined;
      known.stateSinceMs = clock.nowMs();
    }
    view.noteBeat(known, record.beat);
    known.record = record;
    known.heardAtMs = Math.max(known.heardAtMs, heardAtMs);
    doubts.end(known);
    return declares || returns;
  }

  const records = (): readonly MemberRecord[] => [view.self, ...[...others.values()].map(view.recordOf)];

  function learn(learnt: readonly MemberRecord[]): void {
    let changed = false;
    for (const record of learnt) changed = learnOne(record, false) || changed;
    if (changed) rebuild();
  }

  const membership: GossipMembership = {
    allowsActingOwner: true,
    keepsDownMembers: false,
    leaseExpired: () => false,
    epoch: () => undefined,
    mustJoin: () => view.self.state === 'joining',
    self: () => view.self,
    ring: () => view.ring(),
    ringVersion: () => view.ringVersion(),
    neighbours: () => doubts.neighbours(),
    messageSent: doubts.messageSent,
    takeNewDoubts: doubts.takeNew,
    takeUnheard: unheard.take,
    view: () => (digest ??= viewDigest([view.self, ...[...others.values()].map(({ record }) => record)])),
    ...view.shared,
    records,
    routedRecords: records,
    recordsOf: (wanted) => view.recordsOf(wanted, view.self),
    silent: (forMs) => [...others.values()].filter((known) => isDoubted(known, forMs)).map(view.recordOf),
    isDecider: () => true,
    isBehind: (theirs) => theirs !== membership.view(),
    learn,
    messageReceived(from, _view, nowMs = clock.nowMs(), askedAtMs) {
      const before = others.get(from.id);
      const returns = before !== undefined && silentMs(before, nowMs) > suspectAfterMs;
      // A node that leaves with others knows of them before they say it.
      const isRefuted = !isGoing(view.self) && before !== undefined && refutes(from, before, askedAtMs);
      if (isRefuted) {
        before.record = { ...before.record, state: from.state, beat: from.beat };
        digest = undefined;
      }
      const changed = learnOne(from, true) || isRefuted;
      const known = before ?? others.get(from.id);
      if (known !== undefined) {
        known.heardAtMs = nowMs;
        known.unansweredAtMs = undefined;
        doubts.end(known);
      }
      if (changed || returns) rebuild();
    },
    admit(record) {
      if (learnOne(record, true)) rebuild();
      return true;
    },
    announce(state) {
      announced = changeRecord(view.self, { state, beat: view.self.beat + 1 });
      return announced;
    },
    declare(state) {
      setSelf({ state, beat: view.self.beat + 1 });
      rebuild();
    },
    reincarnate() {
      setSelf({ incarnation: incarnationAfter(view.self.incarnation), state: 'joining', beat: 0 });
      rebuild();
    },
    checkTimeouts() {
      let hasGoing = false;
      for (const [id, known] of others) {
        hasGoing ||= isGoing(known.record);
        if (isForgotten(known.record, silentMs(known))) {
          others.delete(id);
          digest = undefined;
        }
      }
      if (doubts.chooseNeighbours() || hasGoing) view.rebuild();
    },
    resetTimers: doubts.resetTimers,
    stateOf(id) {
      const { self } = view;
      if (id === self.id) return self.state === 'left' ? 'leaving' : self.state;
      const known = others.get(id);
      return known && stateOf(known);
    },
  };
  return membership;
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
