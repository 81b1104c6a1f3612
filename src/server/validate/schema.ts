import { MAX_REQUEST_ID_BYTES } from '../../limits/format/checks.js';
import {
  MAX_BATCH_ID_BYTES,
  MAX_BATCH,
  type AllowRequest,
  type Duration,
  type LimitRequest,
} from '../../limits/request/request.js';
import { Type, type TSchema, type TUnsafe } from '@sinclair/typebox';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import { DURATION_BOUNDS, SOURCES, type Source } from '../../limits/decide/decision.js';
import { MAX_LISTED, MAX_REPORTED, RANKINGS } from '../../limits/top-clients.js';
import { MAX_COST, MAX_LIMIT, MAX_RULES, MAX_SCOPE_BYTES, MAX_WINDOW_MS } from '../../limits/bucket/rule.js';
import { HTTP_ERRORS, type HttpErrorCode } from '../../lib/error.js';
import { named, object } from './validator.js';

/** The shapes of the public API. `request.ts` compiles them into checks, and `http/api/openapi.ts` prints them. */

const Limit = Type.Integer({
  minimum: 0,
  maximum: MAX_LIMIT,
  description: 'requests allowed per window; 0 denies all',
});
const Window = Type.Union([
  Type.Integer({ minimum: 1, maximum: MAX_WINDOW_MS, description: 'milliseconds' }),
  Type.Unsafe<Duration>(
    Type.String({
      pattern: '^[0-9]{1,11}(ms|s|m|h|d)$',
      description: '"250ms", "10s", "1m", "1h" or "1d", at most 366 days',
    }),
  ),
]);
const WindowMs = Type.Integer({ minimum: 1, maximum: MAX_WINDOW_MS });
const Burst = Type.Integer({
  minimum: 1,
  maximum: MAX_LIMIT,
  description: 'capacity of a token bucket, where it differs from limit',
});
const Algorithm = Type.Union([Type.Literal('token-bucket'), Type.Literal('sliding-window')], {
  default: 'token-bucket',
});

/** One of several texts. A union over an array of unknown length would have no type. */
function oneOf<const T extends string>(values: readonly T[]): TUnsafe<T> {
  return Type.Unsafe<T>(Type.Union(values.map((value) => Type.Literal(value))));
}

/** The fields of a limit, beside `limit`. */
const bucketFields = {
  window: Type.Optional(Window),
  windowMs: Type.Optional(WindowMs),
  burst: Type.Optional(Burst),
  algorithm: Type.Optional(Algorithm),
};

export const LimitSchema = named('Limit', { limit: Limit, ...bucketFields } satisfies Record<
  keyof LimitRequest,
  TSchema
>);
/** One limit, or several, in a request or a policy. */
export const limitFields = {
  limit: Type.Optional(Limit),
  ...bucketFields,
  limits: Type.Optional(
    Type.Array(LimitSchema, { minItems: 1, maxItems: MAX_RULES, description: 'several at once, all or nothing' }),
  ),
};

export const AllowRequestSchema = named('AllowRequest', {
  clientId: Type.String({ minLength: 1, maxLength: MAX_CLIENT_ID_BYTES, description: '1 to 256 bytes of Unicode' }),
  scope: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: MAX_SCOPE_BYTES,
      description:
        'another set of buckets for the same client; lists, tiers, and overrides look at clientId alone; 1 to 128 bytes',
    }),
  ),
  ...limitFields,
  policy: Type.Optional(
    Type.String({ minLength: 1, maxLength: 128, description: 'a named policy, instead of any limit' }),
  ),
  cost: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_COST, default: 1 })),
  reserve: Type.Optional(
    Type.Boolean({
      default: false,
      description: 'reserve the cost, to settle it within ten minutes once it is known',
    }),
  ),
  peek: Type.Optional(Type.Boolean({ default: false, description: 'answer without consuming' })),
  durability: Type.Optional(
    Type.Literal('replicated', {
      description: 'answer once a successor holds a copy, so that a crash admits nothing twice',
    }),
  ),
  requestId: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: MAX_REQUEST_ID_BYTES,
      description: 'the same id for the same client within 60 s gets the first decision again; 1 to 128 bytes',
    }),
  ),
} satisfies Record<keyof AllowRequest, TSchema>);
export const SettleRequestSchema = named('SettleRequest', {
  reservation: Type.String({ minLength: 1, maxLength: 512, description: 'the name from an answer of /v1/allow' }),
  cost: Type.Integer({
    minimum: 0,
    maximum: MAX_COST,
    description: 'the final cost, which replaces the reserved one',
  }),
  clientId: Type.Optional(
    Type.String({ description: 'the client of the reservation; optional, as the reservation contains it' }),
  ),
});

