import type { NodeId } from '../core/ring.js';
import { createBucketTable } from './bucket-table.js';
import type { BucketTable } from './bucket-table.js';
import { createCopies } from './copies.js';
import { createDenials } from './denials.js';
import type { Denials } from './denials.js';
import { createDonor } from './donor.js';
import { createFallback } from './fallback.js';
import type { OnUnavailable } from './fallback.js';
import { createForwarder } from './forwarder.js';
import type { Asked, Forwarder } from './forwarder.js';
import { join } from './joiner.js';
import { createLessee } from './lessee.js';
import type { Lessee } from './lessee.js';
import { createLessor } from './lessor.js';
import type { Lessor } from './lessor.js';
import { createLimiter } from './limiter.js';
import type { ClientDescription } from './description.js';
import type { Limiter } from './limiter.js';
import { createMembership } from './membership.js';
import type { Membership } from './membership.js';
import type { DeclaredState, Envelope, MemberRecord, PeerAnswer, PeerMessage, Sender } from './messages.js';
import { createPeerDesk } from './peer-desk.js';
import type { Clock, Discovery, Log, PeerTransport, Timers } from './ports.js';
import { createRecentDecisions } from './recent-decisions.js';
import { createReplicator } from './replicator.js';
import type { Replicator } from './replicator.js';
import { route } from './route.js';

/**
 * The table is swept about once a minute, a step with each heartbeat: 1,667 clients each at a million, which takes far less than
 * 5 ms. Sooner would only drop clients who come back every few seconds.
 */
export const SWEEP_STEPS = 600;
/** Request ids remembered for 60 s each: 1,600 a second. */
const MAX_RECENT_DECISIONS = 100_000;
/** Clients that are decided here without their owner. */
const MAX_FALLBACK_CLIENTS = 100_000;
/** Clients whose denials are remembered where they are not owned. */
const MAX_DENIALS = 16_384;
/** Forwards of one client within 250 ms that make it worth a lease: about 130 a second from this node. */
const LEASE_AFTER = 32;
/** Heartbeats in a suspicion time. */
const BEATS = 10;
/** The part of the suspicion time after which a heartbeat without an answer makes room for the next. */
const HEARTBEAT_PART = 0.3;
/** The others, who may hear a member that this node does not, are asked about it when it is silent for so many heartbeats. */
const LATE_BEATS = 2;
/** Seeds that are no members are asked every so many heartbeats: two rings that do not know each other become one. */
const SEED_EVERY = 10;
/**
 * A node whose clock says it was away for this part of the suspicion time may have been stood in for, so it joins again
 * before it decides: others stand in after half of it, counted from the last heartbeat, which was up to a tenth before.
 */
const AWAY_PART = 0.3;

export interface ClusterNodeOptions {
  /** Id of this node on the ring: `host:port`. */
  readonly self: NodeId;
  readonly version: string;
  /** Clients that the bucket table holds at most. */
  readonly maxClients: number;
  readonly replicas: number;
  readonly replicationIntervalMs: number;
  readonly suspectAfterMs: number;
  readonly onUnavailable: OnUnavailable;
  /** Forwards of one client within 250 ms that make it worth a lease. Default 32. */
  readonly leaseAfter?: number;
}

export interface ClusterNodeDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly transport: PeerTransport;
  readonly discovery: Discovery;
  readonly log: Log;
}

export interface ClusterNode {
  readonly limiter: Limiter;
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly replicator: Replicator;
  readonly forwarder: Forwarder;
  readonly lessor: Lessor;
  readonly lessee: Lessee;
  readonly denials: Denials;
  /** Clients handed to joining members so far. */
  readonly handedClients: number;
  /** What a peer sends goes in here, whatever carries it. */
  receive(message: Envelope<PeerMessage>): Promise<Envelope<PeerAnswer>>;
  /** Joins the ring; resolves when this node decides. */
  start(): Promise<void>;
  /** What the node that decides for a client knows of it. */
  describe(clientId: string): Promise<ClientDescription | undefined>;
  /** Forgets a client on every node. @returns whether all that could be asked have */
  forget(clientId: string): Promise<boolean>;
  /** Leaves the ring with nothing forgotten: hands what changed to those who decide next, and forwards to them. */
  leave(): Promise<void>;
  /** Stops all timers. What still waits is decided by the fallback. */
  close(): void;
}

