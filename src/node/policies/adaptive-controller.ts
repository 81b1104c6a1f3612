import { loadOf, relax, scaleRules, adjust } from '../../policy/adaptive.js';
import type { LoadReport } from '../../limits/request/load-report.js';
import type { Policy } from '../../policy/policy.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Rule } from '../../limits/bucket/rule.js';
import type { Membership } from '../../membership/membership.js';
import type { Factors } from '../../protocol/messages.js';
import type { Ask } from '../../protocol/peer-transport.js';
import type { Clock } from '../../lib/clock.js';

/** Time between two steps of the controller. */
const STEP_MS = 1_000;
/**
 * Without reports, or without a message of the controlling node, for this long, limits return to their written values.
 */
const STALE_MS = 10_000;

type Reported =
  | { readonly kind: 'reported'; readonly factor: number; readonly load: number }
  /** No adaptive policy has this name. */
  | { readonly kind: 'unknown' }
  /** The report has no value that the policy has a target for. */
  | { readonly kind: 'meaningless' }
  | { readonly kind: 'unavailable' };

/**
 * Scales the limits of adaptive policies by the load of the service that they protect.
 * The owner of a policy's name on the ring controls its factor, and sends it to every node.
 */
export interface AdaptiveController {
  /** Sends a report to the controlling node. */
  report(name: string, report: LoadReport): Promise<Reported>;
  /** Takes a peer's report. @returns the factor, if this node controls the policy */
  reportFromPeer(name: string, load: number): Factors;
  /** Takes the factors that the controlling node has sent. */
  learn(factors: Factors): void;
  /** The rules of an adaptive policy, scaled by its factor. */
  scaled(policy: Policy, rules: readonly Rule[]): readonly Rule[];
  /** To be called a few times a second. */
  tick(nowMs: number): void;
  /** The factors of the policies whose factor is not 1. */
  factors(): Factors;
}

interface AdaptiveControllerDeps {
  readonly clock: Clock;
  readonly membership: Membership;
  readonly policyOf: (name: string) => Policy | undefined;
  readonly ask: Ask;
  readonly decider: (key: string) => NodeId | undefined;
}

/** Reports on one policy that this node controls. `sum` and `reports` count since its last step. */
interface Controlled {
  sum: number;
  reports: number;
  reportedAtMs: number;
}

export function createAdaptiveController(
  deps: AdaptiveControllerDeps,
  { timeoutMs }: { timeoutMs: number },
): AdaptiveController {
  const { clock, membership, policyOf, ask, decider } = deps;
  const controlled = new Map<string, Controlled>();
  const known = new Map<string, { factor: number; receivedAtMs: number }>();
  const scaledRules = new WeakMap<readonly Rule[], { factor: number; rules: readonly Rule[] }>();
  let steppedAtMs = clock.nowMs();

  const factorOf = (name: string): number => known.get(name)?.factor ?? 1;

  function set(name: string, factor: number): void {
    if (factor >= 1) known.delete(name);
    else known.set(name, { factor, receivedAtMs: clock.nowMs() });
  }

  function note(name: string, load: number): number {
    let one = controlled.get(name);
    if (one === undefined) controlled.set(name, (one = { sum: 0, reports: 0, reportedAtMs: 0 }));
    one.sum += load;
    one.reports += 1;
    one.reportedAtMs = clock.nowMs();
    return factorOf(name);
  }

  /** Takes a step for each policy that this node controls. @returns the new factors */
  function stepAll(nowMs: number): Factors {
    const factors: [string, number][] = [];
    for (const [name, one] of controlled) {
      const adaptive = policyOf(name)?.adaptive;
      // The next controlling node continues from the factor that it has received.
      if (adaptive === undefined || decider(name) !== membership.self().id) {
        controlled.delete(name);
        continue;
      }
      let factor = factorOf(name);
      if (one.reports > 0) factor = adjust(factor, one.sum / one.reports, adaptive);
      else if (nowMs - one.reportedAtMs > STALE_MS) factor = relax(factor);
      one.sum = 0;
      one.reports = 0;
      set(name, factor);
      factors.push([name, factor]);
      if (factor === 1 && nowMs - one.reportedAtMs > STALE_MS) controlled.delete(name);
    }
    return factors;
  }

  return {
    async report(name, report) {
      const adaptive = policyOf(name)?.adaptive;
      if (adaptive === undefined) return { kind: 'unknown' };
      const load = loadOf(report, adaptive);
      if (load === undefined) return { kind: 'meaningless' };
      const to = decider(name);
      if (to === membership.self().id) return { kind: 'reported', factor: note(name, load), load };
      if (to === undefined) return { kind: 'unavailable' };
      const asked = await ask(to, { kind: 'load', name, load }, timeoutMs);
      const [factor] = asked.kind === 'answer' && asked.body.kind === 'factors' ? asked.body.factors : [];
      // A lost report is not repeated: the next one comes within seconds.
      return factor === undefined ? { kind: 'unavailable' } : { kind: 'reported', factor: factor[1], load };
    },
    reportFromPeer: (name, load) =>
      decider(name) === membership.self().id && policyOf(name)?.adaptive !== undefined
        ? [[name, note(name, load)]]
        : [],
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
      steppedAtMs = nowMs;
      const factors = stepAll(nowMs);
      for (const [name, one] of known) {
        if (controlled.has(name)) continue;
        if (policyOf(name)?.adaptive === undefined) known.delete(name);
        else if (nowMs - one.receivedAtMs > STALE_MS) {
          one.factor = relax(one.factor);
          if (one.factor === 1) known.delete(name);
        }
      }
      if (factors.length === 0) return;
      for (const id of membership.others()) {
        if (!membership.isDown(id)) void ask(id, { kind: 'factors', factors }, timeoutMs);
      }
    },
    factors: () => [...known].map(([name, { factor }]) => [name, factor] as const),
  };
}
