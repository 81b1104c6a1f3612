import type { Decision } from '../../limits/decide/decision.js';
import { limitName, policyItem, seconds, stateItem } from '../../limits/request/rate-limit-headers.js';
import type { Rule } from '../../limits/bucket/rule.js';
import type { HeaderTarget } from './exchange.js';

/** `draft-N` is draft-ietf-httpapi-ratelimit-headers-N. `legacy` means the fields `X-RateLimit-*`. */
export type HeaderStyle = 'draft-11' | 'draft-8' | 'draft-7' | 'draft-6' | 'legacy';

export const HEADER_STYLES: readonly HeaderStyle[] = ['draft-11', 'draft-8', 'draft-7', 'draft-6', 'legacy'];

/** One limit of a decision, as headers show it. */
interface ShownLimit {
  readonly name: string;
  readonly limit: number;
  /** `undefined` for the window of a policy, which only the nodes know. */
  readonly windowMs: number | undefined;
  readonly remaining: number;
  readonly resetMs: number;
  /** Whether this limit denies the request. */
  readonly isViolated: boolean;
}

/**
 * Returns the limits of a decision.
 * @param name of the limiter, if it has one
 * @param res the answer; a name that its headers already have gets the suffix `-2`, `-3` …
 */
export function limitsOf(
  decision: Decision,
  rule: Rule | undefined,
  name: string | undefined,
  res: HeaderTarget,
): ShownLimit[] {
  const { limits, allowed, limit, remaining, resetMs } = decision;
  const taken = text(res.getHeader('RateLimit-Policy'));
  if (limits === undefined) {
    const windowMs = rule?.policy === undefined ? rule?.windowMs : undefined;
    const shown = freeName(name ?? writable(rule?.policy) ?? 'default', taken);
    return [{ name: shown, limit, windowMs, remaining, resetMs, isViolated: !allowed }];
  }
  return limits.map((one) => ({
    name: freeName(name === undefined ? limitName(one) : `${name}-${limitName(one)}`, taken),
    limit: one.limit,
    windowMs: one.windowMs,
    remaining: one.remaining,
    resetMs: one.resetMs,
    isViolated: one.retryAfterMs !== 0,
  }));
}

/**
 * Sets the headers. Limits that another limiter has already set stay beside these. The older styles have room for one
 * limit, and the limit with the fewest tokens left stays.
 */
export function setLimitHeaders(
  res: HeaderTarget,
  style: HeaderStyle,
  { limit, remaining, resetMs }: Decision,
  limits: readonly ShownLimit[],
): void {
  if (style === 'draft-11' || style === 'draft-8') {
    const policies = limits.map((one) => policyItem(one.name, one.limit, one.windowMs));
    append(res, 'RateLimit-Policy', policies);
    const states = limits.map((one) => stateItem(one.name, one.remaining, one.resetMs));
    return append(res, 'RateLimit', states);
  }
  if (style !== 'legacy') {
    const known = limits.filter(({ windowMs }) => windowMs !== undefined);
    const windows = known.map((one) => `${one.limit};w=${Math.ceil(one.windowMs! / 1_000)}`);
    append(res, 'RateLimit-Policy', windows);
  }
  const reset = style === 'legacy' ? Math.ceil((Date.now() + resetMs) / 1_000) : seconds(resetMs);
  const prefix = style === 'legacy' ? 'X-RateLimit' : 'RateLimit';
  const state = style === 'draft-7' ? prefix : `${prefix}-Remaining`;
  const before = /^(?:.*remaining=)?(\d+)/.exec(text(res.getHeader(state)))?.[1];
  if (before !== undefined && remaining > Number(before)) return;
  if (style === 'draft-7') res.setHeader(state, `limit=${limit}, remaining=${remaining}, reset=${reset}`);
  else {
    res.setHeader(`${prefix}-Limit`, String(limit));
    res.setHeader(state, String(remaining));
    res.setHeader(`${prefix}-Reset`, String(reset));
  }
}

function append(res: HeaderTarget, name: string, items: readonly string[]): void {
  const before = text(res.getHeader(name));
  const all = before === '' ? items : [before, ...items];
  if (all.length > 0) res.setHeader(name, all.join(', '));
}

/**
 * Returns a name that is not taken, as a name in a list stands for one limit. A second `default` becomes `default-2`.
 */
function freeName(name: string, taken: string): string {
  let free = name;
  for (let n = 2; taken.includes(`"${free}"`); n += 1) free = `${name}-${n}`;
  return free;
}

/** Drops what would end a name in a header. A policy that depends on the request may have any name until a node is asked. */
function writable(policy: string | undefined): string | undefined {
  return policy?.replaceAll(/[^ !#-[\]-~]/g, '');
}

function text(header: unknown): string {
  return typeof header === 'string' ? header : '';
}
