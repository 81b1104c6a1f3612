import type { Decision } from '../../src/limits/decide/decision.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import type { Violation } from './checker.js';
import { boundsOf, type Bounds, type Window } from './consumption.js';
import { LENT, type Excuses } from './excuses.js';
import type { Asked, History } from './history.js';
import { bucketKey, sameFigures, type BucketHistory } from './takes.js';

type Answered = Asked & { answeredMs: number; decision: Decision };

/** How long the owner keeps a lease open. */
const LEASED_MS = 1_000;

/** For sums of fractions of tokens. */
const EPSILON = 1e-6;

/**
 * While nothing has gone wrong, each answer follows from the ones before: nobody is denied without cause, and the figures
 * are true. What was decided at the same time may count or not.
 */
export function checkFigures(
  history: History,
  buckets: ReadonlyMap<string, BucketHistory>,
  excuses: Excuses,
): Violation[] {
  const violations: Violation[] = [];
  const first = new Map<string, Answered>();
  const givenUp = firstGivenUp(history);
  for (const one of history.asked) {
    if (!isAnswered(one) || one.answeredMs >= excuses.firstMs) continue;
    const { clientId, requestId, peek } = one.check;
    if (one.id >= (givenUp.get(clientId) ?? Infinity)) continue;
    if ((one.decision.degraded && !one.check.replicated) || one.decision.source === 'fallback') {
      violations.push({ check: 'truth', message: `#${one.id} is degraded without a fault` });
      continue;
    }
    if (requestId !== undefined) {
      const key = JSON.stringify([clientId, requestId]);
      const before = first.get(key);
      if (before === undefined) {
        if (!peek) first.set(key, one);
        // Another under the same id may have been decided in its place.
        if (history.asked.some((other) => isRepeat(other, one) && other.askedMs <= one.answeredMs)) continue;
      } else {
        if (!peek && !sameFigures(before.decision, one.decision)) {
          violations.push({ check: 'repeat', message: `#${one.id} repeats #${before.id} and is decided anew` });
        }
        continue;
      }
    }
    violations.push(...checkOne(history, one, buckets));
  }
  return violations;
}

function isRepeat(other: Asked, one: Asked): boolean {
  const { clientId, requestId } = one.check;
  return other !== one && other.check.requestId === requestId && other.check.clientId === clientId;
}

/**
 * The first request of each client that took so long that its node gave up on a batch, and asked anew: from then on, more may
 * have been charged than was answered.
 */
function firstGivenUp({ asked, setting, endMs }: History): Map<string, number> {
  const first = new Map<string, number>();
  for (const { id, check, askedMs, answeredMs = endMs } of asked) {
    if (answeredMs - askedMs >= setting.suspectAfterMs && !first.has(check.clientId)) first.set(check.clientId, id);
  }
  return first;
}

function isAnswered(one: Asked): one is Answered {
  return one.decision !== undefined;
}

function checkOne(history: History, one: Answered, buckets: ReadonlyMap<string, BucketHistory>): Violation[] {
  const { check, decision } = one;
  const violations: Violation[] = [];
  const say = (name: Violation['check'], text: string): void => {
    violations.push({ check: name, message: `#${one.id} ${check.clientId} at ${one.at} ${one.askedMs}: ${text}` });
  };
  const own = decision.allowed && !check.peek ? check.cost : 0;
  const leasable = history.leased.has(check.clientId);
  const window = windowOf(history, one, leasable);
  let caused = false;
  for (const [i, rule] of check.rules.entries()) {
    const bucket = buckets.get(bucketKey(check.clientId, rule))!;
    const limits = bucket.rules.filter((known) => known.limit > 0);
    const slowest = limits.reduce((a, b) => (b.limit < a.limit ? b : a), rule.limit > 0 ? rule : (limits[0] ?? rule));
    const fastest = limits.reduce((a, b) => (b.limit > a.limit ? b : a), slowest);
    const lent = leasable ? Math.max(...limits.map(({ capacity }) => capacity), rule.capacity) * LENT : 0;
    const bounds = boundsOf(bucket.takes, one.id, own, { ...window, lent }, slowest, fastest);
    const never = rule.limit === 0 || check.cost > rule.capacity;
    if (never || bounds.usedMax + check.cost > rule.capacity + EPSILON) caused = true;
    const said = check.rules.length === 1 ? decision : decision.limits?.[i];
    if (said === undefined) say('truth', 'has no figures for each limit');
    // The holder of a lease knows what the owner said with it, and that it may spend what it has.
    else if (decision.source === 'lease') checkRegistrationd(rule, said, say);
    else if (decision.source === 'deny-cache') checkRemembered(rule, check.cost, bounds, said, say);
    else checkSaid(rule, check.cost, bounds, said, decision.allowed, never, lent > 0, say);
  }
  if (!decision.allowed && !caused) say('denial', `denied though no limit is reached: ${JSON.stringify(decision)}`);
  return violations;
}

