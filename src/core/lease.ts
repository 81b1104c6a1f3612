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

/** All of these as those of one bucket; `undefined` for none. */
export function leasesFrom(list: Lease[]): Leases | undefined {
  return list.length === 0 ? undefined : summed(list);
}

export function addLease(leases: Leases | undefined, lease: Lease): Leases {
  return summed([...(leases?.list ?? []), lease]);
}

/** Whole ms until an open lease is over, or one that is over is forgotten; at least 0. */
export function leftMs({ endMs, spent }: Lease, nowMs: number): number {
  return Math.max(0, spent === undefined ? endMs - nowMs : endMs + REMEMBERED_MS - nowMs);
}

/** The end of a lease of which so many ms are left as `leftMs` says. */
export function endOf({ leftMs: left, spent }: { leftMs: number; spent: number | undefined }, nowMs: number): number {
  return spent === undefined ? nowMs + left : nowMs + left - REMEMBERED_MS;
}

/** Ends one by one, earliest first, those that are over at `nowMs`. @returns what is left of them */
export function endLeases(leases: Leases, nowMs: number, ended: (lease: Lease) => void): Leases | undefined {
  if (nowMs < leases.dueMs) return leases;
  const over = leases.list.filter((lease) => isOpen(lease) && lease.endMs <= nowMs).sort((a, b) => a.endMs - b.endMs);
  for (const lease of over) {
    lease.spent = lease.tokens;
    ended(lease);
  }
  return leasesFrom(leases.list.filter(({ endMs }) => endMs + REMEMBERED_MS > nowMs));
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
      // What two tell each other again and again is not remembered for longer by it.
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
