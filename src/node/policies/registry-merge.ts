import { merge, NO_DOCUMENT, overwrittenKeys, type PolicyDocument } from '../../policy/policy-document.js';
import { finish } from '../../lib/turns.js';
import type { RegistryPolicyStore, KnownPolicies } from '../../membership/registry-policy-store.js';
import type { Written } from '../../protocol/messages.js';
import type { Clock, Timers, Log } from '../../lib/system.js';
import type { ActivePolicies } from '../../policy/active-policies.js';
import { reportOverwritten } from './report-overwritten.js';

export const RETRY_MS = 50;
/** Time between two attempts of a node to complete the registry's document. */
const MERGE_EVERY_MS = 500;

export interface RegistryMergeDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly activePolicies: ActivePolicies;
  readonly policyStore: Pick<RegistryPolicyStore, 'known' | 'onChange' | 'refresh' | 'store'>;
}

/** A document as the registry has it. */
export interface RegistryDocument {
  readonly known: KnownPolicies;
  readonly document: PolicyDocument;
}

export type Refused = Extract<Written, { kind: 'no-registry' }>;

/**
 * Puts the registry's document in force, and first completes it with entries that only this node holds.
 *
 * A node merges its document into the registry's when it meets a registry that it does not know, or one that has lost
 * data. As after a partition, the later write of each entry wins.
 */
export class RegistryMerge {
  private merging: Promise<boolean> | undefined;
  private unreadableRevision: number | undefined;
  private nextMergeAtMs = -Infinity;
  private wasTooLarge = false;
  /** The last merge: documents may be large, and ticks ask again while the registry is away. */
  private lastMerge = { theirs: NO_DOCUMENT, mine: NO_DOCUMENT, both: NO_DOCUMENT };

  constructor(private readonly deps: RegistryMergeDeps) {
    this.deps.policyStore.onChange(() => this.adoptStored());
  }

  /** The registry's document, or the reason why there is none. */
  current(): RegistryDocument | Refused {
    const known = this.deps.policyStore.known();
    if (known === undefined) return refused('it has not answered yet');
    if (known.stored.kind === 'document') return { known, document: known.stored.document };
    return refused(`what it has is not valid: ${known.stored.reason}`);
  }

  /** Whether the registry's document has everything that this node holds. */
  isComplete(current: RegistryDocument): boolean {
    return this.completed(current) === undefined;
  }

  /** Tries once to complete the registry's document. @returns whether it is complete and in force here */
  merge(): Promise<boolean> {
    this.merging ??= this.mergeNow().finally(() => (this.merging = undefined));
    return this.merging;
  }

  /** Resolves with the document once it is complete. @param untilMs gives up then */
  async complete(untilMs: number): Promise<RegistryDocument | Refused> {
    for (;;) {
      const base = this.current();
      if ('known' in base && this.isComplete(base)) return base;
      if (this.deps.clock.nowMs() >= untilMs) return 'known' in base ? refused('it lacks what this node holds') : base;
      if (!(await this.merge())) await this.deps.timers.sleep(RETRY_MS);
    }
  }

  tick(): void {
    const base = this.current();
    if (!('known' in base) || this.isComplete(base) || this.deps.clock.nowMs() < this.nextMergeAtMs) return;
    this.nextMergeAtMs = this.deps.clock.nowMs() + MERGE_EVERY_MS;
    void this.merge();
  }

  private adoptStored(): void {
    const { registry, stored } = this.deps.policyStore.known()!;
    if (stored.kind === 'unreadable') {
      const { revision, reason } = stored;
      if (revision !== this.unreadableRevision)
        this.deps.log.warn({ revision, reason }, 'the policies in the registry are not valid; keeping those in force');
      this.unreadableRevision = revision;
      return;
    }
    const { document } = stored;
    if (this.unreadableRevision !== undefined)
      this.deps.log.info({ version: document.version }, 'the policies in the registry are valid again');
    this.unreadableRevision = undefined;
    if (!this.isComplete({ known: this.deps.policyStore.known()!, document })) return;
    if (registry !== this.deps.activePolicies.registry()) {
      const before = this.deps.activePolicies.document();
      reportOverwritten(this.deps, { keys: finish(overwrittenKeys(before, document)), before, after: document });
    }
    this.deps.activePolicies.adopt(document, registry);
  }

  /** @returns the registry's document with this node's entries; `undefined` if it has them already */
  private completed({ known: { registry }, document: theirs }: RegistryDocument): PolicyDocument | undefined {
    const mine = this.deps.activePolicies.document();
    if (registry === this.deps.activePolicies.registry() && theirs.version >= mine.version) return undefined;
    if (this.lastMerge.theirs !== theirs || this.lastMerge.mine !== mine)
      this.lastMerge = { theirs, mine, both: merge(theirs, mine) };
    return this.lastMerge.both.digest === theirs.digest ? undefined : this.lastMerge.both;
  }

  private async mergeNow(): Promise<boolean> {
    if (!(await this.deps.policyStore.refresh())) return false;
    const base = this.current();
    if (!('known' in base)) return false;
    const next = this.completed(base);
    if (next === undefined) {
      this.adoptStored();
      return true;
    }
    const result = await this.deps.policyStore.store(next, base.known);
    if (result.kind === 'too-large' && !this.wasTooLarge) {
      const { reason } = result;
      this.deps.log.warn({ reason }, 'the policies of this node do not fit into the registry');
    }
    this.wasTooLarge = result.kind === 'too-large';
    if (result.kind !== 'written') return false;
    const overwritten = finish(overwrittenKeys(base.document, next));
    this.deps.log.info(
      { version: next.version, replaced: base.document.version, overwritten },
      'wrote the policies of this node to the registry',
    );
    return true;
  }
}

/** @param undone whether it is certain that nothing was written */
export function refused(reason: string, undone = true): Refused {
  return { kind: 'no-registry', reason, undone };
}
