import type { ClientSnapshot, RecentSnapshot, ReservationSnapshot } from '../../state/client-snapshot.js';
import type { ClientDescription } from '../../limits/request/description.js';
import type { Debt } from '../../limits/bucket/reservation.js';
import { MAX_COST, MAX_LIMIT } from '../../limits/bucket/rule.js';
import type { Rule } from '../../limits/bucket/rule.js';
import { ruleOfSnapshot, snapshotOf } from '../../limits/bucket/snapshot.js';
import type { LeaseSnapshot, Snapshot } from '../../limits/bucket/snapshot.js';
import { encodeResults, readResults } from './results.js';
import {
  createRuleTable,
  encodeAlgorithm,
  readAlgorithm,
  readLimit,
  readCheckRules,
  readPolicy,
  readRemaining,
  readRules,
  readScope,
  readWaitMs,
  readWindowMs,
  ruleAt,
} from './rules.js';
import type { RuleTable } from './rules.js';
import { malformed } from '../../lib/byte-reader.js';
import {
  mapList,
  MAX_REQUEST_ID_BYTES,
  readClientId,
  readList,
  readNodeId,
  readReservationId,
  readText,
  readWhole,
} from './wire.js';

/** Bound of the clients in one message. The largest message has room for fewer. */
export const MAX_CLIENTS = 1_000_000;
export const MAX_BUCKETS = 100_000;
/**
 * Bound of the numbers of a sliding window, two for each step. A sliding window has at most 34 steps on one node. A
 * merged copy may have more.
 */
export const MAX_STEPS = 256;
/** Bound of the request ids of one client. */
export const MAX_RECENT = 10_000;
/** Bound of the age of a request id. */
export const MAX_AGE_MS = 3_600_000;
export const MAX_RULE_CHANGES = 2 ** 52;
/** Bound of a debt. A lease that a late copy counts twice can make a debt larger than any capacity. */
export const MAX_DEBT = 4 * MAX_LIMIT;
/** Bound of the leases of one bucket. */
export const MAX_LEASES = 10_000;
export const MAX_LEASE_ID_BYTES = 512;
export const MAX_LEASE_MS = 60_000;
/**
 * Bound of the remaining time of a step, in windows. A new step has at most one; each node that copies it adds 1/32.
 */
export const MAX_LEFT_WINDOWS = 4;

/**
 * Encodes snapshots, which refer to a table of rules. A client with one bucket is a flat list:
 *
 *     rules    [[100,1000],[5,60000,5,1]]
 *     clients  [["alice",0,3,250],["bob",[0,1,0],[1,59000,2,61875,1]]]
 *
 * The order is client, rule, state. Alice owes 3 tokens and 250 parts. Bob has two buckets; the second is a sliding
 * window of two steps. If the rule of a bucket has changed, the number of changes follows the state. It is the third
 * number of a token bucket, and makes the number of values of a sliding window odd. Leases come last, if there are any:
 * `[[id, tokens, leftMs], …]`. A lease that is over has its spent tokens as a fourth value.
 *
 * If a client has request ids or reservations, `["alice", [id, ageMs, result], …]` replaces its name. Reservations
 * follow the request ids as `[id, ageMs, cost, settled, rules, least]`. `settled` is null until the final cost is
 * known.
 */
export function encodeClients(clients: readonly ClientSnapshot[]): [rules: unknown[][], clients: unknown[][]] {
  const table = createRuleTable();
  const bucket = (snapshot: Snapshot): unknown[] => {
    const { ruleChanges, state, leases } = snapshot;
    const place = table.placeOf(ruleOfSnapshot(snapshot));
    const wire: unknown[] = ruleChanges === 0 ? [place, ...state] : [place, ...state, ruleChanges];
    if (leases !== undefined) wire.push(leases.map(encodeLease));
    return wire;
  };
  const wire = clients.map(([clientId, snapshots, recent = [], reservations = []]): unknown[] => {
    const more = [...recent.map(encodeRecent), ...reservations.map((one) => encodeReservation(one, table))];
    const name = more.length === 0 ? clientId : [clientId, ...more];
    const [first] = snapshots;
    return snapshots.length === 1 ? [name, ...bucket(first!)] : [name, ...snapshots.map(bucket)];
  });
  return [table.wire, wire];
}

