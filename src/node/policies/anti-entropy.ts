import type { Ask, PeerAnswer, PeerMessage } from '../../protocol/messages.js';
import type { Log, Timers } from '../../lib/system.js';
import { assembling, preparing, withEntries, type PolicyDocument } from '../../policy/policy-document.js';
import { MAX_PART_BYTES, sumOfBytes, type Entry, type Part } from '../../policy/policy-entry.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Steps } from '../../lib/turns.js';
import type { Membership } from '../../membership/membership.js';
import type { ActivePolicies } from '../../policy/active-policies.js';
import type { DocumentChanges } from './document-changes.js';
import type { EntryParts } from './entry-parts.js';
import { reportOverwritten } from './report-overwritten.js';

/** How often a node is asked to fetch a large document while it has not answered. */
const MAX_PUSHES = 5;

type PoliciesMessage = Extract<PeerMessage, { kind: 'policies' }>;
type Version = Pick<PolicyDocument, 'version' | 'digest'>;

export interface PolicyAntiEntropyDeps {
  readonly timers: Timers;
  readonly log: Log;
  readonly membership: Membership;
  readonly activePolicies: ActivePolicies;
  readonly ask: Ask;
}

/** The document to hold, and the keys whose values on this node are lost with it. */
export interface Reconciled {
  readonly next: PolicyDocument;
  readonly lost: readonly string[];
}

/**
 * Makes all nodes hold the same policy document.
 * Every peer message carries the digest of its sender's document; two nodes with different digests exchange documents.
 * A document of more than one part is fetched part by part.
 *
 * @param reconcile given this node's document and another node's
 */
