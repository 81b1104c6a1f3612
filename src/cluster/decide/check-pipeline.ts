import type { Check } from '../../core/decide.js';
import type { Decision } from '../../core/decision.js';
import type { Policy } from '../../core/policy.js';
import type { Limiter } from './limiter.js';
import type { Membership } from '../membership/membership.js';

/** What callers of this node ask, as policies want it: lists come before the limiter, and a policy on trial after it. */
export interface CheckPipeline {
  /** Never rejects. */
  check(check: Check): Decision | Promise<Decision>;
  /** Denials that were none, as their policy is on trial, by policy. */
  readonly shadowDenials: ReadonlyMap<string, number>;
}

export function createCheckPipeline({
  limiter,
  membership,
}: {
  limiter: Pick<Limiter, 'check'>;
  membership: Membership;
}): CheckPipeline {
  const shadowDenials = new Map<string, number>();

  function decideListed({ clientId, rules }: Check, list: 'allow' | 'deny'): Decision {
    const [rule] = rules;
    const allowed = list === 'allow';
    return {
      allowed,
      limit: rule!.limit,
      remaining: allowed ? rule!.capacity : 0,
      retryAfterMs: allowed ? 0 : null,
      resetMs: 0,
      owner: membership.ring.owner(clientId) ?? membership.self.id,
      source: 'owner',
      degraded: false,
      limits: undefined,
    };
  }

  function asShadow(decision: Decision, { name }: Policy): Decision {
    const { allowed, retryAfterMs } = decision;
    if (!allowed) shadowDenials.set(name, (shadowDenials.get(name) ?? 0) + 1);
    return { ...decision, allowed: true, retryAfterMs: 0, shadow: { allowed, retryAfterMs } };
  }

  /** What is decided without the owner is known to nobody who could settle it: it stands. */
  function withReservation(decision: Decision, reservation: string): Decision {
    const kept = decision.source === 'owner' || decision.source === 'forwarded';
    return decision.allowed && kept ? { ...decision, reservation } : decision;
  }

  function finish(decision: Decision, { reservation, peek, terms }: Check): Decision {
    const reserved = reservation === undefined || peek ? decision : withReservation(decision, reservation);
    return terms?.policy?.shadow === true ? asShadow(reserved, terms.policy) : reserved;
  }

  return {
    check(check) {
      const { terms, reservation } = check;
      if (terms === undefined && reservation === undefined) return limiter.check(check);
      if (terms?.listed !== undefined) return decideListed(check, terms.listed);
      const decision = limiter.check(check);
      return decision instanceof Promise ? decision.then((one) => finish(one, check)) : finish(decision, check);
    },
    shadowDenials,
  };
}
