import { LRUCache } from 'lru-cache';
import type { Check } from '../../core/decide.js';
import { lesser, lowerLeast, observe, reserve, settleReservation, settleSnapshots } from '../../core/reservation.js';
import type { Reservation } from '../../core/reservation.js';
import type { Snapshot } from '../../core/snapshot.js';
import type { Client } from './bucket-table.js';
import type { ReservationSnapshot } from '../messages.js';
import type { Clock } from '../ports.js';
import { REQUEST_ID_TTL_MS } from './recent-decisions.js';

/** How long a reservation can be settled, and is remembered so that it is settled once. */
const RESERVATION_TTL_MS = 600_000;
/** Of one client: above, the oldest is forgotten, and stands at its reserved cost. */
const MAX_PER_CLIENT = 256;

/** What this node knows of costs that were reserved: of its own clients, and of those that it holds copies of. */
export interface Reservations {
  /** Notes what an allowed check has just taken. */
  add(client: Client, check: Check, nowMs: number): void;
  /** Before anything is taken from the client's buckets. */
  observe(client: Client, nowMs: number): void;
  /** Replaces the reserved cost; the second time nothing happens. @returns the reservation, if there is one */
  settle(client: Client, id: string, cost: number, nowMs: number): Reservation | undefined;
  /** @param newerThanMs only those that have changed since, in ms of this process */
  of(clientId: string, newerThanMs: number): readonly ReservationSnapshot[];
  /**
   * Takes over what another node knows, before its copies of the buckets are merged: what one of the two has settled, the
   * other then has too, so that their debts can be compared.
   * @returns the copies, to be merged
   */
  meet(
    client: Client,
    copies: readonly Snapshot[],
    theirs: readonly ReservationSnapshot[],
    nowMs: number,
  ): readonly Snapshot[];
  /** Whether any reservation of the client is remembered. */
  knows(clientId: string): boolean;
  /** Whether tokens of the client may come back, as some of its costs are not known yet. */
  hasOpen(clientId: string): boolean;
  forget(clientId: string): void;
  readonly size: number;
}

interface Kept {
  readonly clientId: string;
  readonly reservation: Reservation;
  changedAtMs: number;
}

