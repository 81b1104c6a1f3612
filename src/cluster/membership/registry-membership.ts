import { createRing } from '../../core/ring.js';
import type { NodeId } from '../../core/ring.js';
import { watchConcurrentLeaves } from './concurrent-leaves.js';
import { CACHED_CLIENTS } from './membership.js';
import type { MemberState, Membership, MembershipOptions } from './membership.js';
import type { MemberRecord } from '../messages.js';
import type { Clock } from '../ports.js';
import type { Registration, RegistryView } from './registry.js';

export interface RegistryMembershipOptions extends MembershipOptions {
  /** Nobody stands in for a silent owner, and this node decides only while its lease holds. */
  readonly strict: boolean;
  /** Called when this node finds that it is not written down any more. */
  readonly onDeregistered: () => void;
}

/**
 * A member that does not answer is asked by a heartbeat at 0.2 or 0.3 of the suspicion time, which must have had time to come back
 * before somebody decides in its place.
 */
const DOWN_PART = 0.7;

interface Known {
  /** State and life as the registry has them, beat as it was last heard. */
  record: Omit<MemberRecord, 'silentMs'> & Registration;
  /** When it was last heard, by whatever path. */
  heardAtMs: number;
  /** When the first message went to it that nothing was heard after. */
  unansweredAtMs: number | undefined;
  refusedAtBeat: number | undefined;
  /** The revision that it acted on when it was last heard. */
  seenRevision: number;
  /** It says itself that it does not decide now: its lease may have ended. */
  idle: boolean;
  /** This node has let it into its ring already, which the registry does not say yet. */
  admitted: boolean;
}

/** Members as a registry has them, in the same order for every node. */
export interface RegistryMembership extends Membership {
  /** The revision of the view that this node acts on; 0 before the first. */
  readonly epoch: number;
  /** Whether this node is written down with its present life. */
  readonly isRegistered: boolean;
  /** Whether a member has said that it acts on a view no older than this revision. */
  hasSeen(id: NodeId, revision: number): boolean;
  /** Takes over a view that comes from the registry itself. */
  adopt(view: RegistryView): void;
  /** Whether a view would be news: of another registry, or later. */
  isNews(view: Pick<RegistryView, 'registry' | 'revision'>): boolean;
  /** This node is written down as joining, with this life, since this revision. */
  registered(incarnation: number, revision: number): void;
  /** In strict mode: this node's lease may have ended, or holds again. */
  setLeaseExpired(lapsed: boolean): void;
  /** What was written under this node's lease is gone. */
  deregistered(): void;
}

/**
 * Who is a member is what the registry says; peers only pass its views on, the latest stands. Silence is judged on demand: an
 * idle cluster exchanges nothing, and a member is missed once a message to it has gone unanswered.
 */
