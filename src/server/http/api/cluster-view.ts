import type { Static } from '@sinclair/typebox';
import { clientKey } from '../../../limits/ring/client-hash.js';
import { pointOf } from '../../../limits/ring/ring.js';
import type { Membership } from '../../../membership/membership.js';
import type { ClusterSchema, OwnerSchema } from '../../validate/schema.js';

export type ClusterDescription = Static<typeof ClusterSchema>;
type OwnerDescription = Static<typeof OwnerSchema>;

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
