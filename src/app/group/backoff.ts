const FIRST_MS = 100;
const LONGEST_MS = 30_000;
/** A run of at least this length resets the delay to the shortest. */
const LONG_RUN_MS = 60_000;

/** Chooses the delays before an ended worker is started again. */
export interface Backoff {
  /**
   * Notes that the process of the worker starts.
   * @returns a function to call once when it ends. That returns the delay before the next start, in ms.
   */
  begin(): () => number;
}

/**
 * Doubles the delay after each run, from 0.1 to 30 s, so that a worker that ends at once does not use up the machine.
 * The length of a run counts from the start of its own process.
 */
export function createBackoff(nowMs: () => number): Backoff {
  let delayMs = 0;
  return {
    begin() {
      const startedAtMs = nowMs();
      return () => {
        const ranLong = nowMs() - startedAtMs >= LONG_RUN_MS;
        delayMs = delayMs === 0 || ranLong ? FIRST_MS : Math.min(2 * delayMs, LONGEST_MS);
        return delayMs;
      };
    },
  };
}
