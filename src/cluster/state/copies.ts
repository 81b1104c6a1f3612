import type { NodeId } from '../../core/ring.js';
import { addBucket, advance, Buckets } from '../../core/bucket.js';
import type { Bucket } from '../../core/bucket.js';
import { ruleOf } from '../../core/rule.js';
import { mergeCopy, mergeSnapshots, toSnapshots } from '../../core/snapshot.js';
import { createRecordWriter, readRecords } from './copy-records.js';
import { weightOf } from './weight.js';
import type { BucketTable, Client } from './bucket-table.js';
import type { ClientCopies, ClientSnapshot, RecentSnapshot, ReservationSnapshot } from '../messages.js';
import type { Clock } from '../ports.js';
import { REQUEST_ID_TTL_MS } from './recent-decisions.js';
import type { RecentDecisions } from './recent-decisions.js';
import type { Reservations } from './reservations.js';

/** Request ids that go with one client: the latest. */
const MAX_IDS = 1_000;
/** With a copy of what has just changed, only those that a lost message or two may not have brought yet. */
const MAX_NEW_IDS = 100;
const NEW_ID_MS = 1_000;
/**
 * Of reservations, those that two lost messages in a row, each given up after a second, may not have brought yet: who has the debt
 * but not the settlement that is part of it counts that twice when it comes after all.
 */
const NEW_RESERVATION_MS = 2_500;

/** Copies for one message, each as of when it was added. */
interface CopyBatch {
  /** @param whole with all that is remembered of the client, for a node that knows nothing yet; else with what is new */
  add(client: Client, whole: boolean): void;
  /** How long they are on the wire, in bytes, and not less. */
  readonly bytes: number;
  take(): ClientCopies;
}

/** All that this node knows of clients, as it goes to other nodes and comes from them. */
export interface Copies {
  /** @param whole with all that is remembered of the client, for a node that knows nothing yet; else with what is new */
  readonly of: (client: Client, whole: boolean) => ClientSnapshot | undefined;
  /** The same of a client that the table may not hold. */
  readonly ofId: (clientId: string, whole: boolean) => ClientSnapshot | undefined;
  /** What is new of several, without those of which nothing is known. */
  readonly ofIds: (clientIds: readonly string[]) => ClientSnapshot[];
  readonly createBatch: () => CopyBatch;
  /** Merges copies into what this node knows. */
  readonly keep: (clients: readonly ClientSnapshot[]) => void;
  /** The same of records, which are known to be well-formed. */
  readonly keepRecords: (records: Uint8Array) => void;
  /** Shows each client of records that the table holds. */
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
  function recentOf(client: Client, whole: boolean): readonly RecentSnapshot[] {
    if (recent.size === 0) return [];
    const latest = whole
      ? recent.of(client.id, MAX_IDS, REQUEST_ID_TTL_MS)
      : recent.of(client.id, MAX_NEW_IDS, NEW_ID_MS);
    return latest.map(({ requestId, ageMs, decision }) => {
      const { allowed, limit, remaining, retryAfterMs, resetMs, limits, degraded } = decision;
      return { requestId, ageMs, verdict: { allowed, limit, remaining, retryAfterMs, resetMs, limits }, degraded };
    });
  }

  function reservationsOf(client: Client, whole: boolean): readonly ReservationSnapshot[] {
    if (reservations.size === 0) return [];
    return reservations.of(client.id, whole ? -Infinity : clock.nowMs() - NEW_RESERVATION_MS);
  }

  const writer = createRecordWriter(table);
  /** The one that is being merged. */
  const copy = addBucket(new Buckets(), NO_RULE, 0) as Extract<Bucket, { algorithm: 'token-bucket' }>;

  const copies: Copies = {
    of(client, whole) {
      const buckets = toSnapshots(client, clock.nowMs());
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
    ofIds: (clientIds) => clientIds.map((id) => copies.ofId(id, false)).filter((one) => one !== undefined),
    createBatch() {
      let clients: ClientSnapshot[] = [];
      let weight = 0;
      return {
        add(client, whole) {
          const nowMs = clock.nowMs();
          if (isPlain(client, nowMs)) {
            advance(client, nowMs);
            if (client.tokens > 0 || client.part > 0) writer.add(client);
            return;
          }
          const snapshot = copies.of(client, whole);
          if (snapshot === undefined) return;
          clients.push(snapshot);
          weight += weightOf(snapshot);
        },
        get bytes() {
          return weight + writer.byteLength;
        },
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
      readRecords(bytes, ({ rule, ruleChanges, tokens, part, idStart, idEnd }) => {
        const client = table.openCopyOf(bytes, idStart, idEnd);
        if (reservations.size > 0 && reservations.knows(client.id)) {
          const state = [tokens, part];
          return copies.keep([[client.id, [{ ...rule, ruleChanges, state }]]]);
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
          reservations.size + reserved.length === 0 ? snapshots : reservations.meet(client, snapshots, reserved, nowMs);
        table.forgot(mergeSnapshots(client, copies, nowMs));
        for (const { requestId, ageMs, verdict, degraded } of decisions) {
          if (recent.get(clientId, requestId) !== undefined) continue;
          recent.add(clientId, requestId, { ...verdict, owner: self, source: 'owner', degraded }, ageMs);
          client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS - ageMs);
        }
        table.close(client, nowMs);
      }
    },
  };
  return copies;
}

const NO_RULE = ruleOf('token-bucket', 1, 1, 1, undefined);

/** Whether there is nothing to tell of a client but one token bucket. */
function isPlain(client: Client, nowMs: number): boolean {
  return client.first === client && !client.isKept && client.remembersUntilMs <= nowMs;
}
