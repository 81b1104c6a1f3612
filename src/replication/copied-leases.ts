import { dropLeases, hasLeases } from '../limits/bucket/bucket.js';
import type { NodeId, Placed } from '../limits/ring/ring.js';
import type { BucketTable, Client } from '../state/bucket-table.js';
import type { Membership } from '../membership/membership.js';
import type { Clock } from '../lib/clock.js';
import type { Placement } from './placement.js';

interface CopiedLeasesDeps {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly placement: Pick<Placement, 'targetsOf' | 'isHolder' | 'isEntitled'>;
  /** Whether a member that joins will hold the client. */
  readonly isForJoiner: (to: NodeId, client: Placed) => boolean;
}

/**
 * Keeps leases out of copies that nobody updates. A member that the ring gives no copy of a client does not learn how
 * the client's leases end, so it would count all their tokens as spent. The next change of the ring may ask for its copy
 * again.
 */
interface CopiedLeases {
  /** Whether a copy for a member shows leases. It may wait while the ring changes, until the member is to have none. */
  readonly shows: (to: NodeId, client: Client) => boolean;
  /** Notes that a next owner gets copies, with leases, although the ring gives it none. */
  addNextOwner(id: NodeId): void;
  /** Notes that no copy waits any more. */
  allSent(): void;
  /** Drops the leases of a client of which this node is to have no copy. */
  dropUnentitled(client: Client): void;
  /**
   * Drops the leases of a client that a copy has just brought, if it was meant for the holder that this node was until the ring
   * changed. Its sender did not know of the change yet. A message takes less than half of the suspicion time, so a later
   * copy is for a next owner.
   */
  copyReceived(client: Client): void;
  ringChanged(): void;
}

export function createCopiedLeases(
  { clock, table, membership, placement, isForJoiner }: CopiedLeasesDeps,
  { suspectAfterMs }: { suspectAfterMs: number },
): CopiedLeases {
  const nextOwners = new Set<NodeId>();
  let ring = membership.ring();
  /** The ring before the present one, which began at `ringChangedAtMs`. */
  let formerRing = ring;
  let ringChangedAtMs = -Infinity;

  /** Whether this node is in the ring, which gives it no copy of the client. Outside, it may be about to join with one. */
  function isUnentitled(client: Placed): boolean {
    return membership.ring().members.includes(membership.self().id) && !placement.isEntitled(client);
  }

  const copiedLeases: CopiedLeases = {
    shows: (to, client) =>
      !hasLeases(client) || placement.targetsOf(client).includes(to) || isForJoiner(to, client) || nextOwners.has(to),
    addNextOwner: (id) => void nextOwners.add(id),
    allSent: () => nextOwners.clear(),
    dropUnentitled(client) {
      if (!hasLeases(client) || !isUnentitled(client)) return;
      dropLeases(client);
      table.close(client, clock.nowMs());
    },
    copyReceived(client) {
      if (clock.nowMs() - ringChangedAtMs > suspectAfterMs / 2) return;
      if (placement.isHolder(formerRing, client)) copiedLeases.dropUnentitled(client);
    },
    ringChanged() {
      formerRing = ring;
      ring = membership.ring();
      ringChangedAtMs = clock.nowMs();
    },
  };
  return copiedLeases;
}
