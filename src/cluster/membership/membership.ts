import { createRing } from '../../core/ring.js';
import type { NodeId, Ring } from '../../core/ring.js';
import { watchConcurrentLeaves } from './concurrent-leaves.js';
import { viewDigest } from './member-summary.js';
import type { DeclaredState, MemberRecord } from '../messages.js';
import type { Clock } from '../ports.js';

/** A member as this node sees it: what it declared, or `suspect` and `dead` when it has been silent. */
export type MemberState = Exclude<DeclaredState, 'left'> | 'suspect' | 'dead';

export interface MembershipOptions {
  readonly self: NodeId;
  readonly version: string;
  /** Where callers reach this node, if it can say. */
  readonly url?: string | undefined;
  /** A member silent for longer is out of the ring. */
  readonly suspectAfterMs: number;
  /** How many successors of a client are asked for on every decision. */
  readonly replicas: number;
  /** Clients that the bucket table holds at most. */
  readonly maxClients: number;
  /** Called when the ring has changed. */
  readonly onRingChange: () => void;
  /** Called when several members begin to leave at once, before the ring changes, and when all have left. */
  readonly onConcurrentLeave: (leaving: boolean) => void;
}

/** Silent for so many times the suspicion time, a member is called dead; and then forgotten. */
const DEAD_AFTER = 10;
const FORGOTTEN_AFTER = 600;
/**
 * Others that are known, dead ones included. Who knows the secret can name as many addresses as it likes: each would be written to
 * until it is forgotten, and a ring of them all takes its time to build.
 */
const MAX_OTHERS = 1_024;

/** Clients whose place on the ring is remembered: about 1 ms to make room for, at each change of the ring. */
export const CACHED_CLIENTS = 16_384;

type Described = Omit<MemberRecord, 'silentMs'>;

interface Known {
  record: Described;
  /** When its beat last advanced, by whatever path that was learnt. */
  heardAtMs: number;
  /** Its beat when it refused a connection: nobody listens there until a later one is heard. */
  refusedAtBeat: number | undefined;
}

const RANK: Readonly<Record<DeclaredState, number>> = { joining: 0, active: 1, leaving: 2, left: 3 };

function isGoing({ state }: Described): boolean {
  return state === 'leaving' || state === 'left';
}

/** Positive when `a` is the later word of the two. */
function compare(a: Described, b: Described): number {
  return a.incarnation - b.incarnation || RANK[a.state] - RANK[b.state] || a.beat - b.beat;
}

/** The members, and the ring of those that are active and alive. Every node judges silence by its own clock. */
export interface Membership {
  /** Whether members are those of a registry, the same for all; else each node tells of itself. */
  readonly ordered: boolean;
  /** Whether a successor decides in the place of an owner that is down. */
  readonly allowsActingOwner: boolean;
  readonly self: MemberRecord;
  readonly ring: Ring;
  /** Counts the rings, from 1; what was found under one ring need not be looked up again. */
  readonly ringVersion: number;
  /** The revision of the registry that the ring is made from. */
  readonly epoch: number | undefined;
  /** Whether this node is in the ring of others, and may not decide all the same. */
  readonly leaseExpired: boolean;
  /** Whether this node has yet to join, or to join again. */
  readonly mustJoin: boolean;
  /** Short hash of the ids, lives and states, equal where two nodes know the same. */
  readonly view: string;
  records(): readonly MemberRecord[];
  /** Those of others that have been silent for longer. */
  silent(forMs: number): readonly MemberRecord[];
  /** Those of some ids, as far as they are known. */
  recordsOf(ids: readonly NodeId[]): readonly MemberRecord[];
  /** The incarnation of each member of the ring, fixed for a ring: one who comes back without having left is a new ring. */
  incarnations(): ReadonlyMap<NodeId, number>;
  /** Everyone else, dead ones included. */
  others(): readonly NodeId[];
  /** The same, with those as active that this node has let into its ring already: for who joins at the same time. */
  routedRecords(): readonly MemberRecord[];
  /**
   * Takes over what is later than what is known. A record of an earlier life of this node begins a later one.
   * @param from the view that the records are all of, or who has let some of them in
   */
  learn(records: readonly MemberRecord[], from?: { readonly view: string } | { readonly host: NodeId }): void;
  /** Whether what this member has decided counts: in strict mode not after it was replaced. */
  isDecider(from: MemberRecord): boolean;
  /** Whether who has this view may know more than this node. */
  isBehind(view: string): boolean;
  /** Notes that a member has just spoken for itself, and with which view. */
  messageReceived(from: MemberRecord, view: string): void;
  /** Lets a joining member into this node's ring. @returns whether it is one that this node knows of */
  admit(record: MemberRecord): boolean;
  /** What this node will say of itself once it declares `state`: for those who are to know first. */
  announce(state: DeclaredState): MemberRecord;
  /** This node's next step of life. */
  declare(state: DeclaredState): void;
  /** Begins the next life of this node. */
  reincarnate(): void;
  beat(): void;
  /** Judges silence anew, and forgets who has long been dead. */
  checkTimeouts(): void;
  /** After this node was away: the others get a full suspicion time to be heard again. */
  resetTimers(): void;
  /** Notes that a message goes to this member. */
  messageSent(id: NodeId): void;
  /** Notes that nobody listened under this id. */
  connectionRefused(id: NodeId): void;
  refusedIds(): readonly NodeId[];
  /** Whether somebody else may decide in its place: it refused connections, or has been silent for half the suspicion time. */
  isDown(id: NodeId): boolean;
  stateOf(id: NodeId): MemberState | undefined;
}

