import { batchItemId } from '../../limits/batch-item-id.js';
import { hasLent } from '../../limits/bucket/bucket.js';
import type { CheckBatch } from '../../limits/decide/check-batch.js';
import { decide, decideOne } from '../../limits/decide/decide.js';
import type { Check, Outcome } from '../../limits/decide/decide.js';
import { decisionBy } from '../../limits/decide/decision.js';
import type { Decision, Origin } from '../../limits/decide/decision.js';
import type { NodeId, Placed } from '../../limits/ring/ring.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Acknowledger } from '../../replication/acknowledger.js';
import type { Replicator } from '../../replication/replicator.js';
import { MARK } from '../../state/bucket-table.js';
import type { BucketTable, Client } from '../../state/bucket-table.js';
import { REQUEST_ID_TTL_MS } from '../../state/recent-decisions.js';
import type { RecentDecisions } from '../../state/recent-decisions.js';
import type { Reservations } from '../../state/reservations.js';

/** Decides for the clients of this node, by their buckets in its table. */
export interface Owner {
  /**
   * @param client open in the table
   * @param degraded whether this node acts for an owner that is down, with the copy it holds
   */
  decide(check: Check, client: Client, nowMs: number, degraded: boolean): Decision;
  /**
   * Decides a check of a batch as the owner.
   * @returns false if the check is no usual one, which `decide` decides: it reserves, or a decision on it must be
   * confirmed, or it has several rules
   */
  decideUsual(batch: CheckBatch, place: number, nowMs: number): boolean;
  /** Whether `mustConfirm` may hold for a decision on this check. */
  mayConfirm(check: Check): boolean;
  /** Whether other nodes must know of a decision before it is answered. */
  mustConfirm(check: Check, decision: Decision): boolean;
  /** Lets other nodes know of what was decided. @returns the ids of the clients of which all that must know do */
  confirm(checks: readonly Check[]): Promise<ReadonlySet<string>>;
  /**
   * The decision as it may be answered now.
   * @returns in strict mode `undefined` for a client that is not known elsewhere: it was charged, and is not admitted
   */
  confirmed(check: Check, decision: Decision, known: ReadonlySet<string>): Decision | undefined;
}

interface OwnerDeps {
  readonly table: BucketTable;
  readonly recent: RecentDecisions;
  readonly reservations: Reservations;
  readonly replicator: Pick<Replicator, 'changed' | 'replicateNow'>;
  /**
   * Called when a check is denied while other nodes hold tokens of the client: they may be the tokens that are missing.
   */
  readonly pauseLending: (clientId: string) => void;
  /** Called when this node decides as acting owner. */
  readonly noteActing: (client: Placed) => void;
  /** In strict mode: a decision counts only once all that may decide next know of it. */
  readonly acknowledger: Acknowledger | undefined;
  readonly topClients: Pick<TopClients, 'count' | 'skip'>;
}

