import { ClientAdmin } from './client-admin.js';
import { CheckPipeline } from './decide/check-pipeline.js';
import { DecisionGate } from '../membership/decision-gate.js';
import type { CheckRouter } from './decide/check-router.js';
import type { Settler } from './decide/settler.js';
import { Donor } from '../replication/donor.js';
import type { GroupLeave } from './leaver.js';
import type { LeaseGranter } from './leases/granter.js';
import { beatMsOf, giveUpMsOf, Lifecycle } from './lifecycle.js';
import type { Membership } from '../membership/membership.js';
import { PeerRpc } from '../membership/peer-rpc.js';
import { Router } from '../membership/route.js';
import type { Envelope, PeerAnswer, PeerMessage } from '../protocol/messages.js';
import { nodeStats, type NodeStats } from './node-stats.js';
import { Observer } from './observer.js';
import { PeerHandler } from './peer-handler.js';
import type { ActivePolicies } from '../policy/active-policies.js';
import type { AdaptiveController } from './policies/adaptive-controller.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import {
  DEFAULT_STATE_BOUNDS,
  wireBuckets,
  wireDecisions,
  wireMembership,
  wirePolicies,
  type BucketParts,
  type ClusterNodeDeps,
  type ClusterNodeOptions,
  type DecisionParts,
  type MembershipParts,
} from './wiring.js';

export type { ClusterNodeDeps, ClusterNodeOptions } from './wiring.js';

/** One member of the ring. The program, the library, and the simulator all construct it. */
export class ClusterNode {
  /** Decides checks as policies want it; callers use this. */
  readonly checks: CheckPipeline;
  /** Decides checks under their rules alone. */
  readonly checkRouter: CheckRouter;
  /** Describes and forgets single clients. */
  readonly admin: ClientAdmin;
  /** Makes checks wait while this node may not decide, and no other does. */
  readonly gate = new DecisionGate();
  readonly membership: Membership;
  readonly activePolicies: ActivePolicies;
  readonly policies: PolicyBackend;
  readonly settler: Pick<Settler, 'settle'>;
  readonly adaptive: AdaptiveController;
  readonly leaseGranter: LeaseGranter;
  readonly observer: Observer;
  private readonly members: MembershipParts;
  private readonly buckets: BucketParts;
  private readonly decisions: DecisionParts;
  private readonly donor: Donor;
  private readonly peerRpc: PeerRpc;
  private readonly lifecycle: Lifecycle;
  private readonly peerHandler: PeerHandler;
  private releaseLeavers: (() => void) | undefined;

  /**
   * Each part uses the parts above it. Three circles are closed by functions that are called only later: the members
   * report changes of the ring to all parts, messages carry the digest of the policies, and the lifecycle looks for
   * pauses before each decision.
   */
  constructor(
    private readonly deps: ClusterNodeDeps,
    private readonly options: ClusterNodeOptions,
  ) {
    const { clock, timers, transport, processReport } = deps;
    const { suspectAfterMs } = options;
    const timeoutMs = suspectAfterMs;
    const { maxAnswerBytes } = options.stateBounds ?? DEFAULT_STATE_BOUNDS;
    this.members = wireMembership(deps, {
      ...options,
      onRingChange: () => this.onRingChange(),
      onConcurrentLeave: (leaving) => this.onConcurrentLeave(leaving),
    });
    const { membership, probing } = this.members;
    this.membership = membership;
    const peerRpc = (this.peerRpc = new PeerRpc({
      clock,
      timers,
      membership,
      transport,
      probing,
      policiesDigest: () => this.activePolicies.document().digest,
      heardPolicies: (id, digest) => this.policies.antiEntropy.noteDigest(id, digest),
      heardDuplicate: () => this.lifecycle.ownIdReceived(),
      suspectAfterMs,
      beatMs: beatMsOf(suspectAfterMs),
    }));
    const { ask } = peerRpc;
    const { gate } = this;
    const detectPause = (nowMs: number): void => this.lifecycle.detectPause(nowMs);
    const router = new Router({ clock, membership, gate, detectPause });
    const policyParts = wirePolicies(deps, this.members, { ask, router }, options);
    const { activePolicies, policyUse, policies, adaptive } = policyParts;
    this.activePolicies = activePolicies;
    this.policies = policies;
    this.adaptive = adaptive;
    this.buckets = wireBuckets(deps, { membership, ask }, options);
    const { table, recent, reservations, copies, replicator, writeBehind } = this.buckets;
    this.decisions = wireDecisions(deps, this.members, this.buckets, { ask, router }, options);
    const { checkRouter, peerChecks, leaseHolder, leaseGranter, denials, settler, topClients } = this.decisions;
    this.checkRouter = checkRouter;
    this.leaseGranter = leaseGranter;
    this.settler = settler;
    activePolicies.onChange(() => denials.clear());
    this.checks = new CheckPipeline({ clock, timers, checkRouter, membership, topClients });
    const donor = (this.donor = new Donor(table, copies, membership, replicator, options.replicas));
    this.admin = new ClientAdmin(
      { clock, membership, ask, router, replicator, table, recent, reservations, leaseHolder, denials, writeBehind },
      { timeoutMs },
    );
    const stats = (): NodeStats => this.stats();
    this.observer = new Observer(
      { clock, membership, ask, topClients, policyUse, stats, processReport },
      { timeoutMs },
    );
    this.lifecycle = this.createLifecycle();
    this.peerHandler = new PeerHandler({
      clock,
      membership,
      peerChecks,
      leaseGranter,
      donor,
      policies,
      settler,
      adaptive,
      peerRpc,
      observer: this.observer,
      copies,
      replicator,
      admin: this.admin,
      maxAnswerBytes,
      giveUpAfterMs: giveUpMsOf(suspectAfterMs),
    });
  }

