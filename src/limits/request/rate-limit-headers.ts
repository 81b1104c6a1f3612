import type { Check } from '../decide/check.js';
import type { LimitStats, Verdict } from '../decide/decide.js';
import { formatDuration } from '../duration.js';
import type { Rule } from '../bucket/rule.js';

/**
 * Makes the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11). A denial that a wait
 * can end also gets `Retry-After`. `w` is in whole seconds; other windows are left out.
 * @returns alternating names and values
 */
export function rateLimitHeaders(check: Pick<Check, 'rules'>, decision: Verdict): string[] {
  const { limit, limits, remaining, resetMs, allowed, retryAfterMs } = decision;
  const headers: string[] = [];
  if (limits === undefined) {
    const [rule] = check.rules as [Rule];
    const { policy = 'default' } = rule;
    if (rule !== lastRule || limit !== lastLimit) {
      lastRule = rule;
      lastLimit = limit;
      lastPolicyItem = policyItem(policy, limit, rule.windowMs);
    }
    headers.push('RateLimit-Policy', lastPolicyItem, 'RateLimit', stateItem(policy, remaining, resetMs));
  } else {
    // The limits come from the decision. A repeated request id gets the first decision, even if its rules have changed.
    headers.push(
      'RateLimit-Policy',
      limits.map((one) => policyItem(limitName(one), one.limit, one.windowMs)).join(', '),
    );
    headers.push('RateLimit', limits.map((one) => stateItem(limitName(one), one.remaining, one.resetMs)).join(', '));
  }
  if (!allowed && retryAfterMs !== null) headers.push('Retry-After', String(seconds(retryAfterMs)));
  return headers;
}

/** The last item is kept, because most requests have the same rule. */
let lastRule: Rule | undefined;
let lastLimit = 0;
let lastPolicyItem = '';

/** Names one of several limits by its window and algorithm, which are unique among them. */
export function limitName({ windowMs, algorithm }: LimitStats): string {
  const window = formatDuration(windowMs);
  return algorithm === 'token-bucket' ? window : `${window}-${algorithm}`;
}

export function policyItem(name: string, limit: number, windowMs: number | undefined): string {
  const window = windowMs !== undefined && windowMs % 1000 === 0 ? `;w=${windowMs / 1000}` : '';
  return `"${name}";q=${limit}${window}`;
}

export function stateItem(name: string, remaining: number, resetMs: number): string {
  return `"${name}";r=${remaining};t=${seconds(resetMs)}`;
}

/** The largest integer of a structured field (RFC 9651). */
const MAX_FIELD_INTEGER = 999_999_999_999_999;

/** @returns whole seconds, rounded up, at most the largest integer of a structured field */
export function seconds(ms: number): number {
  return Math.min(Math.ceil(ms / 1000), MAX_FIELD_INTEGER);
}