export function createOwner(deps: OwnerDeps, { self }: { self: NodeId }): Owner {
  const { table, recent, reservations, replicator, pauseLending, noteActing, acknowledger, topClients } = deps;
  const { batches } = recent;
  const sought = { hashHigh: 0, hashLow: 0 };

  function repeated({ clientId, reservation, peek }: Check, first: Decision): Decision {
    if (reservation === undefined || peek || !first.allowed || reservations.has(clientId, reservation)) return first;
    return Object.assign({}, first, { unreserved: true as const });
  }

  const origin: Origin = { owner: self, source: 'owner', degraded: false };
  const actingOrigin: Origin = { owner: self, source: 'owner', degraded: true };

  function open(batch: CheckBatch, place: number): Client {
    if (!batch.isInBytes(place)) return table.open(batch.check(place));
    const { hashHigh, hashLow, bytes, idStart, idEnd } = batch;
    return table.openBytes(hashHigh[place]!, hashLow[place]!, bytes, idStart[place]!, idEnd[place]!);
  }

  /** Takes note of an outcome, before the client is closed. */
  function note(client: Client, { allowed, forgotten }: Outcome): void {
    if (!allowed && hasLent(client)) pauseLending(client.id);
    if (forgotten > 0) table.forgot(forgotten);
  }

  function remember(client: Client, clientId: string, requestId: string, decision: Decision, nowMs: number): void {
    recent.add(clientId, requestId, decision);
    client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS);
    client.hasStoredDecisions = true;
  }

  /** Remembers a decision on an item that has the request id of its batch. */
  function rememberItem(batch: CheckBatch, place: number, client: Client, outcome: Outcome, nowMs: number): void {
    const { batchId, size } = batch;
    if (batches.add(batchId!, place, client, outcome, nowMs, size))
      client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS);
    else remember(client, client.id, batchItemId(batchId!, place), batch.answerAt(place) as Decision, nowMs);
  }

  /** Finds the first decision on a check of a batch. */
  function findFirst(batch: CheckBatch, place: number, isItem: boolean, nowMs: number): Decision | undefined {
    if (isItem) {
      sought.hashHigh = batch.hashHigh[place]!;
      sought.hashLow = batch.hashLow[place]!;
      const first = batches.get(batch.batchId!, place, sought, nowMs);
      // Usually no item of the batch came alone, and the strings of its id and of its client are not needed.
      if (first !== undefined || !recent.hasItemsOf(batch.batchId!)) return first;
    }
    const requestId = batch.requestId(place);
    return requestId === undefined ? undefined : recent.get(batch.clientId(place), requestId);
  }

  function mayConfirm({ replicated, peek, requestId }: Check): boolean {
    // A request id may get a first decision that other nodes still do not know of.
    return (replicated || acknowledger !== undefined) && !(peek && requestId === undefined);
  }

  return {
    decideUsual(batch, place, nowMs) {
      const { rules, cost, peek, reservation, replicated } = batch.asked[place]!;
      if (reservation !== undefined || rules.length > 1) return false;
      if (replicated || acknowledger !== undefined) return false;
      const isItem = batch.isItem(place);
      const first = findFirst(batch, place, isItem, nowMs);
      if (first !== undefined) {
        batch.answer(place, first);
        return true;
      }
      const requestId = isItem ? undefined : batch.requestId(place);
      const client = open(batch, place);
      if (reservations.size() > 0) reservations.observe(client, rules, nowMs);
      const outcome = decideOne(client, rules[0]!, cost, peek, nowMs);
      if (!topClients.skip()) topClients.count(batch.check(place), outcome.allowed, nowMs);
      note(client, outcome);
      batch.decide(place, outcome, origin);
      const isNew = requestId !== undefined && !peek;
      if (isItem) rememberItem(batch, place, client, outcome, nowMs);
      else if (isNew) remember(client, batch.clientId(place), requestId, batch.answerAt(place) as Decision, nowMs);
      table.close(client, nowMs);
      if (outcome.changed || isItem || isNew) replicator.changed(client);
      return true;
    },
    decide(check, client, nowMs, degraded) {
      const { clientId, requestId, peek } = check;
      if (requestId !== undefined) {
        const first = recent.get(clientId, requestId);
        if (first !== undefined) return repeated(check, first);
      }
      if (reservations.size() > 0) reservations.observe(client, check.rules, nowMs);
      const { rules, cost } = check;
      const outcome =
        rules.length === 1 ? decideOne(client, rules[0]!, cost, peek, nowMs) : decide(client, check, nowMs);
      const { allowed, changed } = outcome;
      topClients.count(check, allowed, nowMs);
      note(client, outcome);
      const decision = decisionBy(degraded ? actingOrigin : origin, outcome, outcome.limits);
      const remembered = requestId !== undefined && !peek;
      if (remembered) remember(client, clientId, requestId, decision, nowMs);
      if (check.reservation !== undefined && allowed && !peek) reservations.add(client, check, nowMs);
      table.close(client, nowMs);
      if (degraded) {
        table.mark(client.slot, MARK.actingOwner);
        noteActing(check);
      }
      if (changed || remembered) replicator.changed(client);
      return decision;
    },
    mayConfirm,
    mustConfirm: (check, { allowed, source }) => allowed && source === 'owner' && mayConfirm(check),
    confirm(checks) {
      const clientIds = [...new Set(checks.map(({ clientId }) => clientId))];
      return acknowledger?.acknowledgeAll(clientIds) ?? replicator.replicateNow(clientIds, 'synchronous');
    },
    confirmed({ clientId }, decision, known) {
      if (known.has(clientId)) return decision;
      return acknowledger === undefined ? Object.assign({}, decision, { degraded: true }) : undefined;
    },
  };
}