/** @throws MalformedMessage */
export function readClients(rulesWire: unknown, clientsWire: unknown): readonly ClientSnapshot[] {
  const table = readRules(rulesWire);
  return readList(clientsWire, 0, MAX_CLIENTS, 'clients').map((client): ClientSnapshot => {
    const wire = readList(client, 1, 1 + MAX_BUCKETS, 'client');
    const name = Array.isArray(wire[0]) ? readList(wire[0], 2, 1 + MAX_RECENT, 'request ids') : [wire[0]];
    const clientId = readClientId(name[0]);
    const snapshots: Snapshot[] = [];
    if (typeof wire[1] === 'number') snapshots.push(readSnapshot(wire, 1, table));
    else {
      for (let i = 1; i < wire.length; i += 1) {
        snapshots.push(readSnapshot(readList(wire[i], 1, 3 + MAX_STEPS, 'bucket'), 0, table));
      }
    }
    if (name.length === 1) return [clientId, snapshots];
    const more = name.slice(1).map((one) => readList(one, 3, 6, 'request id or reservation'));
    const recent = more.filter(({ length }) => length < 6).map(readRecent);
    const reservations = more.filter(({ length }) => length === 6).map((one) => readReservation(one, table));
    return reservations.length === 0 ? [clientId, snapshots, recent] : [clientId, snapshots, recent, reservations];
  });
}

function encodeRecent({ requestId, ageMs, verdict, degraded }: RecentSnapshot): unknown[] {
  return [requestId, ageMs, encodeResults([{ verdict, degraded, revocable: false }])];
}

function readRecent(value: unknown): RecentSnapshot {
  const wire = readList(value, 3, 3, 'request id');
  const [result, more] = readResults(wire[2]);
  if (result === undefined || result === null || more !== undefined) throw malformed('request id', 'a decision');
  return {
    requestId: readText(wire[0], 1, MAX_REQUEST_ID_BYTES, 'request id'),
    ageMs: readWhole(wire[1], 0, MAX_AGE_MS, 'age'),
    verdict: result.verdict,
    degraded: result.degraded,
  };
}

function encodeReservation(reservation: ReservationSnapshot, table: RuleTable): unknown[] {
  const { id, ageMs, cost, settled, rules, least } = reservation;
  return [id, ageMs, cost, settled ?? null, rules.map((rule) => table.placeOf(rule)), least.flat()];
}

function readReservation(wire: readonly unknown[], table: readonly Rule[]): ReservationSnapshot {
  const rules = readCheckRules(wire[4], table);
  return {
    id: readReservationId(wire[0]),
    ageMs: readWhole(wire[1], 0, MAX_AGE_MS, 'age'),
    cost: readWhole(wire[2], 1, MAX_COST, 'cost'),
    settled: wire[3] === null ? undefined : readWhole(wire[3], 0, MAX_COST, 'settled cost'),
    rules,
    least: rules.map(({ windowMs }, i): Debt => {
      const least = readList(wire[5], 2 * rules.length, 2 * rules.length, 'least');
      return [readWhole(least[2 * i], 0, MAX_DEBT, 'tokens'), readWhole(least[2 * i + 1], 0, windowMs - 1, 'part')];
    }),
  };
}

