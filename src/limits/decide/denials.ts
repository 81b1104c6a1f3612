import { statsWith } from './decide.js';
import { decisionBy, type Decision } from './decision.js';
import { asksSame, mayRememberDenial, mayRepeatDenial, type DenialParams, type Question } from './check.js';

export interface Asking {
  /** Time of the question. The owner's `retryAfterMs` begins at this time or later. */
  readonly atMs: number;
  /** Number of resets before the question. An answer that was in transit during a reset may be older than the reset. */
  readonly resets: number;
}

export interface Denial extends Question {
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

/**
 * The denials of owners. The node that forwarded a check remembers its denial for as long as it holds: until its
 * `retryAfterMs` for the same rules and a cost at least as large, as other requests only prolong it. Only two events
 * could end it sooner. A reset makes this node forget the denial too. Leased or reserved tokens may come back; the owner
 * marks such a denial as revocable, and it is not remembered. The key is the whole client id, so no client gets the
 * denials of another.
 */
export class Denials {
  private resets = 0;

  /**
   * @param longestMs longest time to remember a denial, in ms, for callers that do not learn of resets and returned
   * leases
   */
  constructor(
    private readonly held: HeldDenials,
    private readonly longestMs = Infinity,
  ) {}

  /** Records the time at which an owner is asked. `remember` needs it. */
  asking(nowMs: number): Asking {
    return { atMs: nowMs, resets: this.resets };
  }

  /** @param nowMs arrival of the answer */
  remember(check: DenialParams, decision: Decision, asking: Asking, nowMs: number): void {
    if (!mayRememberDenial(check) || decision.degraded || this.resets !== asking.resets) return;
    const { clientId, rules, cost } = check;
    const untilMs = asking.atMs + Math.min(decision.retryAfterMs ?? Infinity, this.longestMs);
    if (untilMs <= nowMs) return;
    const others = denialsOf(this.held.get(clientId))
      .filter((one) => one.untilMs > nowMs && !asksSame(one, check))
      .slice(0, MAX_OF_CLIENT - 1)
      .map((one) => (one.others.length === 0 ? one : Object.assign({}, one, { others: NONE })));
    this.held.set(clientId, { clientId, rules, cost, decision, answeredAtMs: nowMs, untilMs, others });
  }

  /** @returns the remembered denial with the rest of its waits; `undefined` if there is none for this check */
  recall(check: DenialParams, nowMs: number): Decision | undefined {
    // Stryker disable next-line ConditionalExpression: it only saves the hash of the id
    if (this.held.size === 0) return undefined;
    const latest = this.held.get(check.clientId);
    if (latest === undefined || !mayRepeatDenial(check)) return undefined;
    const denial = denialsOf(latest).find((one) => asksSame(one, check));
    if (denial === undefined || check.cost < denial.cost) return undefined;
    if (nowMs >= denial.untilMs) {
      if (latest.others.length === 0) this.held.delete(check.clientId);
      return undefined;
    }
    const more = moreToWait(check, denial);
    return more === undefined ? undefined : again(denial, nowMs, more);
  }

  forget(clientId: string): void {
    this.resets += 1;
    this.held.delete(clientId);
  }

  /** Forgets all denials, because the rules may have changed. */
  clear(): void {
    this.resets += 1;
    this.held.clear();
  }

  size(): number {
    return this.held.size;
  }
}

const NONE: readonly Denial[] = [];

/** Lists the denials of a client, the latest first. */
export function denialsOf(latest: Denial | undefined): readonly Denial[] {
  if (latest === undefined) return NONE;
  return latest.others.length === 0 ? [latest] : [latest, ...latest.others];
}

/** @returns additional ms for a larger cost; Infinity if it can never pass; `undefined` if only the owner can tell */
function moreToWait({ cost, rules }: DenialParams, denial: Denial): number | undefined {
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
