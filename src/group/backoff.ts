const FIRST_MS = 100;
const LONGEST_MS = 30_000;
/** After a run of this length the delay is the shortest again. */
const LONG_RUN_MS = 60_000;

/**
 * The delay before an ended worker is started again: twice as long each time, from 0.1 to 30 s. A worker that ends at once must not use up
 * the machine.
 * @param previousMs the delay before the run that has ended; 0 before the first
 * @param ranMs the length of that run, from the start of its process to its end
 */
export function restartDelayMs(previousMs: number, ranMs: number): number {
  if (previousMs === 0 || ranMs >= LONG_RUN_MS) return FIRST_MS;
  return Math.min(2 * previousMs, LONGEST_MS);
}
