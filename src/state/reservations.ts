import { clientEntryKey, type ReservationSnapshot } from './client.js';
import { REQUEST_ID_TTL_MS } from './recent-decisions.js';
import { LRUCache } from 'lru-cache';
import type { Check } from '../limits/decide/check.js';
import { reservationBytes } from '../limits/heap-bytes.js';
import {
  leastOwed,
  lesser,
  lowerLeast,
  reserve,
  settleReservation,
  settleSnapshots,
  type Reservation,
} from '../limits/bucket/reservation.js';
import type { Rule } from '../limits/bucket/rule.js';
import type { Snapshot } from '../limits/bucket/snapshot.js';
import { LeastOwed } from './least-owed.js';
import type { Client } from './bucket-table.js';
import type { Clock } from '../lib/system.js';

/** How long a reservation can be settled. It is remembered that long, so that it is settled only once. */
const RESERVATION_TTL_MS = 600_000;
/** Bound of the reservations of one client. Above it, the oldest is forgotten and keeps its reserved cost. */
const MAX_PER_CLIENT = 256;

interface Kept {
  readonly clientId: string;
  readonly reservation: Reservation;
  /** Numbers the reservations of one client in the order in which they came. */
  readonly moment: number;
  changedAtMs: number;
}

/** A client whose id may have to be decoded when it is read. */
type Identified = Pick<Client, 'id'>;

/** The reservations of one client, in the order in which they came. */
interface OfClient {
  readonly kept: Map<string, Kept>;
  /** The reservations that are not settled. */
  readonly open: Map<string, Kept>;
  /** The debts of each bucket from which a reservation has taken, by `bucketKeyOf` of its rule. */
  readonly owed: Map<string, { readonly rule: Rule; readonly least: LeastOwed }>;
  moments: number;
}

/** Keeps the reservations that this node knows, both of clients that it owns and of clients that it has copies of. */
export class Reservations {
  private readonly byClient = new Map<string, OfClient>();
  private readonly all: LRUCache<string, Kept>;

  constructor(
    private readonly clock: Clock,
    options: { maxBytes: number },
  ) {
    this.all = new LRUCache<string, Kept>({
      maxSize: options.maxBytes,
      ttl: RESERVATION_TTL_MS,
      ttlResolution: 0,
      perf: { now: () => this.clock.nowMs() + 1 },
      dispose: ({ clientId, reservation }) => {
        const ofClient = this.byClient.get(clientId);
        if (ofClient?.kept.get(reservation.id)?.reservation !== reservation) return;
        ofClient.kept.delete(reservation.id);
        ofClient.open.delete(reservation.id);
        if (ofClient.kept.size === 0) this.byClient.delete(clientId);
      },
    });
  }

  /** Notes the cost that an allowed check has just taken. */
  add(client: Client, { reservation: id, rules, cost }: Check, nowMs: number): void {
    // A message that was under way for long has asked for the same reservation again. Nobody waits for its answer,
    // and the cost that it took stands.
    if (id === undefined || this.find(client.id, id, nowMs) !== undefined) return;
    this.keep(client, reserve(client, id, rules, cost, nowMs), nowMs);
  }

  /**
   * Call this before anything is taken from buckets of the client. Its work does not grow with the reservations of the
   * client.
   * @param rules the rules of those buckets; `undefined`: all rules
   */
  observe(client: Client, rules: readonly Rule[] | undefined, nowMs: number): void {
    const ofClient = this.ofKnown(client);
    if (ofClient === undefined) return;
    const note = (of: { readonly rule: Rule; readonly least: LeastOwed } | undefined): void =>
      of?.least.note(ofClient.moments, leastOwed(client, of.rule, nowMs));
    if (rules === undefined) for (const of of ofClient.owed.values()) note(of);
    else for (const rule of rules) note(ofClient.owed.get(bucketKeyOf(rule)));
  }

  /** Replaces the reserved cost. A second call changes nothing. @returns the reservation, if there is one */
  settle(client: Client, id: string, cost: number, nowMs: number): Reservation | undefined {
    const kept = this.find(client.id, id);
    if (kept === undefined) return undefined;
    if (kept.reservation.settled === undefined) {
      this.settleKept(client, kept, cost, nowMs);
    }
    return kept.reservation;
  }

