import { hasLent } from '../../limits/bucket/bucket.js';
import type { Check } from '../../limits/decide/decide.js';
import type { Decision } from '../../limits/decide/decision.js';
import { waitingChecksBytes } from '../../limits/heap-bytes.js';
import type { Membership } from '../../membership/membership.js';
import type { CheckResult, DecidedByPeer } from '../../protocol/messages.js';
import type { Clock } from '../../lib/clock.js';
import { route } from '../../membership/route.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { Reservations } from '../../state/reservations.js';
import type { Hold } from './hold.js';
import type { Owner } from './owner.js';

/** In the order of the checks. */
type Results = CheckResult[];

/** Decides the checks of a peer that takes this node for the decider. */
export interface PeerChecks {
  decide(checks: readonly Check[]): Results | Promise<Results>;
}

interface PeerChecksDeps {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly reservations: Reservations;
  readonly membership: Membership;
  /** Checks wait while it lasts. */
  readonly hold: Hold;
  readonly owner: Owner;
  /** Called before the checks are decided. It finds out whether this node has paused. */
  readonly detectPause: (nowMs: number) => void;
}

function resultOf(verdict: Decision, revocable: boolean): DecidedByPeer {
  const { degraded, unreserved } = verdict;
  return unreserved === undefined ? { verdict, degraded, revocable } : { verdict, degraded, revocable, unreserved };
}

/**
 * @param options.maxWaitingBytes memory for checks that wait: while this node may not decide, or for acknowledgements.
 * The last message may exceed it
 */
export function createPeerChecks(deps: PeerChecksDeps, { maxWaitingBytes }: { maxWaitingBytes: number }): PeerChecks {
  const { clock, table, reservations, membership, hold, owner, detectPause } = deps;

  let waitingBytes = 0;

  /** Counts the bytes of checks until `later` settles. */
  async function wait<T>(checks: readonly Check[], later: Promise<T>): Promise<T> {
    const bytes = waitingChecksBytes(checks);
    waitingBytes += bytes;
    try {
      return await later;
    } finally {
      waitingBytes -= bytes;
    }
  }

  const peerChecks: PeerChecks = {
    decide(checks) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      const mayWait = waitingBytes < maxWaitingBytes;
      const held = hold.ended();
      if (held !== undefined) {
        if (!mayWait) return checks.map(() => 'overloaded' as const);
        return wait(checks, held).then(() => peerChecks.decide(checks));
      }
      const results = new Array<CheckResult>(checks.length).fill(null);
      const unconfirmed: number[] = [];
      const decisions: Decision[] = [];
      for (let place = 0; place < checks.length; place += 1) {
        const check = checks[place]!;
        const to = route(membership, check, nowMs);
        if (to.kind !== 'mine') continue;
        if (!mayWait && owner.mayConfirm(check)) {
          results[place] = 'overloaded';
          continue;
        }
        const client = table.open(check);
        const decision = owner.decide(check, client, nowMs, to.degraded);
        const { allowed, degraded } = decision;
        if (owner.mustConfirm(check, decision)) {
          unconfirmed.push(place);
          decisions.push(decision);
        } else {
          // No node remembers the denial of an acting owner, so only the owner's can be revocable.
          const revocable = !allowed && !degraded && (hasLent(client) || reservations.hasOpen(check.clientId));
          results[place] = resultOf(decision, revocable);
        }
      }
      if (unconfirmed.length === 0) return results;
      const waiting = unconfirmed.map((place) => checks[place]!);
      return wait(waiting, owner.confirm(waiting)).then((known) => {
        unconfirmed.forEach((place, i) => {
          const verdict = owner.confirmed(waiting[i]!, decisions[i]!, known);
          if (verdict !== undefined) results[place] = resultOf(verdict, false);
        });
        return results;
      });
    },
  };
  return peerChecks;
}
