import { lesser, type Debt } from '../limits/bucket/reservation.js';

/**
 * The least that a bucket has owed since each of many moments, numbered in their order.
 *
 * It is a stack of minima. A smaller new debt removes the larger entries, so debts rise from the bottom to the top.
 * Each entry is added and removed once, so the work for a new entry does not grow with the number of moments.
 */
export class LeastOwed {
  private readonly moments: number[] = [];
  private readonly debts: Debt[] = [];

  /** Notes a debt that was seen after the moment `moment` and before the next moment. */
  note(moment: number, debt: Debt): void {
    const { moments, debts } = this;
    while (debts.length > 0 && lesser(debt, debts.at(-1)!) === debt) {
      debts.pop();
      moments.pop();
    }
    if (moments.at(-1) === moment) return;
    moments.push(moment);
    debts.push(debt);
  }

  /** @returns the least debt seen since a moment, or `undefined` if none was seen */
  since(moment: number): Debt | undefined {
    return this.debts[this.firstFrom(moment)];
  }

  /** Drops the entries that only moments before this one need. */
  forgetBefore(moment: number): void {
    const count = this.firstFrom(moment);
    this.moments.splice(0, count);
    this.debts.splice(0, count);
  }

  /** @returns the index of the first entry from a moment on, or the number of entries */
  private firstFrom(moment: number): number {
    let low = 0;
    let high = this.moments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.moments[middle]! < moment) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
