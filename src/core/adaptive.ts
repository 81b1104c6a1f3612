import type { AdaptiveText } from './policy.js';
import { ruleOf } from './rule.js';
import type { Rule } from './rule.js';

/**
 * Limits that follow the load of what they protect: one factor for all limits of a policy, steered once a second by additive increase and
 * multiplicative decrease, as TCP steers how much a sender may have under way (Jacobson, "Congestion Avoidance and
 * Control", SIGCOMM 1988; RFC 5681). Among all linear rules it is the one that goes to a fair and efficient
 * point (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989);
 * here fairness also follows from all clients having the same factor.
 *
 * TCP only hears that there is congestion, and halves; a load says how much there is. So the decrease is sized by the overload, as in
 * DCTCP (RFC 8257), and both steps shrink as the target comes near: halving at each touch of the target would oscillate around it
 * for ever.
 */

/** What a protected service says of itself. */
export interface LoadReport {
  /** 0: idle, 1: at its limit. */
  readonly load?: number;
  /** A latency of its choice, as the 95th percentile. */
  readonly latencyMs?: number;
  /** The share of requests that failed, 0 to 1. */
  readonly errors?: number;
}

/** The most that the factor gains in a step. */
const INCREASE = 0.05;
/** The most that it loses, as a part of itself: also where the load is at its limit, and nobody can tell by how much it is over. */
const DECREASE = 0.3;
/** How much of what seems to be missing or too much is corrected in one step, as the effect of the last one is not seen whole yet. */
const GAIN = 0.4;
/** The factor goes in steps of this size, so that a load that hardly moves changes no limit. */
const GRAIN = 1_000;

/** The load that a report stands for, 0 to 1: the largest of what it says. `undefined`: it says nothing that the policy can judge. */
export function loadOf({ load, latencyMs, errors }: LoadReport, adaptive: AdaptiveText): number | undefined {
  const loads: number[] = [];
  if (load !== undefined) loads.push(load);
  // What takes as long, or fails as often, as it may at most is at the target. Near the limit both rise many times as fast as
  // what is asked: to steer by them as they are would be to oversteer.
  const { target } = adaptive;
  if (latencyMs !== undefined && adaptive.latencyMs !== undefined) {
    loads.push(target * Math.cbrt(latencyMs / adaptive.latencyMs));
  }
  if (errors !== undefined && adaptive.errors !== undefined) loads.push(target * Math.cbrt(errors / adaptive.errors));
  return loads.length === 0 ? undefined : Math.min(1, Math.max(...loads));
}

/** The next factor, at a load of 0 to 1 under this one. */
export function adjust(factor: number, load: number, { target, min }: AdaptiveText): number {
  const over = (load - target) / target;
  let next: number;
  if (load >= 1 && target < 1) next = factor * (1 - DECREASE);
  else if (over > 0) next = factor * Math.max(1 - DECREASE, 1 - GAIN * over);
  else next = factor + Math.min(INCREASE, Math.max(-GAIN * over * factor, over < -NEAR ? 1 / GRAIN : 0));
  return bounded(next, min);
}

/** So near to the target nothing is changed for the sake of a grain. */
const NEAR = 0.02;

/** The next factor where nobody reports any more: back to the limits as they are written, step by step. */
export function relax(factor: number): number {
  return Math.min(1, factor + INCREASE);
}

function bounded(factor: number, min: number): number {
  return Math.min(1, Math.max(min, Math.round(factor * GRAIN) / GRAIN));
}

/** The rules under a factor of 0 to 1: whole, and at least 1 where they were. */
export function scaleRules(rules: readonly Rule[], factor: number): readonly Rule[] {
  if (factor === 1) return rules;
  return rules.map(({ algorithm, limit, windowMs, capacity, policy }) => {
    const scaled = (n: number): number => (n === 0 ? 0 : Math.max(1, Math.floor(n * factor)));
    return ruleOf(algorithm, scaled(limit), windowMs, scaled(capacity), policy);
  });
}
