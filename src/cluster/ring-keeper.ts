import { LRUCache } from 'lru-cache';
import { change, hasRoomFor, isTagged, merge } from '../core/policy-document.js';
import type { Changes } from '../core/policy-document.js';
import type { NodeId } from '../core/ring.js';
import { run } from './errand.js';
import type { Errand } from './errand.js';
import type { Asked } from './forwarder.js';
import type { Membership } from './membership.js';
import type { PeerMessage, RingWritten } from './messages.js';
import type { PolicyBook } from './policy-book.js';
import type { PolicyExchange } from './policy-exchange.js';
import type { PolicyKeeper } from './policy-keeper.js';
import type { Timers } from './ports.js';

/** Its owner on the ring takes all writes: of two at once, one sees the other. No client is told apart by it. */
const WRITES = 'policies';
/** Outcomes kept in case their write is sent again. */
const MAX_OUTCOMES = 256;

export interface RingKeeperDeps {
  readonly timers: Timers;
  readonly membership: Membership;
  readonly book: PolicyBook;
  readonly exchange: PolicyExchange;
  readonly ask: (to: NodeId, body: PeerMessage, timeoutMs: number) => Promise<Asked>;
  readonly decider: (key: string) => NodeId | undefined;
  /** Whether checks wait at this node. */
  readonly isHeld: () => boolean;
}

/** The nodes keep the document among themselves: the owner of one key takes the changes, and tells all. */
export function createRingKeeper(deps: RingKeeperDeps, { timeoutMs }: { timeoutMs: number }): PolicyKeeper {
  const { timers, membership, book, exchange, ask, decider, isHeld } = deps;
  const isReady = (): boolean => !isHeld() && membership.self.state === 'active';
  const outcomes = new LRUCache<string, Promise<RingWritten>>({ max: MAX_OUTCOMES });
  let writes = 0;

  async function writeHere(changes: Changes, ifMatch: readonly string[] | undefined): Promise<RingWritten> {
    const { document } = book;
    const { version, digest } = document;
    if (!isTagged(document, changes, ifMatch)) return { kind: 'conflict', version, digest };
    if (!hasRoomFor(document, changes)) return { kind: 'full' };
    const next = change(document, changes, membership.self.id);
    book.adopt(next);
    await exchange.spread(document);
    return { kind: 'written', version: next.version, digest: next.digest, madeFrom: document };
  }

  return {
    async write(changes, ifMatch) {
      const { id: self, incarnation } = membership.self;
      const writeId = `${self} ${incarnation} ${++writes}`;
      const errand: Errand<RingWritten> = {
        key: WRITES,
        here: () => (isReady() ? writeHere(changes, ifMatch) : undefined),
        message: { kind: 'write-policies', writeId, changes: [...changes], ifMatch },
        // Whoever was asked has seen to it that this node knows, if it could be reached.
        outcome: (answer) => (answer.kind === 'policies-written' ? (answer.written ?? undefined) : undefined),
      };
      return (await run({ timers, self, ask, decider }, errand, timeoutMs)) ?? { kind: 'unavailable' };
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
    catchUp: async (ids) => ids.length === 0 || exchange.syncWithOne(ids),
    tick: () => undefined,
  };
}