export const BatchIdSchema = Type.String({
  minLength: 1,
  maxLength: MAX_BATCH_ID_BYTES,
  pattern: '^[ !#-\\[\\]-~]*$',
  description:
    'gives the item at place i, from 0, the request id `requestId#i`, unless it has its own; printable ASCII without ' +
    'quotes and backslashes',
});

/** Items are validated one by one, so that a bad item does not affect the others. */
export const BatchRequestSchema = named('BatchRequest', {
  requests: Type.Array(Type.Unknown(), { minItems: 1, maxItems: MAX_BATCH }),
  requestId: Type.Optional(BatchIdSchema),
});

const Count = Type.Integer({ minimum: 0 });
const RetryAfterMs = Type.Union([Count, Type.Null()], { description: '0 when allowed; null when it never can be' });

export const LimitFiguresSchema = named('LimitFigures', {
  algorithm: Algorithm,
  windowMs: WindowMs,
  limit: Limit,
  remaining: Count,
  retryAfterMs: RetryAfterMs,
  resetMs: Count,
});

export const DecisionSchema = named('Decision', {
  allowed: Type.Boolean(),
  limit: Limit,
  remaining: Count,
  retryAfterMs: RetryAfterMs,
  resetMs: Type.Integer({ minimum: 0, description: 'ms until nothing of the consumption is left' }),
  owner: Type.String({ description: 'id of the node that owns the client' }),
  source: oneOf(SOURCES),
  degraded: Type.Boolean({
    description:
      "true only when the owner's state could not be used, or a replica did not acknowledge a replicated decision",
  }),
  limits: Type.Optional(Type.Array(LimitFiguresSchema)),
  reservation: Type.Optional(
    Type.String({ description: 'of an allowed request with reserve; absent if the owner could not be asked' }),
  ),
  shadow: Type.Optional(
    object(
      { allowed: Type.Boolean(), retryAfterMs: RetryAfterMs },
      'the decision of a shadow policy, which is not enforced',
    ),
  ),
});

/** A decision as a gateway shows it to its caller. */
export const GatewayDecisionSchema = Type.Pick(
  DecisionSchema,
  ['allowed', 'limit', 'remaining', 'retryAfterMs', 'resetMs'],
  { additionalProperties: false, $id: 'GatewayDecision' },
);

export const SettlementSchema = named('Settlement', {
  reservation: Type.String(),
  clientId: Type.String(),
  cost: Type.Integer({ minimum: 0, description: 'the cost of the first settlement, which counts' }),
  reserved: Type.Integer({ minimum: 1 }),
  limit: Limit,
  remaining: Count,
  resetMs: Count,
});

export const ProblemSchema = Type.Object(
  {
    type: Type.String(),
    code: Type.Unsafe<HttpErrorCode>(Type.String({ enum: Object.keys(HTTP_ERRORS) })),
    status: Type.Integer(),
    title: Type.String(),
    detail: Type.Optional(Type.String()),
    field: Type.Optional(Type.String()),
    expected: Type.Optional(Type.String()),
  },
  { $id: 'Problem' },
);

export const BatchAnswerSchema = named('BatchAnswer', {
  results: Type.Array(Type.Union([DecisionSchema, object({ error: ProblemSchema })])),
});

export const ClientSchema = named('Client', {
  clientId: Type.String(),
  owner: Type.String(),
  buckets: Type.Array(
    object({
      scope: Type.Optional(Type.String()),
      policy: Type.Optional(Type.String()),
      algorithm: Algorithm,
      windowMs: WindowMs,
      limit: Type.Integer({
        minimum: 1,
        maximum: MAX_LIMIT,
        description: 'the limit of the last request above 0; a request with limit 0 changes no bucket',
      }),
      remaining: Type.Integer({ minimum: 0, description: 'under that limit' }),
      resetMs: Count,
    }),
  ),
});

