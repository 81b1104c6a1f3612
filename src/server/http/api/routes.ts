import { Type, type TSchema } from '@sinclair/typebox';
import type { RequestHandler } from 'express';
import { MAX_BATCH } from '../../../limits/request/request.js';
import { MAX_LISTED, RANKINGS, SPANS_MS } from '../../../limits/top-clients.js';
import type { HttpErrorCode } from '../../../lib/error.js';
import * as policySchemas from '../../validate/policy-schema.js';
import * as schemas from '../../validate/schema.js';
import { object } from '../../validate/validator.js';
import type { DecisionHandlers } from '../decisions/handlers.js';
import * as examples from './examples.js';
import {
  METHODS,
  type Answer,
  type Group,
  type Method,
  type Operation,
  type Parameter,
  type PathItem,
  type Paths,
} from './openapi.js';

/** The handlers of GET, PUT, and DELETE of one kind of entries in the policies. */
export type EntryHandlers = Readonly<Record<'get' | 'put' | 'delete', RequestHandler>>;

export interface Handlers {
  readonly decisions: DecisionHandlers;
  readonly settle: RequestHandler;
  readonly client: Readonly<Record<'get' | 'delete', RequestHandler>>;
  readonly policies: Readonly<Record<'policy' | 'override' | 'tier', EntryHandlers> & { list: RequestHandler }>;
  readonly load: Readonly<Record<'get' | 'put', RequestHandler>>;
  readonly cluster: Readonly<Record<'members' | 'owner', RequestHandler>>;
  readonly observations: Readonly<Record<'top' | 'denials' | 'stats' | 'events' | 'audit', RequestHandler>>;
  readonly node: Readonly<Record<'healthz' | 'readyz' | 'metrics' | 'openapi', RequestHandler>>;
}

const text = Type.String();

function op(
  role: Operation['role'],
  id: string,
  summary: string,
  rest: Omit<Operation, 'id' | 'summary' | 'role'>,
): Operation {
  return { id, summary, role, ...rest };
}

function ok(description: string, schema: TSchema, example: unknown): Operation['answers'] {
  return { 200: { description, schema, example } };
}

function okText(description: string, example: string, type = 'text/plain'): Operation['answers'] {
  return { 200: { type, description, example } };
}

function query(name: string, schema: object, description: string, example?: unknown): Parameter {
  return { name, in: 'query', description, schema: Type.Unsafe(schema), example };
}

function header(name: string, description: string, example?: string): Parameter {
  return { name, in: 'header', description, schema: text, example };
}

/**
 * The addresses of the public API. Express gets its handlers from here, and the OpenAPI document is made from the same
 * entries.
 */
export function routesOf(to: Handlers, version: string): readonly Group[] {
  return [
    { name: 'Decisions', description: 'May this client do this now?', paths: decisionPaths(to) },
    { name: 'Clients', description: 'Buckets, overrides, and tiers', paths: clientPaths(to) },
    { name: 'Policies', description: 'Named limits, the same on every node', paths: policyPaths(to) },
    { name: 'Cluster', description: 'Members and owners', paths: clusterPaths(to) },
    {
      name: 'Observation',
      description: 'What members count, and what happens to them',
      paths: observationPaths(to),
    },
    { name: 'Node', description: 'Health, metrics, and this document', paths: nodePaths(to, version) },
    { name: 'Gateways', description: 'Decisions for gateways that ask by sub-request', paths: gatewayPaths(to) },
  ];
}

