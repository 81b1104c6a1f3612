import { decide } from '../../core/decide/decide.js';
import type { Check, Verdict } from '../../core/decide/decide.js';
import { CLOSED_RETRY_MS, decisionBy } from '../../core/decide/decision.js';
import type { Decision, Origin } from '../../core/decide/decision.js';
import type { OnUnavailable } from '../../core/policy/policy.js';
import { ruleOf } from '../../core/bucket/rule.js';
import type { Rule } from '../../core/bucket/rule.js';
import type { TopClients } from '../../core/top-clients.js';
import { createBucketTable } from '../state/bucket-table.js';
import type { Membership } from '../membership/membership.js';
import type { Clock } from '../ports.js';

export type { OnUnavailable } from '../../core/policy/policy.js';

export interface Fallback {
  /** Decides as the policy of the check, or the node, wants it when no node that may decide can be asked. */
  decide(check: Check): Decision;
}

/**
 * Decides without the owner. Its buckets are its own: no owner knows what it admits, and the share of the node bounds
 * it.
 */
export function createFallback(
  deps: { clock: Clock; membership: Membership; topClients: Pick<TopClients, 'count'> },
  options: { onUnavailable: OnUnavailable; maxClients: number; maxBytes: number },
): Fallback {
  const { clock, membership, topClients } = deps;
  const { maxClients, maxBytes } = options;
  const table = createBucketTable({ maxClients, maxBytes, maxHeapBytes: maxBytes });
  const origin: Origin = { owner: membership.self().id, source: 'fallback', degraded: true };

  function shareOf(rule: Rule): Rule {
    const nodes = membership.others().length + 1;
    const limit = Math.floor(rule.limit / nodes);
    return ruleOf(rule.algorithm, limit, rule.windowMs, Math.floor(rule.capacity / nodes), rule.policy);
  }

  function decideShare(check: Check): Verdict {
    const rules = check.rules.map(shareOf);
    // A share of less than the cost denies for a short time only, because the owner may allow it once it answers.
    if (rules.some(({ capacity }, i) => capacity < check.cost && check.rules[i]!.capacity >= check.cost)) {
      return decideAll(check, false);
    }
    const nowMs = clock.nowMs();
    const client = table.open(check);
    const verdict = decide(client, { rules, cost: check.cost, peek: check.peek }, nowMs);
    table.close(client, nowMs);
    return verdict;
  }

  function decideAll(check: Check, allowed: boolean): Verdict {
    const [{ limit }] = check.rules as [Rule];
    return { allowed, limit, remaining: 0, retryAfterMs: allowed ? 0 : CLOSED_RETRY_MS, resetMs: 0, limits: undefined };
  }

  return {
    decide(check) {
      const onUnavailable = check.terms?.policy?.onUnavailable ?? options.onUnavailable;
      const verdict = onUnavailable === 'local' ? decideShare(check) : decideAll(check, onUnavailable === 'open');
      topClients.count(check, verdict.allowed, clock.nowMs());
      return decisionBy(origin, verdict, verdict.limits);
    },
  };
}