  /** @param newerThanMs monotonic ms of this process; only reservations that have changed since then are returned */
  of(clientId: string, newerThanMs: number): readonly ReservationSnapshot[] {
    const nowMs = this.clock.nowMs();
    const snapshots: ReservationSnapshot[] = [];
    const ofClient = this.byClient.get(clientId);
    if (ofClient === undefined) return snapshots;
    for (const one of ofClient.kept.values()) {
      const { reservation, changedAtMs } = one;
      const { id, cost, rules, atMs, least, settled } = reservation;
      const ageMs = nowMs - atMs;
      if (changedAtMs < newerThanMs || ageMs >= RESERVATION_TTL_MS) continue;
      this.bringUpToDate(ofClient, one);
      snapshots.push({ id, cost, rules, ageMs, least: [...least], settled });
    }
    return snapshots;
  }

  /**
   * Merges the reservations of another node. Call this before its copies of the buckets are merged. A reservation that
   * one of the two nodes has settled is then settled on both sides, so that their debts can be compared.
   * @returns the copies to merge
   */
  mergeRemote(
    client: Client,
    copies: readonly Snapshot[],
    theirs: readonly ReservationSnapshot[],
    nowMs: number,
  ): readonly Snapshot[] {
    this.observe(client, undefined, nowMs);
    let met = copies;
    const heard = theirs
      .map(({ id, cost, rules, ageMs, least, settled }): Reservation => {
        return { id, cost, rules, atMs: nowMs - ageMs, least: [...least], settled };
      })
      .filter((their) => !this.isSuperseded(client.id, their));
    for (const their of heard) {
      const ours = this.find(client.id, their.id, their.atMs)?.reservation;
      if (ours?.settled === undefined || their.settled !== undefined) continue;
      const { snapshots, backs } = settleSnapshots(met, their, ours.settled, nowMs);
      met = snapshots;
      lowerLeast(around(heard, their), their, backs);
    }
    for (const their of heard) {
      const ours = this.find(client.id, their.id, their.atMs);
      if (ours === undefined) this.keep(client, their, nowMs);
      else if (ours.reservation.settled === undefined) {
        this.bringUpToDate(this.ofClientOf(client.id), ours);
        const { least } = ours.reservation;
        their.least.forEach((one, i) => (least[i] = lesser(least[i] ?? one, one)));
        if (their.settled !== undefined) this.settleKept(client, ours, their.settled, nowMs);
      } else if (their.settled !== undefined && their.settled > ours.reservation.settled) {
        // Each node settled it without the other. The tighter state stands, and all name the cost in it.
        ours.reservation.settled = their.settled;
        ours.changedAtMs = nowMs;
      }
    }
    return met;
  }

  /** Whether this node remembers the reservation. */
  has(clientId: string, id: string): boolean {
    return this.find(clientId, id) !== undefined;
  }

  /** Whether this node remembers a reservation of the client. */
  knows(client: Identified): boolean {
    return this.ofKnown(client) !== undefined;
  }

  /** Whether tokens of the client may come back, because some of its costs are not known yet. */
  hasOpen(client: Identified): boolean {
    return (this.ofKnown(client)?.open.size ?? 0) > 0;
  }

  forget(clientId: string): void {
    for (const id of [...(this.byClient.get(clientId)?.kept.keys() ?? [])])
      this.all.delete(clientEntryKey(clientId, id));
  }

  size(): number {
    return this.all.size;
  }

  /** Reads the id only if there are any reservations, as that of a client of the table has to be decoded. */
  private ofKnown(client: Identified): OfClient | undefined {
    return this.byClient.size === 0 ? undefined : this.byClient.get(client.id);
  }