interface Said {
  readonly limit: number;
  readonly remaining: number;
  readonly retryAfterMs: number | null;
  readonly resetMs: number;
}

function checkSaid(
  rule: Rule,
  cost: number,
  bounds: Bounds,
  said: Said,
  allowed: boolean,
  never: boolean,
  lent: boolean,
  say: (name: Violation['check'], text: string) => void,
): void {
  const outside = (value: number, min: number, max: number): boolean => value < min - EPSILON || value > max + EPSILON;
  if (said.limit !== rule.limit) say('truth', `says limit ${said.limit} for ${rule.limit}`);
  const capacity = rule.limit === 0 ? 0 : rule.capacity;
  const remainingMin = Math.max(0, Math.floor(capacity - bounds.usedMax + EPSILON));
  const remainingMax = Math.max(0, Math.floor(capacity - bounds.usedMin + EPSILON));
  if (outside(said.remaining, remainingMin, remainingMax))
    say('truth', `${said.remaining} remaining, where ${remainingMin} to ${remainingMax} are`);
  const restMax = Math.ceil(bounds.restMax - EPSILON);
  if (rule.limit > 0 && outside(said.resetMs, Math.ceil(bounds.restMin - EPSILON), restMax))
    say('truth', `resets in ${said.resetMs}, where ${bounds.restMin} to ${bounds.restMax} is true`);
  if (allowed || (never && said.retryAfterMs === null)) {
    if (allowed && said.retryAfterMs !== 0) say('truth', `allowed, and to be tried again in ${said.retryAfterMs}`);
    return;
  }
  if (said.retryAfterMs === null) return say('truth', 'is told never to come back, though it could');
  const over = capacity - cost;
  // Lent tokens may come back: that they could is what the hint says.
  const waitMin = lent ? 0 : Math.ceil(bounds.waitMin(over) - EPSILON);
  const waitMax = Math.ceil(bounds.waitMax(over) - EPSILON);
  if (outside(said.retryAfterMs, waitMin, waitMax))
    say('truth', `is to wait ${said.retryAfterMs}, where ${waitMin} to ${waitMax} is true`);
}

function checkRegistrationd(rule: Rule, said: Said, say: (name: Violation['check'], text: string) => void): void {
  if (said.limit !== rule.limit) say('truth', `says limit ${said.limit} for ${rule.limit}`);
  if (said.remaining < 0 || said.remaining > rule.capacity) say('truth', `${said.remaining} remaining of a lease`);
  if (said.retryAfterMs !== 0) say('truth', `allowed, and to be tried again in ${said.retryAfterMs}`);
}

/** What others took since is not known where a denial is remembered: it says no more than that nothing can pass before. */
function checkRemembered(
  { limit, capacity }: Rule,
  cost: number,
  bounds: Bounds,
  said: Said,
  say: (name: Violation['check'], text: string) => void,
): void {
  if (said.limit !== limit) say('truth', `says limit ${said.limit} for ${limit}`);
  const waitMax = Math.ceil(bounds.waitMax((limit === 0 ? 0 : capacity) - cost) - EPSILON);
  if (said.retryAfterMs !== null && said.retryAfterMs > waitMax)
    say('truth', `is to wait ${said.retryAfterMs}, where at most ${waitMax} is true`);
}

function windowOf({ faults, setting }: History, one: Answered, leasable: boolean): Omit<Window, 'lent'> {
  const moves = faults.filter(
    (fault) => (fault.kind === 'join' || fault.kind === 'leave') && fault.fromMs <= one.answeredMs,
  );
  // Packets that are lost come again later; who sent them may have given up by then.
  const retransmittedMs = faults
    .filter((fault) => fault.kind === 'lossy' && fault.fromMs <= one.answeredMs)
    .reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs + setting.suspectAfterMs, 0);
  return {
    fromMs: one.askedMs,
    toMs: one.answeredMs,
    // A bucket that moves is stricter by the time it is under way.
    // To the new owner, and between it and the old one until both know that they have the same.
    lateMs:
      (moves.length === 0 ? 0 : 4 * moves.length * (setting.delayMs + 1) + retransmittedMs) +
      // Leased tokens begin to decay when the lease is over, not when they are spent.
      (leasable ? LEASED_MS : 0) +
      // A remembered denial says when its answer came what was true when it was made.
      (one.decision.source === 'deny-cache' ? 2 * setting.delayMs + retransmittedMs : 0),
    moves: moves.length,
    clockError: setting.clockError,
    clockGrainMs: setting.clockGrainMs,
  };
}
