import type { TSchema } from '@sinclair/typebox';
import * as policySchemas from '../../validate/policy-schema.js';
import { problemAnswer, ref } from './parts.js';
import { clientPaths, clusterPaths, decisionPaths, gatewayPaths, policyPaths } from './paths.js';
import { HTTP_ERRORS } from '../../core/error.js';
import * as schemas from '../../validate/schema.js';

const byName: Readonly<Record<string, TSchema>> = {
  Limit: schemas.LimitSchema,
  AllowRequest: schemas.AllowRequestSchema,
  LimitFigures: schemas.LimitFiguresSchema,
  Decision: schemas.DecisionSchema,
  GatewayDecision: schemas.GatewayDecisionSchema,
  SettleRequest: schemas.SettleRequestSchema,
  Settlement: schemas.SettlementSchema,
  Problem: schemas.ProblemSchema,
  BatchAnswer: schemas.BatchAnswerSchema,
  Client: schemas.ClientSchema,
  Cluster: schemas.ClusterSchema,
  Owner: schemas.OwnerSchema,
  Top: schemas.TopSchema,
  Stats: schemas.StatsSchema,
  Policy: policySchemas.PolicySchema,
  LoadReport: policySchemas.LoadReportSchema,
  Load: policySchemas.LoadSchema,
  PolicyList: policySchemas.PolicyListSchema,
  Override: policySchemas.OverrideSchema,
  Tier: policySchemas.TierSchema,
};

/** Returns the OpenAPI 3.1 document of the public API, built from the schemas that validate requests. */
export function openApiDocument(version: string): object {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tokenring',
      version,
      description: 'A distributed rate limiter: may this client do this now?',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    paths: {
      ...decisionPaths(),
      ...gatewayPaths(),
      ...clientPaths(),
      ...policyPaths(),
      ...clusterPaths(),
    },
    components: {
      responses: { Problem: problemAnswer(`any problem:\n\n${problemList()}`) },
      // TypeBox names a schema by its $id. In the document, the key is the name.
      schemas: Object.fromEntries(Object.entries(byName).map(([name, schema]) => [name, withReferences(schema, name)])),
      securitySchemes: {
        admin: {
          type: 'http',
          scheme: 'bearer',
          description:
            'a token with the role admin. A node may ask for one with decide or read elsewhere: all but /healthz, /readyz and /openapi.json',
        },
      },
    },
  };
}

/** Returns the schema as plain JSON, with a reference in place of each named schema inside it. */
function withReferences(schema: TSchema, self?: string): unknown {
  const { $id: id, ...rest } = JSON.parse(JSON.stringify(schema)) as Record<string, unknown>;
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk);
    if (typeof value !== 'object' || value === null) return value;
    const inner = value as Record<string, unknown>;
    if (typeof inner['$id'] === 'string' && inner['$id'] !== self) return ref(inner['$id']);
    return Object.fromEntries(Object.entries(inner).map(([key, member]) => [key, walk(member)]));
  };
  return id === self || self === undefined ? walk(rest) : ref(String(id));
}

function problemList(): string {
  return Object.entries(HTTP_ERRORS)
    .map(([code, { status, title }]) => `- ${status} \`${code}\`: ${title}`)
    .join('\n');
}
