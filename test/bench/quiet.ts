import { busySeconds } from './machine.js';
import { ownCpuSeconds } from './processes.js';

/** Other programs that take less than this of the two cores do not disturb. */
const QUIET_CORES = 0.06;
/** So many times more measurements than wanted are made, at most, in the hope of quiet ones. */
const PATIENCE = 3;

/**
 * Measures until `wanted` measurements were undisturbed by other programs; on a busy machine, keeps the `wanted` least
 * disturbed of three times as many. Which of them count is decided by the disturbance alone.
 * @param measure is told how many there are so far
 */
export async function measureQuietly<T>(wanted: number, measure: (turn: number) => Promise<T>): Promise<T[]> {
  const made: { result: T; othersCores: number }[] = [];
  // Where the disturbance cannot be measured it is NaN, and taken for none.
  const disturbed = (): number => made.filter(({ othersCores }) => othersCores > QUIET_CORES).length;
  while (made.length - disturbed() < wanted && made.length < wanted * PATIENCE) {
    const startMs = performance.now();
    const othersBefore = busySeconds() - ownCpuSeconds();
    const result = await measure(made.length);
    const othersSeconds = busySeconds() - ownCpuSeconds() - othersBefore;
    made.push({ result, othersCores: (othersSeconds * 1000) / (performance.now() - startMs) });
  }
  return made
    .sort((x, y) => x.othersCores - y.othersCores)
    .slice(0, wanted)
    .map(({ result }) => result);
}
