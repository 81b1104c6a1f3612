import { clientKey } from '../../../limits/ring/client-hash.js';
import { pointOf } from '../../../limits/ring/ring.js';
import type { Membership, MemberState } from '../../../membership/membership.js';

export interface ClusterDescription {
  readonly self: string;
  readonly ringChecksum: string;
  /** The etcd revision from which the ring is built; absent without etcd. */
  readonly epoch?: number;
  readonly members: readonly {
    readonly id: string;
    readonly state: MemberState;
    /** Fraction of the ring that the member owns, 0 to 1. */
    readonly share: number;
    readonly version: string;
    /** The member's public address, if it advertises one. */
    readonly url?: string;
    readonly incarnation: number;
    /** Ms since this node last received a message from the member. Seconds are usual if it is no neighbour. */
    readonly silentMs: number;
  }[];
}

export interface OwnerDescription {
  readonly clientId: string;
  readonly owner: string;
  /** Nearest first. */
  readonly successors: readonly string[];
  /** Place of the client's hash in the key space: 0 up to, but without, 1. */
  readonly point: number;
}

/** Lists the members as this node sees them, by id. */
export function describeCluster(membership: Membership): ClusterDescription {
  const self = membership.self();
  const ring = membership.ring();
  const epoch = membership.epoch();
  const shares = ring.shares();
  const members = membership.records().map(({ id, version, url, incarnation, silentMs }) => {
    // The record of this node itself may be of an earlier incarnation.
    const life = id === self.id ? self.incarnation : incarnation;
    const state = membership.stateOf(id)!;
    const share = shares.get(id) ?? 0;
    return { id, state, share, version, ...(url !== '' && { url }), incarnation: life, silentMs };
  });
  members.sort((a, b) => (a.id < b.id ? -1 : 1));
  return { self: self.id, ringChecksum: ring.checksum, ...(epoch !== undefined && { epoch }), members };
}

/** Names the owner of a client and its successors, nearest first. */
export function describeOwner(membership: Membership, clientId: string): OwnerDescription {
  const self = membership.self();
  const ring = membership.ring();
  const client = clientKey(clientId);
  const owner = ring.owner(client) ?? self.id;
  return { clientId, owner, successors: ring.successors(client, ring.members.length), point: pointOf(client) };
}
