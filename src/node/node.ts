import type { ClientDescription } from '../limits/request/description.js';
import { ClientAdmin } from './client-admin.js';
import { CheckPipeline } from './decide/check-pipeline.js';
import type { DecisionGate } from './decide/decision-gate.js';
import type { Limiter } from './decide/limiter.js';
import type { Settler } from './decide/settler.js';
import { createDonor } from '../replication/donor.js';
import type { GroupLeave } from './leaver.js';
import type { LeaseGranter } from './leases/granter.js';
import { beatMsOf, Lifecycle } from './lifecycle.js';
import type { Membership } from '../membership/membership.js';
import { PeerRpc } from '../membership/peer-rpc.js';
import type { Envelope, PeerAnswer, PeerMessage } from '../protocol/messages.js';
import { nodeStats } from './node-stats.js';
import type { NodeStats } from './node-stats.js';
import { Observer } from './observer.js';
import { createPeerHandler } from './peer-handler.js';
import type { ActivePolicies } from '../policy/active-policies.js';
import type { AdaptiveController } from './policies/adaptive-controller.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import { DEFAULT_STATE_BOUNDS, wireBuckets, wireDecisions, wireMembership, wirePolicies } from './wiring.js';
import type { ClusterNodeDeps, ClusterNodeOptions } from './wiring.js';

export type { ClusterNodeDeps, ClusterNodeOptions } from './wiring.js';

/** One member of the ring. */
export interface ClusterNode {
  /** Decides checks as policies want it; callers use this. */
  readonly checks: CheckPipeline;
  /** Decides checks under their rules alone. */
  readonly limiter: Pick<Limiter, 'decide' | 'describe'>;
  /** Makes checks wait while this node may not decide, and no other does. */
  readonly gate: DecisionGate;
  readonly membership: Membership;
  readonly activePolicies: ActivePolicies;
  readonly policies: Pick<PolicyBackend, 'write'>;
  readonly settler: Pick<Settler, 'settle'>;
  readonly adaptive: Pick<AdaptiveController, 'report' | 'factors'>;
  readonly leaseGranter: Pick<LeaseGranter, 'lease' | 'giveBack'>;
  /** Takes a message of a peer, from any transport. */
  receive(message: Envelope<PeerMessage>): Promise<Envelope<PeerAnswer>>;
  /**
   * Joins the ring; resolves when this node decides.
   * @throws TokenringError `duplicate_id` if another process has the id of this node
   */
  start(): Promise<void>;
  /** Why this node is not in a ring yet; `undefined` if it is, or is about to be. */
  waitingFor(): string | undefined;
  /** Describes a client as its owner knows it; `undefined` if the owner does not answer. */
  readonly describe: (clientId: string) => Promise<ClientDescription | undefined>;
  /** Forgets a client on every node. @returns whether all members that are up have done so */
  readonly forget: (clientId: string) => Promise<boolean>;
  /**
   * Leaves the ring with nothing lost: hands changed buckets to the next owners, and forwards checks to them. If no
   * other member stays, this node goes on deciding.
   */
  leave(group?: GroupLeave): Promise<void>;
  /** Writes all changes to the store, if there is one; resolves when it has them or has failed. */
  flush(): Promise<void>;
  readonly stats: () => NodeStats;
  readonly observer: Pick<Observer, 'top' | 'reports' | 'use' | 'countReported'>;
  /** Stops all timers. Checks that still wait are decided by the fallback. */
  close(): void;
}

