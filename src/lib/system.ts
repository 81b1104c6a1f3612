import type { Clock, Timers } from './clock.js';

/** The only place where the program reads a clock or starts a timer for the cluster code. */
export const systemClock: Clock = {
  nowMs: () => Math.floor(performance.now()),
};

export const systemTimers: Timers = {
  sleep: (delayMs) => new Promise((resolve) => setTimeout(resolve, delayMs)),
  soon: (action) => void setImmediate(action),
  every(intervalMs, tick) {
    const timer = setInterval(tick, intervalMs);
    // A library must not keep its process alive. The program has servers that keep it alive.
    timer.unref();
    return () => clearInterval(timer);
  },
};