export function createReservations({ clock }: { clock: Clock }, options: { max: number }): Reservations {
  /** Of each client, in the order they came. */
  const byClient = new Map<string, Map<string, Kept>>();
  const all = new LRUCache<string, Kept>({
    max: options.max,
    ttl: RESERVATION_TTL_MS,
    ttlResolution: 0,
    perf: { now: () => clock.nowMs() + 1 },
    dispose({ clientId, reservation }) {
      const ofClient = byClient.get(clientId);
      if (ofClient?.get(reservation.id)?.reservation === reservation) ofClient.delete(reservation.id);
      if (ofClient?.size === 0) byClient.delete(clientId);
    },
  });

  function keep(client: Client, reservation: Reservation, nowMs: number): void {
    const leftMs = RESERVATION_TTL_MS - (nowMs - reservation.atMs);
    if (leftMs <= 0) return;
    let ofClient = byClient.get(client.id);
    if (ofClient === undefined) byClient.set(client.id, (ofClient = new Map<string, Kept>()));
    const kept = { clientId: client.id, reservation, changedAtMs: nowMs };
    ofClient.set(reservation.id, kept);
    all.set(keyOf(client.id, reservation.id), kept, { ttl: leftMs });
    if (ofClient.size > MAX_PER_CLIENT) all.delete(keyOf(client.id, ofClient.keys().next().value!));
    client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + leftMs);
  }

  /**
   * @param atMs of the one that is sought: one that was made so long before that its request id may have been used anew is
   * another
   */
  function find(clientId: string, id: string, atMs = -Infinity): Kept | undefined {
    const kept = all.get(keyOf(clientId, id));
    return kept === undefined || atMs - kept.reservation.atMs >= REQUEST_ID_TTL_MS ? undefined : kept;
  }

  function openOf(clientId: string): Reservation[] {
    return [...(byClient.get(clientId)?.values() ?? [])]
      .map(({ reservation }) => reservation)
      .filter(({ settled }) => settled === undefined);
  }

  function settleKept(client: Client, kept: Kept, cost: number, nowMs: number): void {
    for (const reservation of openOf(client.id)) observe(client, reservation, nowMs);
    const open = around(openOf(client.id), kept.reservation);
    const backs = settleReservation(client, kept.reservation, cost, nowMs);
    kept.changedAtMs = nowMs;
    lowerLeast(open, kept.reservation, backs);
  }

  return {
    add: (client, { reservation: id, rules, cost }, nowMs) => {
      // A message that was long under way has asked for the same once more: nobody waits for it, and what it took stands.
      if (id === undefined || find(client.id, id, nowMs) !== undefined) return;
      keep(client, reserve(client, id, rules, cost, nowMs), nowMs);
    },
    observe(client, nowMs) {
      for (const { reservation } of byClient.get(client.id)?.values() ?? []) observe(client, reservation, nowMs);
    },
    settle(client, id, cost, nowMs) {
      const kept = find(client.id, id);
      if (kept === undefined) return undefined;
      if (kept.reservation.settled === undefined) {
        settleKept(client, kept, cost, nowMs);
      }
      return kept.reservation;
    },
    of(clientId, newerThanMs) {
      const nowMs = clock.nowMs();
      const snapshots: ReservationSnapshot[] = [];
      for (const { reservation, changedAtMs } of byClient.get(clientId)?.values() ?? []) {
        const { id, cost, rules, atMs, least, settled } = reservation;
        const ageMs = nowMs - atMs;
        if (changedAtMs < newerThanMs || ageMs >= RESERVATION_TTL_MS) continue;
        snapshots.push({ id, cost, rules, ageMs, least: [...least], settled });
      }
      return snapshots;
    },
    meet(client, copies, theirs, nowMs) {
      if (byClient.has(client.id)) this.observe(client, nowMs);
      let met = copies;
      const heard = theirs.map(({ ageMs, least, ...one }): Reservation => {
        return { ...one, atMs: nowMs - ageMs, least: [...least] };
      });
      for (const their of heard) {
        const ours = find(client.id, their.id, their.atMs)?.reservation;
        if (ours?.settled === undefined || their.settled !== undefined) continue;
        const { snapshots, backs } = settleSnapshots(met, their, ours.settled, nowMs);
        met = snapshots;
        lowerLeast(around(heard, their), their, backs);
      }
      for (const their of heard) {
        const ours = find(client.id, their.id, their.atMs);
        if (ours === undefined) keep(client, their, nowMs);
        else if (ours.reservation.settled === undefined) {
          const { least } = ours.reservation;
          their.least.forEach((one, i) => (least[i] = lesser(least[i] ?? one, one)));
          if (their.settled !== undefined) settleKept(client, ours, their.settled, nowMs);
        }
      }
      return met;
    },
    knows: (clientId) => byClient.has(clientId),
    hasOpen: (clientId) => all.size > 0 && openOf(clientId).length > 0,
    forget(clientId) {
      for (const id of [...(byClient.get(clientId)?.keys() ?? [])]) all.delete(keyOf(clientId, id));
    },
    get size() {
      return all.size;
    },
  };
}

/** Those that were made before one of them, and those after. */
function around(
  all: readonly Reservation[],
  one: Reservation,
): { earlier: readonly Reservation[]; later: readonly Reservation[] } {
  const place = all.indexOf(one);
  return { earlier: all.slice(0, place), later: all.slice(place + 1) };
}

/** The length keeps ("a", "bc") and ("ab", "c") apart. */
function keyOf(clientId: string, id: string): string {
  return `${clientId.length}:${clientId}${id}`;
}