function decisionPaths({ decisions, settle }: Handlers): Paths {
  const decision = (description: string, of: examples.Examples): Answer => {
    return { description, schema: schemas.DecisionSchema, examples: of, headers: 'rate limit' };
  };
  const requests = Type.Array(schemas.AllowRequestSchema, { minItems: 1, maxItems: MAX_BATCH });
  const batch = { requests, requestId: Type.Optional(schemas.BatchIdSchema) };
  return {
    '/v1/allow': {
      all: decisions.allow as RequestHandler,
      post: op('decide', 'allow', 'Decide for one client', {
        body: { schema: schemas.AllowRequestSchema, examples: examples.ALLOW },
        answers: {
          200: decision('allowed (or denied, where TOKENRING_DENIED_STATUS is 200)', examples.ALLOWED),
          429: decision('denied; a decision, not an error', examples.DENIED),
        },
        problems: ['overloaded'],
      }),
    },
    '/v1/allow/batch': {
      all: decisions.batch as RequestHandler,
      post: op('decide', 'allowBatch', `Decide 1 to ${MAX_BATCH} requests, in order`, {
        body: { schema: object(batch), example: examples.BATCH },
        answers: ok('a decision or a problem for each', schemas.BatchAnswerSchema, examples.BATCH_ANSWER),
        problems: ['overloaded'],
      }),
    },
    '/v1/settle': {
      post: op('decide', 'settle', 'Replace a reserved cost by its final amount, once', {
        body: { schema: schemas.SettleRequestSchema, example: examples.SETTLE },
        answers: ok('the settlement; a repeat gets the first one', schemas.SettlementSchema, examples.SETTLEMENT),
        problems: ['unknown_reservation', 'unavailable'],
        handle: settle,
      }),
    },
  };
}

const GATEWAY: Pick<Operation, 'parameters' | 'problems'> = {
  parameters: [
    { ...header('X-Tokenring-Policy', 'the name of a policy', examples.POLICY), required: true },
    header('X-Tokenring-Client', 'the client: 1 to 256 bytes of UTF-8, not decoded further', examples.CALLER),
    header(
      'X-Tokenring-Client-From',
      'instead of X-Tokenring-Client: the name of the header whose value is the client',
    ),
    header('X-Tokenring-Cost', 'a whole number from 1 to 1000000000; default 1', '1'),
    header('X-Tokenring-Scope', 'another set of buckets of the same client: 1 to 128 bytes of UTF-8', 'reports'),
  ],
  problems: ['invalid_request', 'overloaded'],
};

function gatewayPaths({ decisions: { check } }: Handlers): Paths {
  const denied = 'denied, with any TOKENRING_DENIED_STATUS';
  const answer = (description: string, example: unknown): Answer => {
    return { description, schema: schemas.GatewayDecisionSchema, example, headers: 'rate limit' };
  };
  const anyMethod = (id: string, gateway: string, all: unknown): PathItem => {
    const summary = `Decide for ${gateway}, which may ask with any method; a body is not read`;
    const answers = { 200: answer('allowed', examples.GATEWAY_ALLOWED), 429: answer(denied, examples.GATEWAY_DENIED) };
    const idOf = (method: Method): string =>
      method === 'get' ? id : `${id}By${method[0]!.toUpperCase()}${method.slice(1)}`;
    const operations = METHODS.map((method) => [method, op('decide', idOf(method), summary, { ...GATEWAY, answers })]);
    return { all: all as RequestHandler, ...(Object.fromEntries(operations) as PathItem) };
  };
  return {
    '/v1/check/nginx': {
      all: check.nginx as RequestHandler,
      get: op('decide', 'checkNginx', 'Decide for auth_request of nginx; the answer has no body', {
        ...GATEWAY,
        answers: {
          200: { description: 'allowed', headers: 'rate limit' },
          403: { description: denied, headers: 'rate limit' },
        },
      }),
    },
    '/v1/check/forward-auth': anyMethod('checkForwardAuth', 'Caddy, HAProxy, Kong, and APISIX', check.forwardAuth),
    '/v1/check/traefik': anyMethod('checkTraefik', 'forwardAuth of Traefik', check.forwardAuth),
    '/v1/check/envoy': anyMethod('checkEnvoy', 'ext_authz of Envoy', check.envoy),
    '/v1/check/envoy/{path}': anyMethod('checkEnvoyPath', 'ext_authz of Envoy', check.envoy),
  };
}

const IF_MATCH = header('If-Match', 'a version or an ETag; if the policies have another version, the answer is 412');
const IF_NONE_MATCH: Parameter = {
  ...header('If-None-Match', '`*`; if the entry exists, the answer is 412'),
  schema: Type.Unsafe({ type: 'string', enum: ['*'] }),
};

