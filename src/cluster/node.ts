import type { Asked } from './ports.js';
import { createDenials } from '../core/denials.js';
import type { NodeId } from '../core/ring.js';
import { createBucketTable } from './state/bucket-table.js';
import { createCheckPipeline } from './decide/check-pipeline.js';
import type { ClusterNode, ClusterNodeDeps, ClusterNodeOptions } from './cluster-node.js';
import { createPeerRpc } from './membership/peer-rpc.js';
import { createCopies } from './state/copies.js';
import { createDonor } from './handover/donor.js';
import { createFallback } from './decide/fallback.js';
import { createForwarder } from './routing/forwarder.js';
import { createColdStartRecovery } from './durability/cold-start-recovery.js';
import { join } from './handover/joiner.js';
import { leave } from './handover/leaver.js';
import { createLeaseHolder } from './leases/holder.js';
import { createLeaseGranter } from './leases/granter.js';
import { createLimiter } from './decide/limiter.js';
import { createAdaptiveController } from './policies/adaptive-controller.js';
import type { AdaptiveController } from './policies/adaptive-controller.js';
import { createMembership } from './membership/membership.js';
import { createPeerHandler } from './peer-handler.js';
import { createActivePolicies } from './policies/active-policies.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import { createRegistryBackend } from './policies/registry-backend.js';
import { createRingBackend } from './policies/ring-backend.js';
import { createRecentDecisions } from './state/recent-decisions.js';
import { createRegistryMember } from './handover/registry-member.js';
import { createReplicator } from './replication/replicator.js';
import { createReservations } from './state/reservations.js';
import { createDecider, route } from './routing/route.js';
import { createSettler } from './decide/settler.js';
import { withWriteBehind, createWriteBehind } from './durability/write-behind.js';

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
  const drainMs = suspectAfterMs * BEATS;
  let closed = false;
  let joining: Promise<void> | undefined;
  let aliveAtMs = clock.nowMs();
  let letLeaversGo: (() => void) | undefined;

  const table = createBucketTable({ maxClients: options.maxClients });
  const memberOptions = { ...options, onRingChange: ringChanged, onConcurrentLeave: severalLeave };
  const registryMember =
    deps.registry && createRegistryMember({ clock, timers, log, registry: deps.registry }, memberOptions);
  const membership = registryMember?.membership ?? createMembership({ clock }, memberOptions);
  const activePolicies = createActivePolicies((policy, rules) => adaptive.scaled(policy, rules));
  const heardPolicies = (id: NodeId, digest: string): void => policies.antiEntropy.noteDigest(id, digest);
  const peerRpc = createPeerRpc(
    {
      clock,
      membership,
      transport,
      discovery,
      policiesDigest: () => activePolicies.document.digest,
      heardPolicies,
      wanted: registryMember?.wanted,
    },
    { suspectAfterMs, beatMs },
  );
  const { ask } = peerRpc;
  const recent = createRecentDecisions({ clock }, { max: Math.min(MAX_RECENT_DECISIONS, options.maxClients) });
  const reservations = createReservations({ clock }, { max: Math.min(MAX_RESERVATIONS, options.maxClients) });
  const copies = createCopies({ clock, table, recent, reservations }, options);
  const replicator = createReplicator(
    { clock, timers, table, copies, membership, ask },
    { replicas: options.replicas, intervalMs: options.replicationIntervalMs, timeoutMs: suspectAfterMs },
  );
  const writeBehind =
    deps.store && createWriteBehind({ clock, timers, table, copies, membership, store: deps.store, log }, options);
  const coldStartRecovery =
    writeBehind &&
    createColdStartRecovery({ clock, timers, table, copies, membership, writeBehind, log, ask }, options);
  const changes = withWriteBehind(replicator, writeBehind);
  const decider = createDecider({ clock, membership, detectPause });
  const forwarder = createForwarder({ clock, timers, membership, ask, decider }, { giveUpAfterMs });
  const fallback = createFallback(
    { clock, membership },
    { onUnavailable: options.onUnavailable, maxClients: Math.min(options.maxClients, MAX_FALLBACK_CLIENTS) },
  );
  const leaseHolder = createLeaseHolder(
    { clock, timers, ask, decider, giveBack: (one) => leaseGranter.giveBack(one), self: options.self },
    { leaseAfter: options.leaseAfter ?? LEASE_AFTER },
  );
  const denials = createDenials({ max: Math.min(options.maxClients, MAX_DENIALS) });
  activePolicies.onChange(() => denials.clear());
  const acknowledger = registryMember?.acknowledger({ copies, ask }, { ...options, giveUpAfterMs });
  const limiter = createLimiter({
    clock,
    table,
    recent,
    reservations,
    membership,
    leaseHolder,
    denials,
    forwarder,
    replicator: changes,
    fallback,
    pauseLending: (clientId) => leaseGranter.pause(clientId),
    acknowledger,
    detectPause,
  });
  const decidesFor = (clientId: string): boolean => {
    const to = route(membership, clientId);
    return to.kind === 'mine' && !to.degraded && !limiter.isHeld;
  };
  const leaseGranter = createLeaseGranter({
    clock,
    table,
    membership,
    replicator: changes,
    reservations,
    acknowledger,
    decidesFor,
  });
  const policyDeps = { clock, timers, log, membership, activePolicies, ask, decider, isHeld: () => limiter.isHeld };
  const policies: PolicyBackend =
    registryMember === undefined
      ? createRingBackend(policyDeps, { timeoutMs: suspectAfterMs })
      : createRegistryBackend(
          { ...policyDeps, policyStore: registryMember.session.policyStore },
          { timeoutMs: suspectAfterMs },
        );
  const adaptive: AdaptiveController = createAdaptiveController(
    { clock, membership, policyOf: (name) => activePolicies.set.policies.get(name), ask, decider },
    { timeoutMs: suspectAfterMs },
  );
  const settler = createSettler(
    { clock, timers, table, reservations, replicator: changes, ask, decider, limiter, acknowledger },
    { self: options.self, timeoutMs: suspectAfterMs },
  );
  const donor = createDonor({ table, copies, membership, replicator }, options);
  const peerHandler = createPeerHandler({
    clock,
    membership,
    limiter,
    leaseGranter,
    donor,
    policies,
    settler,
    adaptive,
    keep(clients) {
      copies.keep(clients);
      replicator.copiesReceived(clients);
    },
    probe: peerRpc.heartbeat,
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
    leaseHolder.forget(clientId);
    denials.forget(clientId);
    writeBehind?.forget(clientId);
  }

  /** Finds whether this node was away: stopped, or busy for so long that others may have decided in its place. */
  function detectPause(nowMs: number): void {
    registryMember?.checkLease(nowMs);
    if (nowMs - aliveAtMs < awayMs) return;
    const awayForMs = nowMs - aliveAtMs;
    aliveAtMs = nowMs;
    membership.resetTimers();
    if (!membership.allowsActingOwner || membership.self.state !== 'active' || membership.ring.members.length < 2)
      return;
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
        returnToOwners: () => coldStartRecovery?.returnToOwners() ?? Promise.resolve(true),
        registryMember,
        isClosed: () => closed,
      },
      { timeoutMs: suspectAfterMs },
    ).finally(() => (joining = undefined));
  }

  function tick(): void {
    const nowMs = clock.nowMs();
    detectPause(nowMs);
    aliveAtMs = nowMs;
    membership.beat();
    membership.checkTimeouts();
    replicator.checkTimeouts();
    donor.tidy();
    policies.tick();
    adaptive.tick(nowMs);
    table.sweep(Math.ceil(table.size / SWEEP_STEPS), nowMs);
    // Someone remembers an earlier life of this node: it has begun the next one, and must come in as new.
    if (membership.mustJoin && started) startJoin();
    peerRpc.beat();
  }

  let started = false;
  const stop = timers.every(beatMs, tick);

  return {
    limiter,
    checks: createCheckPipeline({ limiter, membership }),
    table,
    membership,
    replicator,
    forwarder,
    leaseGranter,
    leaseHolder,
    denials,
    activePolicies,
    policies,
    settler,
    reservations,
    adaptive,
    writeBehind,
    registryMember,
    get handedClients() {
      return donor.handedClients;
    },
    receive({ sender, body }) {
      detectPause(clock.nowMs());
      peerRpc.messageReceived(sender);
      return peerRpc.reply(peerHandler.answer(sender, body));
    },
    async start() {
      await writeBehind?.load();
      const release = coldStartRecovery?.hasPeersToAwait === true ? limiter.hold() : undefined;
      started = true;
      aliveAtMs = clock.nowMs();
      startJoin();
      while (joining !== undefined) await joining;
      await coldStartRecovery?.awaitPeers(() => closed);
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
    async leave(group) {
      const leaver = { membership, limiter, leaseHolder, replicator, peerRpc };
      if (registryMember !== undefined)
        await registryMember.leave(leaver, { drainMs, ids: group?.ids ?? [options.self] });
      else {
        while (joining !== undefined) await joining; // What waits for it to be in the ring again is decided first.
        if (membership.self.state !== 'active') return;
        await leave(leaver, { drainMs }, group);
      }
      if (writeBehind !== undefined) await Promise.race([writeBehind.flush(), timers.sleep(LAST_WRITE_MS)]);
    },
    close() {
      closed = true;
      peerRpc.close();
      stop();
      registryMember?.session.close();
      replicator.close();
      forwarder.close();
      leaseHolder.close();
      writeBehind?.close();
    },
  };
}
