import type { Clock } from '../../src/lib/system.js';

/** A clock that only the test moves, backwards too. */
export interface FakeClock extends Clock {
  set(nowMs: number): void;
  advance(byMs: number): void;
}

export function createFakeClock(startMs = 0): FakeClock {
  let nowMs = startMs;
  return {
    nowMs: () => nowMs,
    set(toMs) {
      nowMs = toMs;
    },
    advance(byMs) {
      nowMs += byMs;
    },
  };
}
