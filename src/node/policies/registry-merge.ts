import { merge, NO_DOCUMENT, overwrittenKeys } from '../../policy/policy-document.js';
import type { PolicyDocument } from '../../policy/policy-document.js';
import { finish } from '../../lib/steps.js';
import type { RegistryPolicyStore, KnownPolicies } from '../../membership/registry-policy-store.js';
import type { Written } from '../../protocol/messages.js';
import type { Clock, Timers } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
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
  readonly policyStore: RegistryPolicyStore;
}

/** A document as the registry has it. */
export interface RegistryDocument {
  readonly known: KnownPolicies;
  readonly document: PolicyDocument;
}

export type Refused = Extract<Written, { kind: 'no-registry' }>;

/** Puts the registry's document in force, and first completes it with entries that only this node holds. */
interface RegistryMerge {
  /** The registry's document, or the reason why there is none. */
  current(): RegistryDocument | Refused;
  /** Whether the registry's document has everything that this node holds. */
  isComplete(current: RegistryDocument): boolean;
  /** Resolves with the document once it is complete. @param untilMs gives up then */
  complete(untilMs: number): Promise<RegistryDocument | Refused>;
  /** Tries once to complete the registry's document. @returns whether it is complete and in force here */
  merge(): Promise<boolean>;
  tick(): void;
}

/**
 * A node merges its document into the registry's when it meets a registry that it does not know, or one that has lost
 * data. As after a partition, the later write of each entry wins.
 */
export function createRegistryMerge(deps: RegistryMergeDeps): RegistryMerge {
  const { clock, timers, log, activePolicies, policyStore } = deps;
  let merging: Promise<boolean> | undefined;
  let unreadableRevision: number | undefined;
  let nextMergeAtMs = -Infinity;
  let wasTooLarge = false;
  /** The last merge: documents may be large, and ticks ask again while the registry is away. */
  let lastMerge = { theirs: NO_DOCUMENT, mine: NO_DOCUMENT, both: NO_DOCUMENT };

  policyStore.onChange(adoptStored);

  function adoptStored(): void {
    const { registry, stored } = policyStore.known()!;
    if (stored.kind === 'unreadable') {
      const { revision, reason } = stored;
      if (revision !== unreadableRevision)
        log.warn({ revision, reason }, 'the policies in the registry are not valid; keeping those in force');
      unreadableRevision = revision;
      return;
    }
    const { document } = stored;
    if (unreadableRevision !== undefined)
      log.info({ version: document.version }, 'the policies in the registry are valid again');
    unreadableRevision = undefined;
    if (!isComplete({ known: policyStore.known()!, document })) return;
    if (registry !== activePolicies.registry()) {
      const before = activePolicies.document();
      reportOverwritten(deps, { keys: finish(overwrittenKeys(before, document)), before, after: document });
    }
    activePolicies.adopt(document, registry);
  }

  const isComplete = (current: RegistryDocument): boolean => completed(current) === undefined;

  /** @returns the registry's document with this node's entries; `undefined` if it has them already */
  function completed({ known: { registry }, document: theirs }: RegistryDocument): PolicyDocument | undefined {
    const mine = activePolicies.document();
    if (registry === activePolicies.registry() && theirs.version >= mine.version) return undefined;
    if (lastMerge.theirs !== theirs || lastMerge.mine !== mine) lastMerge = { theirs, mine, both: merge(theirs, mine) };
    return lastMerge.both.digest === theirs.digest ? undefined : lastMerge.both;
  }

  function current(): RegistryDocument | Refused {
    const known = policyStore.known();
    if (known === undefined) return refused('it has not answered yet');
    if (known.stored.kind === 'document') return { known, document: known.stored.document };
    return refused(`what it has is not valid: ${known.stored.reason}`);
  }

  function mergeOnce(): Promise<boolean> {
    merging ??= mergeNow().finally(() => (merging = undefined));
    return merging;
  }

  async function mergeNow(): Promise<boolean> {
    if (!(await policyStore.refresh())) return false;
    const base = current();
    if (!('known' in base)) return false;
    const next = completed(base);
    if (next === undefined) {
      adoptStored();
      return true;
    }
    const result = await policyStore.store(next, base.known);
    if (result.kind === 'too-large' && !wasTooLarge) {
      const { reason } = result;
      log.warn({ reason }, 'the policies of this node do not fit into the registry');
    }
    wasTooLarge = result.kind === 'too-large';
    if (result.kind !== 'written') return false;
    const overwritten = finish(overwrittenKeys(base.document, next));
    log.info(
      { version: next.version, replaced: base.document.version, overwritten },
      'wrote the policies of this node to the registry',
    );
    return true;
  }

  return {
    current,
    isComplete,
    merge: mergeOnce,
    async complete(untilMs) {
      for (;;) {
        const base = current();
        if ('known' in base && isComplete(base)) return base;
        if (clock.nowMs() >= untilMs) return 'known' in base ? refused('it lacks what this node holds') : base;
        if (!(await mergeOnce())) await timers.sleep(RETRY_MS);
      }
    },
    tick() {
      const base = current();
      if (!('known' in base) || isComplete(base) || clock.nowMs() < nextMergeAtMs) return;
      nextMergeAtMs = clock.nowMs() + MERGE_EVERY_MS;
      void mergeOnce();
    },
  };
}

/** @param undone whether it is certain that nothing was written */
export function refused(reason: string, undone = true): Refused {
  return { kind: 'no-registry', reason, undone };
}
