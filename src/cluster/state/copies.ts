import type { NodeId } from '../../core/ring.js';
import { mergeSnapshots, toSnapshots } from '../../core/snapshot.js';
import type { BucketTable, Client } from './bucket-table.js';
import type { ClientSnapshot, RecentSnapshot, ReservationSnapshot } from '../messages.js';
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

/** All that this node knows of clients, as it goes to other nodes and comes from them. */
export interface Copies {
  /** @param whole with all that it remembers, for who knows nothing yet; else with what is new */
  readonly of: (client: Client, whole: boolean) => ClientSnapshot | undefined;
  /** The same of a client that the table may not hold. */
  readonly ofId: (clientId: string, whole: boolean) => ClientSnapshot | undefined;
  /** What is new of several, without those of which nothing is known. */
  readonly ofIds: (clientIds: readonly string[]) => ClientSnapshot[];
  /** Joins copies into what this node knows. */
  readonly keep: (clients: readonly ClientSnapshot[]) => void;
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
