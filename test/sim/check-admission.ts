import type { Rule } from '../../src/limits/bucket/rule.js';
import type { Violation } from './checker.js';
import { ANYBODY, type Excuses, type Size } from './excuses.js';
import type { Fault, History, Setting } from './history.js';
import type { BucketHistory, Take } from './takes.js';

/** How the bound of one algorithm is made of the span. */
interface Bound {
  readonly capacity: number;
  /** Refilled per ms, as a clock may count it; 0 for a sliding window. */
  readonly perMs: number;
  /** Only spans shorter than this are bounded: the window of a sliding window. */
  readonly spanMs: number;
}

/**
 * No span sees more than the formula, whichever nodes were asked: `burst + t·limit/window`, or `limit` in any span of the
 * window; and above that no more than the faults of the run justify.
 *
 * A take happens at some time from when it was asked until it was answered. So a span counts what lies wholly within it.
 *
 * A reservation that was settled for less counts as if no more had ever been taken: `limits/bucket/reservation.ts` gives back no more than
 * that. One settled for more makes the client owe the rest, which nobody decided, so it counts in spans that end with a later decision.
 */
export function checkAdmission(history: History, bucket: BucketHistory, excuses: Excuses): Violation[] {
  const sure = bucket.takes.filter((take) => take.sure);
  // What two sides have settled for more than was reserved is not added up.
  const takes = sure.map((take) => (isOverdrawn(take, excuses.firstMs) ? take : withoutOverdraft(take)));
  const { setting } = history;
  const bound = boundOf(bucket.rules, setting);
  const found = overrun(takes, bound, excuses, undefined);
  if (found !== undefined) return [violation(bucket, 'admission', found)];
  for (const take of bucket.rules.length > 1 ? takes : []) {
    // Under limits that change, each take kept to its own.
    const before = takes.filter((other) => other.answeredMs < take.askedMs);
    const own = { ...bound, capacity: take.rule.capacity + setting.clockGrainMs * bound.perMs };
    const late = overrun([...before, take], own, excuses, undefined, take, bound);
    if (late !== undefined) return [violation(bucket, 'admission', late)];
  }
  const settled = sure.map(withoutOverdraft);
  // What one side has reserved, and is settled once all sides are joined, comes off what is owed then, whichever side owes it.
  const withReturns = (checked: readonly Take[]): Bound => {
    const others = settled.filter((take) => !checked.includes(take));
    return { ...bound, capacity: others.reduce((sum, take) => sum + backOf(take), bound.capacity) };
  };
  for (const split of excuses.splits) {
    const outside = (take: Take): boolean => take.answeredMs < split.fromMs || take.askedMs > split.mendedMs;
    // Nothing that was taken before is forgotten in the end, though each side went its own way.
    const takenOutside = settled.filter(outside);
    const kept = overrun(takenOutside, withReturns(takenOutside), excuses, split.fault);
    if (kept !== undefined) return [violation(bucket, 'admission', kept, 'once a partition has healed')];
    for (const side of split.sides) {
      // By who decided: what a lease lets others spend is counted by who granted it, on its side.
      const fromMs = split.fromMs + setting.faultErrorMs;
      const toMs = split.toMs - setting.faultErrorMs;
      const ours = settled.filter(
        (take) =>
          (side.includes(take.by) && take.askedMs > fromMs && take.answeredMs < toMs) || take.askedMs > split.mendedMs,
      );
      const sided = overrun(ours, withReturns(ours), excuses, split.fault);
      if (sided !== undefined) return [violation(bucket, 'admission', sided, `on side ${side.join()} of a partition`)];
    }
  }
  return [];
}

function boundOf(rules: readonly Rule[], { clockError, clockGrainMs }: Setting): Bound {
  const capacity = Math.max(...rules.map((rule) => (rule.limit === 0 ? 0 : rule.capacity)));
  const { algorithm, windowMs } = rules[0]!;
  if (algorithm === 'sliding-window') return { capacity, perMs: 0, spanMs: windowMs * (1 - clockError) - clockGrainMs };
  const perMs = (Math.max(...rules.map((rule) => rule.limit)) / windowMs) * (1 + clockError);
  return { capacity: capacity + clockGrainMs * perMs, perMs, spanMs: Infinity };
}

