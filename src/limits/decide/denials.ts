import { statsWith } from './decide.js';
import type { Check } from './decide.js';
import { decisionBy } from './decision.js';
import type { Decision } from './decision.js';
import { sameRules } from '../bucket/rule.js';
import type { Rule } from '../bucket/rule.js';

/** The part of a check that a remembered denial depends on. */
type Asked = Pick<Check, 'clientId' | 'rules' | 'cost' | 'peek' | 'requestId'>;

/** The denials of owners. The node that forwarded the check remembers each for as long as it holds. */
export interface Denials {
  /** Records the time at which an owner is asked. `remember` needs it. */
  asking(nowMs: number): Asking;
  /** @param nowMs arrival of the answer */
  remember(check: Asked, decision: Decision, asking: Asking, nowMs: number): void;
  /** @returns the remembered denial with the rest of its waits; `undefined` if there is none for this check */
  recall(check: Asked, nowMs: number): Decision | undefined;
  forget(clientId: string): void;
  /** Forgets all denials, because the rules may have changed. */
  clear(): void;
  size(): number;
}

export interface Asking {
  /** Time of the question. The owner's `retryAfterMs` begins at this time or later. */
  readonly atMs: number;
  /** Number of resets before the question. An answer that was in transit during a reset may be older than the reset. */
  readonly resets: number;
}

export interface Denial {
  readonly rules: readonly Rule[];
  readonly cost: number;
  readonly decision: Decision;
  /** Arrival of the answer. The waits in the decision count down from here; they were true at this time or earlier. */
  readonly answeredAtMs: number;
  /** Infinity for a cost that can never pass. */
  readonly untilMs: number;
  /** The client's latest denials under other rules, such as those of other scopes. */
  readonly others: readonly Denial[];
}

/** Bound of the denials of one client. */
const MAX_OF_CLIENT = 4;

/** Holds denials by client, in bounded memory: a `Map` that drops old entries. */
interface HeldDenials extends Pick<Map<string, Denial>, 'get' | 'delete' | 'clear' | 'size'> {
  set(clientId: string, denial: Denial): unknown;
}

interface DenialsOptions {
  /**
   * Longest time to remember a denial, in ms. For callers that do not learn of resets and returned leases. Default:
   * none.
   */
  readonly longestMs?: number;
}

/**
 * A denial holds until its `retryAfterMs` for the same rules and a cost at least as large. Other requests only prolong
 * it. Only two events could end it sooner. A reset makes this node forget the denial too. Leased or reserved tokens may
 * come back; the owner marks such a denial as revocable, and it is not remembered. The key is the whole client id, so
 * no client gets the denials of another.
 */
export function createDenials(denials: HeldDenials, { longestMs = Infinity }: DenialsOptions = {}): Denials {
  let resets = 0;

  return {
    asking: (nowMs) => ({ atMs: nowMs, resets }),
    remember(check, decision, asking, nowMs) {
      const { clientId, rules, cost, requestId } = check;
      // A repeated request id gets this denial from the owner. Another request id is a new question.
      if (requestId !== undefined || decision.degraded || resets !== asking.resets) return;
      // A peek does not put its limit in force, so its `retryAfterMs` may be that of an earlier limit.
      if (check.peek) return;
      const untilMs = asking.atMs + Math.min(decision.retryAfterMs ?? Infinity, longestMs);
      if (untilMs <= nowMs) return;
      const others = denialsOf(denials.get(clientId))
        .filter((one) => one.untilMs > nowMs && !sameRules(one.rules, rules))
        .slice(0, MAX_OF_CLIENT - 1)
        .map((one) => (one.others.length === 0 ? one : Object.assign({}, one, { others: NONE })));
      denials.set(clientId, { rules, cost, decision, answeredAtMs: nowMs, untilMs, others });
    },
    recall(check, nowMs) {
      // Stryker disable next-line ConditionalExpression: it only saves the hash of the id
      if (denials.size === 0) return undefined;
      const latest = denials.get(check.clientId);
      if (latest === undefined || check.requestId !== undefined) return undefined;
      const denial = denialsOf(latest).find(({ rules }) => sameRules(check.rules, rules));
      if (denial === undefined || check.cost < denial.cost) return undefined;
      if (nowMs >= denial.untilMs) {
        if (latest.others.length === 0) denials.delete(check.clientId);
        return undefined;
      }
      const more = moreToWait(check, denial);
      return more === undefined ? undefined : again(denial, nowMs, more);
    },
    forget(clientId) {
      resets += 1;
      denials.delete(clientId);
    },
    clear() {
      resets += 1;
      denials.clear();
    },
    size: () => denials.size,
  };
}

const NONE: readonly Denial[] = [];

/** Lists the denials of a client, the latest first. */
export function denialsOf(latest: Denial | undefined): readonly Denial[] {
  if (latest === undefined) return NONE;
  return latest.others.length === 0 ? [latest] : [latest, ...latest.others];
}

/** @returns additional ms for a larger cost; Infinity if it can never pass; `undefined` if only the owner can tell */
function moreToWait({ cost, rules }: Asked, denial: Denial): number | undefined {
  if (cost === denial.cost) return 0;
  const rule = rules[0]!;
  if (rules.length > 1 || rule.algorithm !== 'token-bucket') return undefined;
  if (cost > rule.capacity) return Infinity;
  return Math.ceil(((cost - denial.cost) * rule.windowMs) / rule.limit);
}

function again({ decision, answeredAtMs }: Denial, nowMs: number, moreMs: number): Decision {
  const passedMs = nowMs - answeredAtMs;
  const left = (ms: number): number => Math.max(0, ms - passedMs);
  const leftToRetry = (ms: number | null): number | null =>
    ms === null || moreMs === Infinity ? null : left(ms) + moreMs;
  const { allowed, limit, remaining, retryAfterMs, resetMs, limits, owner, degraded } = decision;
  return decisionBy(
    { owner, source: 'deny-cache', degraded },
    { allowed, limit, remaining, retryAfterMs: leftToRetry(retryAfterMs), resetMs: left(resetMs) },
    limits?.map((one) => statsWith(one, one.remaining, leftToRetry(one.retryAfterMs), left(one.resetMs))),
  );
}
