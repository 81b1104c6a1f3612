import type { Ask } from '../../protocol/peer-transport.js';
import type { Log } from '../../lib/log.js';
import type { Timers } from '../../lib/clock.js';
import { assembling, preparing, withEntries } from '../../policy/policy-document.js';
import type { PolicyDocument } from '../../policy/policy-document.js';
import { MAX_PART_BYTES, sumOfBytes } from '../../policy/policy-entry.js';
import type { Entry, Part } from '../../policy/policy-entry.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Steps } from '../../lib/steps.js';
import type { Membership } from '../../membership/membership.js';
import type { PeerAnswer, PeerMessage } from '../../protocol/messages.js';
import type { ActivePolicies } from '../../policy/active-policies.js';
import type { DocumentChanges } from './document-changes.js';
import type { EntryParts } from './entry-parts.js';
import { reportOverwritten } from './report-overwritten.js';

/** How often a node is asked to fetch a large document while it has not answered. */
const MAX_PUSHES = 5;

type PoliciesMessage = Extract<PeerMessage, { kind: 'policies' }>;
type Version = Pick<PolicyDocument, 'version' | 'digest'>;

/**
 * Makes all nodes hold the same policy document.
 * Every peer message carries the digest of its sender's document; two nodes with different digests exchange documents.
 * A document of more than one part is fetched part by part.
 */
export interface PolicyAntiEntropy {
  /**
   * Sends every reachable node the entries that are newer than in `earlier`. Resolves when all have answered or failed,
   * also those that became reachable meanwhile.
   */
  spread(earlier: PolicyDocument): Promise<void>;
  /** Exchanges documents with the first of these nodes that answers. @returns whether one has answered */
  syncWithOne(ids: readonly NodeId[]): Promise<boolean>;
  readonly answer: (message: PoliciesMessage) => Promise<PeerAnswer>;
  /** Fetches the document of a node that asks for it. Answers with the document that is then in force. */
  readonly fetchFrom: (id: NodeId, theirs: Version) => Promise<PeerAnswer>;
  /** Records the digest of another node's document. */
  readonly noteDigest: (id: NodeId, digest: string) => void;
  /** Exchanges documents with one node whose digest differs. */
  tick(): void;
}

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

