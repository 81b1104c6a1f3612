/** The clock, timers, and random numbers of a client; tests replace them. */
export interface Time {
  /** Monotonic ms. */
  nowMs(): number;
  /** Calls once after `delayMs`; the returned function cancels it. Does not keep the process alive. */
  after(delayMs: number, action: () => void): () => void;
  /** Calls every `intervalMs` until the returned function is called. Keeps the process alive. */
  every(intervalMs: number, tick: () => void): () => void;
  /** Calls after the I/O events of this turn, so that answers which have arrived are read first. */
  soon(action: () => void): void;
  /** Returns a number from 0 to below 1. Spreads the timers of clients that start together. */
  random(): number;
  /** Returns the fraction of time, 0 to 1, in which the event loop was busy since its last call. */
  eventLoopMeter(): () => number;
}

export const systemTime: Time = {
  nowMs: () => performance.now(),
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
  every(intervalMs, tick) {
    const timer = setInterval(tick, intervalMs);
    return () => clearInterval(timer);
  },
  soon: (action) => void setImmediate(action),
  random: Math.random,
  eventLoopMeter() {
    let before = performance.eventLoopUtilization();
    return () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, before);
      before = now;
      return utilization;
    };
  },
};
