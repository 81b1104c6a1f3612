import { sourceOf, type Counted } from '../../lib/space-saving.js';
import { MAX_COST, MAX_LIMIT, MAX_SCOPE_BYTES, MAX_WINDOW_MS } from '../../limits/bucket/rule.js';
import { DURATION_BOUNDS, SOURCES, type Settlement, type Source } from '../../limits/decide/decision.js';
import { MAX_POLICY_BYTES } from '../../limits/format/rules.js';
import { MAX_WAIT_MS } from '../../limits/format/verdicts.js';
import type { BucketDescription, ClientDescription } from '../../limits/request/description.js';
import { MAX_LISTED, RANKINGS, SPANS_MS, type Span } from '../../limits/top-clients.js';
import { malformed } from '../../lib/byte-reader.js';
import type { NodeReport, Settled } from '../messages.js';
import { list, mapped, object, oneOf, optional, real, text, whole, type Codec } from './codec.js';
import { clientId } from './leases.js';
import { nodeId } from './node-id.js';
import { policyName } from './policies.js';

/** What nodes tell each other about clients, and about themselves, for people who look at the cluster. */

const MAX_COUNT = 2 ** 52;
const MAX_BUCKETS = 100_000;

const amount = real(0, Number.MAX_VALUE, 'amount');
const count = whole(0, MAX_COUNT, 'count');
const limit = whole(0, MAX_LIMIT, 'limit');
const remaining = whole(0, MAX_LIMIT, 'remaining');
const waitMs = whole(0, MAX_WAIT_MS, 'wait');

export const ranking = oneOf(RANKINGS, 'by');
export const span = oneOf(Object.keys(SPANS_MS) as Span[], 'span');

type WireCounted = Omit<Counted, 'policy' | 'source'> & { readonly policy: string | undefined; readonly sdk: number };

/** The part of the nodes is what the SDK does not have. */
const counted = mapped<Counted, WireCounted>(
  object({ clientId, policy: optional(policyName, undefined), count: amount, error: amount, sdk: amount }),
  ({ clientId, policy, count, error, source }) => ({ clientId, policy, count, error, sdk: source.sdk }),
  ({ clientId, policy, count, error, sdk }) => {
    return { clientId, ...(policy !== undefined && { policy }), count, error, source: sourceOf(count, sdk) };
  },
);

export const topClients = list(counted, MAX_LISTED, 'clients');
export const topFloor = amount;

export const use = object({ asks: count, lastMs: optional(amount, undefined) });

const bySource = object(Object.fromEntries(SOURCES.map((source) => [source, count])) as Record<Source, Codec<number>>);
const DURATIONS = DURATION_BOUNDS.length + 1;

const durations = mapped<readonly number[], readonly number[]>(
  list(count, DURATIONS, 'durations'),
  (counts) => counts,
  (counts) => {
    if (counts.length !== DURATIONS) throw malformed('durations', `${DURATIONS} of them`);
    return counts;
  },
);

export const report = object<NodeReport>({
  allowed: bySource,
  denied: bySource,
  problems: amount,
  durations,
  busyMs: amount,
  uptimeMs: amount,
  memoryBytes: amount,
  memoryBudgetBytes: amount,
  clients: amount,
  replicationLagMs: amount,
  forwardsWaiting: amount,
});

const bucket = object<BucketDescription>({
  scope: optional(text(1, MAX_SCOPE_BYTES, 'scope'), undefined),
  policy: optional(text(1, MAX_POLICY_BYTES, 'policy'), undefined),
  algorithm: oneOf(['token-bucket', 'sliding-window'], 'algorithm'),
  windowMs: whole(1, MAX_WINDOW_MS, 'window'),
  limit,
  remaining,
  resetMs: waitMs,
});

export const clientDescription = object<ClientDescription>({
  clientId,
  owner: nodeId('owner'),
  buckets: list(bucket, MAX_BUCKETS, 'buckets'),
});

const settlement = object<Settlement>({
  cost: whole(0, MAX_COST, 'cost'),
  reserved: whole(1, MAX_COST, 'reserved cost'),
  limit,
  remaining,
  resetMs: waitMs,
});
const settledKind = oneOf<Settled['kind']>(['settled', 'unknown', 'unavailable'], 'kind of a settlement');

export const settled: Codec<Settled> = {
  write(out, value) {
    settledKind.write(out, value.kind);
    if (value.kind === 'settled') settlement.write(out, value.settlement);
  },
  read(from) {
    const kind = settledKind.read(from);
    return kind === 'settled' ? { kind, settlement: settlement.read(from) } : { kind };
  },
};
