import { decisionOf } from '../../limits/decide/check-batch.js';
import type { Answer, CheckBatch } from '../../limits/decide/check-batch.js';
import type { Asked, Check } from '../../limits/decide/decide.js';
import type { Decision } from '../../limits/decide/decision.js';
import { TokenringError } from '../../lib/error.js';
import type { PolicyTerms } from '../../limits/decide/decide.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Membership } from '../../membership/membership.js';
import type { Clock, Timers } from '../../lib/clock.js';
import type { Limiter } from './limiter.js';
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
   * Answers the checks of a batch. Large batches take several turns of the event loop, with other requests in between.
   * Never rejects.
   * @returns `undefined` when all are answered at once
   */
  checkMany(batch: CheckBatch): Promise<void> | undefined;
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
      owner: membership.ring().owner(check) ?? membership.self().id,
      source: 'owner',
      degraded: false,
      limits: undefined,
    };
  }

  function asShadow(decision: Decision, { name }: PolicyTerms): Decision {
    const { allowed, retryAfterMs } = decision;
    if (!allowed) shadowDenials.set(name, (shadowDenials.get(name) ?? 0) + 1);
    return Object.assign({}, decision, { allowed: true, retryAfterMs: 0, shadow: { allowed, retryAfterMs } });
  }

  /**
   * Names no reservation for a decision without the owner: no node could settle it, so it stands.
   * @returns an error if the decision is that of an earlier request, which reserved nothing
   */
  function withReservation(decision: Decision, reservation: string): Answer {
    if (decision.unreserved === true) {
      return new TokenringError('invalid_request', {
        field: 'reserve',
        expected: 'a requestId that was first used with reserve',
        detail: 'the first request with this requestId reserved nothing, or its reservation is forgotten; use another',
      });
    }
    const kept = decision.source === 'owner' || decision.source === 'forwarded';
    return decision.allowed && kept ? Object.assign({}, decision, { reservation }) : decision;
  }

  function finish(decision: Decision, { reservation, peek, terms }: Asked): Answer {
    const answer = reservation === undefined || peek ? decision : withReservation(decision, reservation);
    if (answer instanceof TokenringError || terms?.policy?.shadow !== true) return answer;
    return asShadow(answer, terms.policy);
  }

  /** Decides the checks from place `from` to before `to` in this turn. */
  function checkSlice(batch: CheckBatch, from: number, to: number): Promise<void> | undefined {
    if (!batch.hasTerms) return limiter.checkMany(batch, from, to);
    const places: number[] = [];
    for (let place = from; place < to; place += 1) {
      if (batch.isAnswered(place)) continue;
      const { terms } = batch.asked[place]!;
      if (terms?.listed === undefined) places.push(place);
      else batch.answer(place, decideListed(batch.check(place), terms.listed));
    }
    const finishAll = (): void => {
      for (const place of places) {
        const answer = batch.answerAt(place);
        if (!(answer instanceof TokenringError)) batch.answer(place, finish(answer, batch.asked[place]!));
      }
    };
    const later = limiter.checkMany(batch, from, to);
    if (later !== undefined) return later.then(finishAll);
    finishAll();
    return undefined;
  }

  async function checkSlices(batch: CheckBatch, first: number): Promise<void> {
    const waiting: Promise<void>[] = [];
    let from = 0;
    for (let count = first; from < batch.size; count = 0) {
      if (count === 0) count = await budget.wait(batch.size - from);
      const later = checkSlice(batch, from, from + count);
      if (later !== undefined) waiting.push(later);
      from += count;
    }
    await Promise.all(waiting);
  }

  return {
    check(check) {
      const { terms, reservation } = check;
      if (terms === undefined && reservation === undefined) return limiter.check(check);
      if (terms?.listed !== undefined) return decideListed(check, terms.listed);
      const decision = limiter.check(check);
      if (decision instanceof Promise) return decision.then((one) => decisionOf(finish(one, check)));
      const answer = finish(decision, check);
      return answer instanceof TokenringError ? Promise.reject(answer) : answer;
    },
    checkMany(batch) {
      const now = budget.take(batch.size);
      return now === batch.size ? checkSlice(batch, 0, now) : checkSlices(batch, now);
    },
    shadowDenials,
  };
}
