import type { ClientSnapshot, RecentSnapshot, ReservationSnapshot } from '../../../state/client-snapshot.js';
import { MAX_CLIENT_ID_BYTES } from '../../../limits/client-id.js';
import type { Debt } from '../../../limits/bucket/reservation.js';
import { MAX_COST, MAX_LIMIT } from '../../../limits/bucket/rule.js';
import type { Rule } from '../../../limits/bucket/rule.js';
import { ruleOfSnapshot, snapshotOf } from '../../../limits/bucket/snapshot.js';
import type { LeaseSnapshot, Snapshot } from '../../../limits/bucket/snapshot.js';
import {
  MAX_AGE_MS,
  MAX_BUCKETS,
  MAX_CLIENTS,
  MAX_DEBT,
  MAX_LEASE_ID_BYTES,
  MAX_LEASE_MS,
  MAX_LEASES,
  MAX_LEFT_WINDOWS,
  MAX_RECENT,
  MAX_RULE_CHANGES,
  MAX_STEPS,
} from '../clients.js';
import { malformed } from '../../../lib/byte-reader.js';
import { MAX_REQUEST_ID_BYTES, MAX_RESERVATION_BYTES } from '../wire.js';
import type { ByteReader } from '../../../lib/byte-reader.js';
import type { ByteWriter } from '../../../lib/byte-writer.js';
import { readResult, writeResult } from './results.js';
import { createRuleReader, createRuleWriter } from './rules.js';
import type { RuleReader, RuleWriter } from './rules.js';

/** Flags of a bucket. They show which fields follow its state. */
const RULE_CHANGES = 1;
const LEASES = 2;
/** Flag of a lease or a reservation whose final amount follows. */
const FINAL = 1;
/** Flag in the number of buckets. It shows that request ids and reservations follow the buckets. */
const MORE = 1;

/**
 * Writes clients. Each is its id, twice the number of its buckets (plus `MORE` if request ids and reservations follow),
 * and the buckets: rule, flags, and state. The state is the debt in tokens and parts, or the steps of a sliding window.
 * A client with one token bucket takes its id and about ten bytes.
 */
export function writeClients(out: ByteWriter, clients: readonly ClientSnapshot[]): void {
  const rules = createRuleWriter(out);
  out.whole(clients.length);
  for (const [clientId, buckets, recent = NONE, reservations = NONE] of clients) {
    const more = recent.length > 0 || reservations.length > 0;
    out.text(clientId);
    out.whole(2 * buckets.length + (more ? MORE : 0));
    for (const bucket of buckets) writeBucket(out, bucket, rules);
    if (!more) continue;
    out.whole(recent.length);
    for (const one of recent) writeRecent(out, one);
    out.whole(reservations.length);
    for (const one of reservations) writeReservation(out, one, rules);
  }
}

const NONE: readonly never[] = [];

function writeBucket(out: ByteWriter, snapshot: Snapshot, rules: RuleWriter): void {
  const { algorithm, ruleChanges, state, leases } = snapshot;
  rules.write(ruleOfSnapshot(snapshot));
  out.byte((ruleChanges === 0 ? 0 : RULE_CHANGES) | (leases === undefined ? 0 : LEASES));
  if (algorithm === 'sliding-window') out.whole(state.length / 2);
  for (const value of state) out.whole(value);
  if (ruleChanges !== 0) out.whole(ruleChanges);
  if (leases === undefined) return;
  out.whole(leases.length);
  for (const { id, tokens, leftMs, spent } of leases) {
    out.text(id);
    out.byte(spent === undefined ? 0 : FINAL);
    out.whole(tokens);
    out.whole(leftMs);
    if (spent !== undefined) out.whole(spent);
  }
}

function writeRecent(out: ByteWriter, { requestId, ageMs, verdict, degraded }: RecentSnapshot): void {
  out.text(requestId);
  out.whole(ageMs);
  writeResult(out, { verdict, degraded, revocable: false });
}

function writeReservation(out: ByteWriter, reservation: ReservationSnapshot, rules: RuleWriter): void {
  const { id, ageMs, cost, settled, least } = reservation;
  out.text(id);
  out.byte(settled === undefined ? 0 : FINAL);
  out.whole(ageMs);
  out.whole(cost);
  if (settled !== undefined) out.whole(settled);
  out.byte(reservation.rules.length);
  for (const rule of reservation.rules) rules.write(rule);
  for (const [tokens, part] of least) {
    out.whole(tokens);
    out.whole(part);
  }
}

