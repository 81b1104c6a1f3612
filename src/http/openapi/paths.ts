import { MAX_BATCH } from '../../core/request.js';
import { MAX_LISTED, RANKINGS, SPANS_MS } from '../../core/top-clients.js';
import {
  GATEWAY_HEADERS,
  answer,
  askedWithAnyMethod,
  decisionAnswer,
  entryOperations,
  inPath,
  inQuery,
  jsonBody,
  plain,
  problems,
  rateLimitHeaders,
  ref,
} from './parts.js';

/** The addresses of the public API by resource, as OpenAPI path items. */
type Paths = Record<string, object>;

/** Describes decisions, and the settlement of reserved costs. */
export function decisionPaths(): Paths {
  return {
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
    '/v1/settle': {
      post: {
        operationId: 'settle',
        summary: 'Replace a reserved cost by its final amount, once',
        requestBody: jsonBody(ref('SettleRequest')),
        responses: {
          200: answer('the settlement; a repeat gets the first one', ref('Settlement')),
          ...problems('invalid_request', 'unknown_reservation', 'too_large', 'unsupported_media_type', 'unavailable'),
        },
      },
    },
  };
}

/** Describes decisions for gateways that ask by sub-request. */
export function gatewayPaths(): Paths {
  return {
    '/v1/check/nginx': {
      get: {
        operationId: 'checkNginx',
        summary: 'Decide for auth_request of nginx; the answer has no body',
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
      parameters: [inPath('path', 'the path of the request that Envoy asks about, with its slashes; ignored')],
      ...askedWithAnyMethod('checkEnvoyPath', 'ext_authz of Envoy'),
    },
  };
}

/** Describes the buckets, overrides, and tiers of clients. */
export function clientPaths(): Paths {
  return {
    '/v1/clients/{clientId}': {
      parameters: [inPath('clientId')],
      get: {
        operationId: 'getClient',
        summary: 'Show the buckets of a client, consuming nothing',
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
  };
}

/** Describes policies, and the load that adaptive policies follow. */
export function policyPaths(): Paths {
  return {
    '/v1/policies': {
      get: {
        operationId: 'listPolicies',
        summary: 'All policies and their version',
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
        summary: 'The factor on the limits of an adaptive policy',
        responses: { 200: answer('the factor', ref('Load')), ...problems('not_found') },
      },
      put: {
        operationId: 'reportLoad',
        summary: 'Report the load of the service behind an adaptive policy, about once a second',
        requestBody: jsonBody(ref('LoadReport')),
        responses: {
          200: answer('the factor before this report counts', ref('Load')),
          ...problems('invalid_request', 'not_found', 'too_large', 'unsupported_media_type', 'unavailable'),
        },
      },
    },
  };
}

/** Describes the members, and the state of this node. */
export function clusterPaths(): Paths {
  return {
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
        summary: 'The owner of a client and its successors',
        parameters: [{ name: 'clientId', in: 'query', required: true, schema: { type: 'string' } }],
        responses: { 200: answer('ids of nodes, nearest first', ref('Owner')), ...problems('invalid_request') },
      },
    },
    '/v1/top': {
      get: {
        operationId: 'getTop',
        summary: 'The clients that are denied most, ask most, or consume most, over all members',
        parameters: [
          inQuery('by', { enum: RANKINGS, default: 'denied' }, 'what to count: denials, requests, or tokens'),
          inQuery('span', { enum: Object.keys(SPANS_MS), default: 'minute' }, 'how fast counts decay'),
          inQuery('policy', { type: 'string' }, 'only requests under this policy'),
          inQuery('limit', { type: 'integer', minimum: 1, maximum: MAX_LISTED, default: 20 }, 'clients to list'),
        ],
        responses: { 200: answer('counts with their errors', ref('Top')), ...problems('invalid_request') },
      },
    },
    '/v1/stats': {
      get: {
        operationId: 'getStats',
        summary: 'Counters of each member',
        responses: { 200: answer('counters since the start of each member', ref('Stats')), ...problems() },
      },
    },
    '/healthz': { get: plain('health', 'Whether the process serves', 'it serves') },
    '/readyz': {
      get: plain('ready', 'Whether this node is ready for requests', 'it is ready', 'draining', 'unavailable'),
    },
    '/metrics': { get: plain('metrics', 'Prometheus metrics', 'in the text format') },
    '/openapi.json': {
      get: {
        operationId: 'openapi',
        summary: 'This document',
        responses: { 200: answer('OpenAPI 3.1', { type: 'object' }), ...problems() },
      },
    },
  };
}
