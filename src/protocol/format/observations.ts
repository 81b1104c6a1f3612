import type { NodeReport, TopQuery } from '../messages.js';
import type { Use } from '../../policy/policy-use.js';
import { DURATION_BOUNDS, SOURCES } from '../../limits/decide/decision.js';
import type { Source } from '../../limits/decide/decision.js';
import { sourceOf } from '../../lib/space-saving.js';
import type { Counted } from '../../lib/space-saving.js';
import { MAX_LISTED, RANKINGS, SPANS_MS } from '../../limits/top-clients.js';
import type { Ranking, Span, TopPart } from '../../limits/top-clients.js';
import { readPolicyName } from './policies.js';
import { malformed } from '../../lib/byte-reader.js';
import { mapList, readClientId, readList, readWhole } from './wire.js';

/** The kinds `top`, `report`, and `use`: a node's counts of its clients, its own counters, and its use of a policy. */

/** Encodes a query as `[by, span, policy]`; the policy is `null` if there is none. */
export function encodeTopQuery({ by, span, policy }: TopQuery): unknown[] {
  return [by, span, policy ?? null];
}

/** @throws MalformedMessage */
export function readTopQuery(by: unknown, span: unknown, policy: unknown): TopQuery {
  if (!RANKINGS.includes(by as Ranking)) throw malformed('by', RANKINGS.join(', '));
  if (typeof span !== 'string' || !Object.hasOwn(SPANS_MS, span)) throw malformed('span', 'minute or hour');
  return {
    by: by as Ranking,
    span: span as Span,
    policy: policy === null ? undefined : readPolicyName(policy),
  };
}

/** Encodes a part as `[floor, [[clientId, policy, count, error, sdk]]]`. */
export function encodeTopPart({ clients, floor }: TopPart): unknown[] {
  const items = clients.map(({ clientId, policy, count, error, source }) => {
    return [clientId, policy ?? null, count, error, source.sdk];
  });
  return [floor, items];
}

/** @throws MalformedMessage */
export function readTopPart(floor: unknown, clients: unknown): TopPart {
  return { floor: readAmount(floor, 'floor'), clients: mapList(clients, MAX_LISTED, 'clients', readCounted) };
}

function readCounted(value: unknown): Counted {
  const [clientId, policy, total, error, sdk] = readList(value, 5, 5, 'client');
  const count = readAmount(total, 'count');
  return {
    clientId: readClientId(clientId),
    ...(policy !== null && { policy: readPolicyName(policy) }),
    count,
    error: readAmount(error, 'error'),
    source: sourceOf(count, readAmount(sdk, 'sdk')),
  };
}

/** @throws MalformedMessage */
export function readUse(asks: unknown, lastMs: unknown): Use {
  return {
    asks: readWhole(asks, 0, MAX, 'asks'),
    lastMs: lastMs === null ? undefined : readAmount(lastMs, 'time since the last ask'),
  };
}

/** Encodes a report as lists of its numbers, in the order of the type. */
export function encodeReport(report: NodeReport): unknown[] {
  return [
    SOURCES.map((source) => report.allowed[source]),
    SOURCES.map((source) => report.denied[source]),
    report.durations,
    NUMBERS.map((name) => report[name]),
  ];
}

/** @throws MalformedMessage */
export function readReport(value: unknown): NodeReport {
  const [allowed, denied, durations, numbers] = readList(value, 4, 4, 'report');
  const values = readList(numbers, NUMBERS.length, NUMBERS.length, 'numbers');
  const size = DURATION_BOUNDS.length + 1;
  return {
    allowed: readBySource(allowed),
    denied: readBySource(denied),
    durations: readList(durations, size, size, 'durations').map((count) => readWhole(count, 0, MAX, 'count')),
    ...(Object.fromEntries(NUMBERS.map((name, i) => [name, readAmount(values[i], name)])) as Numbers),
  };
}

const NUMBERS = [
  'problems',
  'busyMs',
  'uptimeMs',
  'memoryBytes',
  'memoryBudgetBytes',
  'clients',
  'replicationLagMs',
  'forwardsWaiting',
] as const;
type Numbers = Record<(typeof NUMBERS)[number], number>;

const MAX = 2 ** 52;

function readBySource(value: unknown): Readonly<Record<Source, number>> {
  const counts = readList(value, SOURCES.length, SOURCES.length, 'counts by source');
  return Object.fromEntries(SOURCES.map((source, i) => [source, readWhole(counts[i], 0, MAX, source)])) as Record<
    Source,
    number
  >;
}

/** Reads a number of at least 0. */
function readAmount(value: unknown, what: string): number {
  if (typeof value === 'number' && value >= 0 && value <= Number.MAX_VALUE) return value;
  throw malformed(what, 'a number of at least 0');
}
