import type { Rule } from '../bucket/rule.js';
import type { Verdict } from './decide.js';

/**
 * The source of a decision: the owner, asked directly or by forwarding; tokens leased from the owner; a remembered
 * denial; or this node alone, because neither the owner nor its successor could be asked.
 */
export const SOURCES = ['owner', 'forwarded', 'lease', 'deny-cache', 'fallback'] as const;
export type Source = (typeof SOURCES)[number];

/**
 * Upper bounds of the decision histograms, in seconds. They are round numbers, so that an objective such as 5 ms is
 * one of them. An owner decides within the first few, a forward takes the middle, and a takeover takes the last.
 */
export const DURATION_BOUNDS: readonly number[] = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
];

/** `retryAfterMs` of a denial that was made without asking the owner. */
export const CLOSED_RETRY_MS = 1_000;

/** The verdict where nobody can tell what is left of any limit: that all pass, or none. */
export function verdictOnAll(
  rules: readonly Rule[],
  allowed: boolean,
  retryAfterMs: number | null = CLOSED_RETRY_MS,
): Verdict {
  const unknown = { remaining: 0, retryAfterMs: allowed ? 0 : retryAfterMs, resetMs: 0 };
  const limits = rules.map(({ algorithm, windowMs, limit }) => ({ algorithm, windowMs, limit, ...unknown }));
  return { allowed, limit: rules[0]?.limit ?? 0, ...unknown, limits: limits.length > 1 ? limits : undefined };
}

/** Tells whether a decision denies only because no node could be asked. It counted nothing, and blames nobody. */
export function isClosed({ allowed, source, resetMs, retryAfterMs }: Decision): boolean {
  return !allowed && source === 'fallback' && resetMs === 0 && retryAfterMs !== null;
}

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

/** The part of a decision that many decisions share: those of one origin share one object. */
export type Provenance = Pick<Decision, 'owner' | 'source' | 'degraded'>;

/** Makes a decision. The usual ones are all made here, so they have one shape. */
export function decisionBy(
  { owner, source, degraded }: Provenance,
  { allowed, limit, remaining, retryAfterMs, resetMs }: Omit<Verdict, 'limits'>,
  limits?: Verdict['limits'],
): Decision {
  return { allowed, limit, remaining, retryAfterMs, resetMs, owner, source, degraded, limits };
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
