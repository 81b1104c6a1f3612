import type { Timers } from '../../lib/clock.js';

/**
 * Shares out the checks that one turn of the event loop decides, so that large batches let other requests in between.
 */
interface TurnBudget {
  /** @returns how many of the checks may be decided now: 0 while others wait or nothing is left of this turn */
  take(wanted: number): number;
  /** Resolves in a later turn, with at least 1. First come, first served. */
  wait(wanted: number): Promise<number>;
}

interface Waiting {
  readonly wanted: number;
  readonly resolve: (granted: number) => void;
}

export function createTurnBudget({ timers }: { timers: Timers }, { perTurn }: { perTurn: number }): TurnBudget {
  const waiting: Waiting[] = [];
  let left = perTurn;
  let refillsSoon = false;

  function grant(wanted: number): number {
    const granted = Math.min(wanted, left);
    left -= granted;
    if (!refillsSoon) {
      refillsSoon = true;
      timers.soon(refill);
    }
    return granted;
  }

  function refill(): void {
    refillsSoon = false;
    left = perTurn;
    while (left > 0 && waiting.length > 0) {
      const { wanted, resolve } = waiting.shift()!;
      resolve(grant(wanted));
    }
  }

  return {
    take: (wanted) => (waiting.length > 0 ? 0 : grant(wanted)),
    wait: (wanted) => new Promise((resolve) => waiting.push({ wanted, resolve })),
  };
}
