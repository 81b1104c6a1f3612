import type { Rule } from './rule.js';

/**
 * The debt of a bucket is the consumption that has not been refilled yet: `debt(now) = max(0, debt − elapsed·rate)`.
 * A bucket without debt is full, so an idle bucket may be dropped for free.
 *
 * The debt is `tokens + part / windowMs`, where both are whole numbers. A refill of `limit` per window is `limit` parts
 * per ms, so no operation rounds. At one instant exactly `capacity` unit requests pass, however often the bucket was
 * read or changed.
 */
export interface TokenDebt {
  /** Whole tokens, 0 to 1e9. */
  tokens: number;
  /** Parts of a token, 0 to windowMs − 1. A token has `windowMs` parts. */
  part: number;
  /** Monotonic ms of this process up to which the refill has been counted. */
  atMs: number;
}

/**
 * Counts the refill up to `nowMs`, at the rate of `rule`.
 * An earlier reading of the clock refills nothing, and no interval is refilled twice.
 * @param rule the rule under which the debt was made
 */
export function advance(debt: TokenDebt, rule: Rule, nowMs: number): void {
  const elapsedMs = nowMs - debt.atMs;
  if (elapsedMs <= 0) return;
  debt.atMs = nowMs;
  if (debt.tokens === 0 && debt.part === 0) return;
  const refilled = elapsedMs * rule.limit;
  // The margin is far above the rounding of a double, so this test is right for products beyond 2^53 too.
  if (refilled >= (debt.tokens + 1) * rule.windowMs * 1.000001) return clear(debt);
  let tokens: number;
  let part: number;
  if (refilled <= Number.MAX_SAFE_INTEGER) {
    tokens = Math.floor(refilled / rule.windowMs);
    part = refilled - tokens * rule.windowMs;
  } else {
    const exact = BigInt(elapsedMs) * BigInt(rule.limit);
    tokens = Number(exact / BigInt(rule.windowMs));
    part = Number(exact % BigInt(rule.windowMs));
  }
  debt.tokens -= tokens;
  debt.part -= part;
  if (debt.part < 0) {
    debt.part += rule.windowMs;
    debt.tokens -= 1;
  }
  if (debt.tokens < 0) clear(debt);
}

function clear(debt: TokenDebt): void {
  debt.tokens = 0;
  debt.part = 0;
}

/** Whether `cost` tokens could be taken from an advanced bucket. */
export function fits(debt: TokenDebt, rule: Rule, cost: number): boolean {
  const room = rule.capacity - cost - debt.tokens;
  return room > 0 || (room === 0 && debt.part === 0);
}

/** @returns whole tokens that could be taken from an advanced bucket, 0 to capacity */
export function remaining(debt: TokenDebt, rule: Rule): number {
  return Math.max(0, rule.capacity - debt.tokens - (debt.part > 0 ? 1 : 0));
}

/**
 * Computes the wait until at most `owed` tokens of the debt are left, if nothing else is taken.
 * @param rule the rule under which the debt was made; a check may ask with another rule, as a peek changes no rate
 * @returns whole ms, rounded up, since the bucket was advanced; at most 0 if no more than `owed` tokens are left
 * already
 */
export function waitMs(debt: TokenDebt, rule: Rule, owed: number): number {
  // ⌈parts / limit⌉ is exact here: a quotient of whole numbers below 2^53 never rounds across a whole number.
  const tokens = debt.tokens - owed;
  const parts = tokens * rule.windowMs + debt.part;
  if (parts < Number.MAX_SAFE_INTEGER) return Math.ceil(parts / rule.limit);
  const limit = BigInt(rule.limit);
  return Number((BigInt(tokens) * BigInt(rule.windowMs) + BigInt(debt.part) + limit - 1n) / limit);
}

/** Compares two debts that are advanced to the same time. @returns a positive number when `a` owes more than `b` */
export function compareDebt(a: TokenDebt, b: TokenDebt): number {
  return a.tokens - b.tokens || a.part - b.part;
}
