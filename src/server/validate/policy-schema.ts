import { Type } from '@sinclair/typebox';
import { limitFields } from './schema.js';
import { named, object } from './validator.js';

/**
 * The shapes of policies for the OpenAPI document. `policy/check-policy.ts` validates policies of the API, files, and
 * peers.
 */

const Version = Type.Optional(Type.Integer({ minimum: 0, description: 'version of all policies; ignored in a PUT' }));
const Warnings = Type.Optional(
  Type.Array(Type.String(), { description: 'what the limits may not mean as they are written; ignored in a PUT' }),
);
const part = { exclusiveMinimum: 0, maximum: 1 };

export const PolicySchema = named('Policy', {
  name: Type.Optional(Type.String({ description: 'as in the address' })),
  ...limitFields,
  tiers: Type.Optional(
    Type.Record(Type.String(), object(limitFields), { description: 'limits by the tier of the client' }),
  ),
  defaultTier: Type.Optional(Type.String({ description: 'the tier of clients without one' })),
  onUnavailable: Type.Optional(
    Type.Union([Type.Literal('local'), Type.Literal('open'), Type.Literal('closed')], {
      description: 'when neither the owner nor a successor answers; default: the setting of the node',
    }),
  ),
  durability: Type.Optional(Type.Union([Type.Literal('async'), Type.Literal('replicated')], { default: 'async' })),
  shadow: Type.Optional(Type.Boolean({ default: false, description: 'decide and count, but never deny' })),
  adaptive: Type.Optional(
    object(
      {
        target: Type.Number({ ...part, description: 'the load to hold' }),
        min: Type.Number({ ...part, description: 'the smallest factor on the limits' }),
        latencyMs: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 3_600_000 })),
        errors: Type.Optional(Type.Number(part)),
      },
      'limits that follow the load of the protected service',
    ),
  ),
  version: Version,
  warnings: Warnings,
});

const EnvoyRuleSchema = object(
  {
    entries: Type.Array(Type.String(), {
      minItems: 1,
      maxItems: 16,
      description: 'the entries of a descriptor, in order: "key", "key=value", or "key=pattern" with *',
    }),
    policy: Type.Optional(Type.String()),
    unlimited: Type.Optional(Type.Literal(true, { description: 'instead of a policy: no limit' })),
    client: Type.Optional(
      Type.String({ description: 'the id of the client; {key} is the value of an entry; default: domain and entries' }),
    ),
    name: Type.Optional(Type.String({ description: 'default: the name of the policy' })),
    replaces: Type.Optional(Type.Array(Type.String(), { maxItems: 16, description: 'names of rules' })),
    shadow: Type.Optional(Type.Boolean({ default: false, description: 'decide and count, but never deny' })),
    headers: Type.Optional(Type.Boolean({ default: false, description: 'add RateLimit headers to the response' })),
  },
  'the first rule that a descriptor meets applies',
);

export const PolicyListSchema = named('PolicyList', {
  version: Type.Integer({ minimum: 0 }),
  default: Type.Optional(Type.String({ description: 'the policy of requests that name neither a policy nor a limit' })),
  policies: Type.Record(Type.String(), PolicySchema),
  envoy: Type.Optional(
    Type.Record(Type.String(), Type.Array(EnvoyRuleSchema), {
      description: "rules for descriptors of Envoy's rate limit service, by domain",
    }),
  ),
});

export const OverrideSchema = named(
  'Override',
  {
    clientId: Type.Optional(Type.String()),
    policy: Type.Optional(Type.String()),
    ...limitFields,
    version: Version,
    warnings: Warnings,
  },
  'without a window, the window of the policy counts, if that has one limit',
);

export const TierSchema = named('Tier', {
  clientId: Type.Optional(Type.String()),
  tier: Type.String(),
  version: Version,
});

export const DeletedSchema = named('Deleted', {
  name: Type.Optional(Type.String({ description: 'of a policy' })),
  clientId: Type.Optional(Type.String({ description: 'of an override or a tier' })),
  policy: Type.Optional(Type.String({ description: 'of an override' })),
  version: Type.Integer({ minimum: 0, description: 'version of all policies without this entry' }),
});

export const LoadReportSchema = named('LoadReport', {
  load: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: '0: idle, 1: at its limit' })),
  latencyMs: Type.Optional(
    Type.Number({ minimum: 0, maximum: 86_400_000, description: '95th percentile of the response time' }),
  ),
  errors: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'fraction of requests that failed' })),
});

export const LoadSchema = named('Load', {
  name: Type.String(),
  factor: Type.Number({ minimum: 0, maximum: 1, description: 'factor on the limits' }),
  load: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'the load that the report amounts to' })),
});
