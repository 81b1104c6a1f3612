import type { Clock } from '../lib/system.js';

/** Drift between the two clocks that does not count as a step: a constant, and a fraction of the time that passed. */
const TOLERANCE_MS = 100;
const MAX_DRIFT = 0.1;
/** Shortest time over which the wall clock is compared with the monotonic clock. */
const MIN_SPAN_MS = 1_000;
/** Time for which a step of the wall clock must last before it counts as a correction. */
const TRUST_AFTER_MS = 3_600_000;

/** Bounds of the current time, in wall ms. They differ only after a step of the wall clock. */
export interface WallTime {
  /** Buckets refill and expire by this bound. */
  readonly earliestMs: number;
  /** Records are stamped with this bound. */
  readonly latestMs: number;
}

/**
 * Reads a wall clock that may step. After a step, the right time is unknown. It is either the reading of the wall
 * clock, or its reading before the step plus the monotonic time since. So a step, forward or back, refills nothing
 * until it has lasted an hour. The bounds hold only within one process, as a process that starts while the wall clock
 * is wrong cannot know it.
 */
export class WallClock {
  private trustedWallMs: number;
  private trustedAtMs: number;
  private steppedAtMs: number | undefined;

  /** @param wallMs returns wall ms, which may step */
  constructor(
    private readonly clock: Clock,
    private readonly wallMs: () => number,
  ) {
    this.trustedWallMs = wallMs();
    this.trustedAtMs = clock.nowMs();
  }

  now(): WallTime {
    const wall = this.wallMs();
    const nowMs = this.clock.nowMs();
    const passedMs = nowMs - this.trustedAtMs;
    const expectedMs = this.trustedWallMs + passedMs;
    const isStep = Math.abs(wall - expectedMs) > TOLERANCE_MS + MAX_DRIFT * passedMs;
    this.steppedAtMs = isStep ? (this.steppedAtMs ?? nowMs) : undefined;
    const isTrusted =
      this.steppedAtMs === undefined ? passedMs >= MIN_SPAN_MS : nowMs - this.steppedAtMs >= TRUST_AFTER_MS;
    if (isTrusted) {
      this.trustedWallMs = wall;
      this.trustedAtMs = nowMs;
      this.steppedAtMs = undefined;
      return { earliestMs: wall, latestMs: wall };
    }
    return { earliestMs: Math.min(wall, expectedMs), latestMs: Math.max(wall, expectedMs) };
  }
}