/** GET, PUT, and DELETE of an entry of the policies. */
function entryMethods(
  entry: { readonly name: string; readonly what: string; readonly schema: TSchema },
  { sent, found, deleted }: examples.EntryExamples,
  handlers: EntryHandlers,
  deletion: { readonly parameters: readonly Parameter[]; readonly problems: readonly HttpErrorCode[] } = NOTHING_MORE,
): PathItem {
  const { name, what, schema } = entry;
  const answers: Operation['answers'] = {
    200: { description: `${what}, and the version`, schema, example: found, headers: 'version' },
  };
  const changed = ['invalid_request', 'not_found', 'precondition_failed', 'unavailable'] as const;
  return {
    get: op('read', `get${name}`, `Show ${what}`, { answers, problems: ['not_found'], handle: handlers.get }),
    put: op('admin', `put${name}`, `Set ${what}, on every node`, {
      parameters: [IF_MATCH, IF_NONE_MATCH],
      body: { schema, example: sent },
      answers,
      problems: [...changed, 'too_many_policies'],
      handle: handlers.put,
    }),
    delete: op('admin', `delete${name}`, `Delete ${what}, on every node`, {
      parameters: [IF_MATCH, ...deletion.parameters],
      answers: ok('the version', policySchemas.DeletedSchema, deleted),
      problems: [...changed, ...deletion.problems],
      handle: handlers.delete,
    }),
  };
}

const NOTHING_MORE = { parameters: [], problems: [] };

function clientPaths({ client, policies }: Handlers): Paths {
  const { OverrideSchema, TierSchema } = policySchemas;
  const override = 'a limit of its own for one client under a policy';
  const problems = ['invalid_request', 'unavailable'] as const;
  return {
    '/v1/clients/{clientId}': {
      get: op('read', 'getClient', 'Show the buckets of a client, consuming nothing', {
        answers: ok('its buckets', schemas.ClientSchema, examples.CLIENT_BUCKETS),
        problems,
        handle: client.get,
      }),
      delete: op('admin', 'forgetClient', 'Forget what a client has consumed, everywhere', {
        answers: { 204: { description: 'forgotten' } },
        problems,
        handle: client.delete,
      }),
    },
    '/v1/clients/{clientId}/overrides/{policy}': entryMethods(
      { name: 'Override', what: override, schema: OverrideSchema },
      examples.OVERRIDE_ENTRY,
      policies.override,
    ),
    '/v1/clients/{clientId}/tier': entryMethods(
      { name: 'Tier', what: 'the tier of a client', schema: TierSchema },
      examples.TIER_ENTRY,
      policies.tier,
    ),
  };
}

function policyPaths({ policies, load }: Handlers): Paths {
  const { LoadReportSchema, LoadSchema, PolicyListSchema, PolicySchema } = policySchemas;
  const force = { type: 'boolean', default: false };
  const forced = query('force', force, 'delete it although it was used in the last hour', true);
  const reported = { ...examples.LOAD, ...examples.LOAD_REPORT };
  return {
    '/v1/policies': {
      get: op('read', 'listPolicies', 'All policies and their version', {
        answers: ok('policies by name', PolicyListSchema, examples.POLICIES),
        handle: policies.list,
      }),
    },
    '/v1/policies/{policy}': entryMethods(
      { name: 'Policy', what: 'a named policy', schema: PolicySchema },
      examples.POLICY_ENTRY,
      policies.policy,
      { parameters: [forced], problems: ['policy_in_use'] },
    ),
    '/v1/load/{policy}': {
      get: op('read', 'getLoad', 'The factor on the limits of an adaptive policy', {
        answers: ok('the factor', LoadSchema, examples.LOAD),
        problems: ['not_found'],
        handle: load.get,
      }),
      // `decide` is enough, as its holder chooses limits anyway, and a report only ever makes limits smaller.
      put: op('decide', 'reportLoad', 'Report the load of the service behind an adaptive policy, about once a second', {
        body: { schema: LoadReportSchema, example: examples.LOAD_REPORT },
        answers: ok('the factor before this report counts', LoadSchema, reported),
        problems: ['not_found', 'unavailable'],
        handle: load.put,
      }),
    },
  };
}

