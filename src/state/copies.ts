import { batchItemId } from '../limits/request/request.js';
import { addBucket, advance, Buckets, isEmpty, type Bucket } from '../limits/bucket/bucket.js';
import { ruleOf } from '../limits/bucket/rule.js';
import { mergeCopy, mergeSnapshots, toSnapshots, type Snapshot } from '../limits/bucket/snapshot.js';
import { verdictOf } from '../limits/decide/decide.js';
import { decisionBy, type Provenance } from '../limits/decide/decision.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Clock } from '../lib/system.js';
import type { BucketTable, Client } from './bucket-table.js';
import { ClientReader, ClientWriter, type DecodedClient, type DecodedDecision } from './client-format.js';
import type { ClientSnapshot } from './client.js';
import { REQUEST_ID_TTL_MS, type RecentDecisions } from './recent-decisions.js';
import type { Reservations } from './reservations.js';

/** Bound of the bytes of copies in one message or answer. 1,000 clients with one bucket each stay below it. */
export const MAX_COPIES_BYTES = 512 * 1024;

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

type TokenBucket = Extract<Bucket, { algorithm: 'token-bucket' }>;

/** Makes copies of all that this node knows of clients for other nodes, and merges copies from other nodes. */
export class Copies {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly recent: RecentDecisions;
  readonly reservations: Reservations;
  private readonly provenance: Provenance;
  private readonly actingProvenance: Provenance;
  /** The bucket that is being merged. */
  private readonly copy = addBucket(new Buckets(), ruleOf('token-bucket', 1, 1, 1, undefined), 0) as TokenBucket;

  constructor(parts: {
    readonly clock: Clock;
    readonly table: BucketTable;
    readonly recent: RecentDecisions;
    readonly reservations: Reservations;
    readonly self: NodeId;
  }) {
    this.clock = parts.clock;
    this.table = parts.table;
    this.recent = parts.recent;
    this.reservations = parts.reservations;
    this.provenance = { owner: parts.self, source: 'owner', degraded: false };
    this.actingProvenance = { owner: parts.self, source: 'owner', degraded: true };
  }

  createBatch(): CopyBatch {
    return new CopyBatch(this);
  }

  /** Merges copies of clients, in their format, into the state of this node. @throws MalformedMessage */
  merge(clients: Uint8Array): void {
    this.beginMerge(clients)(Infinity);
  }

  /**
   * Begins to merge copies of clients, in their format.
   * @returns a function that merges the next `most` of them, and returns how many there were
   */
  beginMerge(clients: Uint8Array): (most: number) => number {
    const reader = new ClientReader(clients);
    return (most) => {
      const nowMs = this.clock.nowMs();
      for (let merged = 0; merged < most; merged += 1) {
        const copied = reader.next();
        if (copied === undefined) return merged;
        this.mergeClient(this.table.openCopyOf(reader.bytes, copied.idStart, copied.idEnd), copied, nowMs);
      }
      return most;
    };
  }

  /** Merges buckets from a store. */
  mergeStored(clients: readonly ClientSnapshot[]): void {
    const nowMs = this.clock.nowMs();
    for (const [clientId, buckets] of clients) {
      const client = this.table.openCopy(clientId);
      this.mergeBuckets(client, buckets, NO_RESERVATIONS, nowMs);
      this.table.close(client, nowMs);
    }
  }

  /** Calls `visit` with each of these clients that the table holds. */
  visit(clients: Uint8Array, visit: (client: Client, copied: DecodedClient) => void): void {
    const reader = new ClientReader(clients);
    for (let copied = reader.next(); copied !== undefined; copied = reader.next()) {
      const client = this.table.openCopyOf(reader.bytes, copied.idStart, copied.idEnd);
      if (client.slot >= 0) visit(client, copied);
    }
  }

  /** @param client open in the table */
  private mergeClient(client: Client, copied: DecodedClient, nowMs: number): void {
    const { isPlain, plain, decisions } = copied;
    this.mergeDecisions(client, decisions, nowMs);
    const isReserved = copied.reservations.length > 0 || this.reservations.knows(client);
    if (!isPlain || isReserved) this.mergeBuckets(client, copied.snapshots(), copied.reservations, nowMs);
    else if (plain.tokens > 0 || plain.part > 0) {
      const { copy } = this;
      copy.rule = plain.rule;
      copy.ruleChanges = plain.ruleChanges;
      copy.tokens = plain.tokens;
      copy.part = plain.part;
      copy.atMs = nowMs;
      this.table.forgot(mergeCopy(client, copy, nowMs));
    }
    this.table.close(client, nowMs);
  }

