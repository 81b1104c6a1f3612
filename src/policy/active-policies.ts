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

/** The policies of this node: one document, always replaced as a whole. */
export class ActivePolicies implements Policies {
  private current = NO_DOCUMENT;
  private currentSet: PolicySet;
  private currentRegistry: string | undefined;
  private readonly listeners: ((document: PolicyDocument) => void)[] = [];
  private readonly overwriteListeners: ((overwritten: Overwritten) => void)[] = [];

  /**
   * @param scaled returns the current rules of an adaptive policy
   * @param noteUse called for each request under a policy
   */
  constructor(
    private readonly scaled: (policy: Policy, rules: readonly Rule[]) => readonly Rule[],
    private readonly noteUse: (name: string) => void = () => undefined,
  ) {
    this.currentSet = policySetOf(this.current);
  }

  document(): PolicyDocument {
    return this.current;
  }

  set(): PolicySet {
    return this.currentSet;
  }

  /** Name of the registry that the document was last read from; `undefined` without a registry. */
  registry(): string | undefined {
    return this.currentRegistry;
  }

  resolve(
    clientId: string,
    name: string | undefined = this.currentSet.default,
  ): { policy: Policy; rules: readonly Rule[] } | undefined {
    const policy = name === undefined ? undefined : this.currentSet.policies.get(name);
    if (policy === undefined) return undefined;
    this.noteUse(policy.name);
    const rules = rulesFor(this.currentSet, policy, clientId);
    return { policy, rules: policy.adaptive === undefined ? rules : this.scaled(policy, rules) };
  }

  listed(clientId: string): 'allow' | 'deny' | undefined {
    return this.currentSet.listed.size === 0 ? undefined : this.currentSet.listed.get(clientId);
  }

  isEmpty(): boolean {
    return this.currentSet.policies.size === 0;
  }

  listsClients(): boolean {
    return this.currentSet.listed.size > 0;
  }

  envoyDomain(name: string): EnvoyDomain | undefined {
    return this.currentSet.envoy.get(name);
  }

  /** Puts a document in force. @param registry its registry; by default the name does not change */
  adopt(next: PolicyDocument, nextRegistry: string | undefined = this.currentRegistry): void {
    if (next.digest === this.current.digest && nextRegistry === this.currentRegistry) return;
    this.currentRegistry = nextRegistry;
    if (next.digest !== this.current.digest) this.currentSet = policySetOf(next);
    this.current = next;
    for (const listener of this.listeners) listener(next);
  }

  /** Calls `listener` after each change. */
  onChange(listener: (document: PolicyDocument) => void): void {
    this.listeners.push(listener);
  }

  /** Notes that policies of this node lost to those of other nodes. */
  noteOverwritten(overwritten: Overwritten): void {
    for (const listener of this.overwriteListeners) listener(overwritten);
  }

  /** Calls `listener` each time that policies of this node lost to those of other nodes. */
  onOverwritten(listener: (overwritten: Overwritten) => void): void {
    this.overwriteListeners.push(listener);
  }
}
