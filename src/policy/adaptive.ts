import type { LoadReport } from '../limits/request/request.js';
import type { AdaptiveText } from './policy.js';
import { withLimit, type Rule } from '../limits/bucket/rule.js';

/**
 * Limits that follow the load of the service that they protect. One factor scales all limits of a policy. Once a second
 * it changes by additive increase and multiplicative decrease, as TCP controls its congestion window (Jacobson,
 * "Congestion Avoidance and Control", SIGCOMM 1988; RFC 5681). Among linear controls, this one converges to a fair and
 * efficient point (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in
 * Computer Networks", 1989). Here all clients have the same factor, so the control is fair anyway.
 *
 * TCP learns only that there is congestion, and halves. A load also shows how much congestion there is. So the decrease
 * depends on the overload, as in DCTCP (RFC 8257), and both steps shrink near the target. Halving at the target would
 * oscillate around it.
 */

/** Largest increase of the factor in a step. */
const INCREASE = 0.05;
/** Largest decrease in a step, as a part of the factor. Also used at full load, when the excess is unknown. */
const DECREASE = 0.3;
/**
 * The part of the distance to the target that one step corrects. It is below 1 because the effect of the last step is
 * not fully visible yet.
 */
const GAIN = 0.4;
/** The factor is rounded to 1/`GRAIN`, so that small changes of the load change no limit. */
const GRAIN = 1_000;

/**
 * @returns the largest load of a report, 0 to 1; `undefined` if the policy has no target for any value of the report
 */
export function loadOf({ load, latencyMs, errors }: LoadReport, adaptive: AdaptiveText): number | undefined {
  const loads: number[] = [];
  if (load !== undefined) loads.push(load);
  // A latency or an error rate at its target is a load at its target. Near saturation both rise much faster than the
  // demand, so their cube roots control the factor.
  const { target } = adaptive;
  if (latencyMs !== undefined && adaptive.latencyMs !== undefined) {
    loads.push(target * Math.cbrt(latencyMs / adaptive.latencyMs));
  }
  if (errors !== undefined && adaptive.errors !== undefined) loads.push(target * Math.cbrt(errors / adaptive.errors));
  return loads.length === 0 ? undefined : Math.min(1, Math.max(...loads));
}

/** @returns the next factor, given the load of 0 to 1 under the current one */
export function adjust(factor: number, load: number, { target, min }: AdaptiveText): number {
  const over = (load - target) / target;
  let next: number;
  if (load >= 1 && target < 1) next = factor * (1 - DECREASE);
  else if (over > 0) next = factor * Math.max(1 - DECREASE, 1 - GAIN * over);
  else next = factor + Math.min(INCREASE, Math.max(-GAIN * over * factor, over < -NEAR ? 1 / GRAIN : 0));
  return bounded(next, min);
}

/** Relative distance to the target within which no step is rounded up to a grain. */
const NEAR = 0.02;

/** @returns the next factor without reports, which goes back to 1 step by step */
export function relax(factor: number): number {
  return Math.min(1, factor + INCREASE);
}

function bounded(factor: number, min: number): number {
  return Math.min(1, Math.max(min, Math.round(factor * GRAIN) / GRAIN));
}

/** @returns the rules scaled by a factor of 0 to 1, rounded down; a limit of at least 1 stays at least 1 */
export function scaleRules(rules: readonly Rule[], factor: number): readonly Rule[] {
  if (factor === 1) return rules;
  const scaled = (n: number): number => (n === 0 ? 0 : Math.max(1, Math.floor(n * factor)));
  return rules.map((rule) => withLimit(rule, scaled(rule.limit), scaled(rule.capacity)));
}
