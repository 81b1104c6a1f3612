import type { Check } from '../core/decide.js';
import type { Policy } from '../core/policy.js';
import type { Decision } from './decision.js';
import type { Limiter } from './limiter.js';
import type { Membership } from './membership.js';

/** What callers of this node ask, as policies want it: lists come before the limiter, and a policy on trial after it. */
export interface CallerDesk {
  /** Never rejects. */
  check(check: Check): Decision | Promise<Decision>;
  /** Denials that were none, as their policy is on trial, by policy. */
  readonly shadowDenials: ReadonlyMap<string, number>;
}

export function createCallerDesk({
  limiter,
  membership,
}: {
  limiter: Pick<Limiter, 'check'>;
  membership: Membership;
}): CallerDesk {
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

  function onTrial(decision: Decision, { name }: Policy): Decision {
    const { allowed, retryAfterMs } = decision;
    if (!allowed) shadowDenials.set(name, (shadowDenials.get(name) ?? 0) + 1);
    return { ...decision, allowed: true, retryAfterMs: 0, shadow: { allowed, retryAfterMs } };
  }

  return {
    check(check) {
      const { terms } = check;
      if (terms === undefined) return limiter.check(check);
      const { listed, policy } = terms;
      if (listed !== undefined) return decideListed(check, listed);
      const decision = limiter.check(check);
      if (policy?.shadow !== true) return decision;
      return decision instanceof Promise ? decision.then((one) => onTrial(one, policy)) : onTrial(decision, policy);
    },
    shadowDenials,
  };
}
