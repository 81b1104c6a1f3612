import type { Rule } from '../../src/limits/bucket/rule.js';
import type { Take } from './takes.js';

/** What may count against a client when one request is decided, at an unknown time from `fromMs` to `toMs`. */
export interface Window {
  readonly fromMs: number;
  readonly toMs: number;
  /** Ms by which what is known may be stricter than the truth: time that copies spent under way. */
  readonly lateMs: number;
  /** Tokens that other nodes may have had to spend, at most. */
  readonly lent: number;
  /** How often the bucket may have moved. */
  readonly moves: number;
  readonly clockError: number;
  readonly clockGrainMs: number;
}

/** Tokens used, at least and at most; and ms from the decision until `cost` fits, and until nothing is left. */
export interface Bounds {
  readonly usedMin: number;
  readonly usedMax: number;
  waitMin(over: number): number;
  waitMax(over: number): number;
  readonly restMin: number;
  readonly restMax: number;
}

/** Sub-windows of a sliding window: it may count so much of its window longer. */
const SUB_WINDOWS = 32;
/** Each node counts in steps of its own, so a copy may count a step longer than the original. */
const GRIDS_MOVED = 1;

/**
 * The bounds that all earlier takes leave.
 * @param own tokens that the request itself took
 * @param slowest, fastest the limits that the bucket may have had
 */
export function boundsOf(
  takes: readonly Take[],
  id: number,
  own: number,
  window: Window,
  slowest: Rule,
  fastest: Rule,
): Bounds {
  const sure = takes
    .filter((take) => take.sure && take.id !== id && take.answeredMs < window.fromMs)
    .flatMap((take) => leastOf(take, window));
  const maybe = takes
    .filter((take) => take.id !== id && take.askedMs <= window.toMs)
    .flatMap((take) => mostOf(take, window));
  return slowest.algorithm === 'token-bucket'
    ? debtBounds(sure, maybe, own, window, slowest, fastest)
    : countBounds(sure, maybe, own, window, slowest);
}

/** Tokens that came at some time between two. */
interface Amount {
  readonly askedMs: number;
  readonly answeredMs: number;
  readonly cost: number;
}

/** The least that a take may count: what it may have been settled at, as if no more had ever been taken. */
function leastOf({ askedMs, answeredMs, cost, settled }: Take, { fromMs, toMs }: Window): Amount[] {
  if (settled === undefined || settled.askedMs > toMs) return [{ askedMs, answeredMs, cost }];
  if (settled.cost <= cost) return [{ askedMs, answeredMs, cost: settled.cost }];
  const taken = { askedMs, answeredMs, cost };
  return settled.answeredMs < fromMs ? [taken, { ...settled, cost: settled.cost - cost }] : [taken];
}

/** The most: where the client moves, or tokens of it are lent, not all comes back. */
function mostOf({ askedMs, answeredMs, cost, settled }: Take, { fromMs, toMs, moves, lent }: Window): Amount[] {
  if (settled === undefined || settled.askedMs > toMs) return [{ askedMs, answeredMs, cost }];
  const exact = settled.answeredMs < fromMs && moves === 0 && lent === 0;
  if (settled.most <= cost) return [{ askedMs, answeredMs, cost: exact ? settled.most : cost }];
  return [
    { askedMs, answeredMs, cost },
    { ...settled, cost: settled.most - cost },
  ];
}

function debtBounds(
  sure: readonly Amount[],
  maybe: readonly Amount[],
  own: number,
  { fromMs, toMs, lateMs, lent, clockError, clockGrainMs: slackMs }: Window,
  slowest: Rule,
  fastest: Rule,
): Bounds {
  const slowPerMs = (slowest.limit / slowest.windowMs) * (1 - clockError);
  const fastPerMs = (fastest.limit / fastest.windowMs) * (1 + clockError);
  const least = debtAfter(
    sure.map(({ askedMs, cost }) => ({ atMs: askedMs, cost })),
    toMs + slackMs,
    fastPerMs,
  );
  const latest = maybe.map(({ answeredMs, cost }) => ({ atMs: Math.min(answeredMs, fromMs), cost }));
  const most = debtAfter(latest, fromMs, slowPerMs) + (lateMs + slackMs) * slowPerMs;
  const usedMin = least + own;
  const usedMax = most + own + lent;
  const waitMs = (tokens: number, perMs: number): number => (tokens <= 0 ? 0 : perMs === 0 ? Infinity : tokens / perMs);
  return {
    usedMin,
    usedMax,
    waitMin: (over) => waitMs(usedMin - over, fastPerMs),
    waitMax: (over) => waitMs(usedMax - over, slowPerMs) + slackMs,
    restMin: waitMs(usedMin, fastPerMs),
    restMax: waitMs(usedMax, slowPerMs) + slackMs,
  };
}

function debtAfter(events: { atMs: number; cost: number }[], nowMs: number, perMs: number): number {
  events.sort((a, b) => a.atMs - b.atMs);
  let debt = 0;
  let lastMs = 0;
  for (const { atMs, cost } of events) {
    debt = Math.max(0, debt - (atMs - lastMs) * perMs) + cost;
    lastMs = atMs;
  }
  return Math.max(0, debt - (nowMs - lastMs) * perMs);
}

function countBounds(
  sure: readonly Amount[],
  maybe: readonly Amount[],
  own: number,
  { fromMs, toMs, lateMs, lent, moves, clockError, clockGrainMs }: Window,
  { windowMs }: Rule,
): Bounds {
  const gridMs = Math.max(1, Math.ceil(windowMs / SUB_WINDOWS));
  const slackMs = clockGrainMs + windowMs * clockError;
  const shortest = windowMs - slackMs;
  const longest = windowMs + slackMs + gridMs + lateMs + (moves > 0 ? GRIDS_MOVED * gridMs : 0);
  const least = sure
    .map(({ askedMs, cost }) => ({ endMs: askedMs + shortest, cost }))
    .filter(({ endMs }) => endMs > toMs);
  const most = maybe
    .map(({ answeredMs, cost }) => ({ endMs: Math.min(answeredMs, toMs) + longest, cost }))
    .filter(({ endMs }) => endMs > fromMs);
  if (own > 0) {
    least.push({ endMs: fromMs + shortest, cost: own });
    most.push({ endMs: toMs + longest, cost: own });
  }
  if (lent > 0) most.push({ endMs: toMs + longest, cost: lent });
  const total = (steps: { cost: number }[]): number => steps.reduce((sum, { cost }) => sum + cost, 0);
  /** When all but `over` of them have ended. */
  const endOf = (steps: { endMs: number; cost: number }[], over: number): number => {
    let left = total(steps);
    let endMs = -Infinity;
    for (const step of [...steps].sort((a, b) => a.endMs - b.endMs)) {
      if (left <= over) break;
      left -= step.cost;
      endMs = step.endMs;
    }
    return endMs;
  };
  const wait = (endMs: number, sinceMs: number): number => Math.max(0, endMs - sinceMs);
  return {
    usedMin: total(least),
    usedMax: total(most),
    waitMin: (over) => wait(endOf(least, over), toMs),
    waitMax: (over) => wait(endOf(most, over), fromMs),
    restMin: wait(endOf(least, 0), toMs),
    restMax: wait(endOf(most, 0), fromMs),
  };
}
