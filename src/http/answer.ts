import type { Decision } from '../cluster/decision.js';
import type { Check } from '../core/decide.js';
import { formatDuration } from '../core/duration.js';
import type { Rule } from '../core/rule.js';

/**
 * A decision as JSON. Written by hand, as the shape is fixed and this runs a million times a second; a test holds it
 * equal to `JSON.stringify`.
 */
export function decisionJson(decision: Decision): string {
  const { allowed, limit, remaining, retryAfterMs, resetMs, owner, source, degraded, limits } = decision;
  const figures = `{"allowed":${allowed},"limit":${limit},"remaining":${remaining},"retryAfterMs":${retryAfterMs},"resetMs":${resetMs}`;
  const whose = `,"owner":${quoteOwner(owner)},"source":"${source}","degraded":${degraded}`;
  return limits === undefined ? `${figures}${whose}}` : `${figures}${whose},"limits":${JSON.stringify(limits)}}`;
}

let lastOwner = '';
let lastOwnerJson = '""';
function quoteOwner(owner: string): string {
  if (owner !== lastOwner) {
    lastOwner = owner;
    lastOwnerJson = JSON.stringify(owner);
  }
  return lastOwnerJson;
}

/**
 * `RateLimit-Policy`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11) and, on a denial that time can lift,
 * `Retry-After`: names and values in turn, appended to `headers`.
 * `w` is in whole seconds there, so a window that is none goes without.
 */
export function pushRateLimitHeaders(headers: string[], check: Check, decision: Decision): void {
  const { rules } = check;
  const { limits, remaining, resetMs, allowed, retryAfterMs } = decision;
  if (limits === undefined) {
    const name = policyName(rules[0]!, false);
    headers.push('RateLimit-Policy', policyItem(name, rules[0]!), 'RateLimit', stateItem(name, remaining, resetMs));
  } else {
    headers.push(
      'RateLimit-Policy',
      rules.map((rule) => policyItem(policyName(rule, true), rule)).join(', '),
      'RateLimit',
      limits.map((one, i) => stateItem(policyName(rules[i]!, true), one.remaining, one.resetMs)).join(', '),
    );
  }
  if (!allowed && retryAfterMs !== null) headers.push('Retry-After', String(seconds(retryAfterMs)));
}

function policyName(rule: Rule, several: boolean): string {
  if (!several) return rule.policy ?? 'default';
  const window = formatDuration(rule.windowMs);
  return rule.algorithm === 'token-bucket' ? window : `${window}-${rule.algorithm}`;
}

function policyItem(name: string, rule: Rule): string {
  const window = rule.windowMs % 1000 === 0 ? `;w=${rule.windowMs / 1000}` : '';
  return `"${name}";q=${rule.limit}${window}`;
}

function stateItem(name: string, remaining: number, resetMs: number): string {
  return `"${name}";r=${remaining};t=${seconds(resetMs)}`;
}

/** The largest integer of a structured field (RFC 9651). */
const MAX_FIELD_INTEGER = 999_999_999_999_999;

function seconds(ms: number): number {
  return Math.min(Math.ceil(ms / 1000), MAX_FIELD_INTEGER);
}