  /** Takes a message of a peer, from any transport. */
  receive({ sender, body }: Envelope<PeerMessage>): Promise<Envelope<PeerAnswer>> {
    const { lifecycle, peerRpc, peerHandler } = this;
    const isOwn = sender.from.id === this.options.self;
    const checkingId = isOwn ? undefined : lifecycle.checkingId();
    if (checkingId !== undefined) {
      // Nodes that start together ask each other, and must not wait for each other.
      if (body.kind === 'heartbeat') return peerRpc.reply({ kind: 'members', members: [] });
      return checkingId.then(() => this.receive({ sender, body }));
    }
    lifecycle.detectPause(this.deps.clock.nowMs());
    if (isOwn) lifecycle.ownIdReceived();
    else peerRpc.messageReceived(sender);
    const handsOver = body.kind === 'handoff' || body.kind === 'enter';
    const asking = handsOver ? lifecycle.asking() : undefined;
    // While another node may have acted for this one, this one does not know what it would hand over.
    if (asking !== undefined) return asking.then(() => peerRpc.reply(peerHandler.answer(sender, body)));
    return peerRpc.reply(peerHandler.answer(sender, body));
  }

  /**
   * Joins the ring; resolves when this node decides.
   * @throws TokenringError `duplicate_id` if another process has the id of this node
   */
  start(): Promise<void> {
    return this.lifecycle.start();
  }

  /** Why this node is not in a ring yet; `undefined` if it is, or is about to be. */
  waitingFor(): string | undefined {
    return this.lifecycle.waitingFor();
  }

  /**
   * Leaves the ring with nothing lost: hands changed buckets to the next owners, and forwards checks to them. If no
   * other member stays, this node goes on deciding.
   */
  leave(group?: GroupLeave): Promise<void> {
    return this.lifecycle.leave(group);
  }

  /** Writes all changes to the store, if there is one; resolves when it has them or has failed. */
  flush(): Promise<void> {
    return this.buckets.writeBehind?.flush() ?? Promise.resolve();
  }

  stats(): NodeStats {
    const { members, buckets, decisions, checks, activePolicies, adaptive, donor } = this;
    return nodeStats(members, buckets, decisions, { checks, activePolicies, adaptive, donor });
  }

  /** Stops all timers. Checks that still wait are decided by the fallback. */
  close(): void {
    this.lifecycle.close();
    this.peerRpc.close();
    this.members.registryMember?.session.close();
    this.buckets.replicator.close();
    this.decisions.forwarder.close();
    this.decisions.leaseHolder.close();
    this.buckets.writeBehind?.close();
  }

  private createLifecycle(): Lifecycle {
    const { clock, timers, log, discovery } = this.deps;
    const { membership, registryMember } = this.members;
    const { table, copies, replicator, writeBehind, coldStartRecovery } = this.buckets;
    const { peerRpc, gate, policies, adaptive, donor } = this;
    return new Lifecycle(
      {
        clock,
        timers,
        log,
        discovery,
        membership,
        registryMember,
        peerRpc,
        table,
        copies,
        replicator,
        writeBehind,
        coldStartRecovery,
        gate,
        leaseHolder: this.decisions.leaseHolder,
        policies,
        adaptive,
        donor,
      },
      this.options,
    );
  }

  private onRingChange(): void {
    // A denial names an owner that may have changed.
    this.decisions.denials.clear();
    this.buckets.replicator.ringChanged();
    this.buckets.writeBehind?.ringChanged();
    this.lifecycle.ringChanged();
    const { members, checksum } = this.membership.ring();
    this.deps.log.info({ members, checksum }, 'the ring changed');
  }

  private onConcurrentLeave(leaving: boolean): void {
    this.releaseLeavers?.();
    this.releaseLeavers = leaving ? this.gate.close() : undefined;
  }
}
