import type { Time } from '../../src/client/runtime.js';

/** Time that only the test moves; what is to happen soon happens as it does otherwise. */
export interface FakeTime extends Time {
  /** Moves on, and lets all that is due happen. */
  pass(ms: number): Promise<void>;
  /** Number of timers that are set. */
  timers(): number;
}

/** Lets what is under way on sockets of this machine arrive. */
export const arrived = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

export function createFakeTime(): FakeTime {
  let nowMs = 1_000;
  const timers = new Set<{ atMs: number; everyMs: number | undefined; action: () => void }>();
  const start = (delayMs: number, everyMs: number | undefined, action: () => void): (() => void) => {
    const timer = { atMs: nowMs + delayMs, everyMs, action };
    timers.add(timer);
    return () => void timers.delete(timer);
  };
  return {
    nowMs: () => nowMs,
    after: (delayMs, action) => start(delayMs, undefined, action),
    every: (intervalMs, tick) => start(intervalMs, intervalMs, tick),
    soon: (action) => void setImmediate(action),
    random: () => 0.5,
    eventLoopMeter: () => () => 0.25,
    timers: () => timers.size,
    async pass(ms) {
      const endMs = nowMs + ms;
      await arrived();
      for (;;) {
        const [next] = [...timers].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
        if (next === undefined) break;
        nowMs = next.atMs;
        if (next.everyMs === undefined) timers.delete(next);
        else next.atMs += next.everyMs;
        next.action();
        await new Promise((resolve) => setImmediate(resolve));
      }
      nowMs = endMs;
      await arrived();
    },
  };
}
