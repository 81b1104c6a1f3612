import { LRUCache } from 'lru-cache';
import { change, hasRoomFor, isSuccessor, isTagged, merge } from '../../core/policy/policy-document.js';
import type { Changes, PolicyDocument } from '../../core/policy/policy-document.js';
import type { NodeId } from '../../core/ring/ring.js';
import { callOwner } from '../routing/call-owner.js';
import type { OwnerCall } from '../routing/call-owner.js';
import type { RingWritten } from '../messages.js';
import { createPolicyAntiEntropy } from './anti-entropy.js';
import type { PolicyAntiEntropyDeps } from './anti-entropy.js';
import type { PolicyBackend, PolicyBackendOptions } from './policy-backend.js';
import { reportOverwritten } from './report-overwritten.js';
import type { Log, Timers } from '../ports.js';

/** The owner of this ring key accepts all writes, so that one of two concurrent writes sees the other. */
const WRITES = 'policies';
/** Results kept in case a write is sent again. */
const MAX_RESULTS = 256;

interface RingBackendDeps extends PolicyAntiEntropyDeps {
  readonly timers: Timers;
  readonly log: Log;
  readonly decider: (key: string) => NodeId | undefined;
  /** Whether checks wait at this node. */
  readonly isHeld: () => boolean;
}

/** The nodes keep the document: the owner of one ring key accepts the changes and sends them to all. */
export function createRingBackend(deps: RingBackendDeps, options: PolicyBackendOptions): PolicyBackend {
  const { timers, membership, activePolicies, ask, decider, isHeld } = deps;
  const antiEntropy = createPolicyAntiEntropy(deps, reconcile, options);
  const isReady = (): boolean => !isHeld() && membership.self.state === 'active';
  const results = new LRUCache<string, Promise<RingWritten>>({ max: MAX_RESULTS });
  let writes = 0;
  let hasJoined = false;
  /** Resolves when every node that could be reached has the document in force. */
  let spread: Promise<unknown> = Promise.resolve();

  /**
   * Merges another node's document. Reports what this node loses; after its first join, not if it only missed a later
   * change.
   */
  function reconcile(mine: PolicyDocument, theirs: PolicyDocument): PolicyDocument {
    const next = merge(mine, theirs);
    if (!hasJoined || !isSuccessor(theirs, mine)) reportOverwritten(deps, mine, next);
    return next;
  }

  async function writeHere(changes: Changes, ifMatch: readonly string[] | undefined): Promise<RingWritten> {
    const { document } = activePolicies;
    const { version, digest } = document;
    if (!isTagged(document, changes, ifMatch)) return { kind: 'conflict', version, digest };
    if (!hasRoomFor(document, changes, options.maxBytes)) return { kind: 'full' };
    const next = change(document, changes, membership.self.id);
    activePolicies.adopt(next);
    // A write that changes nothing waits too: the same change by another writer may still be on its way.
    spread = Promise.all([spread, antiEntropy.spread(document)]);
    await spread;
    return { kind: 'written', version: next.version, digest: next.digest, madeFrom: document };
  }

  return {
    antiEntropy,
    async write(changes, ifMatch) {
      const { id: self, incarnation } = membership.self;
      const writeId = `${self} ${incarnation} ${++writes}`;
      const call: OwnerCall<RingWritten> = {
        key: WRITES,
        here: () => (isReady() ? writeHere(changes, ifMatch) : undefined),
        message: { kind: 'write-policies', writeId, changes: [...changes], ifMatch },
        // Before it answers, the owner sends the new document to every node that it can reach, including this one.
        outcome: (answer) => (answer.kind === 'policies-written' ? (answer.written ?? undefined) : undefined),
      };
      const written = await callOwner({ timers, self, ask, decider }, call, options.timeoutMs);
      return written ?? { kind: 'unavailable' };
    },
    async writeForPeer({ writeId, changes, ifMatch }) {
      let result = results.get(writeId);
      if (result === undefined) {
        if (decider(WRITES) !== membership.self.id || !isReady()) return null;
        result = writeHere(new Map(changes), ifMatch);
        results.set(writeId, result);
      }
      return result;
    },
    // The first node of a ring has no other node to learn from.
    catchUp: async (ids) => ids.length === 0 || antiEntropy.syncWithOne(ids),
    tick() {
      hasJoined ||= membership.self.state === 'active';
      antiEntropy.tick();
    },
  };
}
