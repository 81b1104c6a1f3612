import { parseDuration } from '../../src/limits/duration.js';
import type { LimitsText, LimitText, PolicyText } from '../../src/policy/policy.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import type { HeldDocument } from './history.js';

/** What a document says of one client under one policy. */
export interface Meaning {
  readonly rules: readonly Rule[];
  readonly replicated: boolean;
  readonly shadow: boolean;
  readonly listed: 'allow' | 'deny' | undefined;
}

/** docs/policies.md once more, in few words: the checker has to know it without the program. */
export function meaningOf(document: HeldDocument, clientId: string, policy: string | null): Meaning | undefined {
  const value = (key: string): unknown => document.entries.find((entry) => entry.key === key)?.value ?? undefined;
  const name = policy ?? (value('default') as string | undefined);
  const text = name === undefined ? undefined : (value(`policy ${name}`) as PolicyText | undefined);
  if (name === undefined || text === undefined) return undefined;
  let limits: LimitsText;
  if ('tiers' in text) {
    const tier = value(`tier ${clientId}`) as string | undefined;
    limits = (tier === undefined ? undefined : text.tiers[tier]) ?? text.tiers[text.defaultTier]!;
  } else limits = text;
  const standard = rulesOf(name, 'tiers' in text ? text.tiers[text.defaultTier]! : text, undefined);
  const own = value(`override ${name} ${clientId}`) as LimitsText | undefined;
  return {
    rules: own === undefined ? rulesOf(name, limits, undefined) : rulesOf(name, own, standard[0]),
    replicated: text.durability === 'replicated',
    shadow: text.shadow === true,
    listed: value(`list ${clientId}`) as 'allow' | 'deny' | undefined,
  };
}

/** @param like whose window and algorithm a limit without a window has */
function rulesOf(policy: string, text: LimitsText, like: Rule | undefined): Rule[] {
  const limits: readonly LimitText[] = 'limits' in text ? text.limits : [text];
  return limits.map(({ limit, window, burst, algorithm = 'token-bucket' }) => {
    if (window === undefined) return ruleOf(like!.algorithm, limit, like!.windowMs, burst ?? limit, policy);
    const windowMs = typeof window === 'string' ? parseDuration(window)! : window;
    return ruleOf(algorithm, limit, windowMs, burst ?? limit, policy);
  });
}
