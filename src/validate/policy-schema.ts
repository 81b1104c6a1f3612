import { Type } from '@sinclair/typebox';
import { LimitSchema } from './schema.js';

/** The shapes of policies, for the API's description; `core/check-policy.ts` checks them, in files and from peers too. */

const Version = Type.Optional(
  Type.Integer({ minimum: 0, description: 'of all policies; not part of what is written' }),
);
const { limit, window, windowMs, burst, algorithm } = LimitSchema.properties;
const limits = {
  limit: Type.Optional(limit),
  window,
  windowMs,
  burst,
  algorithm,
  limits: Type.Optional(
    Type.Array(LimitSchema, { minItems: 1, maxItems: 8, description: 'several, all or nothing, instead of one' }),
  ),
};
const strict = { additionalProperties: false };
const part = { exclusiveMinimum: 0, maximum: 1 };

export const PolicySchema = Type.Object(
  {
    name: Type.Optional(Type.String({ description: 'as in the address' })),
    ...limits,
    tiers: Type.Optional(
      Type.Record(Type.String(), Type.Object(limits, strict), { description: 'limits by the tier of the client' }),
    ),
    defaultTier: Type.Optional(Type.String({ description: 'of clients that have none of the tiers' })),
    onUnavailable: Type.Optional(
      Type.Union([Type.Literal('local'), Type.Literal('open'), Type.Literal('closed')], {
        description: 'when nobody who may decide answers; otherwise as the node is set',
      }),
    ),
    durability: Type.Optional(Type.Union([Type.Literal('async'), Type.Literal('replicated')], { default: 'async' })),
    shadow: Type.Optional(Type.Boolean({ default: false, description: 'decide and count, but never deny' })),
    adaptive: Type.Optional(
      Type.Object(
        {
          target: Type.Number({ ...part, description: 'the load to hold' }),
          min: Type.Number({ ...part, description: 'the least part of its limits that a client keeps' }),
          latencyMs: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 3_600_000 })),
          errors: Type.Optional(Type.Number(part)),
        },
        { ...strict, description: 'limits that follow the load of what they protect' },
      ),
    ),
    version: Version,
  },
  { ...strict, $id: 'Policy' },
);

export const PolicyListSchema = Type.Object(
  {
    version: Type.Integer({ minimum: 0 }),
    default: Type.Optional(Type.String({ description: 'of requests that name neither a policy nor a limit' })),
    policies: Type.Record(Type.String(), PolicySchema),
  },
  { ...strict, $id: 'PolicyList' },
);

export const OverrideSchema = Type.Object(
  { clientId: Type.Optional(Type.String()), policy: Type.Optional(Type.String()), ...limits, version: Version },
  { ...strict, $id: 'Override', description: 'without a window: in that of the policy, if it has one limit' },
);

export const TierSchema = Type.Object(
  { clientId: Type.Optional(Type.String()), tier: Type.String(), version: Version },
  { ...strict, $id: 'Tier' },
);

export const LoadReportSchema = Type.Object(
  {
    load: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: '0: idle, 1: at its limit' })),
    latencyMs: Type.Optional(Type.Number({ minimum: 0, maximum: 86_400_000, description: 'its 95th percentile' })),
    errors: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'the share of requests that failed' })),
  },
  { ...strict, $id: 'LoadReport' },
);

export const LoadSchema = Type.Object(
  {
    name: Type.String(),
    factor: Type.Number({ minimum: 0, maximum: 1, description: 'the part of its limits that is in force' }),
    load: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'that the report stands for' })),
  },
  { ...strict, $id: 'Load' },
);
