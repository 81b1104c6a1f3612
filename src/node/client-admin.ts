import type { ClientDescription } from '../limits/request/description.js';
import type { Denials } from '../limits/decide/denials.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Limiter } from './decide/limiter.js';
import type { WriteBehind } from './durability/write-behind.js';
import type { LeaseHolder } from './leases/holder.js';
import type { Membership } from '../membership/membership.js';
import type { Ask, Asked } from '../protocol/peer-transport.js';
import type { Replicator } from '../replication/replicator.js';
import { route } from '../membership/route.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { RecentDecisions } from '../state/recent-decisions.js';
import type { Reservations } from '../state/reservations.js';

interface ClientAdminDeps {
  readonly membership: Membership;
  readonly ask: Ask;
  readonly decider: (clientId: string) => NodeId | undefined;
  readonly limiter: Pick<Limiter, 'describe'>;
  readonly replicator: Pick<Replicator, 'flush'>;
  readonly table: BucketTable;
  readonly recent: RecentDecisions;
  readonly reservations: Reservations;
  readonly leaseHolder: LeaseHolder;
  readonly denials: Denials;
  readonly writeBehind: WriteBehind | undefined;
}

/** Describes and forgets single clients, here and on other nodes. */
interface ClientAdmin {
  /** Describes a client as its owner knows it; `undefined` if the owner does not answer. */
  readonly describe: (clientId: string) => Promise<ClientDescription | undefined>;
  /** Forgets a client on every node. @returns whether all members that are up have done so */
  readonly forget: (clientId: string) => Promise<boolean>;
  /** Forgets a client on this node alone. */
  readonly forgetHere: (clientId: string) => void;
}

/** @param timeoutMs of each message to a peer */
export function createClientAdmin(deps: ClientAdminDeps, { timeoutMs }: { timeoutMs: number }): ClientAdmin {
  const { membership, ask, decider, limiter, replicator } = deps;

  function forgetHere(clientId: string): void {
    deps.table.delete(clientId);
    deps.recent.forget(clientId);
    deps.reservations.forget(clientId);
    deps.leaseHolder.forget(clientId);
    deps.denials.forget(clientId);
    deps.writeBehind?.forget(clientId);
  }

  function forgetAt(ids: readonly NodeId[], clientId: string): Promise<Asked[]> {
    return Promise.all(ids.map((id) => ask(id, { kind: 'forget', clientId }, timeoutMs)));
  }

  return {
    forgetHere,
    async describe(clientId) {
      const to = route(membership, clientId);
      if (to.kind !== 'forward') return limiter.describe(clientId);
      const asked = await ask(to.id, { kind: 'describe', clientId }, timeoutMs);
      return asked.kind === 'answer' && asked.body.kind === 'described' ? asked.body.client : undefined;
    },
    async forget(clientId) {
      // Copies on their way would bring the client back, so they arrive first.
      await replicator.flush();
      forgetHere(clientId);
      const owner = decider(clientId);
      const others = membership.others().filter((id) => !membership.isDown(id));
      const isOwner = (id: NodeId): boolean => id === owner;
      // The owner forgets first. Otherwise a node that has forgotten could be sent the old denial again.
      const asked = [
        ...(await forgetAt(others.filter(isOwner), clientId)),
        ...(await forgetAt(
          others.filter((id) => !isOwner(id)),
          clientId,
        )),
      ];
      forgetHere(clientId);
      return asked.every(({ kind }) => kind === 'answer');
    },
  };
}
