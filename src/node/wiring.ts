import { LRUCache } from 'lru-cache';
import { Denials, denialsOf, type Denial } from '../limits/decide/denials.js';
import { denialBytes } from '../limits/heap-bytes.js';
import { MAX_DOCUMENT_BYTES } from '../policy/policy-document.js';
import type { NodeId } from '../limits/ring/ring.js';
import { TopClients } from '../limits/top-clients.js';
import type { FallbackMode } from '../limits/decide/check.js';
import { Fallback } from './decide/fallback.js';
import { CheckRouter } from './decide/check-router.js';
import { Owner } from './decide/owner.js';
import { PeerChecks } from './decide/peer-checks.js';
import { Settler } from './decide/settler.js';
import { ColdStartRecovery } from './durability/cold-start-recovery.js';
import { withWriteBehind, WriteBehind } from './durability/write-behind.js';
import { RegistryMember } from './registry-member.js';
import { LeaseGranter } from './leases/granter.js';
import { LeaseHolder } from './leases/holder.js';
import { beatMsOf, giveUpMsOf } from './lifecycle.js';
import { GossipMembership } from '../membership/gossip-membership.js';
import type { Membership, MembershipOptions } from '../membership/membership.js';
import { GossipProbing, type Probing } from '../membership/probing.js';
import type { Registry } from '../membership/registry.js';
import { ActivePolicies } from '../policy/active-policies.js';
import { PolicyUse } from '../policy/policy-use.js';
import { AdaptiveController } from './policies/adaptive-controller.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import { RegistryBackend } from './policies/registry-backend.js';
import { RingBackend } from './policies/ring-backend.js';
import type { Ask, PeerTransport, LeaseReturn, ProcessReport } from '../protocol/messages.js';
import type { Clock, Timers, Log } from '../lib/system.js';
import type { Discovery } from '../membership/discovery.js';
import type { Store } from '../store/store.js';
import { Confirmer } from '../replication/confirmer.js';
import { Replicator } from '../replication/replicator.js';
import { Forwarder } from './decide/forwarder.js';
import type { Router } from '../membership/route.js';
import { BucketTable } from '../state/bucket-table.js';
import { Copies } from '../state/copies.js';
import { RecentDecisions } from '../state/recent-decisions.js';
import { Reservations } from '../state/reservations.js';

const MIB = 1024 * 1024;

/** Bounds of what a node remembers, in bytes. */
export interface StateBounds {
  /** Clients in the bucket table: a record for each, outside the heap. */
  readonly maxRecordBytes: number;
  /** Clients in the bucket table whose buckets do not fit into their records, and rules. */
  readonly maxClientHeapBytes: number;
  /** Request ids, each for 60 s. */
  readonly maxRecentBytes: number;
  /** Reservations, each for ten minutes. */
  readonly maxReservationBytes: number;
  /** Clients that the node decides by its fallback: as many bytes outside the heap, and as many on it. */
  readonly maxFallbackBytes: number;
  /** Denials of clients of other owners. */
  readonly maxDenialBytes: number;
  /** Answers to peers, in case a peer sends its checks again. */
  readonly maxAnswerBytes: number;
  /** Checks of peers that wait, while this node may not decide or for acknowledgements. */
  readonly maxWaitingCheckBytes: number;
  /** All policies together, as JSON. */
  readonly maxPolicyBytes: number;
}

/** Bounds of a node that is part of another program. */
export const DEFAULT_STATE_BOUNDS: StateBounds = {
  maxRecordBytes: 256 * MIB,
  maxClientHeapBytes: 128 * MIB,
  maxRecentBytes: 128 * MIB,
  maxReservationBytes: 128 * MIB,
  maxFallbackBytes: 16 * MIB,
  maxDenialBytes: 8 * MIB,
  maxAnswerBytes: 32 * MIB,
  maxWaitingCheckBytes: 16 * MIB,
  maxPolicyBytes: MAX_DOCUMENT_BYTES,
};
/** After so many forwards of one client within 250 ms, a node asks for a lease: about 130 a second. */
const LEASE_AFTER = 32;

