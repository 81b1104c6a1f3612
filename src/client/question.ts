import { parseDuration } from '../core/duration.js';
import type { AllowRequest, LimitRequest } from '../core/request.js';
import { MAX_COST, MAX_LIMIT, MAX_WINDOW_MS, ruleOf } from '../core/rule.js';
import { isWhole } from '../core/whole.js';
import type { Rule } from '../core/rule.js';
import { TokenringError } from '../core/error.js';

/**
 * Returns the rules that a request names, as far as a client knows them. A policy stands for rules that only the nodes
 * know.
 * @returns `undefined` for a request that no node accepts; the node explains why
 */
export function rulesOf(request: AllowRequest): readonly Rule[] | undefined {
  const { limits, limit, policy } = request;
  if (limits === undefined && limit === undefined) return [policyRule(policy)];
  if (policy !== undefined) return undefined;
  const rules: Rule[] = [];
  for (const one of limits ?? [request]) {
    const rule = ruleFrom(one);
    if (rule === undefined) return undefined;
    rules.push(rule);
  }
  return rules;
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

export function isCost(cost: number): boolean {
  return isWhole(cost, 1, MAX_COST);
}

/**
 * Formats a request as JSON. A request that consumes gets an id if it has none, so that it is charged once however
 * often it is sent.
 * @throws TokenringError `invalid_request` for a value that is not a JSON object
 */
export function textOf(request: AllowRequest, newId: () => string): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(request);
  } catch (cause) {
    throw invalid('body', 'a value that can be written as JSON', cause);
  }
  // Callers without types may pass any value.
  if (typeof (text as unknown) !== 'string' || !text.startsWith('{')) throw invalid('body', 'an object');
  if (typeof request.clientId !== 'string') throw invalid('clientId', 'a string');
  if (request.requestId !== undefined || request.peek === true) return text;
  return `${text.slice(0, -1)},"requestId":"${newId()}"}`;
}

export function invalid(field: string, expected: string, cause?: unknown): TokenringError {
  return new TokenringError('invalid_request', { field, expected }, { cause });
}
