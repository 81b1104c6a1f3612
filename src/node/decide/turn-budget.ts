import type { Timers } from '../../lib/clock.js';

/**
 * Shares out the checks that one turn of the event loop decides, so that large batches let other requests in between.
 */
export class TurnBudget {
  private readonly waiting: { readonly wanted: number; readonly resolve: (granted: number) => void }[] = [];
  private left: number;
  private refillsSoon = false;

  constructor(
    private readonly timers: Timers,
    private readonly perTurn: number,
  ) {
    this.left = perTurn;
  }

  /** @returns how many of the checks may be decided now: 0 while others wait or nothing is left of this turn */
  take(wanted: number): number {
    return this.waiting.length > 0 ? 0 : this.grant(wanted);
  }

  /** Resolves in a later turn, with at least 1. First come, first served. */
  wait(wanted: number): Promise<number> {
    return new Promise((resolve) => this.waiting.push({ wanted, resolve }));
  }

  private grant(wanted: number): number {
    const granted = Math.min(wanted, this.left);
    this.left -= granted;
    if (!this.refillsSoon) {
      this.refillsSoon = true;
      this.timers.soon(() => this.refill());
    }
    return granted;
  }

  private refill(): void {
    this.refillsSoon = false;
    this.left = this.perTurn;
    while (this.left > 0 && this.waiting.length > 0) {
      const { wanted, resolve } = this.waiting.shift()!;
      resolve(this.grant(wanted));
    }
  }
}
