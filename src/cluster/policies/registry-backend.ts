import { change, hasRoomFor, isTagged, merge, NO_DOCUMENT } from '../../core/policy-document.js';
import type { Changes, PolicyDocument } from '../../core/policy-document.js';
import type { NodeId } from '../../core/ring.js';
import type { RegistryPolicyStore, KnownPolicies } from '../membership/registry-session.js';
import type { Written } from '../messages.js';
import type { ActivePolicies } from './active-policies.js';
import type { PolicyAntiEntropy } from './anti-entropy.js';
import type { PolicyBackend } from './policy-backend.js';
import type { Clock, Log, Timers } from '../ports.js';
import type { StoreResult } from '../membership/registry.js';

/** How long a write is tried: a registry of several elects its next leader in one or two seconds. */
const PATIENCE_MS = 5_000;
const RETRY_MS = 50;
/** How often a node writes down by itself what the registry lacks, until it has. */
const BRING_EVERY_MS = 500;

export interface RegistryBackendDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly activePolicies: ActivePolicies;
  readonly antiEntropy: Pick<PolicyAntiEntropy, 'spread' | 'syncWithOne'>;
  readonly policyStore: RegistryPolicyStore;
  readonly self: NodeId;
}

/** A document as the registry has it. */
interface Base {
  readonly known: KnownPolicies;
  readonly document: PolicyDocument;
}

type Refused = Extract<Written, { kind: 'no-registry' }>;

/**
 * The registry keeps the document, and what it has is in force. A write is made from what is known here, and written down only in the
 * place of that; so of two at once, by whatever nodes, one is made again from what the other has written.
 *
 * What this node holds when it meets a registry that it does not know, or one that has gone back behind it, is merged into the
 * document there, once: as after a partition, of each entry the later write stands.
 */
