import type { LeaseGrant, LeaseReturn, LeaseRequest } from '../messages.js';
import { MAX_LIMIT } from '../../limits/bucket/rule.js';
import { malformed } from '../../lib/byte-reader.js';
import { mapList, readClientId, readList, readText, readWhole } from './wire.js';
import { MAX_LEASE_ID_BYTES } from './clients.js';
import { encodeResults, readResults } from './results.js';
import { createRuleTable, readCheckRules, readRules } from './rules.js';

/** Bound of the leases in one message. A node holds fewer. */
const MAX_LEASES = 100_000;

/** Encodes lease requests as `[client, rules, tokens]`. `rules` are places in the table of rules. */
export function encodeLeaseRequests(requests: readonly LeaseRequest[]): [rules: unknown[][], requests: unknown[][]] {
  const table = createRuleTable();
  const wire = requests.map(({ clientId, rules, tokens }) => [
    clientId,
    rules.map((rule) => table.placeOf(rule)),
    tokens,
  ]);
  return [table.wire, wire];
}

/** @throws MalformedMessage */
export function readLeaseRequests(rulesWire: unknown, requestsWire: unknown): readonly LeaseRequest[] {
  const table = readRules(rulesWire);
  return mapList(requestsWire, MAX_LEASES, 'requests', (request) => {
    const wire = readList(request, 3, 3, 'request');
    return {
      clientId: readClientId(wire[0]),
      rules: readCheckRules(wire[1], table),
      tokens: readTokens(wire[2], 1),
    };
  });
}

export function encodeReturn({ clientId, id, unspent }: LeaseReturn): unknown[] {
  return [clientId, id, unspent];
}

/** @throws MalformedMessage */
export function readReturns(value: unknown): readonly LeaseReturn[] {
  return mapList(value, MAX_LEASES, 'returns', (one) => {
    const wire = readList(one, 3, 3, 'return');
    return { clientId: readClientId(wire[0]), id: readLeaseId(wire[1]), unspent: readTokens(wire[2], 0) };
  });
}

/** Encodes a grant as `[id, tokens, result]`. */
export function encodeGrant(grant: LeaseGrant | null): unknown[] | null {
  if (grant === null) return null;
  const { id, tokens, verdict } = grant;
  return [id, tokens, encodeResults([{ verdict, degraded: false, revocable: false }])];
}

/** @throws MalformedMessage */
export function readGrants(value: unknown): readonly (LeaseGrant | null)[] {
  return mapList(value, MAX_LEASES, 'grants', (grant) => {
    if (grant === null) return null;
    const wire = readList(grant, 3, 3, 'grant');
    const [result, more] = readResults(wire[2]);
    if (result === undefined || result === null || more !== undefined) throw malformed('grant', 'one verdict');
    return { id: readLeaseId(wire[0]), tokens: readTokens(wire[1], 1), verdict: result.verdict };
  });
}

function readLeaseId(value: unknown): string {
  return readText(value, 1, MAX_LEASE_ID_BYTES, 'lease id');
}

function readTokens(value: unknown, min: number): number {
  return readWhole(value, min, MAX_LIMIT, 'tokens');
}
