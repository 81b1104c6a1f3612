import type { Policies } from '../../policy/active-policies.js';
import { MAX_COST, MAX_LIMIT, ruleOf, type Rule } from '../../limits/bucket/rule.js';
import { createCheck, type Check } from '../../limits/decide/check.js';
import { TokenringError } from '../../lib/error.js';
import { badValue } from '../../lib/mistake.js';
import { defaultClientId, findRule, type EnvoyRule } from '../../policy/envoy-table.js';
import type { Policy } from '../../policy/policy.js';
import { clientKey } from '../../limits/ring/client-hash.js';
import type { TraceContext } from '../../lib/trace-context.js';
import type { Descriptor, LimitOverride, RateLimitRequest } from './messages.js';

/** The check of one descriptor. */
export interface Planned {
  readonly check: Check;
  /** Name of the limit, for the answer. */
  readonly name: string;
  /** Whether its headers go into the answer. */
  readonly headers: boolean;
}

/** `unlimited`: a rule says so. `undefined`: no rule matches. In both cases the descriptor has no limit. */
export type Plan = Planned | 'unlimited' | undefined;

/**
 * Finds the limit of each descriptor, in order.
 * @throws TokenringError `invalid_request` that names the field, `unknown_policy`
 */
export function planOf(
  { domain: name, descriptors, hitsAddend }: RateLimitRequest,
  policies: Policies,
  trace: TraceContext | undefined,
): readonly Plan[] {
  if (name === '') throw invalid('domain', 'the name of a domain');
  if (descriptors.length === 0) throw invalid('descriptors', 'at least one descriptor');
  descriptors.forEach(requireEntries);
  const domain = policies.envoyDomain(name);
  if (domain === undefined) return descriptors.map(() => undefined);
  const rules = descriptors.map(({ entries }) => findRule(domain, entries));
  const replaced = rules.some(replaces) ? new Set(rules.flatMap((rule) => rule?.replaces ?? [])) : undefined;
  return rules.map((rule, i): Plan => {
    const descriptor = descriptors[i]!;
    if (descriptor.limit === undefined) {
      if (rule === undefined) return undefined;
      if (rule.policy === undefined) return 'unlimited';
    }
    if (rule !== undefined && replaced?.has(rule.name) === true) return undefined;
    return plan({ name, policies, rule, trace, hits: descriptor.hitsAddend ?? (hitsAddend || 1) }, descriptor, i);
  });
}

function replaces(rule: EnvoyRule | undefined): boolean {
  return rule !== undefined && rule.replaces.length > 0;
}

interface Planning {
  readonly name: string;
  readonly policies: Policies;
  readonly rule: EnvoyRule | undefined;
  readonly hits: number;
  readonly trace: TraceContext | undefined;
}

function plan({ name, policies, rule, hits, trace }: Planning, { entries, limit }: Descriptor, place: number): Planned {
  const clientId = rule?.clientId(entries) ?? defaultClientId(name, entries);
  const named = rule?.policy === undefined ? undefined : policies.resolve(clientId, rule.policy);
  if (rule?.policy !== undefined && named === undefined) {
    const expected = 'a name that GET /v1/policies lists';
    throw new TokenringError('unknown_policy', badValue(`envoy.${name}`, rule.policy, expected, 'a policy'));
  }
  const rules = limit === undefined ? named!.rules : [overrideOf(limit, named?.policy.name, place)];
  const policy = rule?.shadow === true ? shadowed(named?.policy) : named?.policy;
  const listed = policies.listed(clientId);
  const check = createCheck(clientKey(clientId), rules, {
    // Zero hits ask whether one more would pass.
    cost: Math.min(Math.max(hits, 1), MAX_COST),
    peek: hits === 0,
    replicated: policy?.replicated === true,
    terms: policy === undefined && listed === undefined ? undefined : { policy, listed },
    trace,
  });
  return { check, name: rule?.name ?? '', headers: rule?.headers === true };
}

function shadowed(policy: Policy | undefined): Policy | undefined {
  return policy === undefined || policy.shadow ? policy : { ...policy, shadow: true };
}

/** Milliseconds of each unit, by its number in the protocol. */
const UNIT_MS: readonly number[] = [
  NaN,
  1_000,
  60_000,
  3_600_000,
  86_400_000,
  30 * 86_400_000,
  365 * 86_400_000,
  7 * 86_400_000,
];

/** @returns the unit of a window; 0, which means unknown, for a window that is none */
export function unitOf(windowMs: number): number {
  return Math.max(0, UNIT_MS.indexOf(windowMs));
}

/** A limit above the largest one is as good as the largest one. */
function overrideOf({ requestsPerUnit, unit }: LimitOverride, policy: string | undefined, place: number): Rule {
  const windowMs = UNIT_MS[unit] ?? NaN;
  if (Number.isNaN(windowMs)) throw invalid(`descriptors[${place}].limit.unit`, 'SECOND to YEAR');
  const limit = Math.min(requestsPerUnit, MAX_LIMIT);
  return ruleOf('token-bucket', limit, windowMs, Math.max(limit, 1), policy);
}

function requireEntries({ entries }: Descriptor, place: number): void {
  if (entries.length === 0) throw invalid(`descriptors[${place}].entries`, 'at least one entry');
  for (let i = 0; i < entries.length; i += 1)
    if (entries[i]!.key === '') throw invalid(`descriptors[${place}].entries[${i}].key`, 'the name of an entry');
}

function invalid(field: string, expected: string): TokenringError {
  return new TokenringError('invalid_request', badValue(field, undefined, expected));
}