export function createRegistryMembership(
  { clock }: { clock: Clock },
  options: RegistryMembershipOptions,
): RegistryMembership {
  const { suspectAfterMs, strict } = options;
  const ringOptions = {
    cachedClients: Math.min(CACHED_CLIENTS, options.maxClients),
    cachedSuccessors: options.replicas,
  };
  const others = new Map<NodeId, Known>();
  let self: MemberRecord = {
    id: options.self,
    incarnation: 0,
    state: 'joining',
    beat: 0,
    version: options.version,
    url: options.url ?? '',
    silentMs: 0,
  };
  let own: Registration | undefined;
  let registeredAt: number | undefined;
  let lapsed = false;
  let registry = '';
  let epoch = 0;
  let ring = createRing([], ringOptions);
  let lives: ReadonlyMap<NodeId, number> = new Map();
  let ringVersion = 1;
  const sayLeavers = watchConcurrentLeaves(options.onConcurrentLeave);

  const silenceMs = ({ unansweredAtMs, heardAtMs }: Known): number =>
    unansweredAtMs === undefined ? 0 : clock.nowMs() - Math.max(unansweredAtMs, heardAtMs);

  const isDown = (known: Known): boolean =>
    known.idle || known.refusedAtBeat !== undefined || silenceMs(known) > suspectAfterMs * DOWN_PART;

  const stateOf = ({ record, admitted }: Known): Registration['state'] => (admitted ? 'active' : record.state);

  function noteLeavers(): void {
    let leavers = 0;
    for (const known of others.values()) if (known.record.state === 'leaving' && !isDown(known)) leavers += 1;
    sayLeavers(leavers);
  }

  function rebuild(): void {
    noteLeavers();
    const active = new Map<NodeId, number>();
    if (self.state === 'active') active.set(self.id, self.incarnation);
    for (const [id, known] of others) if (stateOf(known) === 'active') active.set(id, known.record.incarnation);
    if (active.size === ring.members.length && [...active].every(([id, life]) => lives.get(id) === life)) return;
    ring = createRing(active.keys(), ringOptions);
    lives = active;
    ringVersion += 1;
    options.onRingChange();
  }

  function note(known: Known, beat: number, heardAtMs: number): void {
    // What was still under way when it refused may say one beat more.
    if (known.refusedAtBeat !== undefined && beat > known.refusedAtBeat + 1) known.refusedAtBeat = undefined;
    if (beat > known.record.beat) known.record = { ...known.record, beat };
    known.heardAtMs = Math.max(known.heardAtMs, heardAtMs);
  }

  function write({ id, incarnation, state, version, url }: Registration): void {
    const entry = { id, incarnation, state, version, url };
    if (id === self.id) {
      own = entry;
      return;
    }
    const known = others.get(id);
    if (known?.record.incarnation === incarnation) {
      known.record = { ...entry, beat: known.record.beat };
      if (state !== 'joining') known.admitted = false;
      return;
    }
    const record = { ...entry, beat: 0 };
    others.set(id, {
      record,
      heardAtMs: clock.nowMs(),
      unansweredAtMs: undefined,
      refusedAtBeat: undefined,
      seenRevision: 0,
      idle: false,
      admitted: false,
    });
  }

  function adopt(view: RegistryView): void {
    ({ registry, revision: epoch } = view);
    own = undefined;
    const present = new Set(view.entries.map(({ id }) => id));
    for (const id of others.keys()) if (!present.has(id)) others.delete(id);
    view.entries.forEach(write);
    const { incarnation } = (own as Registration | undefined) ?? { incarnation: -1 };
    if (registeredAt !== undefined && epoch >= registeredAt && incarnation !== self.incarnation) deregister();
    else rebuild();
  }

  function deregister(): void {
    registeredAt = undefined;
    self = { ...self, state: 'joining' };
    rebuild();
    options.onDeregistered();
  }

  const recordOf = (known: Known): MemberRecord => ({ ...known.record, silentMs: clock.nowMs() - known.heardAtMs });
  /** As the registry has it, so that who takes over the list has the same view; incarnation 0 where it does not have it. */
  const ownRecord = (): MemberRecord => ({ ...self, ...(own ?? { incarnation: 0, state: 'joining' }) });

  function admit({ id, incarnation }: MemberRecord): boolean {
    const known = others.get(id);
    if (known?.record.incarnation !== incarnation || known.record.state === 'leaving') return false;
    known.admitted = known.record.state === 'joining';
    rebuild();
    return true;
  }

  /** The revision that a peer acts on; 0 where it follows another registry, or none. */
  function revisionOf(view: string): number {
    const dot = view.lastIndexOf('.');
    return view.slice(0, dot) === registry ? Number(view.slice(dot + 1)) : 0;
  }

  /** The complete list of a peer is as good as the registry's. */
  function adoptFrom(view: string, records: readonly MemberRecord[]): void {
    const revision = revisionOf(view);
    if (!(revision > epoch)) return;
    const entries = records.filter((record): record is MemberRecord & Registration => record.incarnation > 0);
    adopt({ registry, revision, entries });
  }

  return {
    ordered: true,
    allowsActingOwner: !strict,
    get self(): MemberRecord {
      return lapsed ? { ...self, state: 'left' } : self;
    },
    get ring() {
      return ring;
    },
    get ringVersion() {
      return ringVersion;
    },
    get view() {
      return `${registry}.${epoch}`;
    },
    get epoch() {
      return epoch;
    },
    get isRegistered() {
      return registeredAt !== undefined;
    },
    get leaseExpired() {
      return lapsed;
    },
    get mustJoin() {
      return self.state === 'joining';
    },
    records: () => [ownRecord(), ...[...others.values()].map(recordOf)],
    silent: (forMs) =>
      [...others.values()]
        .filter((known) => known.idle || known.refusedAtBeat !== undefined || silenceMs(known) > forMs)
        .map(recordOf),
    recordsOf: (ids) =>
      ids.flatMap((id) => {
        const known = others.get(id);
        return id === self.id ? [ownRecord()] : known === undefined ? [] : [recordOf(known)];
      }),
    incarnations: () => lives,
    others: () => [...others.keys()],
    adopt,
    isDecider({ id, incarnation }) {
      if (!strict) return true;
      const known = others.get(id);
      return known?.record.incarnation === incarnation && stateOf(known) !== 'joining';
    },
    isBehind: (view) => revisionOf(view) > epoch,
    hasSeen: (id, revision) => (others.get(id)?.seenRevision ?? revision) >= revision,
    isNews: (view) => view.registry !== registry || view.revision > epoch,
    routedRecords: () => [
      ownRecord(),
      ...[...others.values()].map((known) => ({ ...recordOf(known), state: stateOf(known) })),
    ],
    learn(records, from) {
      if (from !== undefined && 'view' in from) adoptFrom(from.view, records);
      if (from !== undefined && 'host' in from) records.filter(({ state }) => state === 'active').forEach(admit);
      for (const { id, incarnation, beat, silentMs } of records) {
        const known = others.get(id);
        if (known?.record.incarnation === incarnation && beat > known.record.beat)
          note(known, beat, clock.nowMs() - silentMs);
      }
    },
    messageReceived({ id, incarnation, state, beat }, view) {
      const known = others.get(id);
      if (known?.record.incarnation !== incarnation) return;
      note(known, beat, clock.nowMs());
      known.unansweredAtMs = undefined;
      known.idle = state === 'left';
      known.seenRevision = revisionOf(view);
    },
    admit,
    announce: (state) => ({ ...self, state }),
    declare(state) {
      // Who has left is not missed there.
      if (state === 'left') registeredAt = undefined;
      self = { ...self, state };
      rebuild();
    },
    registered(incarnation, revision) {
      registeredAt = revision;
      self = { ...self, incarnation, state: 'joining', beat: 0 };
      rebuild();
    },
    reincarnate() {
      registeredAt = undefined;
      self = { ...self, incarnation: self.incarnation + 1, state: 'joining', beat: 0 };
      rebuild();
    },
    deregistered: deregister,
    setLeaseExpired(isOver) {
      if (isOver === lapsed) return;
      lapsed = isOver;
      // What was found under the ring as this node's may not be decided any more, or may be again.
      ringVersion += 1;
    },
    beat: () => (self = { ...self, beat: self.beat + 1 }),
    checkTimeouts: rebuild,
    resetTimers() {
      for (const known of others.values()) {
        if (known.unansweredAtMs !== undefined) known.unansweredAtMs = clock.nowMs();
      }
    },
    messageSent(id) {
      const known = others.get(id);
      if (known !== undefined) known.unansweredAtMs ??= clock.nowMs();
    },
    connectionRefused(id) {
      const known = others.get(id);
      if (known !== undefined) known.refusedAtBeat = known.record.beat;
    },
    refusedIds: () => [...others].filter(([, known]) => known.refusedAtBeat !== undefined).map(([id]) => id),
    isDown(id) {
      const known = others.get(id);
      return known === undefined ? id !== self.id : isDown(known);
    },
    stateOf(id): MemberState | undefined {
      if (id === self.id) return lapsed ? 'suspect' : self.state === 'left' ? 'leaving' : self.state;
      const known = others.get(id);
      if (known === undefined) return undefined;
      const state = stateOf(known);
      return state === 'active' && silenceMs(known) > suspectAfterMs ? 'suspect' : state;
    },
  };
}
