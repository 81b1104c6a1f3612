import { batchItemId } from '../limits/batch-item-id.js';
import { verdictOf } from '../limits/decide/decide.js';
import { decisionBy } from '../limits/decide/decision.js';
import type { Origin } from '../limits/decide/decision.js';
import type { NodeId } from '../limits/ring/ring.js';
import { addBucket, advance, Buckets } from '../limits/bucket/bucket.js';
import type { Bucket } from '../limits/bucket/bucket.js';
import { ruleOf } from '../limits/bucket/rule.js';
import { mergeCopy, mergeSnapshots, snapshotOf, toSnapshots } from '../limits/bucket/snapshot.js';
import { createRecordWriter, NO_ITEM, readRecords } from './copy-records.js';
import type { CopiedItem } from './copy-records.js';
import { weightOf } from './weight.js';
import type { BucketTable, Client } from './bucket-table.js';
import type { ClientCopies, ClientSnapshot, RecentSnapshot, ReservationSnapshot } from './client-snapshot.js';
import type { Clock } from '../lib/clock.js';
import { REQUEST_ID_TTL_MS } from './recent-decisions.js';
import type { RecentDecisions } from './recent-decisions.js';
import type { Reservations } from './reservations.js';

/** Bound of the request ids that go with a whole client: the latest. */
const MAX_IDS = 1_000;
/**
 * Bounds of the request ids that go with a copy of a change: their number, and their age in ms. They cover the ids that
 * a lost message or two carried.
 */
const MAX_NEW_IDS = 100;
const NEW_ID_MS = 1_000;
/**
 * Bound of the ms since the last change of a reservation that goes with a copy of a change. It covers two lost messages
 * in a row, each given up after a second. A node that has a debt without the settlement in it counts the settlement
 * twice when that arrives later.
 */
const NEW_RESERVATION_MS = 2_500;

/** Copies for one message, made in one turn of the event loop. */
interface CopyBatch {
  /**
   * Adds a copy.
   * @param whole true: with all that is remembered of the client, for a node that knows nothing yet; false: with the
   * changes only
   * @param withLeases whether the copy shows leases; the default is true
   */
  add(client: Client, whole: boolean, withLeases?: boolean): void;
  /** Upper bound of the length of the copies on the wire, in bytes. */
  bytes(): number;
  take(): ClientCopies;
}

/** Makes copies of all that this node knows of clients for other nodes, and merges copies from other nodes. */
export interface Copies {
  /**
   * Returns a copy of a client.
   * @param whole true: with all that is remembered of the client, for a node that knows nothing yet; false: with the
   * changes only
   * @param withLeases whether the copy shows leases; the default is true
   */
  readonly of: (client: Client, whole: boolean, withLeases?: boolean) => ClientSnapshot | undefined;
  /** Like `of`, for a client that the table may not hold. */
  readonly ofId: (clientId: string, whole: boolean) => ClientSnapshot | undefined;
  /**
   * Returns copies with the changes of several clients. Leaves out clients of which nothing is known.
   * @param withLeases whether the copy of a client shows leases; the default is true
   */
  readonly ofIds: (clientIds: readonly string[], withLeases?: (client: Client) => boolean) => ClientSnapshot[];
  readonly createBatch: () => CopyBatch;
  /** Merges copies into the state of this node. */
  readonly keep: (clients: readonly ClientSnapshot[]) => void;
  /** Like `keep`, for records that are known to be well-formed. */
  readonly keepRecords: (records: Uint8Array) => void;
  /** Calls `visit` with each client of the records that the table holds. */
  readonly eachOf: (records: Uint8Array, visit: (client: Client) => void) => void;
}

