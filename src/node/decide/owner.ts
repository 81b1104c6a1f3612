import { batchItemId } from '../../limits/batch-item-id.js';
import { hasLent } from '../../limits/bucket/bucket.js';
import type { BatchItem } from '../../limits/decide/check-batch.js';
import { decide } from '../../limits/decide/decide.js';
import type { Decision, Origin } from '../../limits/decide/decision.js';
import type { NodeId, Placed } from '../../limits/ring/ring.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Acknowledger } from '../../replication/acknowledger.js';
import type { Replicator } from '../../replication/replicator.js';
import { MARK, type BucketTable, type Client } from '../../state/bucket-table.js';
import { REQUEST_ID_TTL_MS, type RecentDecisions } from '../../state/recent-decisions.js';
import type { Reservations } from '../../state/reservations.js';

/** Decides for the clients of this node, by their buckets in its table. */
export class Owner {
  private readonly origin: Origin;
  private readonly actingOrigin: Origin;

  constructor(
    self: NodeId,
    private readonly parts: {
      readonly table: BucketTable;
      readonly recent: RecentDecisions;
      readonly reservations: Reservations;
      readonly replicator: Pick<Replicator, 'changed' | 'replicateNow'>;
      /**
       * Called when a check is denied while other nodes hold tokens of the client: they may be the tokens that are
       * missing.
       */
      readonly pauseLending: (clientId: string) => void;
      /** Called when this node decides as acting owner. */
      readonly noteActing: (client: Placed) => void;
      /** In strict mode: a decision counts only once all that may decide next know of it. */
      readonly acknowledger: Acknowledger | undefined;
      readonly topClients: Pick<TopClients, 'count' | 'skip'>;
    },
  ) {
    this.origin = { owner: self, source: 'owner', degraded: false };
    this.actingOrigin = { owner: self, source: 'owner', degraded: true };
  }

  /**
   * @param degraded whether this node acts for an owner that is down, with the copy it holds
   * @returns whether it is a denial that may end early, because leased or reserved tokens may come back
   */
  decide(item: BatchItem, nowMs: number, degraded: boolean): boolean {
    const { table, reservations, replicator, noteActing, topClients } = this.parts;
    const { params } = item;
    const first = this.findFirst(item, nowMs);
    if (first !== undefined) {
      this.repeat(item, first);
      return !first.allowed && !first.degraded && this.isLendingTo(this.open(item));
    }
    const client = this.open(item);
    reservations.observe(client, params.rules, nowMs);
    const outcome = decide(client, params, nowMs);
    const { allowed, changed, forgotten } = outcome;
    item.decide(outcome, degraded ? this.actingOrigin : this.origin);
    if (!topClients.skip()) topClients.count(item.check, allowed, nowMs);
    if (forgotten > 0) table.forgot(forgotten);
    if (!allowed && hasLent(client)) this.parts.pauseLending(client.id);
    const isRemembered = this.remember(item, client, nowMs);
    if (params.reservation !== undefined && allowed && !params.peek) reservations.add(client, item.check, nowMs);
    table.close(client, nowMs);
    if (degraded) {
      table.mark(client.slot, MARK.actingOwner);
      noteActing(item);
    }
    if (changed || isRemembered) replicator.changed(client);
    return !allowed && !degraded && this.isLendingTo(client);
  }

  /** Whether `mustConfirm` may hold for a decision on this check. */
  mayConfirm(item: BatchItem): boolean {
    if (!item.params.replicated && this.parts.acknowledger === undefined) return false;
    // A request id may get a first decision that other nodes still do not know of.
    return !item.params.peek || item.requestId !== undefined;
  }

  /** Whether other nodes must know of a decision before it is answered. */
  mustConfirm(item: BatchItem): boolean {
    return item.allowed && this.mayConfirm(item) && item.origin!.source === 'owner';
  }

  /** Lets other nodes know of what was decided. @returns the ids of the clients of which all that must know do */
  confirm(items: readonly BatchItem[]): Promise<ReadonlySet<string>> {
    const { acknowledger, replicator } = this.parts;
    const clientIds = [...new Set(items.map(({ clientId }) => clientId))];
    return acknowledger?.acknowledgeAll(clientIds) ?? replicator.replicateNow(clientIds, 'synchronous');
  }

  /**
   * Whether a decision may be answered now, perhaps as degraded. In strict mode it may not if its client is not known
   * elsewhere: the client was charged, and is not admitted.
   */
  mayAnswer(item: BatchItem, known: ReadonlySet<string>): boolean {
    if (known.has(item.clientId)) return true;
    if (this.parts.acknowledger !== undefined) return false;
    item.origin = Object.assign({}, item.origin!, { degraded: true });
    return true;
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

  private repeat(item: BatchItem, first: Decision): void {
    item.decide(first, first);
    const { reservation, peek } = item.params;
    if (reservation === undefined || peek || !first.allowed) return;
    if (!this.parts.reservations.has(item.clientId, reservation)) item.extras = { unreserved: true };
  }

  /** Remembers a decision by its request id, if it has one. @returns whether it does */
  private remember(item: BatchItem, client: Client, nowMs: number): boolean {
    const { recent } = this.parts;
    const { batchId, batchSize, index } = item;
    let requestId: string | undefined;
    if (item.hasBatchItemId) {
      // A row for an item of a batch has no room for several limits.
      const hasRow = item.limits === undefined && !item.origin!.degraded;
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