/** Wires one member of the ring. The program, the library and the simulator all call this. */
export function createClusterNode(deps: ClusterNodeDeps, options: ClusterNodeOptions): ClusterNode {
  const { clock, log } = deps;
  const { suspectAfterMs } = options;
  let releaseLeavers: (() => void) | undefined;

  const members = wireMembership(deps, { ...options, onRingChange, onConcurrentLeave });
  const { membership, registryMember } = members;
  const peerRpc = new PeerRpc({
    clock,
    timers: deps.timers,
    membership,
    transport: deps.transport,
    probing: members.probing,
    policiesDigest: () => policyParts.activePolicies.document().digest,
    heardPolicies: (id, digest) => policyParts.policies.antiEntropy.noteDigest(id, digest),
    heardDuplicate: () => lifecycle.ownIdReceived(),
    suspectAfterMs,
    beatMs: beatMsOf(suspectAfterMs),
  });
  const { ask } = peerRpc;
  const policyParts = wirePolicies({ ...deps, ...members, ask }, () => decisions, options);
  const { activePolicies, policies, adaptive } = policyParts;
  const buckets = wireBuckets({ ...deps, membership, ask }, options);
  const { copies, replicator, writeBehind } = buckets;
  const detectPause = (nowMs: number): void => lifecycle.detectPause(nowMs);
  const decisions = wireDecisions({ ...deps, ...members, ...buckets, ask, detectPause }, options);
  const { gate, limiter, denials, leaseGranter, settler } = decisions;
  activePolicies.onChange(() => denials.clear());
  const checks = new CheckPipeline({ ...deps, ...decisions, membership });
  const donor = createDonor({ ...buckets, membership }, options);
  const parts = { ...deps, ...members, ...policyParts, ...buckets, ...decisions, ask, peerRpc, checks, donor };
  const admin = new ClientAdmin(parts, { timeoutMs: suspectAfterMs });
  const stats = (): NodeStats => nodeStats(parts);
  const observer = new Observer({ ...parts, stats }, { timeoutMs: suspectAfterMs });
  const lifecycle = new Lifecycle(parts, options);
  const { maxAnswerBytes } = options.stateBounds ?? DEFAULT_STATE_BOUNDS;
  const peerHandler = createPeerHandler(
    {
      ...parts,
      keep(clients, view) {
        copies.merge(clients);
        replicator.copiesReceived(clients, view);
      },
      forget: (clientId) => admin.forgetHere(clientId),
      observer,
    },
    { maxAnswerBytes },
  );

  function onRingChange(): void {
    // A denial names an owner that may have changed.
    denials.clear();
    replicator.ringChanged();
    writeBehind?.ringChanged();
    lifecycle.ringChanged();
    log.info({ members: membership.ring().members, checksum: membership.ring().checksum }, 'the ring changed');
  }

  function onConcurrentLeave(leaving: boolean): void {
    releaseLeavers?.();
    releaseLeavers = leaving ? gate.close() : undefined;
  }

  const node: ClusterNode = {
    checks,
    limiter,
    gate,
    membership,
    activePolicies,
    policies,
    settler,
    adaptive,
    leaseGranter,
    receive({ sender, body }) {
      const isOwn = sender.from.id === options.self;
      const checkingId = isOwn ? undefined : lifecycle.checkingId();
      if (checkingId !== undefined) {
        // Nodes that start together ask each other, and must not wait for each other.
        if (body.kind === 'heartbeat') return peerRpc.reply({ kind: 'members', members: [] });
        return checkingId.then(() => node.receive({ sender, body }));
      }
      detectPause(clock.nowMs());
      if (isOwn) lifecycle.ownIdReceived();
      else peerRpc.messageReceived(sender);
      const handsOver = body.kind === 'handoff' || body.kind === 'admit';
      const asking = handsOver ? lifecycle.asking() : undefined;
      // While another node may have acted for this one, this one does not know what it would hand over.
      if (asking !== undefined) return asking.then(() => peerRpc.reply(peerHandler.answer(sender, body)));
      return peerRpc.reply(peerHandler.answer(sender, body));
    },
    start: () => lifecycle.start(),
    waitingFor: () => lifecycle.waitingFor(),
    describe: (clientId) => admin.describe(clientId),
    forget: (clientId) => admin.forget(clientId),
    leave: (group) => lifecycle.leave(group),
    flush: () => writeBehind?.flush() ?? Promise.resolve(),
    stats,
    observer,
    close() {
      lifecycle.close();
      peerRpc.close();
      registryMember?.session.close();
      replicator.close();
      decisions.forwarder.close();
      decisions.leaseHolder.close();
      writeBehind?.close();
    },
  };
  return node;
}