export const ClusterSchema = named('Cluster', {
  self: Type.String(),
  ringChecksum: Type.String({ description: 'equal on two nodes exactly if their rings are equal' }),
  epoch: Type.Optional(
    Type.Integer({ description: 'revision of etcd that the ring is built from, with etcd discovery' }),
  ),
  members: Type.Array(
    object({
      id: Type.String(),
      state: oneOf(['joining', 'active', 'suspect', 'leaving', 'dead']),
      share: Type.Number({ minimum: 0, maximum: 1, description: 'fraction of the ring that it owns' }),
      version: Type.String(),
      url: Type.Optional(Type.String({ description: 'its public address, for clients that ask the owner directly' })),
      incarnation: Type.Integer({ minimum: 1 }),
      silentMs: Type.Integer({
        minimum: 0,
        description: 'since this node last received a message from it; seconds are usual if it is no neighbour',
      }),
    }),
  ),
});

const Amount = Type.Number({ minimum: 0 });

export const DenialReportSchema = named('DenialReport', {
  denied: Type.Integer({
    minimum: 1,
    maximum: MAX_REPORTED,
    description: 'denials that a client has answered from memory; no sum in clients is larger',
  }),
  clients: Type.Array(
    object({
      clientId: Type.String({ minLength: 1, maxLength: MAX_CLIENT_ID_BYTES }),
      policy: Type.Optional(
        Type.Union([Type.String({ maxLength: 64 }), Type.Literal(true)], {
          description: 'true: the default policy; absent if the requests named their own limits',
        }),
      ),
      denied: Type.Integer({ minimum: 1, maximum: MAX_REPORTED }),
    }),
    { maxItems: MAX_LISTED, description: 'those that were denied most' },
  ),
});

export const TopSchema = named('Top', {
  by: oneOf(RANKINGS),
  span: Type.Union([Type.Literal('minute'), Type.Literal('hour')]),
  spanMs: Type.Integer({ description: 'counts decay exponentially: they fall to 1/e in this time' }),
  policy: Type.Optional(Type.String()),
  clients: Type.Array(
    object({
      clientId: Type.String(),
      policy: Type.Optional(Type.String({ description: 'absent if the requests named their own limits' })),
      count: Type.Number({ minimum: 0, description: 'at a steady rate: the amount in one span' }),
      error: Type.Number({ minimum: 0, description: 'the true count differs from count by at most this much' }),
      source: object(
        { node: Amount, sdk: Amount },
        'parts of count: answered by nodes, and by clients with the SDK from memory',
      ),
    }),
    { description: 'largest counts first' },
  ),
  missing: Type.Array(Type.String(), { description: 'members that did not answer; their counts are missing' }),
});

const BySource = Type.Unsafe<Record<Source, number>>(
  object(Object.fromEntries(SOURCES.map((source) => [source, Count]))),
);

export const StatsSchema = named('Stats', {
  members: Type.Array(
    object({
      id: Type.String(),
      stats: Type.Optional(
        object(
          {
            allowed: BySource,
            denied: BySource,
            problems: Count,
            durations: Type.Array(Count, {
              description: `requests by duration: up to each of ${DURATION_BOUNDS.join(', ')} seconds, then above all`,
            }),
            busyMs: Type.Number({ minimum: 0, description: 'time for which the event loop was busy' }),
            uptimeMs: Amount,
            memoryBytes: Amount,
            memoryBudgetBytes: Amount,
            clients: Amount,
            replicationLagMs: Amount,
            forwardsWaiting: Amount,
          },
          'counts from the start of the member; absent if it did not answer',
        ),
      ),
    }),
  ),
});

const WhoSchema = Type.Union([
  object({ token: Type.String(), address: Type.Optional(Type.String()), certificate: Type.Optional(Type.String()) }),
  object({ file: Type.String() }),
  object({ nodes: Type.Array(Type.String()) }),
]);

export const AuditSchema = named('Audit', {
  changes: Type.Array(
    object({
      atMs: Type.Integer({ description: 'ms since 1970' }),
      who: WhoSchema,
      what: Type.String(),
      target: Type.Optional(Type.String()),
      before: Type.Optional(Type.Unknown()),
      after: Type.Optional(Type.Unknown()),
    }),
    { description: 'newest first' },
  ),
});

export const OwnerSchema = named('Owner', {
  clientId: Type.String(),
  owner: Type.String(),
  successors: Type.Array(Type.String(), { description: 'nearest first' }),
  point: Type.Number({ minimum: 0, exclusiveMaximum: 1, description: "place of the client's hash in the key space" }),
});