export function createMembership({ clock }: { clock: Clock }, options: MembershipOptions): Membership {
  const { suspectAfterMs, onRingChange } = options;
  let self: MemberRecord = {
    id: options.self,
    incarnation: 1,
    state: 'joining',
    beat: 0,
    version: options.version,
    url: options.url ?? '',
    silentMs: 0,
  };
  /** What this node has said it will be, if that is more than what it is. */
  let announced: MemberRecord | undefined;
  const others = new Map<NodeId, Known>();
  const ringOptions = {
    cachedClients: Math.min(CACHED_CLIENTS, options.maxClients),
    cachedSuccessors: options.replicas,
  };
  let ring = createRing([], ringOptions);
  let lives: ReadonlyMap<NodeId, number> = new Map();
  let ringVersion = 1;
  let view: string | undefined;
  const sayLeavers = watchConcurrentLeaves(options.onConcurrentLeave);

  function silentMs(known: Known): number {
    return clock.nowMs() - known.heardAtMs;
  }

  function stateOfKnown(known: Known): MemberState {
    const { state } = known.record;
    if (state === 'leaving' || state === 'left') return 'leaving';
    if (silentMs(known) > suspectAfterMs * DEAD_AFTER) return 'dead';
    return silentMs(known) > suspectAfterMs ? 'suspect' : state;
  }

  function isForgotten(record: Described, silentForMs: number): boolean {
    return silentForMs > suspectAfterMs * (isGoing(record) ? DEAD_AFTER : FORGOTTEN_AFTER);
  }

  function noteLeavers(): void {
    let leavers = 0;
    for (const known of others.values()) {
      if (known.record.state === 'leaving' && silentMs(known) <= suspectAfterMs / 2) leavers += 1;
    }
    sayLeavers(leavers);
  }

  function rebuild(): void {
    noteLeavers();
    const active: NodeId[] = self.state === 'active' ? [self.id] : [];
    for (const [id, known] of others) if (stateOfKnown(known) === 'active') active.push(id);
    active.sort();
    const incarnationOf = (id: NodeId): number => (id === self.id ? self : others.get(id)!.record).incarnation;
    if (active.length === ring.members.length && active.every((id) => lives.get(id) === incarnationOf(id))) return;
    ring = createRing(active, ringOptions);
    lives = new Map(active.map((id) => [id, incarnationOf(id)]));
    ringVersion += 1;
    onRingChange();
  }

  function recordOf(known: Known): MemberRecord {
    return { ...known.record, silentMs: silentMs(known) };
  }

  /** @returns whether the ring may be another now: one more beat of a member in good standing changes nothing */
  function learnOne({ silentMs: saidSilentMs, ...record }: MemberRecord): boolean {
    if (record.id === self.id) {
      // What this node has announced comes back to it before it declares it.
      if (compare(record, announced ?? self) <= 0) return false;
      self = { ...self, incarnation: record.incarnation + 1, state: 'joining' };
      announced = undefined;
      view = undefined;
      return true;
    }
    const heardAtMs = clock.nowMs() - saidSilentMs;
    const known = others.get(record.id);
    if (known === undefined) {
      if (isForgotten(record, saidSilentMs) || others.size >= MAX_OTHERS) return false;
      others.set(record.id, { record, heardAtMs, refusedAtBeat: undefined });
      view = undefined;
      return true;
    }
    if (compare(record, known.record) <= 0) return false;
    const declares = record.incarnation !== known.record.incarnation || record.state !== known.record.state;
    const returns = silentMs(known) > suspectAfterMs;
    if (declares) {
      view = undefined;
      known.refusedAtBeat = undefined;
    }
    // What was still under way when it refused may say one beat more.
    if (known.refusedAtBeat !== undefined && record.beat > known.refusedAtBeat + 1) known.refusedAtBeat = undefined;
    known.record = record;
    known.heardAtMs = Math.max(known.heardAtMs, heardAtMs);
    return declares || returns;
  }

  const membership: Membership = {
    ordered: false,
    allowsActingOwner: true,
    epoch: undefined,
    leaseExpired: false,
    get mustJoin() {
      return self.state === 'joining';
    },
    get self() {
      return self;
    },
    get ring() {
      return ring;
    },
    get ringVersion() {
      return ringVersion;
    },
    get view() {
      return (view ??= viewDigest([self, ...[...others.values()].map(({ record }) => record)]));
    },
    routedRecords: () => membership.records(),
    isDecider: () => true,
    isBehind: (theirs) => theirs !== membership.view,
    records: () => [self, ...[...others.values()].map(recordOf)],
    silent: (forMs) => [...others.values()].filter((known) => silentMs(known) > forMs).map(recordOf),
    recordsOf: (ids) =>
      ids.flatMap((id) => {
        const known = others.get(id);
        return id === self.id ? [self] : known === undefined ? [] : [recordOf(known)];
      }),
    incarnations: () => lives,
    others: () => [...others.keys()],
    learn(records) {
      let changed = false;
      for (const record of records) changed = learnOne(record) || changed;
      if (changed) rebuild();
    },
    messageReceived(from) {
      const before = others.get(from.id);
      const returns = before !== undefined && silentMs(before) > suspectAfterMs;
      const changed = learnOne(from);
      const known = others.get(from.id);
      if (known !== undefined) known.heardAtMs = clock.nowMs();
      if (changed || returns) rebuild();
    },
    admit(record) {
      membership.learn([record]);
      return true;
    },
    announce(state) {
      announced = { ...self, state, beat: self.beat + 1 };
      return announced;
    },
    declare(state) {
      announced = undefined;
      self = { ...self, state, beat: self.beat + 1 };
      view = undefined;
      rebuild();
    },
    reincarnate() {
      announced = undefined;
      self = { ...self, incarnation: self.incarnation + 1, state: 'joining', beat: 0 };
      view = undefined;
      rebuild();
    },
    beat: () => (self = { ...self, beat: self.beat + 1 }),
    checkTimeouts() {
      for (const [id, known] of others) {
        if (!isForgotten(known.record, silentMs(known))) continue;
        others.delete(id);
        view = undefined;
      }
      rebuild();
    },
    resetTimers() {
      for (const known of others.values()) {
        if (silentMs(known) <= suspectAfterMs * DEAD_AFTER) known.heardAtMs = clock.nowMs();
      }
    },
    messageSent: () => undefined,
    connectionRefused(id) {
      const known = others.get(id);
      if (known !== undefined) known.refusedAtBeat = known.record.beat;
    },
    refusedIds: () => [...others].filter(([, known]) => known.refusedAtBeat !== undefined).map(([id]) => id),
    isDown(id) {
      const known = others.get(id);
      if (known === undefined) return id !== self.id;
      return known.refusedAtBeat !== undefined || silentMs(known) > suspectAfterMs / 2;
    },
    stateOf(id) {
      if (id === self.id) return self.state === 'left' ? 'leaving' : self.state;
      const known = others.get(id);
      return known && stateOfKnown(known);
    },
  };
  return membership;
}
