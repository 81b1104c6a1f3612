const FIRST_MS = 100;
const LONGEST_MS = 30_000;
/** A run of at least this length resets the delay to the shortest. */
const LONG_RUN_MS = 60_000;

/**
 * Returns the delay before an ended worker is started again. It doubles each time, from 0.1 to 30 s, so that a worker
 * that ends at once does not use up the machine.
 * @param previousMs the delay before the run that has ended; 0 before the first
 * @param ranMs the length of that run, from the start of its process to its end
 */
export function restartDelayMs(previousMs: number, ranMs: number): number {
  if (previousMs === 0 || ranMs >= LONG_RUN_MS) return FIRST_MS;
  return Math.min(2 * previousMs, LONGEST_MS);
}
