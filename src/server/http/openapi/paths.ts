import { MAX_BATCH } from '../../../limits/request/request.js';
import { MAX_LISTED, RANKINGS, SPANS_MS } from '../../../limits/top-clients.js';
import * as examples from './examples.js';
import { CLIENT, POLICY } from './examples.js';
import {
  ADMIN,
  GATEWAY_HEADERS,
  OPEN,
  answer,
  askedWithAnyMethod,
  decisionAnswer,
  entryOperations,
  eventStream,
  inPath,
  inQuery,
  jsonBodies,
  jsonBody,
  maybe,
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
        security: maybe('decide'),
        requestBody: jsonBodies(ref('AllowRequest'), examples.ALLOW),
        responses: {
          200: decisionAnswer('allowed (or denied, where TOKENRING_DENIED_STATUS is 200)', examples.ALLOWED),
          429: decisionAnswer('denied; a decision, not an error', examples.DENIED),
          ...problems('invalid_request', 'too_large', 'unsupported_media_type', 'overloaded'),
        },
      },
    },
    '/v1/allow/batch': {
      post: {
        operationId: 'allowBatch',
        summary: `Decide 1 to ${MAX_BATCH} requests, in order`,
        security: maybe('decide'),
        requestBody: jsonBody(
          {
            type: 'object',
            required: ['requests'],
            additionalProperties: false,
            properties: {
              requests: {
                type: 'array',
                minItems: 1,
                maxItems: MAX_BATCH,
                items: ref('AllowRequest'),
              },
            },
          },
          examples.BATCH,
        ),
        responses: {
          200: answer('a decision or a problem for each', ref('BatchAnswer'), examples.BATCH_ANSWER),
          ...problems('invalid_request', 'too_large', 'unsupported_media_type', 'overloaded'),
        },
      },
    },
    '/v1/settle': {
      post: {
        operationId: 'settle',
        summary: 'Replace a reserved cost by its final amount, once',
        security: maybe('decide'),
        requestBody: jsonBody(ref('SettleRequest'), examples.SETTLE),
        responses: {
          200: answer('the settlement; a repeat gets the first one', ref('Settlement'), examples.SETTLEMENT),
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
        security: maybe('decide'),
        parameters: GATEWAY_HEADERS,
        responses: {
          200: { description: 'allowed', headers: rateLimitHeaders() },
          403: { description: 'denied, with any TOKENRING_DENIED_STATUS', headers: rateLimitHeaders() },
          ...problems('invalid_request', 'gateway_unauthorized', 'overloaded'),
        },
      },
    },
    '/v1/check/forward-auth': askedWithAnyMethod('checkForwardAuth', 'Caddy, HAProxy, Kong, and APISIX'),
    '/v1/check/traefik': askedWithAnyMethod('checkTraefik', 'forwardAuth of Traefik'),
    '/v1/check/envoy': askedWithAnyMethod('checkEnvoy', 'ext_authz of Envoy'),
    '/v1/check/envoy/{path}': {
      parameters: [inPath('path', 'cart', 'the path of the request that Envoy asks about, with its slashes; ignored')],
      ...askedWithAnyMethod('checkEnvoyPath', 'ext_authz of Envoy'),
    },
  };
}

/** Describes the buckets, overrides, and tiers of clients. */
export function clientPaths(): Paths {
  const client = inPath('clientId', CLIENT);
  return {
    '/v1/clients/{clientId}': {
      parameters: [client],
      get: {
        operationId: 'getClient',
        summary: 'Show the buckets of a client, consuming nothing',
        security: maybe('read'),
        responses: {
          200: answer('its buckets', ref('Client'), examples.CLIENT_BUCKETS),
          ...problems('invalid_request', 'unavailable'),
        },
      },
      delete: {
        operationId: 'forgetClient',
        summary: 'Forget what a client has consumed, everywhere',
        security: ADMIN,
        responses: {
          204: { description: 'forgotten' },
          ...problems('invalid_request', 'unauthorized', 'forbidden', 'unavailable'),
        },
      },
    },
    '/v1/clients/{clientId}/overrides/{policy}': {
      parameters: [client, inPath('policy', POLICY)],
      ...entryOperations(
        'Override',
        'a limit of its own for one client under a policy',
        'Override',
        examples.OVERRIDE_ENTRY,
      ),
    },
    '/v1/clients/{clientId}/tier': {
      parameters: [client],
      ...entryOperations('Tier', 'the tier of a client', 'Tier', examples.TIER_ENTRY),
    },
  };
}

/** Describes policies, and the load that adaptive policies follow. */
export function policyPaths(): Paths {
  const policy = inPath('policy', POLICY);
  return {
    '/v1/policies': {
      get: {
        operationId: 'listPolicies',
        summary: 'All policies and their version',
        security: maybe('read'),
        responses: {
          200: answer('policies by name', ref('PolicyList'), examples.POLICIES),
          ...problems('unauthorized'),
        },
      },
    },
    '/v1/policies/{policy}': {
      parameters: [policy],
      ...entryOperations('Policy', 'a named policy', 'Policy', examples.POLICY_ENTRY, {
        parameters: [
          {
            ...inQuery('force', { type: 'boolean', default: false }, 'delete it although it was used in the last hour'),
            example: true,
          },
        ],
        refusals: ['policy_in_use'],
      }),
    },
    '/v1/load/{policy}': {
      parameters: [policy],
      get: {
        operationId: 'getLoad',
        summary: 'The factor on the limits of an adaptive policy',
        security: maybe('read'),
        responses: { 200: answer('the factor', ref('Load'), examples.LOAD), ...problems('not_found') },
      },
      put: {
        operationId: 'reportLoad',
        summary: 'Report the load of the service behind an adaptive policy, about once a second',
        security: maybe('decide'),
        requestBody: jsonBody(ref('LoadReport'), examples.LOAD_REPORT),
        responses: {
          200: answer('the factor before this report counts', ref('Load'), {
            ...examples.LOAD,
            ...examples.LOAD_REPORT,
          }),
          ...problems('invalid_request', 'not_found', 'too_large', 'unsupported_media_type', 'unavailable'),
        },
      },
    },
  };
}

