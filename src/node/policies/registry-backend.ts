import { change, hasRoomFor, isTagged, type Changes, type PolicyDocument } from '../../policy/policy-document.js';
import type { Steps } from '../../lib/turns.js';
import type { PolicyWriteResult } from '../../membership/registry.js';
import type { Written } from '../../protocol/messages.js';
import { PolicyAntiEntropy, type PolicyAntiEntropyDeps, type Reconciled } from './anti-entropy.js';
import { DocumentChanges } from './document-changes.js';
import { EntryParts } from './entry-parts.js';
import type { PolicyBackend, PolicyBackendOptions } from './policy-backend.js';
import { RegistryMerge, refused, RETRY_MS, type RegistryDocument, type RegistryMergeDeps } from './registry-merge.js';

/** How long a write is retried: a replicated registry elects a new leader in one or two seconds. */
const WRITE_TIMEOUT_MS = 5_000;

type RegistryBackendDeps = RegistryMergeDeps & PolicyAntiEntropyDeps;

/**
 * The registry keeps the document, and its document is in force on all nodes. A write replaces exactly the document
 * that it was made from, so of two concurrent writes one is repeated on top of the other.
 */
export class RegistryBackend implements PolicyBackend {
  private readonly self: string;
  readonly entryParts: EntryParts;
  readonly antiEntropy: PolicyAntiEntropy;
  private readonly registry: RegistryMerge;
  private lastWrite: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly deps: RegistryBackendDeps,
    private readonly options: PolicyBackendOptions,
  ) {
    this.self = deps.membership.self().id;
    this.entryParts = new EntryParts({ ...deps, current: () => deps.activePolicies.document() }, this.options);
    const changes = new DocumentChanges(deps);
    this.antiEntropy = new PolicyAntiEntropy(
      { ...deps, changes, entryParts: this.entryParts },
      (mine, theirs) => this.later(mine, theirs),
      this.options,
    );
    this.registry = new RegistryMerge(deps);
  }

  async write(changes: Changes, ifMatch: readonly string[] | undefined): Promise<Written> {
    const untilMs = this.deps.clock.nowMs() + WRITE_TIMEOUT_MS;
    const writing = this.lastWrite.then(() => this.writeNow(changes, ifMatch, untilMs));
    this.lastWrite = writing;
    const written = await writing;
    // The other nodes also watch the registry, but the caller may ask one of them before its watch delivers the
    // change.
    if (written.kind === 'written' && written.madeFrom !== undefined) await this.antiEntropy.spread(written.madeFrom);
    return written;
  }

  // Every node writes to the registry itself.
  writeForPeer(): Promise<null> {
    return Promise.resolve(null);
  }

  async catchUp(ids: readonly string[]): Promise<boolean> {
    const base = this.registry.current();
    if ('known' in base) return this.registry.isComplete(base) || this.registry.merge();
    if (this.deps.policyStore.known() === undefined) return false;
    // If the registry's document is not valid, the members still hold the last valid one.
    return ids.length === 0 || this.antiEntropy.syncWithOne(ids);
  }

  tick(): void {
    this.registry.tick();
    this.antiEntropy.tick();
  }

  // The registry orders all documents, so the higher version is the later one.
  private *later(mine: PolicyDocument, theirs: PolicyDocument): Steps<Reconciled> {
    return { next: theirs.version > mine.version ? theirs : mine, lost: [] };
  }

  /** Stores a document. Retries until the result is certain or the time is over. */
  private async store(next: PolicyDocument, base: RegistryDocument, untilMs: number): Promise<PolicyWriteResult> {
    for (let undone = true; ;) {
      const result = await this.deps.policyStore.store(next, base.known);
      if (result.kind !== 'failed') {
        if (result.kind !== 'overtaken' || undone) return result;
        // An earlier attempt of this write may itself be what overtook this one.
        const isOwn = (await this.deps.policyStore.refresh()) ? this.isStored(next, base) : undefined;
        if (isOwn === true) return { kind: 'written', revision: 0 };
        if (isOwn === false) return result;
        return { kind: 'failed', reason: 'others have written since', undone: false };
      }
      undone &&= result.undone;
      if (this.deps.clock.nowMs() >= untilMs) return { ...result, undone };
      await this.deps.timers.sleep(RETRY_MS);
    }
  }

  /** Whether the registry's document contains this write; `undefined` if later writes have replaced all of it. */
  private isStored(next: PolicyDocument, base: RegistryDocument): boolean | undefined {
    const now = this.registry.current();
    if (!('known' in now) || now.known.registry !== base.known.registry) return undefined;
    for (const [key, { version, value }] of next.entries) {
      if (base.document.entries.get(key)?.version === version) continue;
      const entry = now.document.entries.get(key);
      // This node writes one document at a time; only an earlier incarnation of it could have used the same version.
      if (entry?.version === version)
        return entry.writer === this.self && JSON.stringify(entry.value) === JSON.stringify(value);
      if (entry === undefined || entry.version < version) return false;
    }
    return undefined;
  }

  private async writeNow(changes: Changes, ifMatch: readonly string[] | undefined, untilMs: number): Promise<Written> {
    /** Whether the known document was read after this write began; an older one may lack what the caller has seen. */
    let isFresh = false;
    while (this.deps.clock.nowMs() < untilMs) {
      const base = await this.registry.complete(untilMs);
      if (!('known' in base)) return base;
      const { document } = base;
      const next = change(document, changes, this.self);
      const matches = isTagged(document, changes, ifMatch);
      if (!matches || next === document) {
        const { version, digest } = document;
        if (isFresh) return { kind: matches ? 'written' : 'conflict', version, digest, madeFrom: document };
        isFresh = await this.deps.policyStore.refresh();
      } else if (!hasRoomFor(document, changes, this.options.maxBytes)) {
        return { kind: 'full' };
      } else {
        const result = await this.store(next, base, untilMs);
        const { version, digest } = next;
        if (result.kind === 'written') return { kind: 'written', version, digest, madeFrom: document };
        if (result.kind === 'too-large') return result;
        if (result.kind === 'failed') return refused(result.reason, result.undone);
        isFresh = await this.deps.policyStore.refresh();
      }
      if (!isFresh) await this.deps.timers.sleep(RETRY_MS);
    }
    return refused(isFresh ? 'others write all the time' : 'it does not answer');
  }
}
