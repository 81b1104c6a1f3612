import { LRUCache } from 'lru-cache';
import type { Check } from './decide.js';
import type { Decision } from './decision.js';
import { sameRules } from './rule.js';
import type { Rule } from './rule.js';

/** The part of a check that a remembered denial depends on. */
type Asked = Pick<Check, 'clientId' | 'rules' | 'cost' | 'peek' | 'requestId'>;

/** Denials by owners, remembered by the node that forwarded the check, for as long as they hold. */
export interface Denials {
  /** Notes the moment at which an owner is asked; for `remember`. */
  asking(nowMs: number): Asking;
  /** @param nowMs when the answer came */
  remember(check: Asked, decision: Decision, asking: Asking, nowMs: number): void;
  /** The same denial again, with the rest of its time. */
  recall(check: Asked, nowMs: number): Decision | undefined;
  forget(clientId: string): void;
  /** Forgets all, because the rules may have changed. */
  clear(): void;
  readonly size: number;
}

interface Asking {
  /** The owner's `retryAfterMs` began no sooner. */
  readonly atMs: number;
  /** Resets by then. An answer that was on its way during a later reset may be older than that reset. */
  readonly resets: number;
}

interface Denial {
  readonly rules: readonly Rule[];
  readonly cost: number;
  readonly decision: Decision;
  /** Start of the countdown of its figures, not before they were true. */
  readonly answeredAtMs: number;
  /** Infinity for a cost that can never pass. */
  readonly untilMs: number;
}

interface DenialsOptions {
  readonly max: number;
  /** Bound in ms, for callers that do not hear of resets and returned leases. Default: none. */
  readonly longestMs?: number;
}

/**
 * A denial holds until its `retryAfterMs`, whatever else comes, for the same rules and a cost at least as large. Two
 * events end it sooner. A reset forgets it here too. Leased or reserved tokens may come back; then the owner marks the
 * denial as revocable, and it is not remembered. The key is the whole client id, so no client gets the denials of
 * another.
 */
export function createDenials(options: DenialsOptions): Denials {
  const { longestMs = Infinity } = options;
  const denials = new LRUCache<string, Denial>({ max: options.max });
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
      if (untilMs > nowMs) denials.set(clientId, { rules, cost, decision, answeredAtMs: nowMs, untilMs });
    },
    recall(check, nowMs) {
      if (denials.size === 0) return undefined;
      const denial = denials.get(check.clientId);
      if (denial === undefined || check.requestId !== undefined) return undefined;
      if (nowMs >= denial.untilMs) {
        denials.delete(check.clientId);
        return undefined;
      }
      if (check.cost < denial.cost || !sameRules(check.rules, denial.rules)) return undefined;
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
    get size() {
      return denials.size;
    },
  };
}

/** Additional ms for a larger cost; Infinity: for ever; `undefined` if only the owner can tell. */
function moreToWait({ cost, rules: [rule, second] }: Asked, denial: Denial): number | undefined {
  if (cost === denial.cost) return 0;
  if (second !== undefined || rule?.algorithm !== 'token-bucket') return undefined;
  if (cost > rule.capacity) return Infinity;
  return Math.ceil(((cost - denial.cost) * rule.windowMs) / rule.limit);
}

function again({ decision, answeredAtMs }: Denial, nowMs: number, moreMs: number): Decision {
  const passedMs = nowMs - answeredAtMs;
  const left = (ms: number): number => Math.max(0, ms - passedMs);
  const leftToRetry = (ms: number | null): number | null =>
    ms === null || moreMs === Infinity ? null : left(ms) + moreMs;
  return {
    ...decision,
    retryAfterMs: leftToRetry(decision.retryAfterMs),
    resetMs: left(decision.resetMs),
    limits: decision.limits?.map((one) => ({
      ...one,
      retryAfterMs: one.retryAfterMs === 0 ? 0 : leftToRetry(one.retryAfterMs),
      resetMs: left(one.resetMs),
    })),
    source: 'deny-cache',
  };
}
