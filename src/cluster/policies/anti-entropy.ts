import type { Ask } from '../ports.js';
import { documentOf } from '../../core/policy-document.js';
import type { Entry, PolicyDocument } from '../../core/policy-document.js';
import type { NodeId } from '../../core/ring.js';
import type { Membership } from '../membership/membership.js';
import type { PeerAnswer, PeerMessage } from '../messages.js';
import type { ActivePolicies } from './active-policies.js';

type PoliciesMessage = Extract<PeerMessage, { kind: 'policies' }>;

/** How nodes come to hold the same document: every message says which one its sender holds, and two that differ compare. */
export interface PolicyAntiEntropy {
  /** Tells all that can be reached what this node's document has beyond an earlier one. */
  spread(earlier: PolicyDocument): Promise<void>;
  /** Compares with the first of these that answers. @returns whether one has */
  syncWithOne(ids: readonly NodeId[]): Promise<boolean>;
  readonly answer: (message: PoliciesMessage) => PeerAnswer;
  /** Notes which document another node holds. */
  readonly heard: (id: NodeId, digest: string) => void;
  /** Compares documents with one node that holds another. */
  tick(): void;
}

export interface PolicyAntiEntropyDeps {
  readonly membership: Membership;
  readonly activePolicies: ActivePolicies;
  readonly ask: Ask;
  /** What this node is to hold, having heard of another document. */
  readonly reconcile: (mine: PolicyDocument, theirs: PolicyDocument) => PolicyDocument;
}

export function createPolicyAntiEntropy(
  deps: PolicyAntiEntropyDeps,
  { timeoutMs }: { timeoutMs: number },
): PolicyAntiEntropy {
  const { membership, activePolicies, ask, reconcile } = deps;
  const heard = new Map<NodeId, string>();
  let syncing = false;
  // What was heard before is old news now: who holds something else will say so again.
  activePolicies.onChange(() => heard.clear());

  function messageOf(entries: ReadonlyMap<string, Entry>, whole: boolean): PoliciesMessage {
    const { version, digest } = activePolicies.document;
    return { kind: 'policies', version, digest, entries: [...entries], whole };
  }

  /** Tells another node of these entries, and of as much as it takes until both hold the same. @returns whether it has answered */
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
      const reachable = membership.others().filter((id) => !membership.isDown(id));
      await Promise.all(reachable.map((id) => sync(id, news)));
    },
    async syncWithOne(ids) {
      for (const id of ids) if (await sync(id)) return true;
      return false;
    },
    answer({ version, digest, entries, whole }) {
      const { document } = activePolicies;
      if (whole) activePolicies.adopt(reconcile(document, documentOf(version, new Map(entries))));
      else if (digest !== document.digest && entries.length > 0) {
        // In part only where it makes the sender's document of this one: none is ever half applied.
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
    heard: (id, digest) => void heard.set(id, digest),
    tick() {
      if (syncing) return;
      for (const [id, digest] of heard) {
        if (membership.stateOf(id) === undefined) heard.delete(id);
        if (digest === activePolicies.document.digest || membership.isDown(id)) continue;
        syncing = true;
        heard.delete(id);
        void sync(id).then(() => (syncing = false));
        return;
      }
    },
  };
}
