import { createRing } from '../../core/ring.js';
import type { NodeId } from '../../core/ring.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import type { ClientSnapshot } from '../messages.js';
import type { Ask, Clock, Log, Timers } from '../ports.js';
import type { WriteBehind } from './write-behind.js';

/** Clients in one message, and looked at between two pauses. */
const CHUNK = 500;
const LOOK = 2_000;
/** How long a node does not decide for want of those that were in the ring when it was last there. */
const GRACE_MS = 10_000;
const LOOK_EVERY_MS = 20;

/**
 * What a node does that comes back with a store of its own, where all have been down: its file has what it owned, and the files of the
 * others the rest. Each brings what it has of another's clients to the members before it enters their ring, and none decides before
 * all are there that it was last in a ring with. So the first decision of any of them is made on all that was written.
 */
interface ColdStartRecovery {
  /** Whether others were in the ring when this node was last there. */
  readonly hasPeersToAwait: boolean;
  /** Before this node enters a ring. @returns false when a member could not be told */
  returnToOwners(): Promise<boolean>;
  /** Resolves when all are back, or after 10 s. */
  awaitPeers(isClosed: () => boolean): Promise<void>;
}

interface ColdStartRecoveryDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly table: BucketTable;
  readonly copies: Copies;
  readonly membership: Membership;
  readonly writeBehind: Pick<WriteBehind, 'missingPeers' | 'stopAwaitingPeers'>;
  readonly log: Log;
  readonly ask: Ask;
}

export function createColdStartRecovery(
  deps: ColdStartRecoveryDeps,
  options: { readonly suspectAfterMs: number },
): ColdStartRecovery {
  const { clock, timers, table, copies, membership, writeBehind, log, ask } = deps;
  const { id: self } = membership.self;
  let brought = false;

  // Workers that share a file may have written it, of whom this node is another one.
  const others = (): readonly NodeId[] => writeBehind.missingPeers.filter((id) => id !== self);

  function missing(): readonly NodeId[] {
    return others().filter((id) => !membership.ring.members.includes(id));
  }

  async function send(to: NodeId, clients: readonly ClientSnapshot[]): Promise<boolean> {
    if (clients.length === 0) return true;
    const asked = await ask(to, { kind: 'replicate', clients }, options.suspectAfterMs);
    return asked.kind === 'answer' && asked.body.kind === 'kept';
  }

  return {
    get hasPeersToAwait() {
      return others().length > 0;
    },
    async returnToOwners() {
      // Once: after that, what changes goes to the others as it does anyway.
      if (brought) return true;
      const ring = createRing([...membership.ring.members, self], { cachedClients: 1 });
      const parcels = new Map<NodeId, ClientSnapshot[]>();
      for (let place = table.size - 1; place >= 0; place -= 1) {
        if (place % LOOK === 0) await timers.sleep(0);
        const client = table.at(place);
        if (client?.decidedAsActingOwner !== true) continue;
        const owner = ring.owner(client.id);
        if (owner === undefined || owner === self) continue;
        const snapshot = copies.of(client, true);
        if (snapshot === undefined) continue;
        let parcel = parcels.get(owner);
        if (parcel === undefined) parcels.set(owner, (parcel = []));
        parcel.push(snapshot);
        if (parcel.length === CHUNK && !(await send(owner, parcel.splice(0)))) return false;
      }
      const sent = await Promise.all([...parcels].map(([owner, parcel]) => send(owner, parcel)));
      return (brought = sent.every(Boolean));
    },
    async awaitPeers(isClosed) {
      const startMs = clock.nowMs();
      if (missing().length > 0)
        log.info({ missing: missing() }, 'decides once those are back that it was in the ring with');
      while (missing().length > 0 && !isClosed()) {
        if (clock.nowMs() - startMs >= GRACE_MS) {
          const lacking = 'decides without them: what only their stores remember counts once they are back';
          log.warn({ missing: missing() }, lacking);
          break;
        }
        await timers.sleep(LOOK_EVERY_MS);
      }
      writeBehind.stopAwaitingPeers();
    },
  };
}