interface Overrun {
  readonly fromMs: number;
  readonly toMs: number;
  readonly taken: number;
  readonly bound: number;
  readonly allowance: number;
}

/** The first span that sees more than bound and allowance. @param last the only take with which a span may end */
function overrun(
  takes: readonly Take[],
  { capacity, perMs, spanMs }: Bound,
  excuses: Excuses,
  without: Fault | undefined,
  last?: Take,
  size: Size = { capacity, perMs },
): Overrun | undefined {
  const steps = stepsOf(takes);
  const overdrafts = takes.flatMap(overdraftOf);
  let startedMs = -1;
  for (const { askedMs: fromMs } of takes) {
    if (fromMs === startedMs) continue;
    startedMs = fromMs;
    let taken = 0;
    for (const { sinceMs, atMs: toMs, cost, take } of steps) {
      if (sinceMs < fromMs) continue;
      if (toMs - fromMs >= spanMs) break;
      taken += cost;
      const bound = capacity + perMs * (toMs - fromMs) + 1e-6;
      if (take === undefined || (last !== undefined && take !== last)) continue;
      const owed = overdrafts.filter(({ askedMs, answeredMs }) => askedMs >= fromMs && answeredMs < take.askedMs);
      const debt = owed.reduce((sum, one) => sum + one.cost, 0);
      const all = taken + debt;
      if (all <= bound) continue;
      const span = takes.filter((one) => one.askedMs >= fromMs && one.answeredMs <= toMs);
      // A bucket that a fault hides may have given its capacity, and owe the debt besides.
      const hidden = { ...size, capacity: size.capacity + debt };
      const allowance = excuses.allowance([...span, ...owed], fromMs, toMs, hidden, without);
      if (all > bound + allowance) return { fromMs, toMs, taken: all, bound, allowance };
    }
  }
  return undefined;
}

interface Step {
  /** The span must begin no later. */
  readonly sinceMs: number;
  readonly atMs: number;
  readonly cost: number;
  /** `undefined`: something comes back. */
  readonly take: Take | undefined;
}

/** What is taken, and comes back, in the order of time. */
function stepsOf(takes: readonly Take[]): Step[] {
  const steps = takes.flatMap((take): Step[] => {
    const { askedMs: sinceMs, answeredMs, cost, settled } = take;
    const taken = { sinceMs, atMs: answeredMs, cost, take };
    if (settled === undefined || settled.cost >= cost) return [taken];
    return [taken, { sinceMs, atMs: settled.askedMs, cost: settled.cost - cost, take: undefined }];
  });
  return steps.sort((a, b) => a.atMs - b.atMs || a.cost - b.cost);
}

function backOf({ cost, settled }: Take): number {
  return settled === undefined ? 0 : Math.max(0, cost - settled.cost);
}

function overdraftOf(take: Take): Take[] {
  const { cost, settled } = take;
  if (settled === undefined || settled.cost <= cost) return [];
  return [{ ...take, ...settled, cost: settled.cost - cost, by: ANYBODY, replicated: false, settled: undefined }];
}

function isOverdrawn({ settled }: Take, firstMs: number): boolean {
  return settled !== undefined && settled.answeredMs < firstMs;
}

function withoutOverdraft(take: Take): Take {
  return overdraftOf(take).length === 0 ? take : { ...take, settled: undefined };
}

function violation(bucket: BucketHistory, check: 'admission', over: Overrun, where = ''): Violation {
  const { fromMs, toMs, taken, bound, allowance } = over;
  return {
    check,
    message:
      `${bucket.key} ${where}: ${taken} admitted from ${fromMs} to ${toMs}, ` +
      `bound ${bound.toFixed(2)} and ${allowance.toFixed(2)} for the faults`,
  };
}