export function createRegistryBackend(deps: RegistryBackendDeps): PolicyBackend {
  const { clock, timers, log, activePolicies, antiEntropy, policyStore, self } = deps;
  let queue: Promise<unknown> = Promise.resolve();
  let bringing: Promise<boolean> | undefined;
  let unreadableAt: number | undefined;
  let bringAgainAtMs = -Infinity;
  let wasTooLarge = false;
  let merged = { theirs: NO_DOCUMENT, mine: NO_DOCUMENT, both: NO_DOCUMENT };

  policyStore.onChange(take);

  function take(): void {
    const { registry, stored } = policyStore.known!;
    if (stored.kind === 'unreadable') {
      const { revision, reason } = stored;
      if (revision !== unreadableAt)
        log.warn({ revision, reason }, 'the policies in the registry are not valid: those in force stay');
      unreadableAt = revision;
      return;
    }
    if (unreadableAt !== undefined)
      log.info({ version: stored.document.version }, 'the policies in the registry are valid');
    unreadableAt = undefined;
    if (lacking({ known: policyStore.known!, document: stored.document }) === undefined)
      activePolicies.adopt(stored.document, registry);
  }

  /** What the registry is to have, as this node alone knows a part of it. */
  function lacking({ known: { registry }, document: theirs }: Base): PolicyDocument | undefined {
    const mine = activePolicies.document;
    if (registry === activePolicies.registry && theirs.version >= mine.version) return undefined;
    // Asked again and again while the registry is away, of documents that may be large.
    if (merged.theirs !== theirs || merged.mine !== mine) merged = { theirs, mine, both: merge(theirs, mine) };
    return merged.both.digest === theirs.digest ? undefined : merged.both;
  }

  function known(): Base | Refused {
    const one = policyStore.known;
    if (one === undefined) return refused('it has not answered yet');
    if (one.stored.kind === 'document') return { known: one, document: one.stored.document };
    return refused(`what it has is not valid: ${one.stored.reason}`);
  }

  /** @returns whether the registry has what this node holds, or is found to have a later one, which it holds then */
  function bring(): Promise<boolean> {
    bringing ??= bringNow().finally(() => (bringing = undefined));
    return bringing;
  }

  async function bringNow(): Promise<boolean> {
    if (!(await policyStore.refresh())) return false;
    const base = known();
    if (!('known' in base)) return false;
    const next = lacking(base);
    if (next === undefined) {
      take();
      return true;
    }
    const result = await policyStore.store(next, base.known);
    if (result.kind === 'too-large' && !wasTooLarge) {
      const { reason } = result;
      log.warn({ reason }, 'the policies of this node do not fit into the registry');
    }
    wasTooLarge = result.kind === 'too-large';
    if (result.kind !== 'written') return false;
    log.info({ version: next.version, instead: base.document.version }, 'wrote its policies to the registry');
    return true;
  }

  /** The document in the registry, with all that this node held before it met it. */
  async function settled(untilMs: number): Promise<Base | Refused> {
    for (;;) {
      const base = known();
      if ('known' in base && lacking(base) === undefined) return base;
      if (clock.nowMs() >= untilMs) return 'known' in base ? refused('it lacks what this node holds') : base;
      if (!(await bring())) await timers.sleep(RETRY_MS);
    }
  }

  /** Writes it down, or finds that it cannot; asks again where it is not known. */
  async function file(next: PolicyDocument, base: Base, untilMs: number): Promise<StoreResult> {
    for (let undone = true; ;) {
      const result = await policyStore.store(next, base.known);
      if (result.kind !== 'failed') {
        if (result.kind !== 'overtaken' || undone) return result;
        // By itself, it may be.
        const made = (await policyStore.refresh()) ? isMade(next, base) : undefined;
        if (made === true) return { kind: 'written', revision: 0 };
        if (made === false) return result;
        return { kind: 'failed', reason: 'others have written since', undone: false };
      }
      undone &&= result.undone;
      if (clock.nowMs() >= untilMs) return { ...result, undone };
      await timers.sleep(RETRY_MS);
    }
  }

  /** Whether a write of this node is in the document that is there now; `undefined` where nothing of it would be left. */
  function isMade(next: PolicyDocument, base: Base): boolean | undefined {
    const now = known();
    if (!('known' in now) || now.known.registry !== base.known.registry) return undefined;
    for (const [key, { version, value }] of next.entries) {
      if (base.document.entries.get(key)?.version === version) continue;
      const entry = now.document.entries.get(key);
      // One write at a time: with this version, by this node, there is no other, but for one of its life before.
      if (entry?.version === version)
        return entry.writer === self && JSON.stringify(entry.value) === JSON.stringify(value);
      if (entry === undefined || entry.version < version) return false;
    }
    return undefined;
  }

  async function writeNow(changes: Changes, ifMatch: readonly string[] | undefined, untilMs: number): Promise<Written> {
    /** Whether what is known was read since this write was asked for: it may be older than what the writer has seen. */
    let isFresh = false;
    while (clock.nowMs() < untilMs) {
      const base = await settled(untilMs);
      if (!('known' in base)) return base;
      const { document } = base;
      const next = change(document, changes, self);
      const matches = isTagged(document, changes, ifMatch);
      if (!matches || next === document) {
        const { version, digest } = document;
        if (isFresh) return { kind: matches ? 'written' : 'conflict', version, digest, madeFrom: document };
        isFresh = await policyStore.refresh();
      } else if (!hasRoomFor(document, changes)) {
        return { kind: 'full' };
      } else {
        const result = await file(next, base, untilMs);
        const { version, digest } = next;
        if (result.kind === 'written') return { kind: 'written', version, digest, madeFrom: document };
        if (result.kind === 'too-large') return result;
        if (result.kind === 'failed') return refused(result.reason, result.undone);
        isFresh = await policyStore.refresh();
      }
      if (!isFresh) await timers.sleep(RETRY_MS);
    }
    return refused(isFresh ? 'others write all the time' : 'it does not answer');
  }

  return {
    async write(changes, ifMatch) {
      const untilMs = clock.nowMs() + PATIENCE_MS;
      const writing = queue.then(() => writeNow(changes, ifMatch, untilMs));
      queue = writing;
      const written = await writing;
      // Their watches tell them, too; but who was answered may ask any of them next.
      if (written.kind === 'written' && written.madeFrom !== undefined) await antiEntropy.spread(written.madeFrom);
      return written;
    },
    // Any node writes for itself.
    writeFor: () => Promise.resolve(null),
    // Both have it from the registry, which has them one after the other.
    reconcile: (mine, theirs) => (theirs.version > mine.version ? theirs : mine),
    async catchUp(ids) {
      const base = known();
      if ('known' in base) return lacking(base) === undefined || bring();
      if (policyStore.known === undefined) return false;
      // Where what is there cannot be read, who is in the ring holds the last that could.
      return ids.length === 0 || antiEntropy.syncWithOne(ids);
    },
    tick() {
      const base = known();
      if (!('known' in base) || lacking(base) === undefined || clock.nowMs() < bringAgainAtMs) return;
      bringAgainAtMs = clock.nowMs() + BRING_EVERY_MS;
      void bring();
    },
  };
}

function refused(reason: string, undone = true): Refused {
  return { kind: 'no-registry', reason, undone };
}
