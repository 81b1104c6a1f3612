import { batchItemId } from '../../limits/request/request.js';
import { hasLent } from '../../limits/bucket/bucket.js';
import type { BatchItem } from '../../limits/decide/check-batch.js';
import { decide } from '../../limits/decide/decide.js';
import type { Decision, Provenance } from '../../limits/decide/decision.js';
import type { NodeId, Placed } from '../../limits/ring/ring.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Confirmer } from '../../replication/confirmer.js';
import type { Replicator } from '../../replication/replicator.js';
import { MARK, type BucketTable, type Client } from '../../state/bucket-table.js';
import { REQUEST_ID_TTL_MS, type RecentDecisions } from '../../state/recent-decisions.js';
import type { Reservations } from '../../state/reservations.js';

/** How a decision of the owner stands. */
type Standing =
  | 'final'
  /** A denial that may end early, because leased or reserved tokens may come back. */
  | 'revocable'
  /** Allowed, but `confirm` must come before the answer: other nodes must know of it first. */
  | 'unconfirmed';

/** Charges the clients of this node, by their buckets in its table. */
export class Owner {
  private readonly provenance: Provenance;
  private readonly actingProvenance: Provenance;

  constructor(
    self: NodeId,
    private readonly parts: {
      readonly table: BucketTable;
      readonly recent: RecentDecisions;
      readonly reservations: Reservations;
      readonly replicator: Pick<Replicator, 'changed'>;
      /**
       * Called when a check is denied while other nodes hold tokens of the client: they may be the tokens that are
       * missing.
       */
      readonly pauseLending: (clientId: string) => void;
      /** Called when this node decides as acting owner. */
      readonly noteActing: (client: Placed) => void;
      readonly confirmer: Confirmer;
      readonly topClients: Pick<TopClients, 'count' | 'skip'>;
    },
  ) {
    this.provenance = { owner: self, source: 'owner', degraded: false };
    this.actingProvenance = { owner: self, source: 'owner', degraded: true };
  }

  /**
   * Decides a check, and charges its client if it is allowed.
   * @param as `acting`: for an owner that is down, with the copy that this node holds
   */
  charge(item: BatchItem, nowMs: number, as: 'own' | 'acting'): Standing {
    const first = this.findFirst(item, nowMs);
    const isRevocable = first === undefined ? this.chargeNew(item, nowMs, as) : this.repeat(item, first);
    if (isRevocable) return 'revocable';
    const isUnconfirmed = item.allowed && item.provenance!.source === 'owner' && this.mayNeedConfirming(item);
    return isUnconfirmed ? 'unconfirmed' : 'final';
  }

  /** Whether a decision on this check may be unconfirmed. */
  mayNeedConfirming(item: BatchItem): boolean {
    if (!item.params.replicated && !this.parts.confirmer.isStrict) return false;
    // A request id may get a first decision that other nodes still do not know of.
    return !item.params.peek || item.requestId !== undefined;
  }

  /**
   * Lets other nodes know of unconfirmed decisions.
   * @returns for each of them, `withhold` if it must not be answered: in strict mode, if its client is not known
   * elsewhere. The client was charged, and is not admitted. Otherwise such a decision is answered as degraded.
   */
  async confirm(items: readonly BatchItem[]): Promise<readonly ('answer' | 'withhold')[]> {
    const { confirmer } = this.parts;
    const clientIds = [...new Set(items.map(({ clientId }) => clientId))];
    const known = await confirmer.confirm(clientIds, 'synchronous');
    return items.map((item) => {
      if (known.has(item.clientId)) return 'answer';
      if (confirmer.isStrict) return 'withhold';
      item.provenance = Object.assign({}, item.provenance!, { degraded: true });
      return 'answer';
    });
  }

  /** @returns whether it is a denial that may end early */
  private chargeNew(item: BatchItem, nowMs: number, as: 'own' | 'acting'): boolean {
    const { table, reservations, replicator, noteActing, topClients } = this.parts;
    const { params } = item;
    const client = this.open(item);
    reservations.observe(client, params.rules, nowMs);
    const outcome = decide(client, params, nowMs);
    const { allowed, changed, forgotten } = outcome;
    item.record(outcome, as === 'acting' ? this.actingProvenance : this.provenance);
    if (!topClients.skip()) topClients.count(item.check, allowed, nowMs);
    if (forgotten > 0) table.forgot(forgotten);
    if (!allowed && hasLent(client)) this.parts.pauseLending(client.id);
    const isRemembered = this.remember(item, client, nowMs);
    if (params.reservation !== undefined && allowed && !params.peek) reservations.add(client, item.check, nowMs);
    table.close(client, nowMs);
    if (as === 'acting') {
      table.mark(client.slot, MARK.actingOwner);
      noteActing(item);
    }
    if (changed || isRemembered) replicator.changed(client);
    return !allowed && as === 'own' && this.isLendingTo(client);
  }

  private open(item: BatchItem): Client {
    const { table } = this.parts;
    if (item.isObject) return table.open(item.check);
    return table.openBytes(item.hashHigh, item.hashLow, item.bytes, item.idStart, item.idEnd);
  }

  private isLendingTo(client: Client): boolean {
    return hasLent(client) || this.parts.reservations.hasOpen(client);
  }

  /** Finds the first decision on the request id of a check. */
  private findFirst(item: BatchItem, nowMs: number): Decision | undefined {
    const { recent } = this.parts;
    if (item.hasBatchItemId) {
      const first = recent.batches.get(item.batchId!, item.index, item, nowMs);
      // Usually no item of the batch came alone, and the strings of its id and of its client are not needed.
      if (first !== undefined || !recent.hasItemsOf(item.batchId!)) return first;
    }
    const { requestId } = item;
    return requestId === undefined ? undefined : recent.get(item.clientId, requestId);
  }

  /** Gives a check the first decision on its request id. @returns whether it is a denial that may end early */
  private repeat(item: BatchItem, first: Decision): boolean {
    item.record(first, first);
    const { reservation, peek } = item.params;
    if (!first.allowed) return !first.degraded && this.isLendingTo(this.open(item));
    if (reservation !== undefined && !peek && !this.parts.reservations.has(item.clientId, reservation))
      item.extras = { unreserved: true };
    return false;
  }

  /** Remembers a decision by its request id, if it has one. @returns whether it does */
  private remember(item: BatchItem, client: Client, nowMs: number): boolean {
    const { recent } = this.parts;
    const { batchId, batchSize, index } = item;
    let requestId: string | undefined;
    if (item.hasBatchItemId) {
      // A row for an item of a batch has no room for several limits.
      const hasRow = item.limits === undefined && !item.provenance!.degraded;
      if (!hasRow || !recent.batches.add(batchId!, index, client, item, nowMs, batchSize))
        requestId = batchItemId(batchId!, index);
    } else {
      requestId = item.params.peek ? undefined : item.requestId;
      if (requestId === undefined) return false;
    }
    if (requestId !== undefined) {
      recent.add(client.id, requestId, item.decision);
      client.hasStoredDecisions = true;
    }
    client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS);
    return true;
  }
}
