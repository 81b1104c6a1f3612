/** Before a worker that had lived well is started again. */
const FIRST_MS = 100;
const LONGEST_MS = 30_000;
/** One that lived for so long starts afresh: whatever ended it comes seldom. */
const LIVED_WELL_MS = 60_000;

/**
 * How long to wait before a worker that ended is started again: twice as long each time, from 0.1 to 30 s, so that one that
 * cannot live does not use up the machine.
 * @param previousMs what was waited before the life that has ended; 0 before its first
 * @param livedMs how long that life was
 */
export function restartDelayMs(previousMs: number, livedMs: number): number {
  if (previousMs === 0 || livedMs >= LIVED_WELL_MS) return FIRST_MS;
  return Math.min(2 * previousMs, LONGEST_MS);
}
