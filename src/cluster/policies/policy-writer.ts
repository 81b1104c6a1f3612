import type { Changes, EntryValue } from '../../core/policy-document.js';
import type { Written } from '../messages.js';
import type { ActivePolicies } from './active-policies.js';
import type { ReplicatedPolicies } from './replicated-policies.js';

/** One change of the policies, for those who keep a record of who did what. */
export interface PolicyChange<Who> {
  readonly who: Who;
  readonly version: number;
  /** By key, as in `policy api` or `override api alice`; `null` where there is none. */
  readonly before: Readonly<Record<string, EntryValue | null>>;
  readonly after: Readonly<Record<string, EntryValue | null>>;
}

/** The one way by which this node changes the policies, whoever wants it: the API, and the watched file. */
export interface PolicyWriter<Who> {
  /** @param ifMatch see `ReplicatedPolicies.write` */
  write(changes: Changes, who: Who, ifMatch?: readonly string[]): Promise<Written>;
}

/**
 * @param record called once for each change that was made
 * @param saved resolves once this node has put what it knows where a restart finds it, or could not
 */
export function createPolicyWriter<Who>(
  { policies, activePolicies }: { policies: Pick<ReplicatedPolicies, 'write'>; activePolicies: ActivePolicies },
  { record, saved }: { record: (change: PolicyChange<Who>) => void; saved: () => Promise<void> },
): PolicyWriter<Who> {
  return {
    async write(changes, who, ifMatch) {
      const { document } = activePolicies;
      const written = await policies.write(changes, ifMatch);
      if (written.kind === 'written') {
        const { entries } = written.madeFrom ?? document;
        const valueOf = (key: string): EntryValue | null => entries.get(key)?.value ?? null;
        const changed = [...changes].filter(([key, after]) => JSON.stringify(valueOf(key)) !== JSON.stringify(after));
        // Nodes that watch the same file all ask for the same change: one of them makes it.
        if (changed.length > 0) {
          const before = Object.fromEntries(changed.map(([key]) => [key, valueOf(key)]));
          record({ who, version: written.version, before, after: Object.fromEntries(changed) });
        }
        await saved();
      }
      return written;
    },
  };
}
