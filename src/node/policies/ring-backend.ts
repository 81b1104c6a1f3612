import { LRUCache } from 'lru-cache';
import {
  changing,
  fitting,
  isSuccessor,
  isTagged,
  merging,
  overwrittenKeys,
  preparing,
} from '../../policy/policy-document.js';
import type { Changes, PolicyDocument } from '../../policy/policy-document.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { callOwner } from '../../membership/call-owner.js';
import type { OwnerCall } from '../../membership/call-owner.js';
import { MAX_PART_BYTES, sumOfBytes } from '../../policy/policy-entry.js';
import type { Steps } from '../../lib/steps.js';
import type { PeerMessage, RingWritten } from '../../protocol/messages.js';
import { createPolicyAntiEntropy } from './anti-entropy.js';
import type { PolicyAntiEntropyDeps, Reconciled } from './anti-entropy.js';
import type { PolicyBackend, PolicyBackendOptions } from './policy-backend.js';
import { createDocumentChanges } from './document-changes.js';
import { createEntryParts } from './entry-parts.js';

/** The owner of this ring key accepts all writes, so that one of two concurrent writes sees the other. */
const WRITES = 'policies';
/** Results kept in case a write is sent again. */
const MAX_RESULTS = 256;

interface RingBackendDeps extends PolicyAntiEntropyDeps {
  readonly decider: (key: string) => NodeId | undefined;
  /** Whether checks wait at this node. */
  readonly isHeld: () => boolean;
}

/** The nodes keep the document: the owner of one ring key accepts the changes and sends them to all. */
export function createRingBackend(deps: RingBackendDeps, options: PolicyBackendOptions): PolicyBackend {
  const { timers, membership, activePolicies, ask, decider, isHeld } = deps;
  const entryParts = createEntryParts({ ask, current: () => activePolicies.document() }, options);
  const documentChanges = createDocumentChanges(deps);
  const antiEntropy = createPolicyAntiEntropy({ ...deps, changes: documentChanges, entryParts }, reconcile, options);
  const isAccepting = (): boolean =>
    decider(WRITES) === membership.self().id && !isHeld() && membership.self().state === 'active';
  const results = new LRUCache<string, Promise<RingWritten | null>>({ max: MAX_RESULTS });
  let writes = 0;
  let hasJoined = false;
  /** Resolves when every node that could be reached has the document in force. */
  let spread: Promise<unknown> = Promise.resolve();

  /**
   * Merges another node's document. Reports what this node loses; after its first join, not if it only missed a later
   * change.
   */
  function* reconcile(mine: PolicyDocument, theirs: PolicyDocument): Steps<Reconciled> {
    const next = yield* merging(mine, theirs);
    const isMissed = hasJoined && (yield* isSuccessor(theirs, mine));
    return { next, lost: isMissed ? [] : yield* overwrittenKeys(mine, next) };
  }

  /** @returns `undefined` if this node does not accept changes any more */
  async function writeHere(changes: Changes, ifMatch: readonly string[] | undefined): Promise<RingWritten | undefined> {
    function* prepare(document: PolicyDocument): Steps<PolicyDocument | 'conflict' | 'full'> {
      if (!isTagged(document, changes, ifMatch)) return 'conflict';
      if (!(yield* fitting(document, changes, options.maxBytes))) return 'full';
      const next = yield* changing(document, changes, membership.self().id);
      yield* preparing(next);
      return next;
    }

    return documentChanges.make(prepare, async (next, document) => {
      if (!isAccepting()) return undefined;
      if (next === 'full') return { kind: next };
      if (next === 'conflict') return { kind: next, version: document.version, digest: document.digest };
      activePolicies.adopt(next);
      // A write that changes nothing waits too: the same change by another writer may still be on its way.
      spread = Promise.all([spread, antiEntropy.spread(document)]);
      await spread;
      return { kind: 'written', version: next.version, digest: next.digest, madeFrom: document };
    });
  }

  async function writeOf(
    { writeId, changes, ifMatch }: Extract<PeerMessage, { kind: 'write-policies' }>,
    from: NodeId,
  ): Promise<RingWritten | null> {
    const fetched = changes === null ? await entryParts.fetchAll(from, writeId) : undefined;
    const entries = changes ?? (fetched && [...fetched].map(([key, { value }]) => [key, value] as const));
    const written = entries && (await writeHere(new Map(entries), ifMatch));
    // It may be sent again.
    if (written === undefined) results.delete(writeId);
    return written ?? null;
  }

  return {
    antiEntropy,
    entryParts,
    async write(changes, ifMatch) {
      const { id: self, incarnation } = membership.self();
      const writeId = `${self} ${incarnation} ${++writes}`;
      const entries = [...changes].map(([key, value]) => [key, { value, version: 1, writer: self }] as const);
      const isLarge = sumOfBytes(entries) > MAX_PART_BYTES;
      const withdraw = isLarge ? entryParts.offer(writeId, entries) : undefined;
      const call: OwnerCall<RingWritten> = {
        key: WRITES,
        here: () => (isAccepting() ? writeHere(changes, ifMatch) : undefined),
        message: { kind: 'write-policies', writeId, changes: isLarge ? null : [...changes], ifMatch },
        // Before it answers, the owner sends the new document to every node that it can reach, including this one.
        outcome: (answer) => (answer.kind === 'policies-written' ? (answer.written ?? undefined) : undefined),
      };
      const written = await callOwner({ timers, self, ask, decider }, call, options.timeoutMs);
      withdraw?.();
      return written ?? { kind: 'unavailable' };
    },
    async writeForPeer(message, from) {
      let result = results.get(message.writeId);
      if (result === undefined) {
        if (!isAccepting()) return null;
        result = writeOf(message, from);
        results.set(message.writeId, result);
      }
      return result;
    },
    // The first node of a ring has no other node to learn from.
    catchUp: async (ids) => ids.length === 0 || antiEntropy.syncWithOne(ids),
    tick() {
      hasJoined ||= membership.self().state === 'active';
      antiEntropy.tick();
    },
  };
}