/** Reads a bucket, with its rule at `at` and its state after it. */
function readSnapshot(wire: readonly unknown[], at: number, table: readonly Rule[]): Snapshot {
  const rule = ruleAt(table, wire[at]);
  const { algorithm, limit, windowMs } = rule;
  // The limit is the rate at which consumption decays.
  if (limit === 0) throw malformed('limit of a bucket', 'at least 1');
  const lent = wire.length > at + 1 && Array.isArray(wire.at(-1)) ? wire.at(-1) : undefined;
  const state = wire.slice(at + 1, lent === undefined ? undefined : -1) as number[];
  let ruleChanges = 0;
  if (state.length % 2 === 1) ruleChanges = readWhole(state.pop(), 1, MAX_RULE_CHANGES, 'rule changes');
  if (algorithm === 'token-bucket') {
    if (state.length !== 2) throw malformed('token bucket', 'tokens and part');
    readWhole(state[0], 0, MAX_DEBT, 'tokens');
    readWhole(state[1], 0, windowMs - 1, 'part');
  } else {
    checkSteps(state, windowMs);
  }
  const leases = lent === undefined ? undefined : mapList(lent, MAX_LEASES, 'leases', readLease);
  return snapshotOf(rule, ruleChanges, state, leases);
}

function encodeLease({ id, tokens, leftMs, spent }: LeaseSnapshot): unknown[] {
  return spent === undefined ? [id, tokens, leftMs] : [id, tokens, leftMs, spent];
}

function readLease(value: unknown): LeaseSnapshot {
  const wire = readList(value, 3, 4, 'lease');
  const tokens = readWhole(wire[1], 1, MAX_LIMIT, 'tokens of a lease');
  return {
    id: readText(wire[0], 1, MAX_LEASE_ID_BYTES, 'lease id'),
    tokens,
    leftMs: readWhole(wire[2], 0, MAX_LEASE_MS, 'ms of a lease'),
    spent: wire.length === 3 ? undefined : readWhole(wire[3], 0, tokens, 'spent tokens of a lease'),
  };
}

/** Checks that the ends of the steps ascend, that the first is in the future, and that each count is at least 1. */
function checkSteps(state: readonly number[], windowMs: number): void {
  if (state.length % 2 !== 0 || state.length > MAX_STEPS) throw malformed('sliding window', 'pairs of ms and count');
  let afterMs = 0;
  for (let i = 0; i < state.length; i += 2) {
    afterMs = readWhole(state[i], afterMs + 1, MAX_LEFT_WINDOWS * windowMs, 'ms of a step');
    readWhole(state[i + 1], 1, MAX_DEBT, 'count of a step');
  }
}

/** Encodes each bucket as algorithm, window, limit, remaining, reset, policy or `null`, and scope. Ends early without them. */
export function encodeDescription({ clientId, owner, buckets }: ClientDescription): unknown[] {
  return [
    clientId,
    owner,
    buckets.map(({ scope, policy, algorithm, windowMs, limit, remaining, resetMs }) => {
      const bucket: unknown[] = [encodeAlgorithm(algorithm), windowMs, limit, remaining, resetMs];
      if (scope !== undefined) return [...bucket, policy ?? null, scope];
      return policy === undefined ? bucket : [...bucket, policy];
    }),
  ];
}

/** @throws MalformedMessage */
export function readDescription(clientId: unknown, owner: unknown, buckets: unknown): ClientDescription {
  return {
    clientId: readClientId(clientId),
    owner: readNodeId(owner, 'owner'),
    buckets: mapList(buckets, MAX_BUCKETS, 'buckets', (bucket) => {
      const wire = readList(bucket, 5, 7, 'bucket');
      return {
        scope: wire.length === 7 ? readScope(wire[6]) : undefined,
        policy: wire.length < 6 || (wire.length === 7 && wire[5] === null) ? undefined : readPolicy(wire[5]),
        algorithm: readAlgorithm(wire[0]),
        windowMs: readWindowMs(wire[1]),
        limit: readLimit(wire[2]),
        remaining: readRemaining(wire[3]),
        resetMs: readWaitMs(wire[4]),
      };
    }),
  };
}
