import { loadOf, relax, scaleRules, adjust } from '../../policy/adaptive.js';
import type { LoadReport } from '../../limits/request/request.js';
import type { Policy } from '../../policy/policy.js';
import type { Rule } from '../../limits/bucket/rule.js';
import type { Membership } from '../../membership/membership.js';
import type { Factors, Ask } from '../../protocol/messages.js';
import type { Clock } from '../../lib/system.js';
import type { Router } from '../../membership/route.js';

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

/** Reports on one policy that this node controls. `sum` and `reports` count since its last step. */
interface Controlled {
  sum: number;
  reports: number;
  reportedAtMs: number;
}

/**
 * Scales the limits of adaptive policies by the load of the service that they protect.
 * The owner of a policy's name on the ring controls its factor, and sends it to every node.
 */
export class AdaptiveController {
  private readonly controlled = new Map<string, Controlled>();
  private readonly known = new Map<string, { factor: number; receivedAtMs: number }>();
  private readonly scaledRules = new WeakMap<readonly Rule[], { factor: number; rules: readonly Rule[] }>();
  private steppedAtMs: number;

  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly membership: Membership;
      readonly policyOf: (name: string) => Policy | undefined;
      readonly ask: Ask;
      readonly router: Router;
    },
    private readonly options: { timeoutMs: number },
  ) {
    this.steppedAtMs = this.deps.clock.nowMs();
  }

  /** Sends a report to the controlling node. */
  async report(name: string, report: LoadReport): Promise<Reported> {
    const adaptive = this.deps.policyOf(name)?.adaptive;
    if (adaptive === undefined) return { kind: 'unknown' };
    const load = loadOf(report, adaptive);
    if (load === undefined) return { kind: 'meaningless' };
    const to = this.deps.router.deciderOf(name);
    if (to === this.deps.membership.self().id) return { kind: 'reported', factor: this.note(name, load), load };
    if (to === undefined) return { kind: 'unavailable' };
    const asked = await this.deps.ask(to, { kind: 'load', name, load }, this.options.timeoutMs);
    const [factor] = asked.kind === 'answer' && asked.body.kind === 'factors' ? asked.body.factors : [];
    // A lost report is not repeated: the next one comes within seconds.
    return factor === undefined ? { kind: 'unavailable' } : { kind: 'reported', factor: factor[1], load };
  }

  /** Takes a peer's report. @returns the factor, if this node controls the policy */
  reportFromPeer(name: string, load: number): Factors {
    return this.deps.router.deciderOf(name) === this.deps.membership.self().id &&
      this.deps.policyOf(name)?.adaptive !== undefined
      ? [[name, this.note(name, load)]]
      : [];
  }

  /** Takes the factors that the controlling node has sent. */
  learn(factors: Factors): void {
    for (const [name, factor] of factors) if (this.deps.policyOf(name)?.adaptive !== undefined) this.set(name, factor);
  }

  /** The rules of an adaptive policy, scaled by its factor. */
  scaled(policy: Policy, rules: readonly Rule[]): readonly Rule[] {
    const factor = Math.max(policy.adaptive?.min ?? 1, this.factorOf(policy.name));
    if (factor === 1) return rules;
    const before = this.scaledRules.get(rules);
    if (before?.factor === factor) return before.rules;
    const scaled = scaleRules(rules, factor);
    this.scaledRules.set(rules, { factor, rules: scaled });
    return scaled;
  }

  /** To be called a few times a second. */
  tick(nowMs: number): void {
    if (nowMs - this.steppedAtMs < STEP_MS) return;
    this.steppedAtMs = nowMs;
    const factors = this.stepAll(nowMs);
    for (const [name, one] of this.known) {
      if (this.controlled.has(name)) continue;
      if (this.deps.policyOf(name)?.adaptive === undefined) this.known.delete(name);
      else if (nowMs - one.receivedAtMs > STALE_MS) {
        one.factor = relax(one.factor);
        if (one.factor === 1) this.known.delete(name);
      }
    }
    if (factors.length === 0) return;
    for (const id of this.deps.membership.others()) {
      if (!this.deps.membership.isDown(id))
        void this.deps.ask(id, { kind: 'factors', factors }, this.options.timeoutMs);
    }
  }

  /** The factors of the policies whose factor is not 1. */
  factors(): Factors {
    return [...this.known].map(([name, { factor }]) => [name, factor] as const);
  }

  private factorOf(name: string): number {
    return this.known.get(name)?.factor ?? 1;
  }

  private set(name: string, factor: number): void {
    if (factor >= 1) this.known.delete(name);
    else this.known.set(name, { factor, receivedAtMs: this.deps.clock.nowMs() });
  }

  private note(name: string, load: number): number {
    let one = this.controlled.get(name);
    if (one === undefined) this.controlled.set(name, (one = { sum: 0, reports: 0, reportedAtMs: 0 }));
    one.sum += load;
    one.reports += 1;
    one.reportedAtMs = this.deps.clock.nowMs();
    return this.factorOf(name);
  }

  /** Takes a step for each policy that this node controls. @returns the new factors */
  private stepAll(nowMs: number): Factors {
    const factors: [string, number][] = [];
    for (const [name, one] of this.controlled) {
      const adaptive = this.deps.policyOf(name)?.adaptive;
      // The next controlling node continues from the factor that it has received.
      if (adaptive === undefined || this.deps.router.deciderOf(name) !== this.deps.membership.self().id) {
        this.controlled.delete(name);
        continue;
      }
      let factor = this.factorOf(name);
      if (one.reports > 0) factor = adjust(factor, one.sum / one.reports, adaptive);
      else if (nowMs - one.reportedAtMs > STALE_MS) factor = relax(factor);
      one.sum = 0;
      one.reports = 0;
      this.set(name, factor);
      factors.push([name, factor]);
      if (factor === 1 && nowMs - one.reportedAtMs > STALE_MS) this.controlled.delete(name);
    }
    return factors;
  }
}
