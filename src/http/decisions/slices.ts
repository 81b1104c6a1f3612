/** Longest time in one turn of the event loop, in ms, after which batches let other requests in. */
const SLICE_MS = 8;

/** Runs long work in slices: what all of it takes in one turn of the event loop is bounded. */
export interface Slices {
  /**
   * Calls `step` until it returns true: now while this turn has time left, else in later turns, in order.
   * @returns `undefined` where it is done; else a promise, which rejects with what `step` throws
   * @throws what `step` throws now
   */
  run(step: () => boolean): Promise<void> | undefined;
}

interface SlicesDeps {
  readonly nowMs: () => number;
  /** Calls back after other requests had their turn: `setImmediate`. */
  readonly defer: (callback: () => void) => void;
}

export function createSlices({ nowMs, defer }: SlicesDeps, sliceMs = SLICE_MS): Slices {
  const waiting: (() => boolean)[] = [];
  /** Until when this turn may go on; `undefined` before its first step. */
  let turnEndsMs: number | undefined;

  function nextTurn(): void {
    turnEndsMs = undefined;
    if (waiting.length === 0) return;
    begin();
    // One at a time: the first that came is the first that is answered.
    while (waiting.length > 0 && runUntilDone(waiting[0]!)) waiting.shift();
  }

  function begin(): void {
    turnEndsMs = nowMs() + sliceMs;
    defer(nextTurn);
  }

  function runUntilDone(step: () => boolean): boolean {
    while (nowMs() < turnEndsMs!) if (step()) return true;
    return false;
  }

  return {
    run(step) {
      if (turnEndsMs === undefined) begin();
      if (waiting.length === 0 && runUntilDone(step)) return undefined;
      return new Promise((resolve, reject) => {
        waiting.push(() => {
          try {
            if (!step()) return false;
            resolve();
          } catch (error) {
            reject(error instanceof Error ? error : new Error('a step of a batch failed', { cause: error }));
          }
          return true;
        });
      });
    },
  };
}