  private keep(client: Client, reservation: Reservation, nowMs: number): void {
    const leftMs = RESERVATION_TTL_MS - (nowMs - reservation.atMs);
    if (leftMs <= 0) return;
    const ofClient = this.ofClientOf(client.id);
    const { kept, open, owed } = ofClient;
    ofClient.moments += 1;
    const one = { clientId: client.id, reservation, moment: ofClient.moments, changedAtMs: nowMs };
    // A map keeps the place of a key that it has, so the key is deleted first.
    kept.delete(reservation.id);
    kept.set(reservation.id, one);
    open.delete(reservation.id);
    if (reservation.settled === undefined) open.set(reservation.id, one);
    for (const rule of reservation.rules) {
      const key = bucketKeyOf(rule);
      if (!owed.has(key)) owed.set(key, { rule, least: new LeastOwed() });
    }
    if (ofClient.moments % MAX_PER_CLIENT === 0) this.tidy(ofClient);
    const size = reservationBytes(client.id, reservation.id, reservation.rules);
    this.all.set(clientEntryKey(client.id, reservation.id), one, { ttl: leftMs, size });
    if (kept.size > MAX_PER_CLIENT) this.all.delete(clientEntryKey(client.id, kept.keys().next().value!));
    client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + leftMs);
    client.hasStoredDecisions = true;
  }

  private ofClientOf(clientId: string): OfClient {
    let ofClient = this.byClient.get(clientId);
    if (ofClient === undefined) {
      ofClient = { kept: new Map(), open: new Map(), owed: new Map(), moments: 0 };
      this.byClient.set(clientId, ofClient);
    }
    return ofClient;
  }

  /** Lowers the `least` of a reservation to the least debt that was seen since. */
  private bringUpToDate({ owed }: OfClient, { moment, reservation }: Kept): void {
    if (reservation.settled !== undefined) return;
    const { rules, least } = reservation;
    rules.forEach((rule, i) => {
      const seen = owed.get(bucketKeyOf(rule))?.least.since(moment);
      if (seen !== undefined) least[i] = lesser(least[i]!, seen);
    });
  }

  /** Drops the buckets without a reservation, and the debts that were seen before the oldest reservation. */
  private tidy({ kept, owed }: OfClient): void {
    const needed = new Set<string>();
    let oldest = Infinity;
    for (const { reservation, moment } of kept.values()) {
      oldest = Math.min(oldest, moment);
      for (const rule of reservation.rules) needed.add(bucketKeyOf(rule));
    }
    for (const [key, { least }] of owed) {
      if (needed.has(key)) least.forgetBefore(oldest);
      else owed.delete(key);
    }
  }

  /**
   * @param atMs the time of the sought reservation. One that was made `REQUEST_ID_TTL_MS` or more before it is another
   * one, as its request id may have been used again.
   */
  private find(clientId: string, id: string, atMs: number = -Infinity): Kept | undefined {
    const kept = this.all.get(clientEntryKey(clientId, id));
    return kept === undefined || atMs - kept.reservation.atMs >= REQUEST_ID_TTL_MS ? undefined : kept;
  }

  /** Whether this node knows a later reservation under the same id, which may have been used again since. */
  private isSuperseded(clientId: string, { id, atMs }: Reservation): boolean {
    const known = this.find(clientId, id);
    return known !== undefined && known.reservation.atMs - atMs >= REQUEST_ID_TTL_MS;
  }

  private settleKept(client: Client, kept: Kept, cost: number, nowMs: number): void {
    this.observe(client, undefined, nowMs);
    const ofClient = this.ofClientOf(client.id);
    const open = [...ofClient.open.values()];
    for (const one of open) this.bringUpToDate(ofClient, one);
    const others = around(
      open.map(({ reservation }) => reservation),
      kept.reservation,
    );
    const backs = settleReservation(client, kept.reservation, cost, nowMs);
    ofClient.open.delete(kept.reservation.id);
    kept.changedAtMs = nowMs;
    lowerLeast(others, kept.reservation, backs);
  }
}

/** Returns the reservations that were made before `one`, and those that were made after it. */
function around(
  all: readonly Reservation[],
  one: Reservation,
): { earlier: readonly Reservation[]; later: readonly Reservation[] } {
  const place = all.indexOf(one);
  return { earlier: all.slice(0, place), later: all.slice(place + 1) };
}

/** Two rules of one bucket have the same key; see `sameBucket`. */
function bucketKeyOf({ algorithm, windowMs, policy = '', scope }: Rule): string {
  const key = `${algorithm} ${windowMs} ${policy}`;
  return scope === undefined ? key : `${key} ${scope}`;
}
