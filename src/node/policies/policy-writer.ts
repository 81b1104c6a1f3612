import type { Changes } from '../../policy/policy-document.js';
import type { EntryValue } from '../../policy/policy-entry.js';
import type { Written } from '../../protocol/messages.js';
import type { ActivePolicies } from '../../policy/active-policies.js';
import type { PolicyBackend } from './policy-backend.js';

/** One applied change, for the audit log. */
export interface PolicyChange<Actor> {
  readonly who: Actor;
  readonly version: number;
  /** By key, as in `policy api` or `override api alice`; `null`: no such entry. */
  readonly before: Readonly<Record<string, EntryValue | null>>;
  readonly after: Readonly<Record<string, EntryValue | null>>;
}

/**
 * Changes the policies and records who did it. The API and the watched policy file both write through it.
 *
 * @param record called once for each change that was applied
 * @param saved resolves once this node has saved its document for a restart, or has failed to
 */
export class PolicyWriter<Actor> {
  constructor(
    private readonly deps: { policies: Pick<PolicyBackend, 'write'>; activePolicies: ActivePolicies },
    private readonly options: { record: (change: PolicyChange<Actor>) => void; saved: () => Promise<void> },
  ) {}

  /** @param ifMatch see `PolicyBackend.write` */
  async write(changes: Changes, who: Actor, ifMatch?: readonly string[]): Promise<Written> {
    const document = this.deps.activePolicies.document();
    const written = await this.deps.policies.write(changes, ifMatch);
    if (written.kind !== 'written') return written;
    const { entries } = written.madeFrom ?? document;
    const valueOf = (key: string): EntryValue | null => entries.get(key)?.value ?? null;
    const changed = [...changes].filter(([key, after]) => JSON.stringify(valueOf(key)) !== JSON.stringify(after));
    // Nodes that watch the same file all send the same change; only the first of them changes anything.
    if (changed.length > 0) {
      const before = Object.fromEntries(changed.map(([key]) => [key, valueOf(key)]));
      this.options.record({ who, version: written.version, before, after: Object.fromEntries(changed) });
    }
    await this.options.saved();
    return written;
  }
}
