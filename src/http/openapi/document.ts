import type { TSchema } from '@sinclair/typebox';
import { MAX_BATCH } from '../../core/request.js';
import * as policySchemas from '../../validate/policy-schema.js';
import {
  GATEWAY_HEADERS,
  answer,
  askedWithAnyMethod,
  decisionAnswer,
  entryOperations,
  inPath,
  jsonBody,
  plain,
  problemAnswer,
  problems,
  rateLimitHeaders,
  ref,
} from './parts.js';
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
  Policy: policySchemas.PolicySchema,
  LoadReport: policySchemas.LoadReportSchema,
  Load: policySchemas.LoadSchema,
  PolicyList: policySchemas.PolicyListSchema,
  Override: policySchemas.OverrideSchema,
  Tier: policySchemas.TierSchema,
};

/** The public API as an OpenAPI 3.1 document, made from the schemas that check the requests. */
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
      '/v1/allow': {
        post: {
          operationId: 'allow',
          summary: 'Decide for one client',
          requestBody: jsonBody(ref('AllowRequest')),
          responses: {
            200: decisionAnswer('allowed (or denied, where TOKENRING_DENIED_STATUS is 200)'),
            429: decisionAnswer('denied; a decision, not an error'),
            ...problems('invalid_request', 'too_large', 'unsupported_media_type', 'overloaded'),
          },
        },
      },
      '/v1/allow/batch': {
        post: {
          operationId: 'allowBatch',
          summary: 'Decide 1 to 1000 requests, in order',
          requestBody: jsonBody({
            type: 'object',
            required: ['requests'],
            additionalProperties: false,
            properties: {
              requests: { type: 'array', minItems: 1, maxItems: MAX_BATCH, items: ref('AllowRequest') },
            },
          }),
          responses: {
            200: answer('a decision or a problem for each', ref('BatchAnswer')),
            ...problems('invalid_request', 'too_large', 'unsupported_media_type', 'overloaded'),
          },
        },
      },
      '/v1/check/nginx': {
        get: {
          operationId: 'checkNginx',
          summary: 'Decide for auth_request of nginx; without a body, in which it would not look',
          parameters: GATEWAY_HEADERS,
          responses: {
            200: { description: 'allowed', headers: rateLimitHeaders() },
            403: { description: 'denied, whatever TOKENRING_DENIED_STATUS is', headers: rateLimitHeaders() },
            ...problems('invalid_request', 'gateway_unauthorized', 'overloaded'),
          },
        },
      },
      '/v1/check/traefik': askedWithAnyMethod('checkTraefik', 'forwardAuth of Traefik'),
      '/v1/check/envoy': askedWithAnyMethod('checkEnvoy', 'ext_authz of Envoy'),
      '/v1/check/envoy/{path}': {
        parameters: [inPath('path', 'of the request that Envoy asks for, with all its slashes: not looked at')],
        ...askedWithAnyMethod('checkEnvoyPath', 'ext_authz of Envoy'),
      },
      '/v1/settle': {
        post: {
          operationId: 'settle',
          summary: 'Replace a reserved cost by the real one, once',
          requestBody: jsonBody(ref('SettleRequest')),
          responses: {
            200: answer('how it stands; the same again, where it was settled before', ref('Settlement')),
            ...problems('invalid_request', 'unknown_reservation', 'too_large', 'unsupported_media_type', 'unavailable'),
          },
        },
      },
      '/v1/clients/{clientId}': {
        parameters: [inPath('clientId')],
        get: {
          operationId: 'getClient',
          summary: 'What a client has consumed, consuming nothing',
          responses: { 200: answer('its buckets', ref('Client')), ...problems('invalid_request', 'unavailable') },
        },
        delete: {
          operationId: 'forgetClient',
          summary: 'Forget what a client has consumed, everywhere',
          security: [{ admin: [] }],
          responses: {
            204: { description: 'forgotten' },
            ...problems('invalid_request', 'unauthorized', 'forbidden', 'unavailable'),
          },
        },
      },
      '/v1/clients/{clientId}/overrides/{policy}': {
        parameters: [inPath('clientId'), inPath('policy')],
        ...entryOperations('Override', 'a limit of its own for one client under a policy', 'Override'),
      },
      '/v1/clients/{clientId}/tier': {
        parameters: [inPath('clientId')],
        ...entryOperations('Tier', 'the tier of a client', 'Tier'),
      },
      '/v1/policies': {
        get: {
          operationId: 'listPolicies',
          summary: 'All policies, and the version of them',
          responses: { 200: answer('policies by name', ref('PolicyList')), ...problems() },
        },
      },
      '/v1/policies/{policy}': {
        parameters: [inPath('policy')],
        ...entryOperations('Policy', 'a named policy', 'Policy'),
      },
      '/v1/load/{policy}': {
        parameters: [inPath('policy')],
        get: {
          operationId: 'getLoad',
          summary: 'The part of the limits of an adaptive policy that is in force here',
          responses: { 200: answer('the factor', ref('Load')), ...problems('not_found') },
        },
        put: {
          operationId: 'reportLoad',
          summary: 'Report the load of what an adaptive policy protects, about once a second',
          requestBody: jsonBody(ref('LoadReport')),
          responses: {
            200: answer('the factor so far: the next step counts the report', ref('Load')),
            ...problems('invalid_request', 'not_found', 'too_large', 'unsupported_media_type', 'unavailable'),
          },
        },
      },
      '/v1/cluster': {
        get: {
          operationId: 'getCluster',
          summary: 'The members, as this node sees them',
          responses: { 200: answer('members, their states and shares', ref('Cluster')), ...problems() },
        },
      },
      '/v1/cluster/owner': {
        get: {
          operationId: 'getOwner',
          summary: 'Who owns a client, and who takes over from it',
          parameters: [{ name: 'clientId', in: 'query', required: true, schema: { type: 'string' } }],
          responses: { 200: answer('ids of nodes, nearest first', ref('Owner')), ...problems('invalid_request') },
        },
      },
      '/healthz': { get: plain('health', 'Whether the process serves', 'it does') },
      '/readyz': {
        get: plain('ready', 'Whether new requests are to come here', 'they are', 'draining', 'unavailable'),
      },
      '/metrics': { get: plain('metrics', 'Prometheus metrics', 'in the text format') },
      '/openapi.json': {
        get: {
          operationId: 'openapi',
          summary: 'This document',
          responses: { 200: answer('OpenAPI 3.1', { type: 'object' }), ...problems() },
        },
      },
    },
    components: {
      responses: { Problem: problemAnswer(`any problem:\n\n${problemList()}`) },
      // A schema's $id is how TypeBox names it; in the document the key is the name.
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

/** The schema as plain JSON, with each named schema inside it as a reference. */
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
