import type { Rule } from './rule.js';

/** Sub-windows per window. Consumption counts up to 1/32 of the window longer than it must, never shorter. */
const SUB_WINDOWS = 32;
/** Bound of the steps after a merge: the 34 of one node, and those that copies add off the grid. */
const MAX_STEPS = 64;

/**
 * The consumption of a client in the window, as steps: `counts[i]` tokens count until `endsMs[i]`. The ends ascend.
 *
 * Tokens taken at t must count until t + window. Ends are rounded up to a grid of window/32 (at least 1 ms), so one
 * node makes at most 34 steps. The count is never below the true one, so no span of `window` admits more than `limit`.
 */
export interface WindowCounts {
  endsMs: number[];
  counts: number[];
  /** The latest reading of the clock, in monotonic ms of this process. */
  atMs: number;
}

/** Drops the steps that ended by `nowMs`. A reading of the clock before the last one frees nothing. */
export function advance(window: WindowCounts, nowMs: number): void {
  if (nowMs <= window.atMs) return;
  window.atMs = nowMs;
  let ended = 0;
  while (ended < window.endsMs.length && window.endsMs[ended]! <= nowMs) ended += 1;
  if (ended === 0) return;
  window.endsMs.splice(0, ended);
  window.counts.splice(0, ended);
}

/** @returns tokens that count at the time to which the window was advanced */
export function used(window: WindowCounts): number {
  let sum = 0;
  for (const count of window.counts) sum += count;
  return sum;
}

/** Counts `cost` tokens taken at the time to which the window was advanced. */
export function add(window: WindowCounts, rule: Rule, cost: number): void {
  const endMs = roundUpToGrid(window.atMs + rule.windowMs, rule);
  const last = window.endsMs.length - 1;
  // A merged copy may have later ends. Then the cost joins the last step, which only makes it count longer.
  if (last >= 0 && window.endsMs[last]! >= endMs) {
    window.counts[last]! += cost;
  } else {
    window.endsMs.push(endMs);
    window.counts.push(cost);
  }
}

function roundUpToGrid(ms: number, rule: Rule): number {
  const gridMs = Math.max(1, Math.ceil(rule.windowMs / SUB_WINDOWS));
  return Math.ceil(ms / gridMs) * gridMs;
}

/**
 * Computes the wait until `cost` fits, if nothing else is taken.
 * @param cost does not fit now, but is at most the limit
 * @returns whole ms since the window was advanced
 */
export function waitMs(window: WindowCounts, rule: Rule, cost: number): number {
  let over = used(window) + cost - rule.limit;
  let i = 0;
  while (over > 0) over -= window.counts[i++]!;
  return window.endsMs[i - 1]! - window.atMs;
}

/** @returns whole ms, since the window was advanced, until no tokens count any more */
export function resetMs(window: WindowCounts): number {
  return window.endsMs.length === 0 ? 0 : window.endsMs.at(-1)! - window.atMs;
}

/**
 * Merges another copy. At every coming moment, the larger of the two counts stands.
 * Both copies have been advanced to the same time. The pointwise maximum of two step functions is commutative,
 * associative, and idempotent. Ends keep their values off the grid, because rounding them on each node would add up.
 */
export function mergeSteps(window: WindowCounts, other: WindowCounts): void {
  const endsMs = [...new Set([...window.endsMs, ...other.endsMs])].sort((a, b) => a - b);
  const counts: number[] = [];
  let later = 0;
  for (let i = endsMs.length - 1; i >= 0; i -= 1) {
    const fromHere = Math.max(countFrom(window, endsMs[i]!), countFrom(other, endsMs[i]!));
    counts[i] = fromHere - later;
    later = fromHere;
  }
  window.endsMs = endsMs.filter((_, i) => counts[i]! > 0);
  window.counts = counts.filter((count) => count > 0);
  while (window.endsMs.length > MAX_STEPS) joinInPairs(window);
}

/** Joins steps in pairs at the later end of each, which only makes the earlier step count longer. */
function joinInPairs(window: WindowCounts): void {
  const { endsMs, counts } = window;
  const keeps = (i: number): boolean => i % 2 === 1 || i === endsMs.length - 1;
  window.counts = counts.map((count, i) => (i % 2 === 1 ? count + counts[i - 1]! : count)).filter((_, i) => keeps(i));
  window.endsMs = endsMs.filter((_, i) => keeps(i));
}

function countFrom({ endsMs, counts }: WindowCounts, fromMs: number): number {
  let sum = 0;
  for (let i = endsMs.length - 1; i >= 0 && endsMs[i]! >= fromMs; i -= 1) sum += counts[i]!;
  return sum;
}
