import type { CheckPipeline } from './decide/check-pipeline.js';
import type { StoreStats } from './durability/write-behind.js';
import type { Donor } from '../replication/donor.js';
import type { RegistryMember } from './registry-member.js';
import type { Membership, MemberState } from '../membership/membership.js';
import type { Factors } from '../protocol/messages.js';
import type { ActivePolicies } from '../policy/active-policies.js';
import type { AdaptiveController } from './policies/adaptive-controller.js';
import type { BucketParts, DecisionParts, MembershipParts } from './wiring.js';

/** Gauges and counters of one node at one moment. Counters count from the start of the node. */
export interface NodeStats {
  /** Clients in the bucket table, owned and copied. */
  readonly clients: number;
  readonly unexpiredEvictions: number;
  readonly reservations: number;
  /** Denials that were not enforced, by shadow policy. */
  readonly shadowDenials: ReadonlyMap<string, number>;
  readonly policiesVersion: number;
  /** Adaptive policies whose limits are reduced now, with the part that is in force. */
  readonly loadFactors: Factors;
  /** Members as this node sees them, by state. */
  readonly members: ReadonlyMap<MemberState, number>;
  /** Age of the oldest copy that a living successor has not acknowledged; 0 if there is none. */
  readonly replicationLagMs: number;
  /** Clients that the replicator has yet to place since the last change of the ring. */
  readonly unplacedClients: number;
  /** Clients handed to joining members. */
  readonly handedClients: number;
  /** Checks that wait for another node. */
  readonly forwardsWaiting: number;
  /** Clients of other owners of which this node holds leases. */
  readonly leasedClients: number;
  readonly lentTokens: number;
  readonly returnedTokens: number;
  readonly rememberedDenials: number;
  /** Present if there is a store. */
  readonly store: StoreStats | undefined;
  /** Present if there is a registry. */
  readonly registry: RegistryStats | undefined;
}

export interface RegistryStats {
  /** The revision of the registry from which this node made the ring. */
  readonly revision: number;
  readonly leaseLeftMs: number;
  readonly arePoliciesValid: boolean;
  /** The revision at which the policies were last written; 0 if never. */
  readonly policiesRevision: number;
  /** Failed requests by kind. */
  readonly failures: Readonly<Record<string, number>>;
}

export function nodeStats(
  { membership, registryMember }: MembershipParts,
  { table, reservations, replicator, writeBehind }: BucketParts,
  { forwarder, leaseHolder, leaseGranter, denials }: DecisionParts,
  {
    checks,
    activePolicies,
    adaptive,
    donor,
  }: {
    readonly checks: CheckPipeline;
    readonly activePolicies: ActivePolicies;
    readonly adaptive: AdaptiveController;
    readonly donor: Donor;
  },
): NodeStats {
  return {
    clients: table.size(),
    unexpiredEvictions: table.unexpiredEvictions(),
    reservations: reservations.size(),
    shadowDenials: checks.shadowDenials,
    policiesVersion: activePolicies.document().version,
    loadFactors: adaptive.factors(),
    members: membersByState(membership),
    replicationLagMs: replicator.lagMs(),
    unplacedClients: replicator.unplaced(),
    handedClients: donor.handedClients(),
    forwardsWaiting: forwarder.waiting(),
    leasedClients: leaseHolder.leasedClients(),
    lentTokens: leaseGranter.lentTokens(),
    returnedTokens: leaseGranter.returnedTokens(),
    rememberedDenials: denials.size(),
    store: writeBehind?.stats(),
    registry: registryMember && registryStats(registryMember),
  };
}

function membersByState(membership: Membership): ReadonlyMap<MemberState, number> {
  const byState = new Map<MemberState, number>();
  for (const { id } of membership.records()) {
    const state = membership.stateOf(id)!;
    byState.set(state, (byState.get(state) ?? 0) + 1);
  }
  return byState;
}

function registryStats({ membership, session }: RegistryMember): RegistryStats {
  const stored = session.policyStore.known()?.stored;
  return {
    revision: membership.epoch(),
    leaseLeftMs: session.leaseLeftMs(),
    arePoliciesValid: stored?.kind !== 'unreadable',
    policiesRevision: stored?.revision ?? 0,
    failures: session.health.failures,
  };
}
