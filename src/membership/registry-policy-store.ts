import { NO_DOCUMENT, type PolicyDocument } from '../policy/policy-document.js';
import type { Registry, StoredPolicies, PolicyWriteResult, RegistryHealth } from './registry.js';
import type { WatchedView } from './watched-view.js';

/** The stored policies, and the name of the registry that stores them. */
export interface KnownPolicies {
  readonly registry: string;
  readonly stored: StoredPolicies;
}

/** The policy document of the registry, as this node knows it from the same reads and the same watch as the members. */
export class RegistryPolicyStore {
  private readonly listeners: (() => void)[] = [];
  private stored: StoredPolicies = { kind: 'document', revision: 0, document: NO_DOCUMENT };

  constructor(
    private readonly registry: Registry,
    private readonly health: RegistryHealth,
    private readonly view: WatchedView,
    private readonly timeoutMs: number,
  ) {
    view.onPolicies = (stored, revision, isOther) => this.note(stored, revision, isOther);
  }

  /** The latest one; `undefined` before the first view. */
  known(): KnownPolicies | undefined {
    const { registry } = this.view.latest();
    return registry === '' ? undefined : { registry, stored: this.stored };
  }

  /** Calls `listener` after each change. */
  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** Reads the registry now. @returns whether it has answered */
  async refresh(): Promise<boolean> {
    return (await this.view.read()) !== undefined;
  }

  /** Replaces the document `inPlaceOf` by another one, which is the latest then. */
  async store(document: PolicyDocument, inPlaceOf: KnownPolicies): Promise<PolicyWriteResult> {
    const expected = { registry: inPlaceOf.registry, revision: inPlaceOf.stored.revision };
    const result = await this.registry.storePolicies(document, expected, this.timeoutMs);
    if (result.kind === 'failed') this.health.failed('policies', result.reason);
    else this.health.answered();
    // The watch brings it too, as nothing new by then.
    if (result.kind === 'written' && this.view.latest().registry === inPlaceOf.registry)
      this.note({ kind: 'document', revision: result.revision, document }, result.revision, false);
    return result;
  }

  /** Takes the policies as of a revision, unless later ones are known, or these are of another registry. */
  private note(next: StoredPolicies, revision: number, isOther: boolean): void {
    if (!isOther && revision < this.stored.revision) return;
    this.stored = next;
    for (const listener of this.listeners) listener();
  }
}
