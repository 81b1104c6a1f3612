/** What the cluster code needs of the world. The program, the library and the tests each bring their own. */

export interface Clock {
  /** Monotonic whole ms of this process, at least 0: neither jumps nor steps back, and says nothing about the time of day. */
  nowMs(): number;
}

export interface Timers {
  /** Calls `tick` every `intervalMs` until the returned function is called; a late tick is not made up for. */
  every(intervalMs: number, tick: () => void): () => void;
}