/** @throws MalformedMessage */
export function readClients(from: ByteReader): readonly ClientSnapshot[] {
  const rules = createRuleReader();
  const count = from.whole(0, MAX_CLIENTS, 'number of clients');
  const clients: ClientSnapshot[] = [];
  while (clients.length < count) clients.push(readClient(from, rules));
  return clients;
}

function readClient(from: ByteReader, rules: RuleReader): ClientSnapshot {
  const clientId = from.text(1, MAX_CLIENT_ID_BYTES, 'client id');
  const shape = from.whole(0, 2 * MAX_BUCKETS + MORE, 'number of buckets');
  const buckets = readList(Math.floor(shape / 2), () => readBucket(from, rules));
  if (shape % 2 === 0) return [clientId, buckets];
  const recent = readList(from.whole(0, MAX_RECENT, 'number of request ids'), () => readRecent(from));
  const reservations = readList(from.whole(0, MAX_RECENT, 'number of reservations'), () =>
    readReservation(from, rules),
  );
  return reservations.length === 0 ? [clientId, buckets, recent] : [clientId, buckets, recent, reservations];
}

function readList<T>(count: number, read: () => T): T[] {
  const list: T[] = [];
  while (list.length < count) list.push(read());
  return list;
}

function readBucket(from: ByteReader, rules: RuleReader): Snapshot {
  const [rule] = rules.readOne(from) as readonly [Rule];
  const { algorithm, limit, windowMs } = rule;
  // The limit is the rate at which consumption decays.
  if (limit === 0) throw malformed('limit of a bucket', 'at least 1');
  const flags = from.byte('flags of a bucket');
  if (flags > (RULE_CHANGES | LEASES)) throw malformed('flags of a bucket', '0 to 3');
  const state = algorithm === 'token-bucket' ? readDebt(from, windowMs) : readSteps(from, windowMs);
  const ruleChanges = (flags & RULE_CHANGES) === 0 ? 0 : from.whole(1, MAX_RULE_CHANGES, 'rule changes');
  if ((flags & LEASES) === 0) return snapshotOf(rule, ruleChanges, state);
  const leases = readList(from.whole(0, MAX_LEASES, 'number of leases'), () => readLease(from));
  return snapshotOf(rule, ruleChanges, state, leases);
}

function readDebt(from: ByteReader, windowMs: number): Debt {
  return [from.whole(0, MAX_DEBT, 'tokens'), from.whole(0, windowMs - 1, 'part')];
}

/** Reads steps. Their ends ascend, the first is in the future, and each count is at least 1. */
function readSteps(from: ByteReader, windowMs: number): number[] {
  const count = from.whole(0, MAX_STEPS / 2, 'number of steps');
  const state: number[] = [];
  let afterMs = 0;
  while (state.length < 2 * count) {
    afterMs = from.whole(afterMs + 1, MAX_LEFT_WINDOWS * windowMs, 'ms of a step');
    state.push(afterMs, from.whole(1, MAX_DEBT, 'count of a step'));
  }
  return state;
}

function readLease(from: ByteReader): LeaseSnapshot {
  const id = from.text(1, MAX_LEASE_ID_BYTES, 'lease id');
  const over = readFinal(from);
  const tokens = from.whole(1, MAX_LIMIT, 'tokens of a lease');
  const leftMs = from.whole(0, MAX_LEASE_MS, 'ms of a lease');
  return { id, tokens, leftMs, spent: over ? from.whole(0, tokens, 'spent tokens of a lease') : undefined };
}

function readFinal(from: ByteReader): boolean {
  const flags = from.byte('flags');
  if (flags > FINAL) throw malformed('flags', '0 or 1');
  return flags === FINAL;
}

function readRecent(from: ByteReader): RecentSnapshot {
  const requestId = from.text(1, MAX_REQUEST_ID_BYTES, 'request id');
  const ageMs = from.whole(0, MAX_AGE_MS, 'age');
  const result = readResult(from);
  if (result === null || result === 'overloaded') throw malformed('request id', 'a decision');
  return { requestId, ageMs, verdict: result.verdict, degraded: result.degraded };
}

function readReservation(from: ByteReader, table: RuleReader): ReservationSnapshot {
  const id = from.text(1, MAX_RESERVATION_BYTES, 'reservation');
  const settles = readFinal(from);
  const ageMs = from.whole(0, MAX_AGE_MS, 'age');
  const cost = from.whole(1, MAX_COST, 'cost');
  const settled = settles ? from.whole(0, MAX_COST, 'settled cost') : undefined;
  const rules = table.readSeveral(from);
  return { id, ageMs, cost, settled, rules, least: rules.map(({ windowMs }) => readDebt(from, windowMs)) };
}
