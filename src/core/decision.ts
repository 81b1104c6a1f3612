import type { Verdict } from './decide.js';

/**
 * Who decided: the owner where it was asked, the owner over a forward, tokens leased from it, a remembered denial, or this
 * node because neither the owner nor its successor could be asked.
 */
export const SOURCES = ['owner', 'forwarded', 'lease', 'deny-cache', 'fallback'] as const;
export type Source = (typeof SOURCES)[number];

/** When a denial that only says "nobody could be asked" is worth asking again. */
export const CLOSED_RETRY_MS = 1_000;

/** A verdict, and whose it is. */
export interface Decision extends Verdict {
  /** Id of the node that owns the client. */
  readonly owner: string;
  readonly source: Source;
  /** True only when the owner's state could not be used. */
  readonly degraded: boolean;
  /** Under which the cost, which was reserved, can be settled. */
  readonly reservation?: string;
  /** Of a policy on trial: what it would have decided. */
  readonly shadow?: { readonly allowed: boolean; readonly retryAfterMs: number | null };
}

/** How a reservation stands now. */
export interface Settlement {
  /** The cost that counts: the one it was first settled with. */
  readonly cost: number;
  readonly reserved: number;
  /** Of the tightest of the client's limits under it. */
  readonly limit: number;
  readonly remaining: number;
  readonly resetMs: number;
}
