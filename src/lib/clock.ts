/**
 * The interfaces through which the cluster code reaches the world. The program, the library and the simulator implement
 * them.
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
