import { hasLent } from '../../core/bucket/bucket.js';
import type { Check } from '../../core/decide/decide.js';
import type { Decision } from '../../core/decide/decision.js';
import type { Membership } from '../membership/membership.js';
import type { DecidedByPeer } from '../messages.js';
import type { Clock } from '../ports.js';
import { route } from '../routing/route.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Reservations } from '../state/reservations.js';
import type { Hold } from './hold.js';
import type { Owner } from './owner.js';

/** In the order of the checks; `null` for a client for which this node does not decide. */
type Results = (DecidedByPeer | null)[];

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

export function createPeerChecks(deps: PeerChecksDeps): PeerChecks {
  const { clock, table, reservations, membership, hold, owner, detectPause } = deps;

  const peerChecks: PeerChecks = {
    decide(checks) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      if (hold.ended !== undefined) return hold.ended.then(() => peerChecks.decide(checks));
      const results = new Array<DecidedByPeer | null>(checks.length).fill(null);
      const unconfirmed: number[] = [];
      const decisions: Decision[] = [];
      for (let place = 0; place < checks.length; place += 1) {
        const check = checks[place]!;
        const to = route(membership, check);
        if (to.kind !== 'mine') continue;
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
      return owner.confirm(unconfirmed.map((place) => checks[place]!)).then((known) => {
        unconfirmed.forEach((place, i) => {
          const verdict = owner.confirmed(checks[place]!, decisions[i]!, known);
          if (verdict !== undefined) results[place] = resultOf(verdict, false);
        });
        return results;
      });
    },
  };
  return peerChecks;
}