  private mergeBuckets(
    client: Client,
    buckets: readonly Snapshot[],
    reserved: DecodedClient['reservations'],
    nowMs: number,
  ): void {
    const merged = this.reservations.mergeRemote(client, buckets, reserved, nowMs);
    this.table.forgot(mergeSnapshots(client, merged, nowMs));
  }

  private mergeDecisions(client: Client, decisions: readonly DecodedDecision[], nowMs: number): void {
    for (const { id, index, ageMs, verdict, degraded } of decisions) {
      if (ageMs >= REQUEST_ID_TTL_MS) continue;
      if (index < 0 || !this.recent.batches.add(id, index, client, verdict, nowMs - ageMs, undefined, nowMs)) {
        const requestId = index < 0 ? id : batchItemId(id, index);
        client.hasStoredDecisions = true;
        if (this.recent.get(client.id, requestId) === undefined) {
          const by = degraded ? this.actingProvenance : this.provenance;
          this.recent.add(client.id, requestId, decisionBy(by, verdict, verdict.limits), ageMs);
        }
      }
      client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS - ageMs);
    }
  }
}

const NO_RESERVATIONS: readonly never[] = [];

/** Copies for one message, made in one turn of the event loop. */
export class CopyBatch {
  private readonly writer: ClientWriter;

  constructor(private readonly copies: Copies) {
    this.writer = new ClientWriter(copies.table);
  }

  get clients(): number {
    return this.writer.clients;
  }

  get bytes(): number {
    return this.writer.bytes;
  }

  /**
   * Adds a copy of a client, unless nothing is known of it.
   * @param whole true: with all that is remembered of the client, for a node that knows nothing yet; false: with the
   * changes only
   * @param withLeases whether the copy shows leases
   */
  add(client: Client, whole: boolean, withLeases = true): void {
    const { writer, copies } = this;
    const { recent, reservations } = copies;
    const nowMs = copies.clock.nowMs();
    const maxAgeMs = whole ? REQUEST_ID_TTL_MS : NEW_ID_MS;
    const maxIds = whole ? MAX_IDS : MAX_NEW_IDS;
    const isNamed = (whole || client.hasStoredDecisions) && recent.size() + reservations.size() > 0;
    const named = isNamed ? recent.of(client.id, maxIds, maxAgeMs) : NONE;
    const reserved = isNamed ? reservations.of(client.id, whole ? -Infinity : nowMs - NEW_RESERVATION_MS) : NONE;
    const hasMore = client.lastItem !== 0 || named.length > 0 || reserved.length > 0;

    const hasBuckets = this.beginClient(client, hasMore, withLeases, nowMs);
    if (!hasMore) return hasBuckets ? undefined : writer.cancel();
    for (const { requestId, ageMs, decision } of named)
      writer.decision(requestId, ageMs, verdictOf(decision), decision.degraded);
    let items = 0;
    recent.batches.eachOf(client, maxIds, nowMs - maxAgeMs, (item) => {
      items += 1;
      writer.itemDecision(item.batchId, item.index, nowMs - item.atMs, item);
    });
    if (!hasBuckets && items + named.length + reserved.length === 0) return writer.cancel();
    writer.endDecisions(reserved.length);
    for (const one of reserved) writer.reservation(one);
  }

  /** Writes the id and the buckets of a client. @returns whether there are any buckets */
  private beginClient(client: Client, hasMore: boolean, withLeases: boolean, nowMs: number): boolean {
    const { writer } = this;
    if (client.isOnHeap) {
      const buckets = toSnapshots(client, nowMs, withLeases);
      writer.begin(client.slot, buckets.length, hasMore);
      for (const bucket of buckets) writer.bucket(bucket);
      return buckets.length > 0;
    }
    // All that fits into a record of the table is one token bucket.
    const owes = client.first !== undefined && owesAt(client, nowMs);
    writer.begin(client.slot, owes ? 1 : 0, hasMore);
    if (owes) writer.plainBucket(client);
    return owes;
  }

  /** Returns the copies that were added since the last call. */
  take(): Buffer {
    return this.writer.take();
  }
}

const NONE: readonly never[] = [];

function owesAt(bucket: Bucket, nowMs: number): boolean {
  advance(bucket, nowMs);
  return !isEmpty(bucket);
}
