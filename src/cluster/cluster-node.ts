import type { Denials } from '../core/denials.js';
import type { ClientDescription } from '../core/description.js';
import type { NodeId } from '../core/ring.js';
import type { BucketTable } from './state/bucket-table.js';
import type { CheckPipeline } from './decide/check-pipeline.js';
import type { OnUnavailable } from './decide/fallback.js';
import type { Forwarder } from './routing/forwarder.js';
import type { GroupLeave } from './handover/leaver.js';
import type { LeaseHolder } from './leases/holder.js';
import type { LeaseGranter } from './leases/granter.js';
import type { Limiter } from './decide/limiter.js';
import type { AdaptiveController } from './policies/adaptive-controller.js';
import type { Membership } from './membership/membership.js';
import type { Envelope, PeerAnswer, PeerMessage } from './messages.js';
import type { ActivePolicies } from './policies/active-policies.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import type { Clock, Discovery, Log, PeerTransport, Store, Timers } from './ports.js';
import type { RegistryMember } from './handover/registry-member.js';
import type { Registry } from './membership/registry.js';
import type { Replicator } from './replication/replicator.js';
import type { Settler } from './decide/settler.js';
import type { WriteBehind } from './durability/write-behind.js';

export interface ClusterNodeOptions {
  /** Id of this node on the ring: `host:port`. */
  readonly self: NodeId;
  readonly version: string;
  /** Where callers reach this node, if it can say. */
  readonly url?: string | undefined;
  /** Clients that the bucket table holds at most. */
  readonly maxClients: number;
  readonly replicas: number;
  readonly replicationIntervalMs: number;
  readonly suspectAfterMs: number;
  readonly onUnavailable: OnUnavailable;
  /** Forwards of one client within 250 ms that make it worth a lease. Default 32. */
  readonly leaseAfter?: number;
  /** With a registry: how long this node stays a member without renewing, in whole seconds. Default 5,000 ms. */
  readonly memberTtlMs?: number;
  /** With a registry: one node at most decides for a client, whatever fails. Default false. */
  readonly strict?: boolean;
  /** How long after a decision it is written to the store, if there is one. Default 200. */
  readonly storeIntervalMs?: number;
}

export interface ClusterNodeDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly transport: PeerTransport;
  readonly discovery: Discovery;
  /** Where members are written down; without it they find and tell each other. */
  readonly registry?: Registry | undefined;
  readonly log: Log;
  /** What lasts when all nodes are gone; without it, nothing. */
  readonly store?: Store | undefined;
}

export interface ClusterNode {
  readonly limiter: Limiter;
  readonly checks: CheckPipeline;
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly replicator: Replicator;
  readonly forwarder: Forwarder;
  readonly leaseGranter: LeaseGranter;
  readonly leaseHolder: LeaseHolder;
  readonly denials: Denials;
  readonly activePolicies: ActivePolicies;
  readonly policies: Pick<PolicyBackend, 'write'>;
  readonly settler: Pick<Settler, 'settle'>;
  readonly reservations: { readonly size: number };
  readonly adaptive: Pick<AdaptiveController, 'report' | 'factors'>;
  /** This node's part in a registry, if it has one. */
  readonly registryMember: RegistryMember | undefined;
  /** If there is a store. */
  readonly writeBehind: WriteBehind | undefined;
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
  /**
   * Leaves the ring with nothing forgotten: hands what changed to those who decide next, and forwards to them. Where nobody else is
   * there it goes on deciding.
   */
  leave(group?: GroupLeave): Promise<void>;
  /** Stops all timers. What still waits is decided by the fallback. */
  close(): void;
}
