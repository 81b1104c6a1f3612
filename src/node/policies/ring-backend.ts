import { LRUCache } from 'lru-cache';
import {
  changing,
  fitting,
  isSuccessor,
  isTagged,
  merging,
  overwrittenKeys,
  preparing,
  type Changes,
  type PolicyDocument,
} from '../../policy/policy-document.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { callOwner, type OwnerCall, type Router } from '../../membership/route.js';
import { MAX_PART_BYTES, sumOfBytes } from '../../policy/policy-entry.js';
import type { Steps } from '../../lib/turns.js';
import type { PeerMessage, RingWritten } from '../../protocol/messages.js';
import { PolicyAntiEntropy, type PolicyAntiEntropyDeps, type Reconciled } from './anti-entropy.js';
import type { PolicyBackend, PolicyBackendOptions } from './policy-backend.js';
import { DocumentChanges } from './document-changes.js';
import { EntryParts } from './entry-parts.js';

/** The owner of this ring key accepts all writes, so that one of two concurrent writes sees the other. */
const WRITES = 'policies';
/** Results kept in case a write is sent again. */
const MAX_RESULTS = 256;

interface RingBackendDeps extends PolicyAntiEntropyDeps {
  readonly router: Router;
}

/** The nodes keep the document: the owner of one ring key accepts the changes and sends them to all. */
export class RingBackend implements PolicyBackend {
  readonly entryParts: EntryParts;
  private readonly documentChanges: DocumentChanges;
  readonly antiEntropy: PolicyAntiEntropy;
  private readonly results = new LRUCache<string, Promise<RingWritten | null>>({ max: MAX_RESULTS });
  private writes = 0;
  private hasJoined = false;
  /** Resolves when every node that could be reached has the document in force. */
  private spread: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly deps: RingBackendDeps,
    private readonly options: PolicyBackendOptions,
  ) {
    this.entryParts = new EntryParts(
      { ask: this.deps.ask, current: () => this.deps.activePolicies.document() },
      this.options,
    );
    this.documentChanges = new DocumentChanges(deps);
    this.antiEntropy = new PolicyAntiEntropy(
      { ...deps, changes: this.documentChanges, entryParts: this.entryParts },
      (mine, theirs) => this.reconcile(mine, theirs),
      this.options,
    );
  }

  async write(changes: Changes, ifMatch: readonly string[] | undefined): Promise<RingWritten> {
    const { id: self, incarnation } = this.deps.membership.self();
    const writeId = `${self} ${incarnation} ${++this.writes}`;
    const entries = [...changes].map(([key, value]) => [key, { value, version: 1, writer: self }] as const);
    const isLarge = sumOfBytes(entries) > MAX_PART_BYTES;
    const withdraw = isLarge ? this.entryParts.offer(writeId, entries) : undefined;
    const call: OwnerCall<RingWritten> = {
      key: WRITES,
      here: async () => (this.isAccepting() ? this.writeHere(changes, ifMatch) : undefined),
      message: { kind: 'write-policies', writeId, changes: isLarge ? null : [...changes], ifMatch },
      // Before it answers, the owner sends the new document to every node that it can reach, including this one.
      outcome: (answer) => (answer.kind === 'policies-written' ? (answer.written ?? undefined) : undefined),
    };
    const written = await callOwner(this.deps, call, this.options.timeoutMs);
    withdraw?.();
    return written ?? { kind: 'unavailable' };
  }

  async writeForPeer(
    message: Extract<PeerMessage, { kind: 'write-policies' }>,
    from: NodeId,
  ): Promise<RingWritten | null> {
    let result = this.results.get(message.writeId);
    if (result === undefined) {
      if (!this.isAccepting()) return null;
      result = this.writeOf(message, from);
      this.results.set(message.writeId, result);
    }
    return result;
  }

  // The first node of a ring has no other node to learn from.
  async catchUp(ids: readonly string[]): Promise<boolean> {
    return ids.length === 0 || this.antiEntropy.syncWithOne(ids);
  }

  tick(): void {
    this.hasJoined ||= this.deps.membership.self().state === 'active';
    this.antiEntropy.tick();
  }

  private isAccepting(): boolean {
    return this.deps.router.decides(WRITES) && this.deps.membership.self().state === 'active';
  }

  /**
   * Merges another node's document. Reports what this node loses; after its first join, not if it only missed a later
   * change.
   */
  private *reconcile(mine: PolicyDocument, theirs: PolicyDocument): Steps<Reconciled> {
    const next = yield* merging(mine, theirs);
    const isMissed = this.hasJoined && (yield* isSuccessor(theirs, mine));
    return { next, lost: isMissed ? [] : yield* overwrittenKeys(mine, next) };
  }

  /** @returns `undefined` if this node does not accept changes any more */
  private async writeHere(changes: Changes, ifMatch: readonly string[] | undefined): Promise<RingWritten | undefined> {
    const { maxBytes } = this.options;
    const { activePolicies, membership } = this.deps;
    const self = membership.self().id;
    function* prepare(document: PolicyDocument): Steps<PolicyDocument | 'conflict' | 'full'> {
      if (!isTagged(document, changes, ifMatch)) return 'conflict';
      if (!(yield* fitting(document, changes, maxBytes))) return 'full';
      const next = yield* changing(document, changes, self);
      yield* preparing(next);
      return next;
    }

    return this.documentChanges.make(prepare, async (next, document) => {
      if (!this.isAccepting()) return undefined;
      if (next === 'full') return { kind: next };
      if (next === 'conflict') return { kind: next, version: document.version, digest: document.digest };
      activePolicies.adopt(next);
      // A write that changes nothing waits too: the same change by another writer may still be on its way.
      this.spread = Promise.all([this.spread, this.antiEntropy.spread(document)]);
      await this.spread;
      return { kind: 'written', version: next.version, digest: next.digest, madeFrom: document };
    });
  }

  private async writeOf(
    { writeId, changes, ifMatch }: Extract<PeerMessage, { kind: 'write-policies' }>,
    from: NodeId,
  ): Promise<RingWritten | null> {
    const fetched = changes === null ? await this.entryParts.fetchAll(from, writeId) : undefined;
    const entries = changes ?? (fetched && [...fetched].map(([key, { value }]) => [key, value] as const));
    const written = entries && (await this.writeHere(new Map(entries), ifMatch));
    // It may be sent again.
    if (written === undefined) this.results.delete(writeId);
    return written ?? null;
  }
}
