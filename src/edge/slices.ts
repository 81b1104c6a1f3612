/** Longest time in ms that batches take in one turn of the event loop before they let other requests in. */
const SLICE_MS = 8;

/** Runs long work in slices. The time of all work in one turn of the event loop is bounded. */
export interface Slices {
  /**
   * Calls `step` until it returns true: now while this turn has time left, otherwise in later turns, in order.
   * @returns `undefined` when it is done; otherwise a promise, which rejects with the error that `step` throws later
   * @throws the error that `step` throws now
   */
  run(step: () => boolean): Promise<void> | undefined;
}

interface SlicesDeps {
  readonly nowMs: () => number;
  /** Calls back after other requests had their turn, as `setImmediate` does. */
  readonly defer: (callback: () => void) => void;
}

export function createSlices({ nowMs, defer }: SlicesDeps, sliceMs = SLICE_MS): Slices {
  const waiting: (() => boolean)[] = [];
  /** End of this turn; `undefined` before its first step. */
  let turnEndsMs: number | undefined;

  function nextTurn(): void {
    turnEndsMs = undefined;
    if (waiting.length === 0) return;
    begin();
    // Work is finished one piece at a time, so that answers come in the order of the requests.
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
