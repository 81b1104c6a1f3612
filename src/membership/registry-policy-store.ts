import { NO_DOCUMENT } from '../policy/policy-document.js';
import type { PolicyDocument } from '../policy/policy-document.js';
import type { Registry, StoredPolicies, StoreResult } from './registry.js';
import type { RegistryHealth } from './registry-health.js';

/** The stored policies, and the name of the registry that stores them. */
export interface KnownPolicies {
  readonly registry: string;
  readonly stored: StoredPolicies;
}

/** The policy document of the registry, as this node knows it from the same reads and the same watch as the members. */
export interface RegistryPolicyStore {
  /** The latest one; `undefined` before the first view. */
  known(): KnownPolicies | undefined;
  /** Calls `listener` after each change. */
  onChange(listener: () => void): void;
  /** Reads the registry now. @returns whether it has answered */
  refresh(): Promise<boolean>;
  /** Replaces the document `inPlaceOf` by another one, which is the latest then. */
  store(document: PolicyDocument, inPlaceOf: KnownPolicies): Promise<StoreResult>;
}

interface PolicyStoreDeps {
  readonly registry: Registry;
  readonly health: RegistryHealth;
  /** Name of the registry; empty before the first view. */
  readonly registryName: () => string;
  readonly refresh: () => Promise<boolean>;
}

interface TrackedPolicyStore extends RegistryPolicyStore {
  /**
   * Takes the policies as of a revision, unless later ones are known.
   * @param isOther whether they are of another registry
   */
  readonly note: (stored: StoredPolicies, revision: number, isOther: boolean) => void;
}

export function createRegistryPolicyStore(
  deps: PolicyStoreDeps,
  { timeoutMs }: { timeoutMs: number },
): TrackedPolicyStore {
  const { registry, health, registryName, refresh } = deps;
  const listeners: (() => void)[] = [];
  let stored: StoredPolicies = { kind: 'document', revision: 0, document: NO_DOCUMENT };

  function note(next: StoredPolicies, revision: number, isOther: boolean): void {
    if (!isOther && revision < stored.revision) return;
    stored = next;
    for (const listener of listeners) listener();
  }

  return {
    known() {
      const name = registryName();
      return name === '' ? undefined : { registry: name, stored };
    },
    onChange: (listener) => void listeners.push(listener),
    refresh,
    note,
    async store(document, inPlaceOf) {
      const expected = { registry: inPlaceOf.registry, revision: inPlaceOf.stored.revision };
      const result = await registry.storePolicies(document, expected, timeoutMs);
      if (result.kind === 'failed') health.failed('policies', result.reason);
      else health.answered();
      // The watch brings it too, as nothing new by then.
      if (result.kind === 'written' && registryName() === inPlaceOf.registry)
        note({ kind: 'document', revision: result.revision, document }, result.revision, false);
      return result;
    },
  };
}
