import { LRUCache } from 'lru-cache';
import { change, hasRoomFor, isTagged, merge } from '../../core/policy-document.js';
import type { Changes } from '../../core/policy-document.js';
import type { NodeId } from '../../core/ring.js';
import { callOwner } from '../routing/call-owner.js';
import type { OwnerCall } from '../routing/call-owner.js';
import type { Membership } from '../membership/membership.js';
import type { RingWritten } from '../messages.js';
import type { ActivePolicies } from './active-policies.js';
import type { PolicyAntiEntropy } from './anti-entropy.js';
import type { PolicyBackend } from './policy-backend.js';
import type { Ask, Timers } from '../ports.js';

/** Its owner on the ring takes all writes: of two at once, one sees the other. No client is told apart by it. */
const WRITES = 'policies';
/** Outcomes kept in case their write is sent again. */
const MAX_OUTCOMES = 256;

export interface RingBackendDeps {
  readonly timers: Timers;
  readonly membership: Membership;
  readonly activePolicies: ActivePolicies;
  readonly antiEntropy: PolicyAntiEntropy;
  readonly ask: Ask;
  readonly decider: (key: string) => NodeId | undefined;
  /** Whether checks wait at this node. */
  readonly isHeld: () => boolean;
}

/** The nodes keep the document among themselves: the owner of one key takes the changes, and tells all. */
export function createRingBackend(deps: RingBackendDeps, { timeoutMs }: { timeoutMs: number }): PolicyBackend {
  const { timers, membership, activePolicies, antiEntropy, ask, decider, isHeld } = deps;
  const isReady = (): boolean => !isHeld() && membership.self.state === 'active';
  const outcomes = new LRUCache<string, Promise<RingWritten>>({ max: MAX_OUTCOMES });
  let writes = 0;

  async function writeHere(changes: Changes, ifMatch: readonly string[] | undefined): Promise<RingWritten> {
    const { document } = activePolicies;
    const { version, digest } = document;
    if (!isTagged(document, changes, ifMatch)) return { kind: 'conflict', version, digest };
    if (!hasRoomFor(document, changes)) return { kind: 'full' };
    const next = change(document, changes, membership.self.id);
    activePolicies.adopt(next);
    await antiEntropy.spread(document);
    return { kind: 'written', version: next.version, digest: next.digest, madeFrom: document };
  }

  return {
    async write(changes, ifMatch) {
      const { id: self, incarnation } = membership.self;
      const writeId = `${self} ${incarnation} ${++writes}`;
      const call: OwnerCall<RingWritten> = {
        key: WRITES,
        here: () => (isReady() ? writeHere(changes, ifMatch) : undefined),
        message: { kind: 'write-policies', writeId, changes: [...changes], ifMatch },
        // Whoever was asked has seen to it that this node knows, if it could be reached.
        outcome: (answer) => (answer.kind === 'policies-written' ? (answer.written ?? undefined) : undefined),
      };
      return (await callOwner({ timers, self, ask, decider }, call, timeoutMs)) ?? { kind: 'unavailable' };
    },
    async writeFor({ writeId, changes, ifMatch }) {
      let outcome = outcomes.get(writeId);
      if (outcome === undefined) {
        if (decider(WRITES) !== membership.self.id || !isReady()) return null;
        outcome = writeHere(new Map(changes), ifMatch);
        outcomes.set(writeId, outcome);
      }
      return outcome;
    },
    reconcile: merge,
    // Where nobody decides yet, there is nobody to learn from.
    catchUp: async (ids) => ids.length === 0 || antiEntropy.syncWithOne(ids),
    tick: () => undefined,
  };
}
