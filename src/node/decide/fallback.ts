import { canPass, decide, statsWith } from '../../limits/decide/decide.js';
import type { Check, Verdict } from '../../limits/decide/decide.js';
import { decisionBy, verdictOnAll } from '../../limits/decide/decision.js';
import type { Decision, Origin } from '../../limits/decide/decision.js';
import type { OnUnavailable } from '../../limits/decide/on-unavailable.js';
import type { TopClients } from '../../limits/top-clients.js';
import { BucketTable } from '../../state/bucket-table.js';
import type { Membership } from '../../membership/membership.js';
import type { Clock } from '../../lib/clock.js';

export type { OnUnavailable } from '../../limits/decide/on-unavailable.js';

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
  const table = new BucketTable({ maxClients, maxBytes, maxHeapBytes: maxBytes });
  const origin: Origin = { owner: membership.self().id, source: 'fallback', degraded: true };

  /**
   * Charges the cost once for each node, to a bucket of the whole rule. So this node admits the part of the rule's bound
   * that is its share, also where the share of a limit or burst is no whole number.
   */
  function decideShare(check: Check): Verdict {
    const nodes = membership.others().length + 1;
    const { rules, peek } = check;
    const cost = check.cost * nodes;
    // A share of less than the cost denies for a short time only, because the owner may allow it once it answers.
    if (rules.every((rule) => canPass(rule, check.cost)) && !rules.every((rule) => canPass(rule, cost))) {
      return verdictOnAll(rules, false);
    }
    const nowMs = clock.nowMs();
    const client = table.open(check);
    const { allowed, limit, remaining, retryAfterMs, resetMs, limits } = decide(client, { rules, cost, peek }, nowMs);
    table.close(client, nowMs);
    const shareOf = (tokens: number): number => Math.floor(tokens / nodes);
    const shares = limits?.map((one) => statsWith(one, shareOf(one.remaining), one.retryAfterMs, one.resetMs));
    return { allowed, limit, remaining: shareOf(remaining), retryAfterMs, resetMs, limits: shares };
  }

  return {
    decide(check) {
      const onUnavailable = check.terms?.policy?.onUnavailable ?? options.onUnavailable;
      const verdict =
        onUnavailable === 'local' ? decideShare(check) : verdictOnAll(check.rules, onUnavailable === 'open');
      topClients.count(check, verdict.allowed, clock.nowMs());
      return decisionBy(origin, verdict, verdict.limits);
    },
  };
}
