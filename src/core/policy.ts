import { parseDuration } from './duration.js';
import { ruleOf } from './rule.js';
import type { Algorithm, Rule } from './rule.js';

/** What happens to a check when neither the owner nor a successor answers: an equal share of the limit is decided where it was asked, or all pass, or none. */
export type OnUnavailable = 'local' | 'open' | 'closed';

/** A limit as people write it, in a file or over the API; `check-policy.ts` has found it to be valid. */
export interface LimitText {
  readonly limit: number;
  readonly window?: number | string;
  readonly windowMs?: number;
  readonly burst?: number;
  readonly algorithm?: Algorithm;
}

/** One limit, or several under which all must allow. */
export type LimitsText = LimitText | { readonly limits: readonly LimitText[] };

/** A policy as people write it. It has limits of its own, or takes those of the client's tier. */
export type PolicyText = (LimitsText | TiersText) & {
  readonly onUnavailable?: OnUnavailable;
  readonly durability?: 'async' | 'replicated';
  readonly shadow?: boolean;
  readonly adaptive?: AdaptiveText;
};

interface TiersText {
  readonly tiers: Readonly<Record<string, LimitsText>>;
  /** The tier of clients that have none, or one that this policy does not know. */
  readonly defaultTier: string;
}

/** Limits that follow the load of what they protect; see `adaptive.ts`. */
export interface AdaptiveText {
  /** The load to hold, above 0 to 1. */
  readonly target: number;
  /** The least part of its limits that a client keeps, above 0 to 1. */
  readonly min: number;
  /** Of reports in ms: the latency that stands for the target. */
  readonly latencyMs?: number;
  /** Of reports of errors: the share of failed requests that stands for the target, above 0 to 1. */
  readonly errors?: number;
}

/** A policy in force. */
export interface Policy {
  readonly name: string;
  /** Of a client without a tier or a limit of its own; each names the policy. */
  readonly rules: readonly Rule[];
  readonly tiers: ReadonlyMap<string, readonly Rule[]>;
  /** It decides and counts, but never denies. */
  readonly shadow: boolean;
  /** Of this policy, where it differs from the node's. */
  readonly onUnavailable: OnUnavailable | undefined;
  /** Allowed only when a successor holds a copy. */
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

/**
 * The rules that a text means.
 * @param like where a limit names no window: whose window and algorithm it takes, the first of them
 */
export function rulesOf(policy: string, text: LimitsText, like?: readonly Rule[]): readonly Rule[] {
  const limits = 'limits' in text ? text.limits : [text];
  return limits.map(({ limit, window, windowMs, burst, algorithm }) => {
    const ms = windowMs ?? (typeof window === 'string' ? parseDuration(window) : window) ?? like![0]!.windowMs;
    const by = algorithm ?? (window === undefined && windowMs === undefined ? like![0]!.algorithm : 'token-bucket');
    return ruleOf(by, limit, ms, by === 'sliding-window' ? limit : (burst ?? limit), policy);
  });
}

/** Whether a limit of a client's own goes without a window, and so takes that of its policy. */
export function takesWindow(text: LimitsText): boolean {
  return !('limits' in text) && text.window === undefined && text.windowMs === undefined;
}

/** All policies at one moment, ready to be asked: never changed, but replaced whole. */
export interface PolicySet {
  readonly policies: ReadonlyMap<string, Policy>;
  /** The policy of requests that name neither one nor a limit. */
  readonly default: string | undefined;
  readonly tiers: ReadonlyMap<string, string>;
  /** Rules of a client's own, by policy and client. */
  readonly overrides: ReadonlyMap<string, ReadonlyMap<string, readonly Rule[]>>;
  /** Clients for whom every answer is known. */
  readonly listed: ReadonlyMap<string, 'allow' | 'deny'>;
}

export const NO_POLICIES: PolicySet = {
  policies: new Map(),
  default: undefined,
  tiers: new Map(),
  overrides: new Map(),
  listed: new Map(),
};

/** The rules of one client under a policy: its own, or else its tier's, or else the policy's. */
export function rulesFor(set: PolicySet, policy: Policy, clientId: string): readonly Rule[] {
  const own = set.overrides.get(policy.name)?.get(clientId);
  if (own !== undefined) return own;
  const tier = policy.tiers.size === 0 ? undefined : set.tiers.get(clientId);
  return (tier === undefined ? undefined : policy.tiers.get(tier)) ?? policy.rules;
}