/** @param reconcile given this node's document and another node's */
export function createPolicyAntiEntropy(
  deps: PolicyAntiEntropyDeps & { readonly changes: DocumentChanges; readonly entryParts: EntryParts },
  reconcile: (mine: PolicyDocument, theirs: PolicyDocument) => Steps<Reconciled>,
  { timeoutMs }: { timeoutMs: number },
): PolicyAntiEntropy {
  const { membership, activePolicies, ask, changes, entryParts } = deps;
  const digests = new Map<NodeId, string>();
  let syncing = false;
  let fetching: Promise<unknown> = Promise.resolve();
  // Digests are compared with the document in force; the next messages of the other nodes bring them again.
  activePolicies.onChange(() => digests.clear());

  function messageOf(entries: Part, whole: boolean): PoliciesMessage {
    const { version, digest } = activePolicies.document();
    return { kind: 'policies', version, digest, entries, whole };
  }

  /** All of this node's document, if it has one part. */
  function wholeMessage(): PoliciesMessage {
    const [first, ...others] = entryParts.divide(activePolicies.document());
    return others.length === 0 ? messageOf(first!, true) : messageOf([], false);
  }

  /** Merges another node's document. @returns whether its entries are those of its digest */
  function absorb({ version, digest }: Version, entries: ReadonlyMap<string, Entry>): Promise<boolean> {
    function* reconciling(mine: PolicyDocument): Steps<Reconciled | undefined> {
      const theirs = yield* assembling(version, entries);
      if (theirs.digest !== digest) return undefined;
      const reconciled = yield* reconcile(mine, theirs);
      yield* preparing(reconciled.next);
      return reconciled;
    }
    return changes.make(reconciling, (reconciled, mine) => {
      if (reconciled === undefined) return false;
      const { next, lost } = reconciled;
      reportOverwritten(deps, { keys: lost, before: mine, after: next });
      activePolicies.adopt(next);
      return true;
    });
  }

  /** @returns whether this node has merged that document, or has it in force */
  async function fetchDocument(id: NodeId, theirs: Version): Promise<boolean> {
    if (activePolicies.document().digest === theirs.digest) return true;
    const entries = await entryParts.fetchAll(id, theirs.digest);
    return entries !== undefined && absorb(theirs, entries);
  }

  /** Fetches one document at a time, so that two of them never wait in memory. */
  function fetchInOrder(id: NodeId, theirs: Version): Promise<boolean> {
    const fetched = fetching.then(() => fetchDocument(id, theirs));
    fetching = fetched.catch(() => undefined);
    return fetched;
  }

  /** Gives a node the whole document. Waits until it has fetched a large one. */
  async function push(id: NodeId): Promise<boolean> {
    const message = wholeMessage();
    if (message.whole) return (await ask(id, message, timeoutMs)).kind === 'answer';
    const { version, digest } = message;
    for (let pushes = 0; pushes < MAX_PUSHES && !membership.isDown(id); pushes += 1) {
      const asked = await ask(id, { kind: 'fetch-policies', version, digest }, timeoutMs);
      if (asked.kind !== 'timeout') return asked.kind === 'answer';
    }
    return false;
  }

  /**
   * Sends these entries to a node, and the whole document if the digests still differ.
   * @returns whether it has answered
   */
  async function sync(id: NodeId, entries: Part = []): Promise<boolean> {
    if (sumOfBytes(entries) > MAX_PART_BYTES) return push(id);
    const sent = messageOf(entries, false);
    const asked = await ask(id, sent, timeoutMs);
    if (asked.kind !== 'answer' || asked.body.kind !== 'policies') return false;
    const theirs = asked.body;
    if (theirs.whole) await absorb(theirs, new Map(theirs.entries));
    else if (theirs.digest !== sent.digest && !(await fetchInOrder(id, theirs))) return false;
    if (activePolicies.document().digest !== theirs.digest) await push(id);
    return true;
  }

  /** Single entries apply only if the result is exactly the sender's document: no document is ever half applied. */
  function applyNews({ version, digest, entries }: PoliciesMessage): Promise<void> {
    function* applying(mine: PolicyDocument): Steps<PolicyDocument | undefined> {
      if (version <= mine.version) return undefined;
      const next = yield* withEntries(mine, version, entries);
      if (next.digest !== digest) return undefined;
      yield* preparing(next);
      return next;
    }
    return changes.make(applying, (next) => {
      if (next !== undefined) activePolicies.adopt(next);
    });
  }

  return {
    async spread({ entries }) {
      const news: (readonly [string, Entry])[] = [];
      for (const item of activePolicies.document().entries) {
        const [key, entry] = item;
        const known = entries.get(key);
        if (known !== entry && (known?.version !== entry.version || known.writer !== entry.writer)) news.push(item);
      }
      if (news.length === 0) return;
      const told = new Set<NodeId>();
      for (;;) {
        const missing = membership.others().filter((id) => !told.has(id) && !membership.isDown(id));
        if (missing.length === 0) return;
        for (const id of missing) told.add(id);
        await Promise.all(missing.map((id) => sync(id, news)));
        // A node that has joined meanwhile may have caught up with one that did not have the news yet.
      }
    },
    async syncWithOne(ids) {
      for (const id of ids) if (await sync(id)) return true;
      return false;
    },
    async answer(message) {
      const { digest, entries, whole } = message;
      if (whole) await absorb(message, new Map(entries));
      else if (digest !== activePolicies.document().digest && entries.length > 0) await applyNews(message);
      return activePolicies.document().digest === digest ? messageOf([], false) : wholeMessage();
    },
    async fetchFrom(id, theirs) {
      await fetchInOrder(id, theirs);
      return messageOf([], false);
    },
    noteDigest: (id, digest) => void digests.set(id, digest),
    tick() {
      if (syncing) return;
      for (const [id, digest] of digests) {
        if (membership.stateOf(id) === undefined) digests.delete(id);
        if (digest === activePolicies.document().digest || membership.isDown(id)) continue;
        syncing = true;
        digests.delete(id);
        void sync(id).then(() => (syncing = false));
        return;
      }
    },
  };
}
