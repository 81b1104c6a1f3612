import { createDenials } from '../core/denials.js';
import type { NodeId } from '../core/ring.js';
import { createBucketTable } from './bucket-table.js';
import { createCallerDesk } from './caller-desk.js';
import type { ClusterNode, ClusterNodeDeps, ClusterNodeOptions } from './cluster-node.js';
import { createContacts } from './contacts.js';
import { createCopies } from './copies.js';
import { createDonor } from './donor.js';
import { createFallback } from './fallback.js';
import { createForwarder } from './forwarder.js';
import type { Asked } from './forwarder.js';
import { createHomecoming } from './homecoming.js';
import { join } from './joiner.js';
import { leave } from './leaver.js';
import { createLessee } from './lessee.js';
import { createLessor } from './lessor.js';
import { createLimiter } from './limiter.js';
import { createLoadDesk } from './load-desk.js';
import type { LoadDesk } from './load-desk.js';
import { createMembership } from './membership.js';
import { createPeerDesk } from './peer-desk.js';
import { createPolicyBook } from './policy-book.js';
import { createPolicyDesk } from './policy-desk.js';
import type { PolicyDesk } from './policy-desk.js';
import { createRecentDecisions } from './recent-decisions.js';
import { createRegistered } from './registered.js';
import { createReplicator } from './replicator.js';
import { createReservations } from './reservations.js';
import { createDecider, route } from './route.js';
import { createSettler } from './settler.js';
import { alsoWritten, createWriteBehind } from './write-behind.js';

export type { ClusterNode, ClusterNodeDeps, ClusterNodeOptions } from './cluster-node.js';

/**
 * The table is swept about once a minute, a step with each heartbeat: 1,667 clients each at a million, which takes far less than
 * 5 ms. Sooner would only drop clients who come back every few seconds.
 */
export const SWEEP_STEPS = 600;
/** Request ids remembered for 60 s each: 1,600 a second. */
const MAX_RECENT_DECISIONS = 100_000;
/** Costs reserved and remembered for ten minutes each: 160 a second. */
const MAX_RESERVATIONS = 100_000;
/** Clients that are decided here without their owner. */
const MAX_FALLBACK_CLIENTS = 100_000;
/** Clients whose denials are remembered where they are not owned. */
const MAX_DENIALS = 16_384;
/** Forwards of one client within 250 ms that make it worth a lease: about 130 a second from this node. */
const LEASE_AFTER = 32;
/** How long a leaving node waits for the store. */
const LAST_WRITE_MS = 1_500;
/** Heartbeats in a suspicion time. */
const BEATS = 10;
/**
 * A node whose clock says it was away for this part of the suspicion time may have been stood in for, so it joins again
 * before it decides: others stand in after half of it, counted from the last heartbeat, which was up to a tenth before.
 */
const AWAY_PART = 0.3;

