import type { FallbackMode } from '../limits/decide/check.js';
import { parseDuration } from '../limits/duration.js';
import { ruleOf, type Algorithm, type Rule } from '../limits/bucket/rule.js';
import type { EnvoyDomain } from './envoy-table.js';

/** A limit as people write it, in a file or over the API. `check-policy.ts` checks it. */
export interface LimitText {
  readonly limit: number;
  readonly window?: number | string;
  readonly windowMs?: number;
  readonly burst?: number;
  readonly algorithm?: Algorithm;
}

/** One limit, or several limits that must all allow a check. */
export type LimitsText = LimitText | { readonly limits: readonly LimitText[] };

/** A policy as people write it, with limits or with limits for each tier. */
export type PolicyText = (LimitsText | TiersText) & {
  readonly onUnavailable?: FallbackMode;
  readonly durability?: 'async' | 'replicated';
  readonly shadow?: boolean;
  readonly adaptive?: AdaptiveText;
};

interface TiersText {
  readonly tiers: Readonly<Record<string, LimitsText>>;
  /** The tier of clients that have no tier, or a tier that this policy does not have. */
  readonly defaultTier: string;
}

/** Settings of limits that follow the load of a service; see `adaptive.ts`. */
export interface AdaptiveText {
  /** The load to hold, above 0 to 1. */
  readonly target: number;
  /** The smallest factor of the limits, above 0 to 1. */
  readonly min: number;
  /** The latency, in ms, at which the load is at the target. */
  readonly latencyMs?: number;
  /** The share of failed requests, above 0 to 1, at which the load is at the target. */
  readonly errors?: number;
}

/** A policy in force. */
export interface Policy {
  readonly name: string;
  /** Rules of clients without a tier or an override. Each rule names the policy. */
  readonly rules: readonly Rule[];
  readonly tiers: ReadonlyMap<string, readonly Rule[]>;
  /** Whether the policy is evaluated but not enforced. */
  readonly shadow: boolean;
  /** Overrides the setting of the node, if present. */
  readonly onUnavailable: FallbackMode | undefined;
  /** Whether a check is answered only after a replica has acknowledged its copy. */
  readonly replicated: boolean;
  readonly adaptive: AdaptiveText | undefined;
}

export function policyOf(name: string, text: PolicyText): Policy {
  const { onUnavailable, durability, shadow = false, adaptive } = text;
  const tiers = new Map<string, readonly Rule[]>();
  let rules: readonly Rule[];
  if ('tiers' in text) {
    for (const [tier, limits] of Object.entries(text.tiers)) tiers.set(tier, rulesOf(name, limits));
    rules = tiers.get(text.defaultTier)!;
  } else rules = rulesOf(name, text);
  return { name, rules, tiers, shadow, onUnavailable, replicated: durability === 'replicated', adaptive };
}

/** @param like rules of the policy; a limit without a window takes the window and algorithm of the first one */
export function rulesOf(policy: string, text: LimitsText, like?: readonly Rule[]): readonly Rule[] {
  const limits = 'limits' in text ? text.limits : [text];
  return limits.map(({ limit, window, windowMs, burst, algorithm }) => {
    const ms = windowMs ?? (typeof window === 'string' ? parseDuration(window) : window) ?? like![0]!.windowMs;
    const by = algorithm ?? (window === undefined && windowMs === undefined ? like![0]!.algorithm : 'token-bucket');
    return ruleOf(by, limit, ms, by === 'sliding-window' ? limit : (burst ?? limit), policy);
  });
}

/** Whether an override has no window. It then takes the window of its policy. */
export function takesWindow(text: LimitsText): boolean {
  return !('limits' in text) && text.window === undefined && text.windowMs === undefined;
}

/** All policies, prepared for lookups. A change replaces the whole set. */
export interface PolicySet {
  readonly policies: ReadonlyMap<string, Policy>;
  /** Name of the policy for requests that name neither a policy nor a limit. */
  readonly default: string | undefined;
  readonly tiers: ReadonlyMap<string, string>;
  /** Overrides by policy and client. */
  readonly overrides: ReadonlyMap<string, ReadonlyMap<string, LimitsText>>;
  /** Clients on the allow and deny lists. */
  readonly listed: ReadonlyMap<string, 'allow' | 'deny'>;
  /** Rules for descriptors of Envoy's, by domain. */
  readonly envoy: ReadonlyMap<string, EnvoyDomain>;
}

export const NO_POLICIES: PolicySet = {
  policies: new Map(),
  default: undefined,
  tiers: new Map(),
  overrides: new Map(),
  listed: new Map(),
  envoy: new Map(),
};

/** @returns the client's override, else the rules of its tier, else the rules of the policy */
export function rulesFor(set: PolicySet, policy: Policy, clientId: string): readonly Rule[] {
  const own = set.overrides.get(policy.name)?.get(clientId);
  if (own !== undefined) return ownRules(policy, own);
  const tier = policy.tiers.size === 0 ? undefined : set.tiers.get(clientId);
  return (tier === undefined ? undefined : policy.tiers.get(tier)) ?? policy.rules;
}

const readOverrides = new WeakMap<LimitsText, { readonly policy: Policy; readonly rules: readonly Rule[] }>();

/** The rules of an override are made when its client is first checked: there may be 20,000 of them. */
function ownRules(policy: Policy, text: LimitsText): readonly Rule[] {
  let read = readOverrides.get(text);
  if (read?.policy !== policy)
    readOverrides.set(text, (read = { policy, rules: rulesOf(policy.name, text, policy.rules) }));
  return read.rules;
}
