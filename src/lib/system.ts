/**
 * The interfaces through which the cluster code reaches the world, with the clock and timers of the program. The
 * simulator has its own.
 */

export interface Clock {
  /** Monotonic time of this process in whole ms, at least 0. It neither jumps nor steps back, and is no time of day. */
  nowMs(): number;
}

export interface Timers {
  /** Calls `tick` every `intervalMs` until the returned function is called. A late tick delays those after it. */
  every(intervalMs: number, tick: () => void): () => void;
  /** Calls `action` after all input that has arrived by now is read. */
  soon(action: () => void): void;
  /** Resolves after `delayMs`. */
  sleep(delayMs: number): Promise<void>;
}

export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

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

/** Message of a node that waits for its first peer. */
export const NO_PEER_ANSWERS = 'no peer answers; waiting before a ring of one';
