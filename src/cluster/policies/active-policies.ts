import type { Policy, PolicySet } from '../../core/policy.js';
import { rulesFor } from '../../core/policy.js';
import { NO_DOCUMENT, policySetOf } from '../../core/policy-document.js';
import type { PolicyDocument } from '../../core/policy-document.js';
import type { Rule } from '../../core/rule.js';

/** The policies as they are now, for whoever has a request to decide. */
export interface Policies {
  /** The policy of this name, or the default where none is named, and a client's rules under it. */
  resolve(clientId: string, name: string | undefined): Resolved | undefined;
  /** Whether the answer for a client is known, whatever it asks. */
  listed(clientId: string): 'allow' | 'deny' | undefined;
}

interface Resolved {
  readonly policy: Policy;
  readonly rules: readonly Rule[];
}

/** The policies of this node: one document, replaced whole. */
export interface ActivePolicies extends Policies {
  readonly document: PolicyDocument;
  readonly set: PolicySet;
  /** Name of the registry whose document it was, when this node last saw that; `undefined` where nodes keep it themselves. */
  readonly registry: string | undefined;
  /** Puts a document in force; `registry`: that of this one, otherwise as before. */
  adopt(document: PolicyDocument, registry?: string): void;
  /** Calls `listener` after each change. */
  onChange(listener: (document: PolicyDocument) => void): void;
}

/** No policies at all, for who has no activePolicies. */
export const WITHOUT_POLICIES: Policies = { resolve: () => undefined, listed: () => undefined };

/** @param scaled the rules of an adaptive policy as they are now */
export function createActivePolicies(
  scaled: (policy: Policy, rules: readonly Rule[]) => readonly Rule[],
): ActivePolicies {
  let document = NO_DOCUMENT;
  let set = policySetOf(document);
  let registry: string | undefined;
  const listeners: ((document: PolicyDocument) => void)[] = [];

  return {
    get document() {
      return document;
    },
    get set() {
      return set;
    },
    get registry() {
      return registry;
    },
    resolve(clientId, name = set.default) {
      const policy = name === undefined ? undefined : set.policies.get(name);
      if (policy === undefined) return undefined;
      const rules = rulesFor(set, policy, clientId);
      return { policy, rules: policy.adaptive === undefined ? rules : scaled(policy, rules) };
    },
    listed: (clientId) => (set.listed.size === 0 ? undefined : set.listed.get(clientId)),
    adopt(next, of = registry) {
      if (next.digest === document.digest && of === registry) return;
      registry = of;
      if (next.digest !== document.digest) set = policySetOf(next);
      document = next;
      for (const listener of listeners) listener(next);
    },
    onChange: (listener) => void listeners.push(listener),
  };
}