/** One member of the ring, wired from the parts of this folder; the program, the library and the simulator all call this. */
export function createClusterNode(deps: ClusterNodeDeps, options: ClusterNodeOptions): ClusterNode {
  const { clock, timers, transport, discovery, log } = deps;
  const { suspectAfterMs } = options;
  const beatMs = Math.max(1, Math.floor(suspectAfterMs / BEATS));
  const awayMs = Math.ceil(suspectAfterMs * AWAY_PART);
  const giveUpAfterMs = Math.ceil(suspectAfterMs * 1.5);
  const settledMs = suspectAfterMs * BEATS;
  let closed = false;
  let joining: Promise<void> | undefined;
  let aliveAtMs = clock.nowMs();
  let letLeaversGo: (() => void) | undefined;

  const table = createBucketTable({ maxClients: options.maxClients });
  const memberOptions = { ...options, onRingChange: ringChanged, onSeveralLeave: severalLeave };
  const registered = deps.registry && createRegistered({ clock, timers, log, registry: deps.registry }, memberOptions);
  const membership = registered?.membership ?? createMembership({ clock }, memberOptions);
  const book = createPolicyBook((policy, rules) => loads.scaled(policy, rules));
  const heardPolicies = (id: NodeId, digest: string): void => policies.heard(id, digest);
  const contacts = createContacts(
    { clock, membership, transport, discovery, book, heardPolicies, wanted: registered?.wanted },
    { suspectAfterMs, beatMs },
  );
  const { ask } = contacts;
  const recent = createRecentDecisions({ clock }, { max: Math.min(MAX_RECENT_DECISIONS, options.maxClients) });
  const reservations = createReservations({ clock }, { max: Math.min(MAX_RESERVATIONS, options.maxClients) });
  const copies = createCopies({ clock, table, recent, reservations }, options);
  const replicator = createReplicator(
    { clock, timers, table, copies, membership, ask },
    { replicas: options.replicas, intervalMs: options.replicationIntervalMs, timeoutMs: suspectAfterMs },
  );
  const writeBehind =
    deps.store && createWriteBehind({ clock, timers, table, copies, membership, store: deps.store, log }, options);
  const homecoming =
    writeBehind && createHomecoming({ clock, timers, table, copies, membership, writeBehind, log, ask }, options);
  const changes = alsoWritten(replicator, writeBehind);
  const decider = createDecider({ clock, membership, awake });
  const forwarder = createForwarder({ clock, timers, membership, ask, decider }, { giveUpAfterMs });
  const fallback = createFallback(
    { clock, membership },
    { onUnavailable: options.onUnavailable, maxClients: Math.min(options.maxClients, MAX_FALLBACK_CLIENTS) },
  );
  const lessee = createLessee(
    { clock, timers, ask, decider, giveBack: (one) => lessor.giveBack(one), self: options.self },
    { leaseAfter: options.leaseAfter ?? LEASE_AFTER },
  );
  const denials = createDenials({ max: Math.min(options.maxClients, MAX_DENIALS) });
  book.onChange(() => denials.clear());
  const acknowledger = registered?.acknowledger({ copies, ask }, { ...options, giveUpAfterMs });
  const limiter = createLimiter({
    clock,
    table,
    recent,
    reservations,
    membership,
    lessee,
    denials,
    forwarder,
    replicator: changes,
    fallback,
    pauseLending: (clientId) => lessor.pause(clientId),
    acknowledger,
    awake,
  });
  const decidesFor = (clientId: string): boolean => {
    const to = route(membership, clientId);
    return to.kind === 'mine' && !to.degraded && !limiter.isHeld;
  };
  const lessor = createLessor({
    clock,
    table,
    membership,
    replicator: changes,
    reservations,
    acknowledger,
    decidesFor,
  });
  const policies: PolicyDesk = createPolicyDesk(
    { clock, timers, log, membership, book, ask, decider, registered, isHeld: () => limiter.isHeld },
    { timeoutMs: suspectAfterMs },
  );
  const loads: LoadDesk = createLoadDesk(
    { clock, membership, policyOf: (name) => book.set.policies.get(name), ask, decider },
    { timeoutMs: suspectAfterMs },
  );
  const settler = createSettler(
    { clock, timers, table, reservations, replicator: changes, ask, decider, limiter, acknowledger },
    { self: options.self, timeoutMs: suspectAfterMs },
  );
  const donor = createDonor({ table, copies, membership, replicator }, options);
  const desk = createPeerDesk({
    clock,
    membership,
    limiter,
    lessor,
    donor,
    policies,
    settler,
    loads,
    keep(clients) {
      copies.keep(clients);
      replicator.kept(clients);
    },
    probe: contacts.heartbeat,
    forget: forgetHere,
  });

  function ringChanged(): void {
    // What they say of the owner is no longer so.
    denials.clear();
    replicator.ringChanged();
    writeBehind?.ringChanged();
    log.info({ members: membership.ring.members, checksum: membership.ring.checksum }, 'the ring changed');
  }

  function severalLeave(leaving: boolean): void {
    letLeaversGo?.();
    letLeaversGo = leaving ? limiter.hold() : undefined;
  }

  function forgetHere(clientId: string): void {
    table.delete(clientId);
    recent.forget(clientId);
    reservations.forget(clientId);
    lessee.forget(clientId);
    denials.forget(clientId);
    writeBehind?.forget(clientId);
  }

  /** Finds whether this node was away: stopped, or busy for so long that others may have decided in its place. */
  function awake(nowMs: number): void {
    registered?.judge(nowMs);
    if (nowMs - aliveAtMs < awayMs) return;
    const awayForMs = nowMs - aliveAtMs;
    aliveAtMs = nowMs;
    membership.forgive();
    if (!membership.standsIn || membership.self.state !== 'active' || membership.ring.members.length < 2) return;
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
        catchUp: (ids) => policies.catchUp(ids),
        bring: () => homecoming?.bring() ?? Promise.resolve(true),
        registered,
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
    replicator.judge();
    donor.tidy();
    policies.tick();
    loads.tick(nowMs);
    table.sweep(Math.ceil(table.size / SWEEP_STEPS), nowMs);
    // Someone remembers an earlier life of this node: it has begun the next one, and must come in as new.
    if (membership.mustJoin && started) startJoin();
    contacts.beat();
  }

  let started = false;
  const stop = timers.every(beatMs, tick);

  return {
    limiter,
    callers: createCallerDesk({ limiter, membership }),
    table,
    membership,
    replicator,
    forwarder,
    lessor,
    lessee,
    denials,
    book,
    policies,
    settler,
    reservations,
    loads,
    writeBehind,
    registered,
    get handedClients() {
      return donor.handedClients;
    },
    receive({ sender, body }) {
      awake(clock.nowMs());
      contacts.met(sender);
      return contacts.reply(desk.answer(sender, body));
    },
    async start() {
      await writeBehind?.load();
      const release = homecoming?.isAwaiting === true ? limiter.hold() : undefined;
      started = true;
      aliveAtMs = clock.nowMs();
      startJoin();
      while (joining !== undefined) await joining;
      await homecoming?.reunited(() => closed);
      release?.();
    },
    async describe(clientId) {
      const to = route(membership, clientId);
      if (to.kind !== 'forward') return limiter.describe(clientId);
      const asked = await ask(to.id, { kind: 'describe', clientId }, suspectAfterMs);
      return asked.kind === 'answer' && asked.body.kind === 'described' ? asked.body.client : undefined;
    },
    async forget(clientId) {
      await replicator.flush(); // Copies that are under way would bring it back: they arrive first.
      forgetHere(clientId);
      const owner = decider(clientId);
      const others = membership.others().filter((id) => !membership.isDown(id));
      const tell = (ids: readonly NodeId[]): Promise<Asked[]> =>
        Promise.all(ids.map((id) => ask(id, { kind: 'forget', clientId }, suspectAfterMs)));
      // The owner first: nobody who has forgotten hears the old denial again.
      const asked = [
        ...(await tell(others.filter((id) => id === owner))),
        ...(await tell(others.filter((id) => id !== owner))),
      ];
      forgetHere(clientId);
      return asked.every((one) => one.kind === 'answer');
    },
    async leave(parting) {
      const leaver = { membership, limiter, lessee, replicator, contacts };
      if (registered !== undefined) await registered.leave(leaver, { settledMs, ids: parting?.ids ?? [options.self] });
      else {
        while (joining !== undefined) await joining; // What waits for it to be in the ring again is decided first.
        if (membership.self.state !== 'active') return;
        await leave(leaver, { settledMs }, parting);
      }
      if (writeBehind !== undefined) await Promise.race([writeBehind.flush(), timers.sleep(LAST_WRITE_MS)]);
    },
    close() {
      closed = true;
      contacts.close();
      stop();
      registered?.enrolment.close();
      replicator.close();
      forwarder.close();
      lessee.close();
      writeBehind?.close();
    },
  };
}
