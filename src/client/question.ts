import { parseDuration } from '../limits/duration.js';
import type { AllowRequest, LimitRequest } from '../limits/request/request.js';
import { inScope, MAX_LIMIT, MAX_WINDOW_MS, ruleOf } from '../limits/bucket/rule.js';
import { isWhole } from '../lib/whole.js';
import type { Rule } from '../limits/bucket/rule.js';
import { TokenringError } from '../lib/error.js';

/**
 * Returns the rules that a request names, as far as a client knows them. A policy stands for rules that only the nodes
 * know.
 * @returns `undefined` for a request that no node accepts; the node explains why
 */
export function rulesOf(request: AllowRequest): readonly Rule[] | undefined {
  const { limits, limit, policy, scope } = request;
  if (limits === undefined && limit === undefined) return inScope([policyRule(policy)], scope);
  if (policy !== undefined) return undefined;
  const rules: Rule[] = [];
  for (const one of limits ?? [request]) {
    const rule = ruleFrom(one);
    if (rule === undefined) return undefined;
    rules.push(rule);
  }
  return inScope(rules, scope);
}

/**
 * Returns a rule that is equal only for equal names. It differs from the rule of any limit, as a sliding window's
 * capacity is its limit.
 */
function policyRule(policy: string | undefined): Rule {
  return ruleOf('sliding-window', 0, 1, 1, policy);
}

function ruleFrom({
  limit,
  window,
  windowMs,
  burst,
  algorithm = 'token-bucket',
}: Partial<LimitRequest>): Rule | undefined {
  const ms = windowMs ?? (typeof window === 'string' ? parseDuration(window) : window);
  if (!isWhole(limit, 0, MAX_LIMIT) || !isWhole(ms, 1, MAX_WINDOW_MS)) return undefined;
  const capacity = burst ?? limit;
  return isWhole(capacity, 0, MAX_LIMIT) ? ruleOf(algorithm, limit, ms, capacity, undefined) : undefined;
}

/**
 * Formats a request as JSON.
 *
 * A writer that remembered the last request, and wrote only the client id of an equal one, saved 0.25 µs. That was less
 * than 5% of a check over connections that cost nothing.
 * @throws TokenringError `invalid_request` for a value that is not a JSON object
 */
export function jsonOf(request: AllowRequest): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(request);
  } catch (cause) {
    throw invalid('body', 'a value that can be written as JSON', cause);
  }
  // Callers without types may pass any value.
  if (typeof (text as unknown) !== 'string' || !text.startsWith('{')) throw invalid('body', 'an object');
  // JSON has no inherited or hidden field, and a request id goes behind another field.
  if (typeof request.clientId !== 'string' || text === '{}') throw invalid('clientId', 'a string');
  return text;
}

/** Adds a request id to the JSON of a request that has none. @param id needs no escapes in JSON */
export function withRequestId(text: string, id: string): string {
  return `${text.slice(0, -1)},"requestId":"${id}"}`;
}

export function invalid(field: string, expected: string, cause?: unknown): TokenringError {
  return new TokenringError('invalid_request', { field, expected }, { cause });
}
