import type { TSchema } from '@sinclair/typebox';
import * as policySchemas from '../../validate/policy-schema.js';
import { problemAnswer, ref } from './parts.js';
import {
  clientPaths,
  clusterPaths,
  decisionPaths,
  gatewayPaths,
  nodePaths,
  policyPaths,
  observationPaths,
} from './paths.js';
import { HTTP_ERRORS } from '../../../lib/error.js';
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
  DenialReport: schemas.DenialReportSchema,
  Top: schemas.TopSchema,
  Stats: schemas.StatsSchema,
  Audit: schemas.AuditSchema,
  Policy: policySchemas.PolicySchema,
  LoadReport: policySchemas.LoadReportSchema,
  Load: policySchemas.LoadSchema,
  PolicyList: policySchemas.PolicyListSchema,
  Override: policySchemas.OverrideSchema,
  Tier: policySchemas.TierSchema,
  Deleted: policySchemas.DeletedSchema,
};

interface Group {
  readonly name: string;
  readonly description: string;
  readonly paths: (version: string) => Record<string, object>;
}

const GROUPS: readonly Group[] = [
  { name: 'Decisions', description: 'May this client do this now?', paths: decisionPaths },
  { name: 'Clients', description: 'Buckets, overrides, and tiers', paths: clientPaths },
  { name: 'Policies', description: 'Named limits, the same on every node', paths: policyPaths },
  { name: 'Cluster', description: 'Members and owners', paths: clusterPaths },
  { name: 'Observation', description: 'What members count, and what happens to them', paths: observationPaths },
  { name: 'Node', description: 'Health, metrics, and this document', paths: nodePaths },
  { name: 'Gateways', description: 'Decisions for gateways that ask by sub-request', paths: gatewayPaths },
];

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
    servers: [{ url: '/', description: 'this node' }],
    tags: GROUPS.map(({ name, description }) => ({ name, description })),
    paths: Object.assign({}, ...GROUPS.map(({ name, paths }) => tagged(name, paths(version)))) as object,
    components: {
      responses: { Problem: problemAnswer(`any problem:\n\n${problemList()}`, 'invalid_request') },
      // TypeBox names a schema by its $id. In the document, the key is the name.
      schemas: Object.fromEntries(Object.entries(byName).map(([name, schema]) => [name, withReferences(schema, name)])),
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description:
            'A token with the role that stands at the operation. Changes always need one; a node asks for it elsewhere if its token file requires the role.',
        },
      },
    },
  };
}

/** Adds the name of a group to each of its operations. */
function tagged(name: string, paths: Record<string, object>): Record<string, object> {
  const withTag = (item: object): object =>
    Object.fromEntries(
      Object.entries(item).map(([key, value]) => [
        key,
        key === 'parameters' ? (value as object) : { tags: [name], ...(value as object) },
      ]),
    );
  return Object.fromEntries(Object.entries(paths).map(([path, item]) => [path, withTag(item)]));
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
