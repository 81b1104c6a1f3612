import { dropLeases, hasLeases } from '../limits/bucket/bucket.js';
import type { NodeId, Placed, Ring } from '../limits/ring/ring.js';
import type { BucketTable, Client } from '../state/bucket-table.js';
import type { Membership } from '../membership/membership.js';
import type { Clock } from '../lib/system.js';
import type { Placement } from './placement.js';

/**
 * Keeps leases out of copies that nobody updates. A member that the ring gives no copy of a client does not learn how
 * the client's leases end, so it would count all their tokens as spent. The next change of the ring may ask for its copy
 * again.
 */
export class CopiedLeases {
  private readonly nextOwners = new Set<NodeId>();
  private ring: Ring;
  /** The ring before the present one, which began at `ringChangedAtMs`. */
  private formerRing: Ring;
  private ringChangedAtMs = -Infinity;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly table: BucketTable;
      readonly membership: Membership;
      readonly placement: Pick<Placement, 'targetsOf' | 'isHolder' | 'isEntitled'>;
      /** Whether a member that joins will hold the client. */
      readonly isForJoiner: (to: NodeId, client: Placed) => boolean;
      readonly suspectAfterMs: number;
    },
  ) {
    this.ring = parts.membership.ring();
    this.formerRing = this.ring;
  }

  /** Whether a copy for a member shows leases. It may wait while the ring changes, until the member is to have none. */
  shows(to: NodeId, client: Client): boolean {
    const { placement, isForJoiner } = this.parts;
    return (
      !hasLeases(client) ||
      placement.targetsOf(client).includes(to) ||
      isForJoiner(to, client) ||
      this.nextOwners.has(to)
    );
  }

  /** Notes that a next owner gets copies, with leases, although the ring gives it none. */
  addNextOwner(id: NodeId): void {
    this.nextOwners.add(id);
  }

  /** Notes that no copy waits any more. */
  allSent(): void {
    this.nextOwners.clear();
  }

  /** Drops the leases of a client of which this node is to have no copy. */
  dropUnentitled(client: Client): void {
    const { table, clock } = this.parts;
    if (!hasLeases(client) || !this.isUnentitled(client)) return;
    dropLeases(client);
    table.close(client, clock.nowMs());
  }

  /**
   * Drops the leases of a client that a copy has just brought, if it was meant for the holder that this node was until the ring
   * changed. Its sender did not know of the change yet. A message takes less than half of the suspicion time, so a later
   * copy is for a next owner.
   */
  copyReceived(client: Client): void {
    const { clock, suspectAfterMs, placement } = this.parts;
    if (clock.nowMs() - this.ringChangedAtMs > suspectAfterMs / 2) return;
    if (placement.isHolder(this.formerRing, client)) this.dropUnentitled(client);
  }

  ringChanged(): void {
    const { membership, clock } = this.parts;
    this.formerRing = this.ring;
    this.ring = membership.ring();
    this.ringChangedAtMs = clock.nowMs();
  }

  /** Whether this node is in the ring, which gives it no copy of the client. Outside, it may be about to join with one. */
  private isUnentitled(client: Placed): boolean {
    const { membership, placement } = this.parts;
    return membership.ring().members.includes(membership.self().id) && !placement.isEntitled(client);
  }
}
