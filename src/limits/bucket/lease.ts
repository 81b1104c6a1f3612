/**
 * Tokens that the owner of a bucket has set aside. Another node, the lease holder, spends them by itself.
 *
 * Leases exceed no limit. Let P be the debt of the bucket plus the tokens of its open leases. A grant adds to P, and so
 * does a decision of the owner. A leased token is in P before it is spent. Only the debt decays, at the bucket's rate.
 * So over any span, P grows by at least `admitted − refill`. P never exceeds the capacity, so neither does
 * `admitted − refill`.
 */
export interface Lease {
  /** Unique among all leases of all owners. */
  readonly id: string;
  /** Tokens set aside: whole, at least 1. */
  readonly tokens: number;
  /**
   * End of the lease in monotonic ms of this process. No node spends from the lease after its end. Tokens that have not
   * come back by then count as spent. If this node notices the end later, it is the time at which it does.
   */
  endMs: number;
  /**
   * `undefined` while the lease is open. Once it is over, the number of its tokens that were spent; they are part of
   * the debt. At the end of a lease, all tokens that did not come back count as spent. A lease that is over is
   * remembered for a while, because copies in transit may still show it as open.
   */
  spent: number | undefined;
}

/** The leases of one bucket. */
export interface Leases {
  readonly list: Lease[];
  /** Tokens of the open leases. */
  lent: number;
  /** Time at which the next lease is to be closed or forgotten, in monotonic ms of this process. */
  dueMs: number;
}

/**
 * Time for which a lease that is over is remembered, counted from its end. Within this time the replicas learn of the
 * end, together with the debt that contains the spent tokens. A node that learns of it later counts these tokens twice
 * for a while, which can only deny more. A node that was frozen notices the ends of its leases all at once. It remembers them
 * from then on, because the messages that waited for it still show them as open.
 */
const REMEMBERED_MS = 500;

/** @returns the leases of one bucket; `undefined` for an empty list */
export function leasesFrom(list: Lease[]): Leases | undefined {
  return list.length === 0 ? undefined : summed(list);
}

export function addLease(leases: Leases | undefined, lease: Lease): Leases {
  return summed([...(leases?.list ?? []), lease]);
}

/** @returns whole ms until an open lease is over, or until a lease that is over is forgotten; at least 0 */
export function leftMs({ endMs, spent }: Lease, nowMs: number): number {
  return Math.max(0, spent === undefined ? endMs - nowMs : endMs + REMEMBERED_MS - nowMs);
}

/** The inverse of `leftMs`. @returns the end of a lease, given the ms that are left at `nowMs` */
export function endOf({ leftMs: left, spent }: { leftMs: number; spent: number | undefined }, nowMs: number): number {
  return spent === undefined ? nowMs + left : nowMs + left - REMEMBERED_MS;
}

/**
 * Ends the leases that are over at `nowMs`, earliest first. `ended` sees each with the end that it was to have.
 * @returns all leases except the forgotten ones
 */
export function endLeases(leases: Leases, nowMs: number, ended: (lease: Lease) => void): Leases | undefined {
  if (nowMs < leases.dueMs) return leases;
  const over = leases.list.filter((lease) => isOpen(lease) && lease.endMs <= nowMs).sort((a, b) => a.endMs - b.endMs);
  for (const lease of over) {
    lease.spent = lease.tokens;
    ended(lease);
    lease.endMs = nowMs;
  }
  return leasesFrom(leases.list.filter(({ endMs }) => endMs + REMEMBERED_MS > nowMs));
}

/** Closes the open lease of this id. @returns the closed lease; `undefined` if none is open */
export function closeLease(leases: Leases, id: string, unspent: number): Lease | undefined {
  const lease = leases.list.find((one) => one.id === id && isOpen(one));
  if (lease === undefined) return undefined;
  lease.spent = Math.max(0, lease.tokens - unspent);
  Object.assign(leases, summed(leases.list));
  return lease;
}

/**
 * Merges the leases of two copies of a bucket. A lease may be over in one copy and open in the other. Then its spent
 * tokens are part of only one debt. `owes` adds them to the debt of the other side, so that the debts can be compared.
 */
export function mergeLeases(
  a: Leases | undefined,
  b: Leases | undefined,
  owes: (side: 'a' | 'b', tokens: number) => void,
): Leases | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const byId = new Map(a.list.map((lease) => [lease.id, lease]));
  for (const lease of b.list) {
    const known = byId.get(lease.id);
    if (known === undefined) {
      byId.set(lease.id, lease);
    } else if (known.spent === undefined && lease.spent === undefined) {
      known.endMs = Math.max(known.endMs, lease.endMs);
    } else if (known.spent === undefined) {
      owes('a', lease.spent!);
      known.spent = lease.spent;
      known.endMs = lease.endMs;
    } else if (lease.spent === undefined) {
      owes('b', known.spent);
    } else {
      known.spent = Math.max(known.spent, lease.spent);
      // The earlier end counts. Otherwise two nodes that resend a lease to each other would remember it for ever.
      known.endMs = Math.min(known.endMs, lease.endMs);
    }
  }
  return summed([...byId.values()]);
}

export function isOpen({ spent }: Lease): boolean {
  return spent === undefined;
}

function summed(list: Lease[]): Leases {
  let lent = 0;
  let dueMs = Infinity;
  for (const lease of list) {
    if (isOpen(lease)) lent += lease.tokens;
    dueMs = Math.min(dueMs, isOpen(lease) ? lease.endMs : lease.endMs + REMEMBERED_MS);
  }
  return { list, lent, dueMs };
}