export interface ClusterNodeOptions {
  /** Id of this node on the ring: `host:port`. */
  readonly self: NodeId;
  readonly version: string;
  /** Address of the public API, if this node knows it. */
  readonly url?: string | undefined;
  /** Bound of the bucket table, in clients. */
  readonly maxClients: number;
  /** 32 random bits of this process: nobody else can tell which client ids share a place of the bucket table. Default 0. */
  readonly tableSecret?: number;
  /** Default: `DEFAULT_STATE_BOUNDS`. */
  readonly stateBounds?: StateBounds;
  /** Checks that wait for one peer; a check beyond is answered as overload. Default 10,000. */
  readonly maxQueued?: number | undefined;
  readonly replicas: number;
  readonly replicationIntervalMs: number;
  readonly suspectAfterMs: number;
  /** Without a registry: about how many members this node exchanges heartbeats with, even, at least 2. Default 8. */
  readonly neighbours?: number | undefined;
  readonly onUnavailable: FallbackMode;
  /** Forwards of one client within 250 ms after which this node asks for a lease. Default 32. */
  readonly leaseAfter?: number;
  /**
   * With a registry: how long this node stays a member without renewing its lease, in whole seconds. Default 5,000 ms.
   */
  readonly memberTtlMs?: number;
  /** With a registry: at most one node decides for a client, whatever fails. Default false. */
  readonly strict?: boolean;
  /** A node that meets no peer waits this long before it begins a ring of its own. Default 0. */
  readonly bootstrapMs?: number;
  /** Whether `start` first makes sure that no other process answers at the address of this node. Default false. */
  readonly checksId?: boolean;
  /** With a store: ms from a decision to its write. Default 200. */
  readonly storeIntervalMs?: number;
}

export interface ClusterNodeDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly transport: PeerTransport;
  readonly discovery: Discovery;
  /** Keeps the registrations of all members. Without it, members gossip. */
  readonly registry?: Registry | undefined;
  readonly log: Log;
  /** Keeps buckets beyond the life of all nodes. Without it, they end with the nodes. */
  readonly store?: Store | undefined;
  /** Reports on the process. Without it, the report of this node has zeros. */
  readonly processReport?: (() => ProcessReport | undefined) | undefined;
}

/** The members, as gossip or a registry knows them. */
export interface MembershipParts {
  readonly membership: Membership;
  readonly probing: Probing;
  /** Present if there is a registry. */
  readonly registryMember: RegistryMember | undefined;
}

export function wireMembership(
  deps: ClusterNodeDeps,
  options: ClusterNodeOptions & Pick<MembershipOptions, 'onRingChange' | 'onConcurrentLeave'>,
): MembershipParts {
  const { clock, timers, log, registry, discovery } = deps;
  if (registry !== undefined) {
    const registryMember = new RegistryMember({ clock, timers, log, registry }, options);
    return { registryMember, membership: registryMember.membership, probing: registryMember.probing };
  }
  const membership = new GossipMembership(clock, options);
  const beatMs = beatMsOf(options.suspectAfterMs);
  const probing = new GossipProbing(clock, membership, discovery, beatMs);
  return { registryMember: undefined, membership, probing };
}

/** The buckets of this node, and all that keeps copies of them. */
export interface BucketParts {
  readonly table: BucketTable;
  readonly recent: RecentDecisions;
  readonly reservations: Reservations;
  readonly copies: Copies;
  readonly replicator: Replicator;
  /** Present if there is a store. */
  readonly writeBehind: WriteBehind | undefined;
  readonly coldStartRecovery: ColdStartRecovery | undefined;
  /** Takes note of changed clients, for the replicas and for the store. */
  readonly changes: Pick<Replicator, 'changed'>;
}

export function wireBuckets(
  { clock, timers, store, log }: ClusterNodeDeps,
  { membership, ask }: { readonly membership: Membership; readonly ask: Ask },
  options: ClusterNodeOptions,
): BucketParts {
  const { maxClients, replicas, replicationIntervalMs: intervalMs, suspectAfterMs } = options;
  const bounds = options.stateBounds ?? DEFAULT_STATE_BOUNDS;
  const table = new BucketTable({
    maxClients,
    maxBytes: bounds.maxRecordBytes,
    maxHeapBytes: bounds.maxClientHeapBytes,
    secret: options.tableSecret ?? 0,
  });
  const recent = new RecentDecisions(clock, options.self, bounds.maxRecentBytes);
  const reservations = new Reservations(clock, { maxBytes: bounds.maxReservationBytes });
  const copies = new Copies({ clock, table, recent, reservations, self: options.self });
  const replicator = new Replicator({
    clock,
    timers,
    table,
    copies,
    membership,
    ask,
    replicas,
    intervalMs,
    suspectAfterMs,
  });
  const writeBehind = store && new WriteBehind({ clock, timers, table, copies, membership, store, log }, options);
  const coldStartRecovery =
    writeBehind && new ColdStartRecovery({ clock, timers, table, copies, membership, ask, writeBehind, log }, options);
  const changes = withWriteBehind(replicator, writeBehind);
  return { table, recent, reservations, copies, replicator, writeBehind, coldStartRecovery, changes };
}

