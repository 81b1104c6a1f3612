import { rulesFor, type Policy, type PolicySet } from './policy.js';
import { NO_DOCUMENT, policySetOf, type PolicyDocument } from './policy-document.js';
import type { Rule } from '../limits/bucket/rule.js';
import type { EnvoyDomain } from './envoy-table.js';

/** Looks up the policies that are in force now. */
export interface Policies {
  /** @param name `undefined`: the default policy. @returns the policy and the client's rules, if there is one */
  resolve(clientId: string, name: string | undefined): Resolved | undefined;
  /** @returns the fixed answer for a client on the allow or deny list */
  listed(clientId: string): 'allow' | 'deny' | undefined;
  /** Whether there is no policy at all. */
  isEmpty(): boolean;
  /** Whether any client is on the allow or deny list. */
  listsClients(): boolean;
  /** @returns the rules of a domain of Envoy's */
  envoyDomain(name: string): EnvoyDomain | undefined;
}

interface Resolved {
  readonly policy: Policy;
  readonly rules: readonly Rule[];
}

/** The policies of this node: one document, always replaced as a whole. */
export interface ActivePolicies extends Policies {
  document(): PolicyDocument;
  set(): PolicySet;
  /** Name of the registry that the document was last read from; `undefined` without a registry. */
  registry(): string | undefined;
  /** Puts a document in force. @param registry its registry; by default the name does not change */
  adopt(document: PolicyDocument, registry?: string): void;
  /** Calls `listener` after each change. */
  onChange(listener: (document: PolicyDocument) => void): void;
  /** Notes that policies of this node lost to those of other nodes. */
  noteOverwritten(overwritten: Overwritten): void;
  /** Calls `listener` each time that policies of this node lost to those of other nodes. */
  onOverwritten(listener: (overwritten: Overwritten) => void): void;
}

/** Entries of this node that the document of other nodes has replaced. */
export interface Overwritten {
  readonly keys: readonly string[];
  readonly before: PolicyDocument;
  readonly after: PolicyDocument;
}

/** For nodes without policies. */
export const WITHOUT_POLICIES: Policies = {
  resolve: () => undefined,
  listed: () => undefined,
  isEmpty: () => true,
  listsClients: () => false,
  envoyDomain: () => undefined,
};

/**
 * @param scaled returns the current rules of an adaptive policy
 * @param noteUse called for each request under a policy
 */
export function createActivePolicies(
  scaled: (policy: Policy, rules: readonly Rule[]) => readonly Rule[],
  noteUse: (name: string) => void = () => undefined,
): ActivePolicies {
  let document = NO_DOCUMENT;
  let set = policySetOf(document);
  let registry: string | undefined;
  const listeners: ((document: PolicyDocument) => void)[] = [];
  const overwriteListeners: ((overwritten: Overwritten) => void)[] = [];

  return {
    document: () => document,
    set: () => set,
    registry: () => registry,
    resolve(clientId, name = set.default) {
      const policy = name === undefined ? undefined : set.policies.get(name);
      if (policy === undefined) return undefined;
      noteUse(policy.name);
      const rules = rulesFor(set, policy, clientId);
      return { policy, rules: policy.adaptive === undefined ? rules : scaled(policy, rules) };
    },
    listed: (clientId) => (set.listed.size === 0 ? undefined : set.listed.get(clientId)),
    isEmpty: () => set.policies.size === 0,
    listsClients: () => set.listed.size > 0,
    envoyDomain: (name) => set.envoy.get(name),
    adopt(next, nextRegistry = registry) {
      if (next.digest === document.digest && nextRegistry === registry) return;
      registry = nextRegistry;
      if (next.digest !== document.digest) set = policySetOf(next);
      document = next;
      for (const listener of listeners) listener(next);
    },
    onChange: (listener) => void listeners.push(listener),
    noteOverwritten(overwritten) {
      for (const listener of overwriteListeners) listener(overwritten);
    },
    onOverwritten: (listener) => void overwriteListeners.push(listener),
  };
}
