import { clientKey } from '../core/client-hash.js';
import { createCheck } from '../core/decide.js';
import type { Check } from '../core/decide.js';
import { MAX_COST, MAX_RULES, sameBucket } from '../core/rule.js';
import type { Rule } from '../core/rule.js';
import { malformed, readClientId, readList, readText, readWhole } from './wire.js';
import { createRuleTable, readRules, ruleAt } from './rules.js';

/** Far above what a forwarder puts in one batch. */
const MAX_CHECKS = 16_384;
export const MAX_REQUEST_ID_BYTES = 128;
/** The name of a client in base64, and what tells its reservations apart. */
const MAX_RESERVATION_BYTES = 512;

const PEEK = 1;
const REPLICATED = 2;

/**
 * Checks go flat, and most as nothing but the client id:
 *
 *     rules   [[100,1000],[5,60000]]
 *     checks  ["alice","bob",1,"carol",["dave",[0,1],3,1,"r-17"]]
 *
 * Rule 0 holds until a number names another one: alice and bob are under 100 per second, carol under 5 per minute. What has
 * several rules, a cost or flags is a list: client, rule or rules, cost, flags, and a request id if there is one; then a
 * reservation, with a null where there is no request id.
 */
export function encodeChecks(checks: readonly Check[]): [rules: unknown[][], checks: unknown[]] {
  const table = createRuleTable();
  const wire: unknown[] = [];
  let current = 0;
  for (const { clientId, rules, cost, peek, requestId, replicated, reservation } of checks) {
    const [first, second] = rules;
    const plain = second === undefined && cost === 1 && !peek && !replicated;
    if (plain && requestId === undefined && reservation === undefined) {
      const place = table.placeOf(first!);
      if (place !== current) wire.push((current = place));
      wire.push(clientId);
      continue;
    }
    const places = rules.length === 1 ? table.placeOf(first!) : rules.map((rule) => table.placeOf(rule));
    const check: unknown[] = [clientId, places, cost, (peek ? PEEK : 0) + (replicated ? REPLICATED : 0)];
    if (reservation !== undefined) check.push(requestId ?? null, reservation);
    else if (requestId !== undefined) check.push(requestId);
    wire.push(check);
  }
  return [table.wire, wire];
}

/** @throws MalformedMessage */
export function readChecks(rulesWire: unknown, checksWire: unknown): readonly Check[] {
  const table = readRules(rulesWire);
  // Checks under the same rule share one list of it.
  const single = table.map((rule): readonly Rule[] => [rule]);
  const checks: Check[] = [];
  let rules = single[0];
  for (const item of readList(checksWire, 0, 2 * MAX_CHECKS, 'checks')) {
    if (typeof item === 'string') {
      if (rules === undefined) throw malformed('rules', 'one that the checks are under');
      checks.push(createCheck(clientKey(readClientId(item)), rules));
    } else if (typeof item === 'number') {
      rules = ruleAt(single, item);
    } else {
      checks.push(readFullCheck(item, table, single));
    }
  }
  if (checks.length > MAX_CHECKS) throw malformed('checks', `at most ${MAX_CHECKS}`);
  return checks;
}

function readFullCheck(item: unknown, table: readonly Rule[], single: readonly (readonly Rule[])[]): Check {
  const wire = readList(item, 4, 6, 'check');
  const clientId = readClientId(wire[0]);
  const rules = Array.isArray(wire[1]) ? readCheckRules(wire[1], table) : ruleAt(single, wire[1]);
  const cost = readWhole(wire[2], 1, MAX_COST, 'cost');
  const flags = readWhole(wire[3], 0, PEEK + REPLICATED, 'flags');
  const named = wire.length === 5 || (wire.length === 6 && wire[4] !== null);
  const requestId = named ? readText(wire[4], 1, MAX_REQUEST_ID_BYTES, 'request id') : undefined;
  const peek = (flags & PEEK) !== 0;
  const replicated = (flags & REPLICATED) !== 0;
  const reservation = wire.length < 6 ? undefined : readReservationId(wire[5]);
  return createCheck(clientKey(clientId), rules, { cost, peek, requestId, replicated, reservation });
}

export function readReservationId(value: unknown): string {
  return readText(value, 1, MAX_RESERVATION_BYTES, 'reservation');
}

/** Each counts in a bucket of its own, or a cost would be charged twice. */
export function readCheckRules(places: unknown, table: readonly Rule[]): readonly Rule[] {
  const rules = readList(places, 1, MAX_RULES, 'rules of a check').map((place) => ruleAt(table, place));
  rules.forEach((rule, i) => {
    if (rules.findIndex((other) => sameBucket(other, rule)) < i)
      throw malformed('rules of a check', 'distinct buckets');
  });
  return rules;
}
