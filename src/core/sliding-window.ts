import type { Rule } from './rule.js';

/** Sub-windows per window: consumption counts up to 1/32 of the window longer than it must, never shorter. */
const SUB_WINDOWS = 32;
/** Steps that a merge leaves at most: its own 34, and those that copies add off the grid. */
const MAX_STEPS = 64;

/**
 * The consumption of a client in the window, as steps: `counts[i]` tokens count until `endsMs[i]`, in ascending order.
 *
 * Tokens taken at t must count until t + window. Ends are rounded up to a grid of window/32 (at least 1 ms), so one
 * node makes at most 34 steps, and the count is never below the true one: no span of `window` sees more than `limit`.
 */
export interface WindowCounts {
  endsMs: number[];
  counts: number[];
  /** Monotonic ms of this process: the latest reading seen. */
  atMs: number;
}

/** Drops the steps that ended by `nowMs`. An earlier reading of the clock than the last frees nothing. */
export function advance(window: WindowCounts, nowMs: number): void {
  if (nowMs <= window.atMs) return;
  window.atMs = nowMs;
  let ended = 0;
  while (ended < window.endsMs.length && window.endsMs[ended]! <= nowMs) ended += 1;
  if (ended === 0) return;
  window.endsMs.splice(0, ended);
  window.counts.splice(0, ended);
}

/** Tokens that count at the time the window was advanced. */
export function used(window: WindowCounts): number {
  let sum = 0;
  for (const count of window.counts) sum += count;
  return sum;
}

/** Counts `cost` tokens taken at the time the window was advanced. */
export function add(window: WindowCounts, rule: Rule, cost: number): void {
  const endMs = roundUpToGrid(window.atMs + rule.windowMs, rule);
  const last = window.endsMs.length - 1;
  // A merged copy may hold later ends than ours; then the cost joins the last of them, which only counts it longer.
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
 * Whole ms from when the window was advanced until `cost` fits, if nothing else is taken.
 * Asked only where `cost` does not fit now and is at most the limit.
 */
export function waitMs(window: WindowCounts, rule: Rule, cost: number): number {
  let over = used(window) + cost - rule.limit;
  let i = 0;
  while (over > 0) over -= window.counts[i++]!;
  return window.endsMs[i - 1]! - window.atMs;
}

/** Whole ms from when the window was advanced until nothing counts any more. */
export function resetMs(window: WindowCounts): number {
  return window.endsMs.length === 0 ? 0 : window.endsMs.at(-1)! - window.atMs;
}

/**
 * Merges another copy: at every coming moment, the larger of the two counts stands.
 * Both have been advanced to the same time. The pointwise maximum of two step functions is commutative, associative and
 * idempotent. Ends stay as they are, off the grid: rounding them on every node that they come over would add up.
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

/** Each second step goes with the one after it, which only counts it longer. */
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
