import type { Ring } from '../../limits/ring/ring.js';
import type { Membership } from '../../membership/membership.js';
import type { BucketTable, Client } from '../../state/bucket-table.js';
import { TableWalk } from '../../state/table-walk.js';
import type { Timers } from '../../lib/system.js';

/**
 * Finds clients in the table that must be written to the store, in steps.
 *
 * @param mayGoOn whether to look for more clients now, or at a later step
 */
export class OwnedClientsWalk {
  private isForAll = false;
  private readonly walk: TableWalk;

  constructor(
    deps: { readonly timers: Timers; readonly table: BucketTable; readonly membership: Membership },
    options: { readonly found: (client: Client) => void; readonly mayGoOn: () => boolean },
  ) {
    let walkedRing: Ring = deps.membership.ring();
    this.walk = new TableWalk(deps, {
      visit: (client) => {
        if (client.first === undefined) return;
        const self = deps.membership.self();
        const ring = deps.membership.ring();
        const isMine = ring.owner(client.id) === self.id;
        const isWanted = this.isForAll
          ? isMine || client.decidedAsActingOwner
          : isMine && walkedRing.owner(client.id) !== self.id;
        if (isWanted) options.found(client);
      },
      mayGoOn: options.mayGoOn,
      done: () => {
        this.isForAll = false;
        walkedRing = deps.membership.ring();
      },
    });
  }

  /** Finds the clients that this node has come to own since the last walk: no other node may have written them. */
  findNew(): void {
    this.walk.start();
  }

  /** Finds all clients that this node owns or has decided as acting owner. */
  findAll(): void {
    this.isForAll = true;
    this.walk.start();
  }

  close(): void {
    this.walk.close();
  }
}
