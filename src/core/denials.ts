import { LRUCache } from 'lru-cache';
import type { Check } from './decide.js';
import type { Decision } from './decision.js';
import { sameRules } from './rule.js';
import type { Rule } from './rule.js';

/** What a denial is remembered by. */
type Asked = Pick<Check, 'clientId' | 'rules' | 'cost' | 'peek' | 'requestId'>;

/** Denials of owners, remembered where they were asked for, for as long as they hold. */
export interface Denials {
  /** What is to be kept of the moment at which an owner is asked. */
  asking(nowMs: number): Asking;
  /** @param nowMs when the answer came */
  remember(check: Asked, decision: Decision, asking: Asking, nowMs: number): void;
  /** The same denial again, with what is left of its time. */
  recall(check: Asked, nowMs: number): Decision | undefined;
  forget(clientId: string): void;
  /** Forgets all: the rules may be others now. */
  clear(): void;
  readonly size: number;
}

interface Asking {
  /** The owner's `retryAfterMs` began no sooner. */
  readonly atMs: number;
  /** How many denials were forgotten by then: an answer that was under way when more were is perhaps older. */
  readonly resets: number;
}

interface Denial {
  readonly rules: readonly Rule[];
  readonly cost: number;
  readonly decision: Decision;
  /** From when its figures count down: no sooner than they were true. */
  readonly answeredAtMs: number;
  /** Infinity: as long as the client asks for what it can never have. */
  readonly untilMs: number;
}

interface DenialsOptions {
  readonly max: number;
  /** None is remembered for longer, in ms: where resets and returned leases are not heard of. Default: as long as it says. */
  readonly longestMs?: number;
}

/**
 * A denial holds until its `retryAfterMs`, whatever else comes, for the same rules and a cost at least as large: only a reset,
 * or tokens that come back, leased or reserved, could end it sooner. The first forgets it here too; where there may be the second,
 * the owner says so, and it is not remembered. One client's denials are never another's: the key is the whole id.
 */
export function createDenials(options: DenialsOptions): Denials {
  const { longestMs = Infinity } = options;
  const denials = new LRUCache<string, Denial>({ max: options.max });
  let resets = 0;

  return {
    asking: (nowMs) => ({ atMs: nowMs, resets }),
    remember(check, decision, asking, nowMs) {
      const { clientId, rules, cost, requestId } = check;
      // The next with this request id is to hear this denial however long after, and one with another id is a new question.
      if (requestId !== undefined || decision.degraded || resets !== asking.resets) return;
      // A peek puts no limit in force: its time to wait may be that of the limit before.
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

/** Ms longer to wait for what costs more; Infinity: for ever; `undefined` where only the owner can tell. */
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
