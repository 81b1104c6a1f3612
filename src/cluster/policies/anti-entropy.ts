import type { Ask } from '../ports.js';
import { documentOf } from '../../core/policy/policy-document.js';
import type { Entry, PolicyDocument } from '../../core/policy/policy-document.js';
import type { NodeId } from '../../core/ring/ring.js';
import type { Membership } from '../membership/membership.js';
import type { PeerAnswer, PeerMessage } from '../messages.js';
import type { ActivePolicies } from './active-policies.js';

type PoliciesMessage = Extract<PeerMessage, { kind: 'policies' }>;

/**
 * Makes all nodes hold the same policy document.
 * Every peer message carries the digest of its sender's document; two nodes with different digests exchange documents.
 */
export interface PolicyAntiEntropy {
  /**
   * Sends every reachable node the entries that are newer than in `earlier`. Resolves when all have answered or failed,
   * also those that became reachable meanwhile.
   */
  spread(earlier: PolicyDocument): Promise<void>;
  /** Exchanges documents with the first of these nodes that answers. @returns whether one has answered */
  syncWithOne(ids: readonly NodeId[]): Promise<boolean>;
  readonly answer: (message: PoliciesMessage) => PeerAnswer;
  /** Records the digest of another node's document. */
  readonly noteDigest: (id: NodeId, digest: string) => void;
  /** Exchanges documents with one node whose digest differs. */
  tick(): void;
}

export interface PolicyAntiEntropyDeps {
  readonly membership: Membership;
  readonly activePolicies: ActivePolicies;
  readonly ask: Ask;
}

/** @param reconcile returns the document to hold, given this node's and another node's */
export function createPolicyAntiEntropy(
  { membership, activePolicies, ask }: PolicyAntiEntropyDeps,
  reconcile: (mine: PolicyDocument, theirs: PolicyDocument) => PolicyDocument,
  { timeoutMs }: { timeoutMs: number },
): PolicyAntiEntropy {
  const digests = new Map<NodeId, string>();
  let syncing = false;
  // Digests are compared with the document in force; the next messages of the other nodes bring them again.
  activePolicies.onChange(() => digests.clear());

  function messageOf(entries: ReadonlyMap<string, Entry>, whole: boolean): PoliciesMessage {
    const { version, digest } = activePolicies.document;
    return { kind: 'policies', version, digest, entries: [...entries], whole };
  }

  /**
   * Sends these entries to a node, and the whole document if the digests still differ.
   * @returns whether it has answered
   */
  async function sync(id: NodeId, entries: ReadonlyMap<string, Entry> = new Map()): Promise<boolean> {
    const asked = await ask(id, messageOf(entries, false), timeoutMs);
    if (asked.kind !== 'answer' || asked.body.kind !== 'policies') return false;
    const { version, whole, entries: theirs, digest } = asked.body;
    if (whole) activePolicies.adopt(reconcile(activePolicies.document, documentOf(version, new Map(theirs))));
    if (activePolicies.document.digest !== digest)
      await ask(id, messageOf(activePolicies.document.entries, true), timeoutMs);
    return true;
  }

  return {
    async spread({ entries }) {
      const isNews = ([key, { version, writer }]: [string, Entry]): boolean => {
        const known = entries.get(key);
        return known?.version !== version || known.writer !== writer;
      };
      const news = new Map([...activePolicies.document.entries].filter(isNews));
      if (news.size === 0) return;
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
    answer({ version, digest, entries, whole }) {
      const { document } = activePolicies;
      if (whole) activePolicies.adopt(reconcile(document, documentOf(version, new Map(entries))));
      else if (digest !== document.digest && entries.length > 0) {
        // Single entries apply only if the result is exactly the sender's document: no document is ever half applied.
        const next = documentOf(version, new Map([...document.entries, ...entries]));
        if (next.digest === digest && version > document.version) activePolicies.adopt(next);
      }
      const mine: PolicyDocument = activePolicies.document;
      const same = mine.digest === digest;
      return {
        kind: 'policies',
        version: mine.version,
        digest: mine.digest,
        entries: same ? [] : [...mine.entries],
        whole: !same,
      };
    },
    noteDigest: (id, digest) => void digests.set(id, digest),
    tick() {
      if (syncing) return;
      for (const [id, digest] of digests) {
        if (membership.stateOf(id) === undefined) digests.delete(id);
        if (digest === activePolicies.document.digest || membership.isDown(id)) continue;
        syncing = true;
        digests.delete(id);
        void sync(id).then(() => (syncing = false));
        return;
      }
    },
  };
}
