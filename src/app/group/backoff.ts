const FIRST_MS = 100;
const LONGEST_MS = 30_000;
/** A run of at least this length resets the delay to the shortest. */
const LONG_RUN_MS = 60_000;

/**
 * Chooses the delays before an ended worker is started again. Doubles the delay after each run, from 0.1 to 30 s, so
 * that a worker that ends at once does not use up the machine.
 */
export class Backoff {
  private delayMs = 0;
  private startedAtMs = 0;

  constructor(private readonly nowMs: () => number) {}

  /** Notes that a process of the worker starts. */
  begins(): void {
    this.startedAtMs = this.nowMs();
  }

  /** Notes that this process has ended. @returns the delay before the next start, in ms */
  ended(): number {
    const ranLong = this.nowMs() - this.startedAtMs >= LONG_RUN_MS;
    this.delayMs = this.delayMs === 0 || ranLong ? FIRST_MS : Math.min(2 * this.delayMs, LONGEST_MS);
    return this.delayMs;
  }
}