/** Describes the members, and what they count. */
export function clusterPaths(): Paths {
  return {
    '/v1/cluster': {
      get: {
        operationId: 'getCluster',
        summary: 'The members, as this node sees them',
        security: maybe('read'),
        responses: {
          200: answer('members, their states and shares', ref('Cluster'), examples.CLUSTER),
          ...problems('unauthorized'),
        },
      },
    },
    '/v1/cluster/owner': {
      get: {
        operationId: 'getOwner',
        summary: 'The owner of a client, its successors, and its place on the ring',
        security: maybe('read'),
        parameters: [{ name: 'clientId', in: 'query', required: true, example: CLIENT, schema: { type: 'string' } }],
        responses: {
          200: answer('ids of nodes, nearest first', ref('Owner'), examples.OWNER_OF_CLIENT),
          ...problems('invalid_request'),
        },
      },
    },
  };
}

/** Describes what all members count, and what happens to a node. */
export function observationPaths(): Paths {
  return {
    '/v1/top': {
      get: {
        operationId: 'getTop',
        summary: 'The clients that are denied most, ask most, or consume most, over all members',
        security: maybe('read'),
        parameters: [
          inQuery('by', { enum: RANKINGS, default: 'denied' }, 'what to count: denials, requests, or tokens'),
          inQuery('span', { enum: Object.keys(SPANS_MS), default: 'minute' }, 'how fast counts decay'),
          inQuery('policy', { type: 'string' }, 'only requests under this policy'),
          inQuery('limit', { type: 'integer', minimum: 1, maximum: MAX_LISTED, default: 20 }, 'clients to list'),
        ],
        responses: {
          200: answer('counts with their errors', ref('Top'), examples.TOP),
          ...problems('invalid_request'),
        },
      },
    },
    '/v1/denials': {
      post: {
        operationId: 'reportDenials',
        summary:
          'Report denials that a client has answered from memory, for counters and /v1/top; no decision uses them',
        security: maybe('decide'),
        requestBody: jsonBody(ref('DenialReport'), examples.DENIAL_REPORT),
        responses: {
          204: { description: 'counted' },
          ...problems('invalid_request', 'too_large', 'unsupported_media_type', 'overloaded'),
        },
      },
    },
    '/v1/stats': {
      get: {
        operationId: 'getStats',
        summary: 'Counters of each member',
        security: maybe('read'),
        responses: {
          200: answer('counters since the start of each member', ref('Stats'), examples.STATS),
          ...problems('unauthorized'),
        },
      },
    },
    '/v1/events': {
      get: {
        operationId: 'getEvents',
        summary:
          'What happens to this node, and once a second what /v1/cluster and /v1/stats answer, until either ends',
        security: maybe('read'),
        parameters: [
          { name: 'Last-Event-ID', in: 'header', description: 'the last event seen', schema: { type: 'string' } },
        ],
        responses: {
          200: eventStream('server-sent events of the types event and sample', examples.EVENTS),
          ...problems('invalid_request', 'unauthorized', 'overloaded'),
        },
      },
    },
    '/v1/audit': {
      get: {
        operationId: 'getAudit',
        summary: 'The last changes that were made through this node, at most 200',
        security: ADMIN,
        responses: {
          200: answer('newest first', ref('Audit'), examples.AUDIT),
          ...problems('unauthorized', 'forbidden'),
        },
      },
    },
  };
}

/** Describes what a node says of itself. */
export function nodePaths(version: string): Paths {
  return {
    '/healthz': {
      get: {
        operationId: 'health',
        summary: 'Whether the process serves',
        security: OPEN,
        responses: { 200: plain('it serves', 'ok\n'), ...problems('headers_too_large') },
      },
    },
    '/readyz': {
      get: {
        operationId: 'ready',
        summary: 'Whether this node is ready for requests',
        security: OPEN,
        responses: {
          200: plain('it is ready', 'ready\n'),
          ...problems('headers_too_large', 'draining', 'unavailable'),
        },
      },
    },
    '/metrics': {
      get: {
        operationId: 'metrics',
        summary: 'Prometheus metrics',
        security: maybe('read'),
        responses: { 200: plain('in the text format', examples.METRICS), ...problems('unauthorized') },
      },
    },
    '/openapi.json': {
      get: {
        operationId: 'openapi',
        summary: 'This document',
        security: OPEN,
        responses: {
          200: answer('OpenAPI 3.1', { type: 'object' }, examples.openApiExample(version)),
          ...problems('headers_too_large'),
        },
      },
    },
  };
}
