import type { Check } from '../../core/decide.js';
import type { Decision } from '../../core/decision.js';
import { TokenringError } from '../../core/error.js';
import type { Policy } from '../../core/policy.js';
import type { TopClients } from '../../core/top-clients.js';
import type { Membership } from '../membership/membership.js';
import type { Clock, Timers } from '../ports.js';
import type { Answer, Limiter } from './limiter.js';
import { createTurnBudget } from './turn-budget.js';

/** Checks of batches that one turn of the event loop decides: a few ms, also where each has several rules. */
const CHECKS_PER_TURN = 500;

/** Applies policies to the checks of callers: lists come before the limiter, and shadow policies after it. */
export interface CheckPipeline {
  /**
   * @throws TokenringError by rejection: `overloaded` if too many checks wait for the owner, `invalid_request` if the
   * check repeats one that reserved nothing. Nothing was charged.
   */
  check(check: Check): Decision | Promise<Decision>;
  /**
   * Decides several checks, and answers in their order. Large batches take several turns of the event loop, with other
   * requests in between. Never rejects.
   */
  checkMany(checks: readonly Check[]): Answer[] | Promise<Answer[]>;
  /** Denials under shadow policies, which were not enforced, by policy. */
  readonly shadowDenials: ReadonlyMap<string, number>;
}

interface CheckPipelineDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly limiter: Pick<Limiter, 'check' | 'checkMany'>;
  readonly membership: Membership;
  readonly topClients: Pick<TopClients, 'count'>;
}

export function createCheckPipeline(deps: CheckPipelineDeps): CheckPipeline {
  const { clock, timers, limiter, membership, topClients } = deps;
  const budget = createTurnBudget({ timers }, { perTurn: CHECKS_PER_TURN });
  const shadowDenials = new Map<string, number>();

  function decideListed(check: Check, list: 'allow' | 'deny'): Decision {
    const [rule] = check.rules;
    const allowed = list === 'allow';
    topClients.count(check, allowed, clock.nowMs());
    return {
      allowed,
      limit: rule!.limit,
      remaining: allowed ? rule!.capacity : 0,
      retryAfterMs: allowed ? 0 : null,
      resetMs: 0,
      owner: membership.ring.owner(check) ?? membership.self.id,
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

  /**
   * Names no reservation for a decision without the owner: no node could settle it, so it stands.
   * @throws TokenringError if the decision is that of an earlier request, which reserved nothing
   */
  function withReservation(decision: Decision, reservation: string): Decision {
    if (decision.unreserved === true) {
      throw new TokenringError('invalid_request', {
        field: 'reserve',
        expected: 'a requestId that was first used with reserve',
        detail: 'the first request with this requestId reserved nothing, or its reservation is forgotten; use another',
      });
    }
    const kept = decision.source === 'owner' || decision.source === 'forwarded';
    return decision.allowed && kept ? { ...decision, reservation } : decision;
  }

  function finish(decision: Decision, { reservation, peek, terms }: Check): Decision {
    const reserved = reservation === undefined || peek ? decision : withReservation(decision, reservation);
    return terms?.policy?.shadow === true ? asShadow(reserved, terms.policy) : reserved;
  }

  function finished(decision: Decision, check: Check): Answer {
    try {
      return finish(decision, check);
    } catch (error) {
      return error as TokenringError;
    }
  }

  /** Decides so many checks in this turn. */
  function checkSlice(checks: readonly Check[]): Answer[] | Promise<Answer[]> {
    if (checks.every(({ terms, reservation }) => terms === undefined && reservation === undefined))
      return limiter.checkMany(checks);
    const answers = new Array<Answer>(checks.length);
    const places: number[] = [];
    checks.forEach((check, place) => {
      if (check.terms?.listed === undefined) places.push(place);
      else answers[place] = decideListed(check, check.terms.listed);
    });
    const fill = (decided: readonly Answer[]): Answer[] => {
      places.forEach((place, i) => {
        const answer = decided[i]!;
        answers[place] = answer instanceof TokenringError ? answer : finished(answer, checks[place]!);
      });
      return answers;
    };
    const decided = limiter.checkMany(places.map((place) => checks[place]!));
    return decided instanceof Promise ? decided.then(fill) : fill(decided);
  }

  async function checkSlices(checks: readonly Check[], first: number): Promise<Answer[]> {
    const slices: (Answer[] | Promise<Answer[]>)[] = [];
    let from = 0;
    for (let count = first; from < checks.length; count = 0) {
      if (count === 0) count = await budget.wait(checks.length - from);
      slices.push(checkSlice(checks.slice(from, from + count)));
      from += count;
    }
    return (await Promise.all(slices.map((slice) => Promise.resolve(slice)))).flat();
  }

  return {
    check(check) {
      const { terms, reservation } = check;
      if (terms === undefined && reservation === undefined) return limiter.check(check);
      if (terms?.listed !== undefined) return decideListed(check, terms.listed);
      const decision = limiter.check(check);
      if (decision instanceof Promise) return decision.then((one) => finish(one, check));
      const answer = finished(decision, check);
      return answer instanceof TokenringError ? Promise.reject(answer) : answer;
    },
    checkMany(checks) {
      const now = budget.take(checks.length);
      return now === checks.length ? checkSlice(checks) : checkSlices(checks, now);
    },
    shadowDenials,
  };
}
