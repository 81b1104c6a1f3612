import type { Clock } from '../../lib/system.js';
import type { BatchItem } from '../../limits/decide/check-batch.js';
import type { Check, FallbackMode } from '../../limits/decide/check.js';
import { canPass, decide, statsWith, type Verdict } from '../../limits/decide/decide.js';
import { verdictOnAll, type Provenance } from '../../limits/decide/decision.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Membership } from '../../membership/membership.js';
import { BucketTable } from '../../state/bucket-table.js';

/**
 * Answers without the owner. Its buckets are its own: no owner knows what it admits, and the share of the node bounds
 * it.
 */
export class Fallback {
  private readonly table: BucketTable;
  private readonly provenance: Provenance;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly membership: Membership;
      readonly topClients: Pick<TopClients, 'count'>;
      readonly onUnavailable: FallbackMode;
      readonly maxClients: number;
      readonly maxBytes: number;
    },
  ) {
    const { maxClients, maxBytes, membership } = parts;
    this.table = new BucketTable({ maxClients, maxBytes, maxHeapBytes: maxBytes });
    this.provenance = { owner: membership.self().id, source: 'fallback', degraded: true };
  }

  /** Answers as the policy of the check, or the node, wants it when no node that may decide can be asked. */
  answer(item: BatchItem): void {
    const { topClients, clock } = this.parts;
    const { check } = item;
    const onUnavailable = check.terms?.policy?.onUnavailable ?? this.parts.onUnavailable;
    const verdict =
      onUnavailable === 'local' ? this.chargeShare(check) : verdictOnAll(check.rules, onUnavailable === 'open');
    topClients.count(check, verdict.allowed, clock.nowMs());
    item.record(verdict, this.provenance);
  }

  /**
   * Charges the cost once for each node, to a bucket of the whole rule. So this node admits the part of the rule's bound
   * that is its share, also where the share of a limit or burst is no whole number.
   */
  private chargeShare(check: Check): Verdict {
    const nodes = this.parts.membership.others().length + 1;
    const { rules, peek } = check;
    const cost = check.cost * nodes;
    // A share of less than the cost denies for a short time only, because the owner may allow it once it answers.
    if (rules.every((rule) => canPass(rule, check.cost)) && !rules.every((rule) => canPass(rule, cost))) {
      return verdictOnAll(rules, false);
    }
    const nowMs = this.parts.clock.nowMs();
    const client = this.table.open(check);
    const { allowed, limit, remaining, retryAfterMs, resetMs, limits } = decide(client, { rules, cost, peek }, nowMs);
    this.table.close(client, nowMs);
    const shareOf = (tokens: number): number => Math.floor(tokens / nodes);
    const shares = limits?.map((one) => statsWith(one, shareOf(one.remaining), one.retryAfterMs, one.resetMs));
    return { allowed, limit, remaining: shareOf(remaining), retryAfterMs, resetMs, limits: shares };
  }
}
