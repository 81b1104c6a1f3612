import { loadOf, relax, scaleRules, adjust } from '../../core/adaptive.js';
import type { LoadReport } from '../../core/adaptive.js';
import type { Policy } from '../../core/policy.js';
import type { NodeId } from '../../core/ring.js';
import type { Rule } from '../../core/rule.js';
import type { Membership } from '../membership/membership.js';
import type { Factors } from '../messages.js';
import type { Ask, Clock } from '../ports.js';

/** The controller takes a step, and tells the others, so often. */
const STEP_MS = 1_000;
/** After so long without a report, or without a word from the one who steers, limits go back to what is written. */
const STALE_MS = 10_000;

export type Reported =
  | { readonly kind: 'reported'; readonly factor: number; readonly load: number }
  /** There is no policy of this name whose limits follow the load. */
  | { readonly kind: 'unknown' }
  /** The report says nothing that the policy has a goal for. */
  | { readonly kind: 'meaningless' }
  | { readonly kind: 'unavailable' };

/** Limits that follow the load: the owner of a policy's name on the ring steers, and every node has the factor. */
export interface AdaptiveController {
  /** Takes a report to the one who steers. */
  report(name: string, report: LoadReport): Promise<Reported>;
  /** The same from a peer. @returns the factor, if this node steers */
  reportFromPeer(name: string, load: number): Factors;
  /** What the one who steers says. */
  learn(factors: Factors): void;
  /** The rules of an adaptive policy as they are now. */
  scaled(policy: Policy, rules: readonly Rule[]): readonly Rule[];
  /** To be called a few times a second. */
  tick(nowMs: number): void;
  /** Of policies whose limits are not as written now. */
  factors(): Factors;
}

interface AdaptiveControllerDeps {
  readonly clock: Clock;
  readonly membership: Membership;
  readonly policyOf: (name: string) => Policy | undefined;
  readonly ask: Ask;
  readonly decider: (key: string) => NodeId | undefined;
}

/** What the one who steers has been told since its last step. */
interface Steered {
  sum: number;
  reports: number;
  reportedAtMs: number;
}

export function createAdaptiveController(
  deps: AdaptiveControllerDeps,
  { timeoutMs }: { timeoutMs: number },
): AdaptiveController {
  const { clock, membership, policyOf, ask, decider } = deps;
  const steered = new Map<string, Steered>();
  const known = new Map<string, { factor: number; heardAtMs: number }>();
  const scaledRules = new WeakMap<readonly Rule[], { factor: number; rules: readonly Rule[] }>();
  let steppedAtMs = clock.nowMs();

  const factorOf = (name: string): number => known.get(name)?.factor ?? 1;

  function set(name: string, factor: number): void {
    if (factor >= 1) known.delete(name);
    else known.set(name, { factor, heardAtMs: clock.nowMs() });
  }

  function note(name: string, load: number): number {
    let one = steered.get(name);
    if (one === undefined) steered.set(name, (one = { sum: 0, reports: 0, reportedAtMs: 0 }));
    one.sum += load;
    one.reports += 1;
    one.reportedAtMs = clock.nowMs();
    return factorOf(name);
  }

  /** Takes a step for each policy that this node steers. */
  function steerAll(nowMs: number): Factors {
    const told: [string, number][] = [];
    for (const [name, one] of steered) {
      const adaptive = policyOf(name)?.adaptive;
      // Who steers now goes on from the factor that it has heard.
      if (adaptive === undefined || decider(name) !== membership.self.id) {
        steered.delete(name);
        continue;
      }
      let factor = factorOf(name);
      if (one.reports > 0) factor = adjust(factor, one.sum / one.reports, adaptive);
      else if (nowMs - one.reportedAtMs > STALE_MS) factor = relax(factor);
      one.sum = 0;
      one.reports = 0;
      set(name, factor);
      told.push([name, factor]);
      if (factor === 1 && nowMs - one.reportedAtMs > STALE_MS) steered.delete(name);
    }
    return told;
  }

  return {
    async report(name, report) {
      const adaptive = policyOf(name)?.adaptive;
      if (adaptive === undefined) return { kind: 'unknown' };
      const load = loadOf(report, adaptive);
      if (load === undefined) return { kind: 'meaningless' };
      const to = decider(name);
      if (to === membership.self.id) return { kind: 'reported', factor: note(name, load), load };
      if (to === undefined) return { kind: 'unavailable' };
      const asked = await ask(to, { kind: 'load', name, load }, timeoutMs);
      const [factor] = asked.kind === 'answer' && asked.body.kind === 'factors' ? asked.body.factors : [];
      // One report more or less changes little: the next comes within seconds.
      return factor === undefined ? { kind: 'unavailable' } : { kind: 'reported', factor: factor[1], load };
    },
    reportFromPeer: (name, load) =>
      decider(name) === membership.self.id && policyOf(name)?.adaptive !== undefined ? [[name, note(name, load)]] : [],
    learn(factors) {
      for (const [name, factor] of factors) if (policyOf(name)?.adaptive !== undefined) set(name, factor);
    },
    scaled(policy, rules) {
      const factor = Math.max(policy.adaptive?.min ?? 1, factorOf(policy.name));
      if (factor === 1) return rules;
      const before = scaledRules.get(rules);
      if (before?.factor === factor) return before.rules;
      const scaled = scaleRules(rules, factor);
      scaledRules.set(rules, { factor, rules: scaled });
      return scaled;
    },
    tick(nowMs) {
      if (nowMs - steppedAtMs < STEP_MS) return;
      // A late step is not made up for.
      steppedAtMs = nowMs;
      const told = steerAll(nowMs);
      for (const [name, one] of known) {
        if (steered.has(name)) continue;
        if (policyOf(name)?.adaptive === undefined) known.delete(name);
        else if (nowMs - one.heardAtMs > STALE_MS) {
          one.factor = relax(one.factor);
          if (one.factor === 1) known.delete(name);
        }
      }
      if (told.length === 0) return;
      for (const id of membership.others()) {
        if (!membership.isDown(id)) void ask(id, { kind: 'factors', factors: told }, timeoutMs);
      }
    },
    factors: () => [...known].map(([name, { factor }]) => [name, factor] as const),
  };
}
