/**
 * Tokens that the owner of a bucket has set aside for another node to spend by itself.
 *
 * Why no limit is exceeded: let P be the debt of the bucket and the open leases together. A grant and a decision of the owner
 * add to P, a spent token was in it before, and only the debt decays, at the bucket's rate. So over any span P grows by at
 * least what was admitted less the refill; and as P never exceeds the capacity, neither does `admitted − refill`.
 */
export interface Lease {
  /** Unique among all leases of all owners. */
  readonly id: string;
  /** Set aside; whole, at least 1. */
  readonly tokens: number;
  /** Monotonic ms of this process from when on nobody spends from it any more: what has not come back counts as spent. */
  endMs: number;
  /**
   * Once it is over: how many of its tokens were spent, and are part of the debt; at its end, all that did not come back. It is
   * remembered for a while, as copies may be under way in which it is open.
   */
  spent: number | undefined;
}

/** The leases of one bucket. */
export interface Leases {
  readonly list: Lease[];
  /** Tokens of those that are open. */
  lent: number;
  /** When the next of them is to be closed or forgotten. */
  dueMs: number;
}

/**
 * How long a lease that is over is remembered, counted from its end: by then those who hold copies know of the end, with the
 * debt in which its tokens are. Who would learn it later counts them twice for a while: stricter.
 */
const REMEMBERED_MS = 500;

export function addLease(leases: Leases | undefined, lease: Lease): Leases {
  return summed([...(leases?.list ?? []), lease]);
}

/** Ends one by one, earliest first, those that are over at `nowMs`. @returns what is left of them */
export function endLeases(leases: Leases, nowMs: number, ended: (lease: Lease) => void): Leases | undefined {
  if (nowMs < leases.dueMs) return leases;
  const over = leases.list.filter((lease) => isOpen(lease) && lease.endMs <= nowMs).sort((a, b) => a.endMs - b.endMs);
  for (const lease of over) {
    lease.spent = lease.tokens;
    ended(lease);
  }
  const list = leases.list.filter(({ endMs }) => endMs + REMEMBERED_MS > nowMs);
  return list.length === 0 ? undefined : summed(list);
}

/** @returns the open lease of that id, over by this */
export function closeLease(leases: Leases, id: string, unspent: number): Lease | undefined {
  const lease = leases.list.find((one) => one.id === id && isOpen(one));
  if (lease === undefined) return undefined;
  lease.spent = Math.max(0, lease.tokens - unspent);
  Object.assign(leases, summed(leases.list));
  return lease;
}

/**
 * Knows all that either knows. Where a lease is over for one of them and open for the other, what was spent of it is part of
 * only one debt: the two can be compared once `owes` has added it to the other.
 */
export function mergeLeases(
  a: Leases | undefined,
  b: Leases | undefined,
  owes: (side: 'a' | 'b', tokens: number) => void,
): Leases | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const list = [...a.list];
  for (const lease of b.list) {
    const known = list.find(({ id }) => id === lease.id);
    if (known === undefined) {
      list.push(lease);
      continue;
    }
    if (known.spent === undefined && lease.spent !== undefined) owes('a', lease.spent);
    if (known.spent !== undefined && lease.spent === undefined) owes('b', known.spent);
    if (known.spent !== undefined || lease.spent !== undefined) {
      known.spent = Math.max(known.spent ?? 0, lease.spent ?? 0);
    }
    known.endMs = Math.max(known.endMs, lease.endMs);
  }
  return summed(list);
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