/** The parts that decide checks, on this node or by asking another one. */
export interface DecisionParts {
  readonly checkRouter: CheckRouter;
  readonly peerChecks: PeerChecks;
  readonly forwarder: Forwarder;
  readonly leaseHolder: LeaseHolder;
  readonly leaseGranter: LeaseGranter;
  readonly denials: Denials;
  readonly settler: Settler;
  readonly topClients: TopClients;
}

export function wireDecisions(
  { clock, timers }: ClusterNodeDeps,
  { membership, registryMember }: MembershipParts,
  { copies, table, recent, reservations, replicator, changes }: BucketParts,
  { ask, router }: { readonly ask: Ask; readonly router: Router },
  options: ClusterNodeOptions,
): DecisionParts {
  const { self, maxClients, onUnavailable, suspectAfterMs, replicas, maxQueued } = options;
  const giveUpAfterMs = giveUpMsOf(suspectAfterMs);
  const topClients = new TopClients(options.tableSecret ?? 0);
  const forwarder = new Forwarder({ clock, timers, membership, ask, router, giveUpAfterMs, maxQueued });
  const bounds = options.stateBounds ?? DEFAULT_STATE_BOUNDS;
  const { maxFallbackBytes: maxBytes, maxDenialBytes, maxWaitingCheckBytes: maxWaitingBytes } = bounds;
  const fallback = new Fallback({ clock, membership, topClients, onUnavailable, maxClients, maxBytes });
  const denials = createDenials(maxDenialBytes);
  const acknowledger = registryMember?.acknowledger({ copies, ask }, { replicas, suspectAfterMs, giveUpAfterMs });
  const confirmer = new Confirmer(replicator, acknowledger);
  const granterParts = { clock, table, membership, replicator: changes, reservations, confirmer, router };
  const leaseGranter = new LeaseGranter(granterParts);
  const giveBack = (lease: LeaseReturn): void => leaseGranter.giveBack(lease);
  const { leaseAfter = LEASE_AFTER } = options;
  const leaseHolder = new LeaseHolder({ clock, timers, ask, router, giveBack, self, leaseAfter });
  const owner = new Owner(self, {
    table,
    recent,
    reservations,
    replicator: changes,
    pauseLending: (clientId) => leaseGranter.pause(clientId),
    noteActing: (client) => membership.noteActing(client),
    confirmer,
    topClients,
  });
  const peerChecks = new PeerChecks({ clock, router, owner, maxWaitingBytes });
  const checkRouter = new CheckRouter({
    clock,
    router,
    owner,
    leaseHolder,
    denials,
    forwarder,
    fallback,
    topClients,
  });
  const settler = new Settler({
    clock,
    timers,
    table,
    reservations,
    replicator: changes,
    ask,
    router,
    confirmer,
    timeoutMs: suspectAfterMs,
  });
  return { checkRouter, peerChecks, forwarder, leaseHolder, leaseGranter, denials, settler, topClients };
}

function createDenials(maxBytes: number): Denials {
  const sizeCalculation = (latest: Denial, clientId: string): number =>
    denialsOf(latest).reduce((bytes, { rules, decision }) => bytes + denialBytes(clientId, rules, decision), 0);
  return new Denials(new LRUCache<string, Denial>({ maxSize: maxBytes, sizeCalculation }));
}

/** The policies in force, and what keeps them the same on all nodes. */
interface PolicyParts {
  readonly activePolicies: ActivePolicies;
  readonly policyUse: PolicyUse;
  readonly policies: PolicyBackend;
  readonly adaptive: AdaptiveController;
}

export function wirePolicies(
  { clock, timers, log }: ClusterNodeDeps,
  { membership, registryMember }: MembershipParts,
  { ask, router }: { readonly ask: Ask; readonly router: Router },
  options: ClusterNodeOptions,
): PolicyParts {
  const timeoutMs = options.suspectAfterMs;
  const policyUse = new PolicyUse(clock);
  // A circle: the policies in force scale their rules by the controller, which finds its policies among them.
  const activePolicies = new ActivePolicies(
    (policy, rules) => adaptive.scaled(policy, rules),
    (name) => policyUse.note(name),
  );
  const adaptive: AdaptiveController = new AdaptiveController(
    { clock, membership, policyOf: (name) => activePolicies.set().policies.get(name), ask, router },
    { timeoutMs },
  );
  const backendOptions = { timeoutMs, maxBytes: (options.stateBounds ?? DEFAULT_STATE_BOUNDS).maxPolicyBytes };
  const policyStore = registryMember?.session.policyStore;
  const policies =
    policyStore === undefined
      ? new RingBackend({ timers, log, membership, activePolicies, ask, router }, backendOptions)
      : new RegistryBackend({ clock, timers, log, membership, activePolicies, ask, policyStore }, backendOptions);
  return { activePolicies, policyUse, policies, adaptive };
}