export function createCopies(
  {
    clock,
    table,
    recent,
    reservations,
  }: { clock: Clock; table: BucketTable; recent: RecentDecisions; reservations: Reservations },
  { self }: { self: NodeId },
): Copies {
  const { batches } = recent;
  const origin: Origin = { owner: self, source: 'owner', degraded: false };
  const actingOrigin: Origin = { owner: self, source: 'owner', degraded: true };
  /** Decisions on items of batches that go with one copy, and how many of them do. */
  const items: CopiedItem[] = [];
  let itemCount = 0;

  function findItems(client: Client, whole: boolean, nowMs: number): void {
    itemCount = 0;
    if (client.lastItem === 0) return;
    const maxAgeMs = whole ? REQUEST_ID_TTL_MS : NEW_ID_MS;
    batches.eachOf(client, whole ? MAX_IDS : MAX_NEW_IDS, nowMs - maxAgeMs, (found) => {
      const item = (items[itemCount++] ??= { ...NO_ITEM });
      item.batchId = found.batchId;
      item.place = found.place;
      item.ageMs = nowMs - found.atMs;
      item.allowed = found.allowed;
      item.limit = found.limit;
      item.remaining = found.remaining;
      item.retryAfterMs = found.retryAfterMs;
      item.resetMs = found.resetMs;
    });
  }

  function recentOf(client: Client, whole: boolean): readonly RecentSnapshot[] {
    const latest =
      recent.size() === 0
        ? []
        : whole
          ? recent.of(client.id, MAX_IDS, REQUEST_ID_TTL_MS)
          : recent.of(client.id, MAX_NEW_IDS, NEW_ID_MS);
    const snapshots: RecentSnapshot[] = latest.map(({ requestId, ageMs, decision }) => {
      return { requestId, ageMs, verdict: verdictOf(decision), degraded: decision.degraded };
    });
    findItems(client, whole, clock.nowMs());
    for (const item of items.slice(0, itemCount)) {
      const { allowed, limit, remaining, retryAfterMs, resetMs } = item;
      const verdict = { allowed, limit, remaining, retryAfterMs, resetMs, limits: undefined };
      const requestId = batchItemId(item.batchId, item.place);
      snapshots.push({ requestId, ageMs: item.ageMs, verdict, degraded: false });
    }
    return snapshots;
  }

  /** Whether one token bucket, and decisions on items of batches, are all that this node knows of a client. */
  function isPlain(client: Client): boolean {
    if (client.first !== client || client.isOnHeap) return false;
    if (client.hasStoredDecisions && !recent.has(client.id) && !reservations.knows(client.id))
      client.hasStoredDecisions = false;
    return !client.hasStoredDecisions;
  }

  /** Remembers decisions of another node. @param client open in the table */
  function keepItems(client: Client, copied: readonly CopiedItem[], count: number, nowMs: number): void {
    for (let i = 0; i < count; i += 1) {
      const item = copied[i]!;
      const { batchId, place, ageMs } = item;
      if (ageMs >= REQUEST_ID_TTL_MS) continue;
      if (!batches.add(batchId, place, client, item, nowMs - ageMs)) {
        recent.add(client.id, batchItemId(batchId, place), decisionBy(origin, item), ageMs);
        client.hasStoredDecisions = true;
      }
      client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS - ageMs);
    }
  }

  function reservationsOf(client: Client, whole: boolean): readonly ReservationSnapshot[] {
    if (reservations.size() === 0) return [];
    return reservations.of(client.id, whole ? -Infinity : clock.nowMs() - NEW_RESERVATION_MS);
  }

  const writer = createRecordWriter(table);
  /** The bucket that is being merged. */
  const copy = addBucket(new Buckets(), NO_RULE, 0) as Extract<Bucket, { algorithm: 'token-bucket' }>;

  const copies: Copies = {
    of(client, whole, withLeases = true) {
      const buckets = toSnapshots(client, clock.nowMs(), withLeases);
      const decisions = recentOf(client, whole);
      const reserved = reservationsOf(client, whole);
      if (reserved.length > 0) return [client.id, buckets, decisions, reserved];
      if (decisions.length > 0) return [client.id, buckets, decisions];
      return buckets.length === 0 ? undefined : [client.id, buckets];
    },
    ofId(clientId, whole) {
      const client = table.peek(clientId);
      return client && copies.of(client, whole);
    },
    ofIds: (clientIds, withLeases = () => true) =>
      clientIds
        .map((id) => {
          const client = table.peek(id);
          return client && copies.of(client, false, withLeases(client));
        })
        .filter((one) => one !== undefined),
    createBatch() {
      const nowMs = clock.nowMs();
      let clients: ClientSnapshot[] = [];
      let weight = 0;
      return {
        add(client, whole, withLeases) {
          if (isPlain(client)) {
            advance(client, nowMs);
            findItems(client, whole, nowMs);
            if (client.tokens > 0 || client.part > 0 || itemCount > 0) writer.add(client, items, itemCount);
            return;
          }
          const snapshot = copies.of(client, whole, withLeases);
          if (snapshot === undefined) return;
          clients.push(snapshot);
          weight += weightOf(snapshot);
        },
        bytes: () => weight + writer.byteLength(),
        take() {
          const taken = { clients, records: writer.take() };
          clients = [];
          weight = 0;
          return taken;
        },
      };
    },
    keepRecords(records) {
      const nowMs = clock.nowMs();
      const bytes = Buffer.from(records.buffer, records.byteOffset, records.byteLength);
      readRecords(bytes, ({ rule, ruleChanges, tokens, part, idStart, idEnd, items: copied, itemCount: count }) => {
        const client = table.openCopyOf(bytes, idStart, idEnd);
        if (count > 0) keepItems(client, copied, count, nowMs);
        // A client without a debt comes for its decisions only.
        if (tokens === 0 && part === 0) return table.close(client, nowMs);
        if (reservations.size() > 0 && reservations.knows(client.id)) {
          table.close(client, nowMs);
          return copies.keep([[client.id, [snapshotOf(rule, ruleChanges, [tokens, part])]]]);
        }
        copy.rule = rule;
        copy.ruleChanges = ruleChanges;
        copy.tokens = tokens;
        copy.part = part;
        copy.atMs = nowMs;
        table.forgot(mergeCopy(client, copy, nowMs));
        table.close(client, nowMs);
      });
    },
    eachOf(records, visit) {
      const bytes = Buffer.from(records.buffer, records.byteOffset, records.byteLength);
      readRecords(bytes, ({ idStart, idEnd }) => {
        const client = table.openCopyOf(bytes, idStart, idEnd);
        if (client.slot >= 0) visit(client);
      });
    },
    keep(clients) {
      const nowMs = clock.nowMs();
      for (const [clientId, snapshots, decisions = [], reserved = []] of clients) {
        const client = table.openCopy(clientId);
        const copies =
          reservations.size() + reserved.length === 0
            ? snapshots
            : reservations.mergeRemote(client, snapshots, reserved, nowMs);
        table.forgot(mergeSnapshots(client, copies, nowMs));
        if (decisions.length > 0) client.hasStoredDecisions = true;
        for (const { requestId, ageMs, verdict, degraded } of decisions) {
          if (recent.get(clientId, requestId) !== undefined) continue;
          recent.add(clientId, requestId, decisionBy(degraded ? actingOrigin : origin, verdict, verdict.limits), ageMs);
          client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS - ageMs);
        }
        table.close(client, nowMs);
      }
    },
  };
  return copies;
}

const NO_RULE = ruleOf('token-bucket', 1, 1, 1, undefined);
