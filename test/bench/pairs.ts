import { busySeconds } from './machine.js';
import { ownCpuSeconds } from './processes.js';

export interface Pair<A, B> {
  readonly a: A;
  readonly b: B;
  /** CPU seconds a second that other programs took meanwhile from the two cores; NaN where it cannot be measured. */
  readonly othersCores: number;
}

/** Other programs that take less than this of the two cores do not disturb. */
const QUIET_CORES = 0.06;
/** So many times more pairs than wanted are measured, at most, in the hope of quiet ones. */
const PATIENCE = 3;

/**
 * Measures two sides in turn, A B B A A B…, until `wanted` pairs were undisturbed by other programs; on a busy machine, the
 * `wanted` least disturbed of three times as many. Which pairs count is decided by the disturbance alone.
 */
export async function measurePairs<A, B>(
  wanted: number,
  sides: { a: () => Promise<A>; b: () => Promise<B> },
  progress: (pairs: number) => void,
): Promise<Pair<A, B>[]> {
  const pairs: Pair<A, B>[] = [];
  const quiet = (): number => pairs.filter(({ othersCores }) => !(othersCores > QUIET_CORES)).length;
  while (quiet() < wanted && pairs.length < wanted * PATIENCE) {
    progress(pairs.length);
    const startMs = performance.now();
    const others = busySeconds() - ownCpuSeconds();
    let a: A;
    let b: B;
    if (pairs.length % 2 === 0) {
      a = await sides.a();
      b = await sides.b();
    } else {
      b = await sides.b();
      a = await sides.a();
    }
    const othersSeconds = busySeconds() - ownCpuSeconds() - others;
    pairs.push({ a, b, othersCores: (othersSeconds * 1000) / (performance.now() - startMs) });
  }
  return pairs.sort((x, y) => x.othersCores - y.othersCores).slice(0, wanted);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export interface Spread {
  readonly median: number;
  /** As in `0.962 (0.941 to 0.975)`. */
  readonly text: string;
}

/** The median of a figure of the pairs, with the range of its middle half. */
export function spread(values: readonly number[], digits = 3): Spread {
  const sorted = [...values].sort((x, y) => x - y);
  const quarter = Math.floor(sorted.length / 4);
  const [low, high] = [sorted[quarter]!, sorted[sorted.length - 1 - quarter]!];
  const middle = median(values);
  return { median: middle, text: `${middle.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})` };
}
