import type { Verdict } from './decide.js';

/**
 * The source of a decision: the owner, asked directly or by forwarding; tokens leased from the owner; a remembered
 * denial; or this node alone, because neither the owner nor its successor could be asked.
 */
export const SOURCES = ['owner', 'forwarded', 'lease', 'deny-cache', 'fallback'] as const;
export type Source = (typeof SOURCES)[number];

/** Upper bounds of the histogram of request durations, in seconds: doubling from 50 µs to about 1.6 s. */
export const DURATION_BOUNDS: readonly number[] = Array.from({ length: 16 }, (_, i) => 0.00005 * 2 ** i);

/** `retryAfterMs` of a denial that was made without asking the owner. */
export const CLOSED_RETRY_MS = 1_000;

/** A verdict and its source. */
export interface Decision extends Verdict {
  /** Id of the node that owns the client. */
  readonly owner: string;
  readonly source: Source;
  /** True only when the owner's state could not be used. */
  readonly degraded: boolean;
  /** Id of the reservation, for `settle`. */
  readonly reservation?: string;
  /**
   * The check asked for a reservation, under a request id whose first decision has none that is still known. Callers get
   * an error instead of this decision.
   */
  readonly unreserved?: true;
  /** The verdict of a shadow policy, which is not enforced. */
  readonly shadow?: { readonly allowed: boolean; readonly retryAfterMs: number | null };
}

/** The result of settling a reservation. */
export interface Settlement {
  /** The cost that counts, which is the cost of the first settlement. */
  readonly cost: number;
  readonly reserved: number;
  /** The tightest limit of the reservation. */
  readonly limit: number;
  readonly remaining: number;
  readonly resetMs: number;
}
