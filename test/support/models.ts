import type { Rule } from '../../src/limits/bucket/rule.js';

/**
 * The token bucket by its definition, over a log of everything admitted: `cost` passes when in no span that ends now, it
 * included, more was admitted than the capacity and what was refilled during the span. All in whole parts of a token, of
 * which each has `windowMs`, as integers without bound: nothing is ever rounded.
 *
 * A rate holds from when it was last asked with. The clock's latest reading since the first admission counts: an earlier
 * one refills nothing.
 */
export class TokenLog {
  readonly #admitted: { parts: bigint; refilledBefore: bigint }[] = [];
  #refilled = 0n;
  #ratePerMs = 0n;
  #atMs = 0;

  #advance(nowMs: number): void {
    if (this.#admitted.length === 0) this.#atMs = nowMs;
    if (nowMs <= this.#atMs) return;
    this.#refilled += BigInt(nowMs - this.#atMs) * this.#ratePerMs;
    this.#atMs = nowMs;
  }

  /** The most by which a span that ends now exceeds its refill. */
  #debt(nowMs: number): bigint {
    this.#advance(nowMs);
    let most = 0n;
    let inSpan = 0n;
    for (const { parts, refilledBefore } of this.#admitted.toReversed()) {
      inSpan += parts;
      const over = inSpan - (this.#refilled - refilledBefore);
      if (over > most) most = over;
    }
    return most;
  }

  allows(rule: Rule, cost: number, nowMs: number): boolean {
    if (rule.limit === 0) return false;
    const parts = BigInt(rule.windowMs);
    return this.#debt(nowMs) + BigInt(cost) * parts <= BigInt(rule.capacity) * parts;
  }

  ask(rule: Rule, cost: number, nowMs: number): boolean {
    const allowed = this.allows(rule, cost, nowMs);
    if (rule.limit > 0) this.#ratePerMs = BigInt(rule.limit);
    if (allowed) this.#admitted.push({ parts: BigInt(cost) * BigInt(rule.windowMs), refilledBefore: this.#refilled });
    return allowed;
  }
}

/**
 * The sliding window by its definition: what was admitted at t counts at every moment before t + window. The clock's latest
 * reading since the first admission counts: an earlier one frees nothing.
 */
export class WindowLog {
  readonly #admitted: { atMs: number; cost: number }[] = [];
  #latestMs = 0;

  /** What counts now; `lingerMs`: if everything counted so much longer. */
  used(windowMs: number, nowMs: number, lingerMs = 0): number {
    this.#latestMs = this.#admitted.length === 0 ? nowMs : Math.max(this.#latestMs, nowMs);
    return this.#admitted.reduce(
      (sum, { atMs, cost }) => (atMs + windowMs + lingerMs > this.#latestMs ? sum + cost : sum),
      0,
    );
  }

  /** Notes that `cost` passed, when `used` was last asked. */
  admit(cost: number): void {
    this.#admitted.push({ atMs: this.#latestMs, cost });
  }
}
