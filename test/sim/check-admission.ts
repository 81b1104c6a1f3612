import type { Rule } from '../../src/core/rule.js';
import type { Violation } from './checker.js';
import type { Excuses, Size } from './excuses.js';
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
 */
export function checkAdmission(history: History, bucket: BucketHistory, excuses: Excuses): Violation[] {
  const takes = bucket.takes.filter((take) => take.sure);
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
  for (const split of excuses.splits) {
    const outside = (take: Take): boolean => take.answeredMs < split.fromMs || take.askedMs > split.mendedMs;
    // Nothing that was taken before is forgotten in the end, though each side went its own way.
    const kept = overrun(takes.filter(outside), bound, excuses, split.fault);
    if (kept !== undefined) return [violation(bucket, 'admission', kept, 'once a partition has healed')];
    for (const side of split.sides) {
      const fromMs = split.fromMs + setting.faultErrorMs;
      const toMs = split.toMs - setting.faultErrorMs;
      const ours = takes.filter(
        (take) =>
          (side.includes(take.at) && take.askedMs > fromMs && take.answeredMs < toMs) || take.askedMs > split.mendedMs,
      );
      const sided = overrun(ours, bound, excuses, split.fault);
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
  const byAnswer = [...takes].sort((a, b) => a.answeredMs - b.answeredMs);
  let startedMs = -1;
  for (const { askedMs: fromMs } of takes) {
    if (fromMs === startedMs) continue;
    startedMs = fromMs;
    let taken = 0;
    for (const take of byAnswer) {
      if (take.askedMs < fromMs) continue;
      const toMs = take.answeredMs;
      if (toMs - fromMs >= spanMs) break;
      taken += take.cost;
      const bound = capacity + perMs * (toMs - fromMs) + 1e-6;
      if (taken <= bound || (last !== undefined && take !== last)) continue;
      const span = takes.filter((one) => one.askedMs >= fromMs && one.answeredMs <= toMs);
      const allowance = excuses.allowance(span, fromMs, toMs, size, without);
      if (taken > bound + allowance) return { fromMs, toMs, taken, bound, allowance };
    }
  }
  return undefined;
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