/** One member of the ring, wired from the parts of this folder; the program, the library and the simulator all call this. */
export function createClusterNode(deps: ClusterNodeDeps, options: ClusterNodeOptions): ClusterNode {
  const { clock, timers, transport, discovery, log } = deps;
  const { suspectAfterMs } = options;
  const beatMs = Math.max(1, Math.floor(suspectAfterMs / BEATS));
  const lateMs = beatMs * LATE_BEATS;
  const awayMs = Math.ceil(suspectAfterMs * AWAY_PART);
  const giveUpAfterMs = Math.ceil(suspectAfterMs * 1.5);

  let closed = false;
  let joining: Promise<void> | undefined;
  let aliveAtMs = clock.nowMs();
  let beats = 0;
  let letLeaversGo: (() => void) | undefined;
  /** Of each member: when it was last heard, and the hash of its member list. */
  const exchanged = new Map<NodeId, { atMs: number; view: string }>();
  const heartbeating = new Set<NodeId>();

  const table = createBucketTable({ maxClients: options.maxClients });
  const membership = createMembership(
    { clock },
    { ...options, onRingChange: () => ringChanged(), onSeveralLeave: (leaving) => severalLeave(leaving) },
  );
  const recent = createRecentDecisions({ clock }, { max: Math.min(MAX_RECENT_DECISIONS, options.maxClients) });
  const copies = createCopies({ clock, table, recent }, options);
  const replicator = createReplicator(
    { clock, timers, table, copies, membership, ask },
    { replicas: options.replicas, intervalMs: options.replicationIntervalMs, timeoutMs: suspectAfterMs },
  );
  const decider = (clientId: string): NodeId | undefined => {
    const to = route(membership, clientId);
    if (to.kind === 'mine') return options.self;
    return to.kind === 'forward' ? to.id : undefined;
  };
  const forwarder = createForwarder({ clock, timers, membership, ask, decider }, { giveUpAfterMs });
  const fallback = createFallback(
    { clock, membership },
    { onUnavailable: options.onUnavailable, maxClients: Math.min(options.maxClients, MAX_FALLBACK_CLIENTS) },
  );
  const lessee = createLessee(
    { clock, timers, ask, decider, giveBack: (one) => lessor.giveBack(one), self: options.self },
    { leaseAfter: options.leaseAfter ?? LEASE_AFTER },
  );
  const denials = createDenials({ clock }, { max: Math.min(options.maxClients, MAX_DENIALS) });
  const limiter = createLimiter({
    clock,
    table,
    recent,
    membership,
    lessee,
    denials,
    forwarder,
    replicator,
    fallback,
    awake,
  });
  const decidesFor = (clientId: string): boolean => {
    const to = route(membership, clientId);
    return to.kind === 'mine' && !to.degraded && !limiter.isHeld;
  };
  const lessor = createLessor({ clock, table, membership, replicator, decidesFor });
  const donor = createDonor({ table, copies, membership, replicator }, options);
  const desk = createPeerDesk({
    clock,
    membership,
    limiter,
    lessor,
    donor,
    keep(clients) {
      copies.keep(clients);
      replicator.kept(clients);
    },
    probe: (id) => void heartbeat(id),
    forget: forgetHere,
  });

  function ringChanged(): void {
    replicator.ringChanged();
    log.info({ members: membership.ring.members, checksum: membership.ring.checksum }, 'the ring changed');
  }

  function severalLeave(leaving: boolean): void {
    letLeaversGo?.();
    letLeaversGo = leaving ? limiter.hold() : undefined;
  }

  /** Sends a message, and notes what its end says about the peer. */
  async function ask(to: NodeId, body: PeerMessage, timeoutMs: number): Promise<Asked> {
    const result = await transport.send(
      to,
      { sender: { from: membership.self, view: membership.view }, body },
      timeoutMs,
    );
    if (result.kind === 'refused') membership.refused(to);
    if (result.kind !== 'answer') return { kind: result.kind };
    const { sender, body: answer } = result.answer;
    // Another one lives at this address by now: what it says is not what was asked for. Seeds may go by other names.
    if (sender.from.id !== to && membership.stateOf(to) !== undefined) return { kind: 'broken' };
    met(sender);
    if ('members' in answer) membership.learn(answer.members);
    else if (sender.view !== membership.view && body.kind !== 'heartbeat') void heartbeat(sender.from.id);
    return { kind: 'answer', body: answer };
  }

  function met({ from, view }: Sender): void {
    membership.heard(from);
    exchanged.set(from.id, { atMs: clock.nowMs(), view });
  }

  async function heartbeat(to: NodeId, late = membership.silent(lateMs)): Promise<void> {
    if (heartbeating.has(to)) return;
    heartbeating.add(to);
    const agreed = exchanged.get(to)?.view === membership.view;
    const members = agreed ? late : membership.records();
    await ask(to, { kind: 'heartbeat', members }, Math.ceil(suspectAfterMs * HEARTBEAT_PART));
    heartbeating.delete(to);
  }

  function forgetHere(clientId: string): void {
    table.delete(clientId);
    recent.forget(clientId);
    lessee.forget(clientId);
    denials.forget(clientId);
  }

  /** Finds whether this node was away: stopped, or busy for so long that others may have decided in its place. */
  function awake(nowMs: number): void {
    if (nowMs - aliveAtMs < awayMs) return;
    const awayForMs = nowMs - aliveAtMs;
    aliveAtMs = nowMs;
    membership.forgive();
    if (membership.self.state !== 'active' || membership.ring.members.length < 2) return;
    log.warn({ awayForMs }, 'was away, joins again');
    membership.reincarnate();
    startJoin();
  }

  function startJoin(): void {
    joining ??= join(
      {
        timers,
        membership,
        discovery,
        ask,
        log,
        keep: copies.keep,
        hold: () => limiter.hold(),
        isClosed: () => closed,
      },
      { timeoutMs: suspectAfterMs },
    ).finally(() => (joining = undefined));
  }

  function tick(): void {
    const nowMs = clock.nowMs();
    awake(nowMs);
    aliveAtMs = nowMs;
    membership.beat();
    membership.judge();
    donor.tidy();
    table.sweep(Math.ceil(table.size / SWEEP_STEPS), nowMs);
    beats += 1;
    // Someone remembers an earlier life of this node: it has begun the next one, and must come in as new.
    if (membership.self.state === 'joining' && started) startJoin();
    for (const id of exchanged.keys()) if (membership.stateOf(id) === undefined) exchanged.delete(id);
    // Who is not heard directly may be alive: whatever else is said to the others, they are asked.
    const late = membership.silent(lateMs);
    const missed = late.some(({ id }) => membership.stateOf(id) !== 'dead');
    for (const id of membership.others()) {
      const state = membership.stateOf(id);
      const dead = state === 'dead' || state === 'leaving';
      const quiet = nowMs - (exchanged.get(id)?.atMs ?? -Infinity) >= beatMs;
      if (dead ? beats % SEED_EVERY === 0 : quiet || missed) void heartbeat(id, late);
    }
    if (beats % SEED_EVERY === 0) void greetSeeds();
  }

  /** Until every owner and successor has what the ring, which may change meanwhile, entitles it to. */
  async function settle(): Promise<void> {
    for (let version = 0; version !== membership.ringVersion;) {
      version = membership.ringVersion;
      if (membership.ring.members.some((id) => id !== options.self)) await replicator.settled(suspectAfterMs * BEATS);
    }
  }

  async function tellAll(state: DeclaredState): Promise<void> {
    membership.declare(state);
    await tell(membership.others(), membership.records());
  }

  async function tell(ids: readonly NodeId[], members: readonly MemberRecord[]): Promise<void> {
    const others = ids.filter((id) => id !== options.self && !membership.isDown(id));
    await Promise.all(others.map((id) => ask(id, { kind: 'heartbeat', members }, suspectAfterMs)));
  }

  async function greetSeeds(): Promise<void> {
    for (const id of await discovery.seeds()) {
      if (id !== options.self && membership.stateOf(id) === undefined && !closed) void heartbeat(id);
    }
  }

  let started = false;
  const stop = timers.every(beatMs, tick);

  return {
    limiter,
    table,
    membership,
    replicator,
    forwarder,
    lessor,
    lessee,
    denials,
    get handedClients() {
      return donor.handedClients;
    },
    async receive({ sender, body }) {
      awake(clock.nowMs());
      met(sender);
      const answer = await desk.answer(sender, body);
      return { sender: { from: membership.self, view: membership.view }, body: answer };
    },
    async start() {
      started = true;
      aliveAtMs = clock.nowMs();
      startJoin();
      while (joining !== undefined) await joining;
    },
    async describe(clientId) {
      const to = route(membership, clientId);
      if (to.kind !== 'forward') return limiter.describe(clientId);
      const asked = await ask(to.id, { kind: 'describe', clientId }, suspectAfterMs);
      return asked.kind === 'answer' && asked.body.kind === 'described' ? asked.body.client : undefined;
    },
    async forget(clientId) {
      // Copies that are under way would bring it back: they arrive first.
      await replicator.flush();
      forgetHere(clientId);
      const others = membership.others().filter((id) => !membership.isDown(id));
      const asked = await Promise.all(others.map((id) => ask(id, { kind: 'forget', clientId }, suspectAfterMs)));
      forgetHere(clientId);
      return asked.every((one) => one.kind === 'answer');
    },
    async leave() {
      // What waits for this node to be in the ring again is decided first.
      while (joining !== undefined) await joining;
      if (membership.self.state !== 'active') return;
      // Who has died a moment ago is found out now, as its copies are gone with it.
      await Promise.all([lessee.release(), tell(membership.ring.members, [])]);
      await settle();
      const release = limiter.hold();
      replicator.entrust();
      await settle();
      await tellAll('leaving');
      // Should others leave at the same time, this node's clients have other owners than it knew.
      await settle();
      await tellAll('left');
      release();
    },
    close() {
      closed = true;
      stop();
      replicator.close();
      forwarder.close();
      lessee.close();
    },
  };
}
