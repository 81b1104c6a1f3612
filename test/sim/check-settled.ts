import type { Violation } from './checker.js';
import { boundsOf } from './consumption.js';
import type { Excuses } from './excuses.js';
import type { Asked, History, SettleCall } from './history.js';
import { bucketKey, callsByReservation, type BucketHistory } from './takes.js';

/** Of the suspicion time, for which a caller may wait for who settles, besides the time that nodes were away. */
const ANSWERED_WITHIN = 6;

/**
 * A reservation that an answer has named is known to whoever is asked, and settled once: all are told the same cost, one of those
 * that it was to be settled at. What that frees is for `admission` and `truth`; here only what the answer says is left.
 */
export function checkSettled(
  history: History,
  buckets: ReadonlyMap<string, BucketHistory>,
  excuses: Excuses,
): Violation[] {
  const problems: string[] = [];
  for (const calls of callsByReservation(history.settles ?? []).values()) {
    const answered: (SettleCall & { answeredMs: number })[] = [];
    for (const call of calls) {
      const { of, at, askedMs, answeredMs, outcome } = call;
      const what = `the reservation of #${of.id} by ${of.check.clientId}, to be settled at ${call.cost} by ${at}, ${askedMs}`;
      const say = (text: string): void => void problems.push(`${what}: ${text}`);
      if (answeredMs === undefined || outcome === undefined) {
        const waitedMs = history.endMs - askedMs;
        if (!diedMeanwhile(history, call) && waitedMs > longest(history, call, history.endMs)) say('no answer');
        continue;
      }
      if (answeredMs - askedMs > longest(history, call, answeredMs)) say(`answered after ${answeredMs - askedMs} ms`);
      if (outcome.kind === 'unavailable' && answeredMs < excuses.firstMs) say('nobody settles it');
      if (outcome.kind === 'unknown' && !excuses.mayForget(knownMs(history, of), answeredMs)) say('it is unknown');
      if (outcome.kind !== 'settled') continue;
      const { cost, reserved } = outcome.settlement;
      if (reserved !== of.check.cost) say(`${reserved} are said to be reserved`);
      if (!calls.some((other) => other.cost === cost && other.askedMs <= answeredMs)) say(`it counts ${cost}`);
      for (const before of answered) {
        const { outcome: told } = before;
        if (told?.kind !== 'settled' || told.settlement.cost === cost) continue;
        const unknown = mayBeUnknown(excuses, before.answeredMs, answeredMs);
        if (!unknown && !(cost > told.settlement.cost && isOneOfTwo(history, excuses, calls, cost, before.answeredMs)))
          say(`it counts ${cost}, where ${told.settlement.cost} was told at ${before.answeredMs}`);
      }
      answered.push({ ...call, answeredMs });
      const wrong = figuresOf(history, call, answeredMs, buckets);
      if (answeredMs < excuses.firstMs && wrong !== undefined) say(wrong);
    }
  }
  return problems.map((message) => ({ check: 'settled', message }));
}

/** Whether one of two answers was given by a node that did not know the other. */
function mayBeUnknown(excuses: Excuses, aMs: number, bMs: number): boolean {
  return excuses.mayForget(Math.min(aMs, bMs), Math.max(aMs, bMs));
}

/**
 * Whether a settlement at `cost` was made by a node that did not know the one that an answer told at `toldMs`, or the
 * other way round. Such a node may live, as one that froze just after it settled: then both settlements stand until the
 * nodes hear each other, and all name the larger from then on.
 */
function isOneOfTwo(
  history: History,
  excuses: Excuses,
  calls: readonly SettleCall[],
  cost: number,
  toldMs: number,
): boolean {
  return calls.some((call) => call.cost === cost && mayBeUnknown(excuses, knownMs(history, call), toldMs));
}

/**
 * When the decision on a request was known. Without a freeze that is when it was answered. A node that froze before it
 * answered had sent the request on, so that it was decided a message later. It answered as soon as it ran again.
 */
function knownMs(
  { faults, setting }: History,
  { at, askedMs, answeredMs = Infinity }: Pick<Asked, 'at' | 'askedMs' | 'answeredMs'>,
): number {
  const held = faults.filter(
    (fault) =>
      fault.kind === 'freeze' &&
      fault.node === at &&
      fault.fromMs >= askedMs &&
      fault.toMs + 2 * setting.delayMs >= answeredMs,
  );
  return Math.min(answeredMs, ...held.map(({ fromMs }) => fromMs));
}

/** What is said to be left, where nothing went wrong: no more than there is. */
function figuresOf(
  { setting }: History,
  { of, askedMs, outcome }: SettleCall,
  answeredMs: number,
  buckets: ReadonlyMap<string, BucketHistory>,
): string | undefined {
  const [rule, second] = of.check.rules;
  if (outcome?.kind !== 'settled' || rule === undefined || second !== undefined) return undefined;
  const bucket = buckets.get(bucketKey(of.check.clientId, rule))!;
  const fastest = bucket.rules.reduce((a, b) => (b.limit > a.limit ? b : a), rule);
  const { clockError, clockGrainMs } = setting;
  const window = { fromMs: askedMs, toMs: answeredMs, lateMs: 0, lent: 0, moves: 0, clockError, clockGrainMs };
  const { usedMin } = boundsOf(bucket.takes, -1, 0, window, fastest, fastest);
  const most = Math.max(0, Math.floor(rule.capacity - usedMin + 1e-6));
  const { remaining } = outcome.settlement;
  return remaining > most ? `${remaining} are said to be left, where at most ${most} are` : undefined;
}

function diedMeanwhile({ faults }: History, { at, askedMs }: SettleCall): boolean {
  return faults.some((one) => (one.kind === 'crash' || one.kind === 'leave') && one.node === at && one.toMs >= askedMs);
}

function longest({ faults, setting }: History, { askedMs }: SettleCall, untilMs: number): number {
  const awayMs = faults
    .filter(({ fromMs, toMs }) => fromMs <= untilMs && toMs >= askedMs)
    .reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
  return ANSWERED_WITHIN * setting.suspectAfterMs + awayMs;
}
