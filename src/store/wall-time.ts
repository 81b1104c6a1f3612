import type { Clock } from '../cluster/ports.js';

/**
 * How far the two clocks may drift apart without counting as a step: a constant, and a part of the time that passed.
 */
const TOLERANCE_MS = 100;
const MAX_DRIFT = 0.1;
/** The wall clock is compared with the monotonic clock over at least this time. */
const MIN_SPAN_MS = 1_000;
/** A step of the wall clock counts as a correction once it has lasted this long. */
const TRUST_AFTER_MS = 3_600_000;

/** Bounds of the current time, in wall ms. They differ only after a step of the wall clock. */
export interface WallTime {
  /** Buckets refill and expire by this bound. */
  readonly earliestMs: number;
  /** Records are stamped with this bound. */
  readonly latestMs: number;
}

/**
 * Reads a wall clock that may step. After a step, the right time is unknown: it is what the wall clock says, or what it
 * said before plus the monotonic time since. So nothing refills by a step, whether forward or back, until it has lasted
 * an hour. The bounds only hold within one process: a process that starts while the wall clock is wrong cannot know it.
 */
export function createWallTime({ clock, wallMs }: { clock: Clock; wallMs: () => number }): () => WallTime {
  let trustedWallMs = wallMs();
  let trustedAtMs = clock.nowMs();
  let steppedAtMs: number | undefined;

  return () => {
    const wall = wallMs();
    const nowMs = clock.nowMs();
    const passedMs = nowMs - trustedAtMs;
    const expectedMs = trustedWallMs + passedMs;
    const isStep = Math.abs(wall - expectedMs) > TOLERANCE_MS + MAX_DRIFT * passedMs;
    steppedAtMs = isStep ? (steppedAtMs ?? nowMs) : undefined;
    const isTrusted = steppedAtMs === undefined ? passedMs >= MIN_SPAN_MS : nowMs - steppedAtMs >= TRUST_AFTER_MS;
    if (isTrusted) {
      [trustedWallMs, trustedAtMs, steppedAtMs] = [wall, nowMs, undefined];
      return { earliestMs: wall, latestMs: wall };
    }
    return { earliestMs: Math.min(wall, expectedMs), latestMs: Math.max(wall, expectedMs) };
  };
}