function clusterPaths({ cluster }: Handlers): Paths {
  return {
    '/v1/cluster': {
      get: op('read', 'getCluster', 'The members, as this node sees them', {
        answers: ok('members, their states and shares', schemas.ClusterSchema, examples.CLUSTER),
        handle: cluster.members,
      }),
    },
    '/v1/cluster/owner': {
      get: op('read', 'getOwner', 'The owner of a client, its successors, and its place on the ring', {
        parameters: [{ name: 'clientId', in: 'query', required: true, example: examples.CLIENT, schema: text }],
        answers: ok('ids of nodes, nearest first', schemas.OwnerSchema, examples.OWNER_OF_CLIENT),
        problems: ['invalid_request'],
        handle: cluster.owner,
      }),
    },
  };
}

const TOP_PARAMETERS = [
  query('by', { enum: RANKINGS, default: 'denied' }, 'what to count: denials, requests, or tokens'),
  query('span', { enum: Object.keys(SPANS_MS), default: 'minute' }, 'how fast counts decay'),
  query('policy', { type: 'string' }, 'only requests under this policy'),
  query('limit', { type: 'integer', minimum: 1, maximum: MAX_LISTED, default: 20 }, 'clients to list'),
];

function observationPaths({ observations: { top, denials, stats, events, audit } }: Handlers): Paths {
  const { TopSchema, DenialReportSchema, StatsSchema, AuditSchema } = schemas;
  const ofDenials =
    'Report denials that a client has answered from memory, for counters and /v1/top; no decision uses them';
  const ofEvents =
    'What happens to this node, and once a second what /v1/cluster and /v1/stats answer, until either ends';
  return {
    '/v1/top': {
      get: op('read', 'getTop', 'The clients that are denied most, ask most, or consume most, over all members', {
        parameters: TOP_PARAMETERS,
        answers: ok('counts with their errors', TopSchema, examples.TOP),
        problems: ['invalid_request'],
        handle: top,
      }),
    },
    '/v1/denials': {
      post: op('decide', 'reportDenials', ofDenials, {
        body: { schema: DenialReportSchema, example: examples.DENIAL_REPORT },
        answers: { 204: { description: 'counted' } },
        problems: ['overloaded'],
        handle: denials,
      }),
    },
    '/v1/stats': {
      get: op('read', 'getStats', 'Counters of each member', {
        answers: ok('counters since the start of each member', StatsSchema, examples.STATS),
        handle: stats,
      }),
    },
    '/v1/events': {
      get: op('read', 'getEvents', ofEvents, {
        parameters: [header('Last-Event-ID', 'the last event seen')],
        answers: okText('server-sent events of the types event and sample', examples.EVENTS, 'text/event-stream'),
        problems: ['invalid_request', 'overloaded'],
        handle: events,
      }),
    },
    '/v1/audit': {
      get: op('admin', 'getAudit', 'The last changes that were made through this node, at most 200', {
        answers: ok('newest first', AuditSchema, examples.AUDIT),
        handle: audit,
      }),
    },
  };
}

function nodePaths({ node }: Handlers, version: string): Paths {
  const openapi = examples.openApiExample(version);
  return {
    '/healthz': {
      get: op('open', 'health', 'Whether the process serves', {
        answers: okText('it serves', 'ok\n'),
        handle: node.healthz,
      }),
    },
    '/readyz': {
      get: op('open', 'ready', 'Whether this node is ready for requests', {
        answers: okText('it is ready', 'ready\n'),
        problems: ['draining', 'unavailable'],
        handle: node.readyz,
      }),
    },
    '/metrics': {
      get: op('read', 'metrics', 'Prometheus metrics', {
        answers: okText('in the text format', examples.METRICS),
        handle: node.metrics,
      }),
    },
    '/openapi.json': {
      get: op('open', 'openapi', 'This document', {
        answers: ok('OpenAPI 3.1', Type.Unsafe({ type: 'object' }), openapi),
        handle: node.openapi,
      }),
    },
  };
}