export class PolicyAntiEntropy {
  private readonly digests = new Map<NodeId, string>();
  private syncing = false;
  private fetching: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly deps: PolicyAntiEntropyDeps & {
      readonly changes: DocumentChanges;
      readonly entryParts: EntryParts;
    },
    private readonly reconcile: (mine: PolicyDocument, theirs: PolicyDocument) => Steps<Reconciled>,
    private readonly options: { timeoutMs: number },
  ) {
    // Digests are compared with the document in force; the next messages of the other nodes bring them again.
    this.deps.activePolicies.onChange(() => this.digests.clear());
  }

  /**
   * Sends every reachable node the entries that are newer than in `earlier`. Resolves when all have answered or failed,
   * also those that became reachable meanwhile.
   */
  async spread({ entries }: PolicyDocument): Promise<void> {
    const news: (readonly [string, Entry])[] = [];
    for (const item of this.deps.activePolicies.document().entries) {
      const [key, entry] = item;
      const known = entries.get(key);
      if (known !== entry && (known?.version !== entry.version || known.writer !== entry.writer)) news.push(item);
    }
    if (news.length === 0) return;
    const told = new Set<NodeId>();
    for (;;) {
      const missing = this.deps.membership.others().filter((id) => !told.has(id) && !this.deps.membership.isDown(id));
      if (missing.length === 0) return;
      for (const id of missing) told.add(id);
      await Promise.all(missing.map((id) => this.sync(id, news)));
      // A node that has joined meanwhile may have caught up with one that did not have the news yet.
    }
  }

  /** Exchanges documents with the first of these nodes that answers. @returns whether one has answered */
  async syncWithOne(ids: readonly NodeId[]): Promise<boolean> {
    for (const id of ids) if (await this.sync(id)) return true;
    return false;
  }

  async answer(message: PoliciesMessage): Promise<PeerAnswer> {
    const { digest, entries, whole } = message;
    if (whole) await this.absorb(message, new Map(entries));
    else if (digest !== this.deps.activePolicies.document().digest && entries.length > 0) await this.applyNews(message);
    return this.deps.activePolicies.document().digest === digest ? this.messageOf([], false) : this.wholeMessage();
  }

  /** Fetches the document of a node that asks for it. Answers with the document that is then in force. */
  async fetchFrom(id: NodeId, theirs: Version): Promise<PeerAnswer> {
    await this.fetchInOrder(id, theirs);
    return this.messageOf([], false);
  }

  /** Records the digest of another node's document. */
  noteDigest(id: NodeId, digest: string): void {
    void this.digests.set(id, digest);
  }

  /** Exchanges documents with one node whose digest differs. */
  tick(): void {
    if (this.syncing) return;
    for (const [id, digest] of this.digests) {
      if (this.deps.membership.stateOf(id) === undefined) this.digests.delete(id);
      if (digest === this.deps.activePolicies.document().digest || this.deps.membership.isDown(id)) continue;
      this.syncing = true;
      this.digests.delete(id);
      void this.sync(id).then(() => (this.syncing = false));
      return;
    }
  }

  private messageOf(entries: Part, whole: boolean): PoliciesMessage {
    const { version, digest } = this.deps.activePolicies.document();
    return { kind: 'policies', version, digest, entries, whole };
  }

  /** All of this node's document, if it has one part. */
  private wholeMessage(): PoliciesMessage {
    const [first, ...others] = this.deps.entryParts.divide(this.deps.activePolicies.document());
    return others.length === 0 ? this.messageOf(first!, true) : this.messageOf([], false);
  }

  /** Merges another node's document. @returns whether its entries are those of its digest */
  private absorb({ version, digest }: Version, entries: ReadonlyMap<string, Entry>): Promise<boolean> {
    const { reconcile } = this;
    function* reconciling(mine: PolicyDocument): Steps<Reconciled | undefined> {
      const theirs = yield* assembling(version, entries);
      if (theirs.digest !== digest) return undefined;
      const reconciled = yield* reconcile(mine, theirs);
      yield* preparing(reconciled.next);
      return reconciled;
    }
    return this.deps.changes.make(reconciling, (reconciled, mine) => {
      if (reconciled === undefined) return false;
      const { next, lost } = reconciled;
      reportOverwritten(this.deps, { keys: lost, before: mine, after: next });
      this.deps.activePolicies.adopt(next);
      return true;
    });
  }

  /** @returns whether this node has merged that document, or has it in force */
  private async fetchDocument(id: NodeId, theirs: Version): Promise<boolean> {
    if (this.deps.activePolicies.document().digest === theirs.digest) return true;
    const entries = await this.deps.entryParts.fetchAll(id, theirs.digest);
    return entries !== undefined && this.absorb(theirs, entries);
  }

  /** Fetches one document at a time, so that two of them never wait in memory. */
  private fetchInOrder(id: NodeId, theirs: Version): Promise<boolean> {
    const fetched = this.fetching.then(() => this.fetchDocument(id, theirs));
    this.fetching = fetched.catch(() => undefined);
    return fetched;
  }

  /** Gives a node the whole document. Waits until it has fetched a large one. */
  private async push(id: NodeId): Promise<boolean> {
    const message = this.wholeMessage();
    if (message.whole) return (await this.deps.ask(id, message, this.options.timeoutMs)).kind === 'answer';
    const { version, digest } = message;
    for (let pushes = 0; pushes < MAX_PUSHES && !this.deps.membership.isDown(id); pushes += 1) {
      const asked = await this.deps.ask(id, { kind: 'fetch-policies', version, digest }, this.options.timeoutMs);
      if (asked.kind !== 'timeout') return asked.kind === 'answer';
    }
    return false;
  }

  /**
   * Sends these entries to a node, and the whole document if the digests still differ.
   * @returns whether it has answered
   */
  private async sync(id: NodeId, entries: Part = []): Promise<boolean> {
    if (sumOfBytes(entries) > MAX_PART_BYTES) return this.push(id);
    const sent = this.messageOf(entries, false);
    const asked = await this.deps.ask(id, sent, this.options.timeoutMs);
    if (asked.kind !== 'answer' || asked.body.kind !== 'policies') return false;
    const theirs = asked.body;
    if (theirs.whole) await this.absorb(theirs, new Map(theirs.entries));
    else if (theirs.digest !== sent.digest && !(await this.fetchInOrder(id, theirs))) return false;
    if (this.deps.activePolicies.document().digest !== theirs.digest) await this.push(id);
    return true;
  }

  /** Single entries apply only if the result is exactly the sender's document: no document is ever half applied. */
  private applyNews({ version, digest, entries }: PoliciesMessage): Promise<void> {
    function* applying(mine: PolicyDocument): Steps<PolicyDocument | undefined> {
      if (version <= mine.version) return undefined;
      const next = yield* withEntries(mine, version, entries);
      if (next.digest !== digest) return undefined;
      yield* preparing(next);
      return next;
    }
    return this.deps.changes.make(applying, (next) => {
      if (next !== undefined) this.deps.activePolicies.adopt(next);
    });
  }
}
