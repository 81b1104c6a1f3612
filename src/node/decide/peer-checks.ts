import type { Clock } from '../../lib/system.js';
import { CheckBatch, type BatchItem } from '../../limits/decide/check-batch.js';
import type { Check } from '../../limits/decide/check.js';
import { waitingChecksBytes } from '../../limits/heap-bytes.js';
import type { Router } from '../../membership/route.js';
import type { CheckResult, DecidedByPeer } from '../../protocol/messages.js';
import type { Owner } from './owner.js';

/** In the order of the checks. */
type Results = CheckResult[];

/** Serves the checks of a peer that takes this node for the decider. */
export class PeerChecks {
  private waitingBytes = 0;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly router: Router;
      readonly owner: Owner;
      /**
       * Memory for checks that wait: while this node may not decide, or for acknowledgements. The last message may
       * exceed it.
       */
      readonly maxWaitingBytes: number;
    },
  ) {}

  /** Charges the clients of the checks that this node decides. */
  serve(checks: readonly Check[]): Results | Promise<Results> {
    const { clock, router, owner, maxWaitingBytes } = this.parts;
    const nowMs = clock.nowMs();
    const mayWait = this.waitingBytes < maxWaitingBytes;
    const opening = router.opening(nowMs);
    if (opening !== undefined) {
      if (!mayWait) return checks.map(() => 'overloaded' as const);
      return this.wait(checks, opening).then(() => this.serve(checks));
    }
    const unconfirmed: BatchItem[] = [];
    const results = CheckBatch.of(checks).items.map((item): CheckResult => {
      const to = router.route(item, nowMs);
      if (to.kind !== 'own' && to.kind !== 'acting') return 'not-mine';
      if (!mayWait && owner.mayNeedConfirming(item)) return 'overloaded';
      const standing = owner.charge(item, nowMs, to.kind);
      if (standing === 'unconfirmed') unconfirmed.push(item);
      return resultOf(item, standing === 'revocable');
    });
    if (unconfirmed.length === 0) return results;
    const waiting = unconfirmed.map(({ check }) => check);
    return this.wait(waiting, owner.confirm(unconfirmed)).then((confirmed) => {
      for (const [i, item] of unconfirmed.entries())
        results[item.index] = confirmed[i] === 'withhold' ? 'not-mine' : resultOf(item, false);
      return results;
    });
  }

  /** Counts the bytes of checks until `later` settles. */
  private async wait<T>(checks: readonly Check[], later: Promise<T>): Promise<T> {
    const bytes = waitingChecksBytes(checks);
    this.waitingBytes += bytes;
    try {
      return await later;
    } finally {
      this.waitingBytes -= bytes;
    }
  }
}

function resultOf({ decision: verdict }: BatchItem, revocable: boolean): DecidedByPeer {
  const { degraded, unreserved } = verdict;
  return unreserved === undefined ? { verdict, degraded, revocable } : { verdict, degraded, revocable, unreserved };
}
