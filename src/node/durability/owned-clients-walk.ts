import type { Ring } from '../../limits/ring/ring.js';
import type { Membership } from '../../membership/membership.js';
import type { BucketTable, Client } from '../../state/bucket-table.js';
import { createTableWalk } from '../../state/table-walk.js';
import type { Timers } from '../../lib/clock.js';

/** Finds clients in the table that must be written to the store, in steps. */
interface OwnedClientsWalk {
  /** Finds the clients that this node has come to own since the last walk: no other node may have written them. */
  findNew(): void;
  /** Finds all clients that this node owns or has decided as acting owner. */
  findAll(): void;
  close(): void;
}

/** @param mayGoOn whether to look for more clients now, or at a later step */
export function createOwnedClientsWalk(
  deps: { readonly timers: Timers; readonly table: BucketTable; readonly membership: Membership },
  { found, mayGoOn }: { readonly found: (client: Client) => void; readonly mayGoOn: () => boolean },
): OwnedClientsWalk {
  const { membership } = deps;
  let isForAll = false;
  let walkedRing: Ring = membership.ring();

  const walk = createTableWalk(deps, {
    visit(client) {
      if (client.first === undefined) return;
      const self = membership.self();
      const ring = membership.ring();
      const isMine = ring.owner(client.id) === self.id;
      const isWanted = isForAll
        ? isMine || client.decidedAsActingOwner
        : isMine && walkedRing.owner(client.id) !== self.id;
      if (isWanted) found(client);
    },
    mayGoOn,
    done() {
      isForAll = false;
      walkedRing = membership.ring();
    },
  });

  return {
    findNew: () => walk.start(),
    findAll() {
      isForAll = true;
      walk.start();
    },
    close: () => walk.close(),
  };
}
