/** The time that a client lives in; tests bring their own. */
export interface Time {
  /** Monotonic ms. */
  nowMs(): number;
  /** Calls once, after `delayMs`, unless the returned function is called before. Does not keep the process alive. */
  after(delayMs: number, action: () => void): () => void;
  /** Calls every `intervalMs` until the returned function is called. Keeps the process alive: only while somebody waits. */
  every(intervalMs: number, tick: () => void): () => void;
  /** Calls once all that has arrived by now was read. */
  soon(action: () => void): void;
  /** 0 to below 1: so that many who begin at once do not go on in step. */
  random(): number;
  /** Tells the part of the time, 0 to 1, in which the event loop was busy since it was last called. */
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
