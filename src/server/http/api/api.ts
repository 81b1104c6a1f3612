import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import express from 'express';
import type { Request, RequestHandler, Response } from 'express';
import type { Registry } from 'prom-client';
import type { ClusterNode } from '../../../node/node.js';
import type { Access, Role } from '../../edge/access/access.js';
import { actorOf } from '../../edge/access/audit.js';
import type { Actor, AuditTrail } from '../../edge/access/audit.js';
import type { ActivePolicies } from '../../../policy/active-policies.js';
import type { PolicyWriter } from '../../../node/policies/policy-writer.js';
import type { ReadBody } from '../body.js';
import { BROWSER_HEADERS } from '../browser-headers.js';
import type { Health, HealthPath } from '../health.js';
import { describeCluster, describeOwner } from './cluster-view.js';
import { countProblem } from '../../edge/counters.js';
import type { Counters } from '../../edge/counters.js';
import type { DecisionHandlers } from '../decisions/handlers.js';
import type { ErrorLog } from '../../edge/edge.js';
import type { Turns } from '../../edge/turns.js';
import { createLoadHandlers } from './load.js';
import { openApiDocument } from '../openapi/document.js';
import { createEventStream } from './event-stream.js';
import { createObservationHandlers } from './observations.js';
import { createDocument } from '../page-file.js';
import { createPages, leadBrowsers } from '../pages.js';
import type { NodeEvents } from './node-events.js';
import { createPolicyHandlers } from './policies.js';
import { TokenringError } from '../../../lib/error.js';
import { readSettle, requireClientId } from '../../validate/request.js';
import { sendProblem } from '../send.js';
import { SharedAnswers } from '../shared-answers.js';
import { createClientHandlers } from './clients.js';

export interface ApiDeps {
  readonly cluster: Pick<ClusterNode, 'describe' | 'forget' | 'membership' | 'settler' | 'adaptive' | 'observer'>;
  readonly activePolicies: ActivePolicies;
  /** All changes of policies go through this writer. */
  readonly policyWriter: PolicyWriter<Actor>;
  readonly decisions: DecisionHandlers;
  readonly access: Access;
  readonly readBody: ReadBody;
  readonly auditTrail: AuditTrail;
  readonly events: NodeEvents;
  readonly counters: Counters;
  readonly metrics: Pick<Registry, 'metrics' | 'contentType'>;
  readonly health: Health;
  readonly turns: Turns;
  readonly isStopping: () => boolean;
  readonly log: ErrorLog;
}

/** Creates the public API on Express. The server answers most decision requests before they reach it. */
export function createApi(
  deps: ApiDeps,
  options: { version: string; maxInFlight: number; maxPolicyBytes?: number },
): RequestListener {
  const { cluster, activePolicies, decisions, access, readBody } = deps;
  const { auditTrail, counters, metrics, health, turns, log } = deps;
  const app = express();
  app.disable('x-powered-by').disable('etag');
  // Answers are never cached. Without this, Express answers 304 to `If-None-Match: *`.
  Object.defineProperty(app.request, 'fresh', { value: false });
  app.set('query parser', 'simple');
  const only =
    (role: Role): RequestHandler =>
    (req, res, next) => {
      const token = access.admit(req.headers.authorization, role);
      res.locals['who'] = actorOf(req, token);
      next();
    };
  const [admin, reader, asker] = [only('admin'), only('read'), only('decide')];

  /** Adds an address with a handler for each method, and answers 405 to other methods. */
  function route(path: string, methods: Record<string, RequestHandler | RequestHandler[]>): void {
    const at = app.route(path);
    for (const [method, handler] of Object.entries(methods)) at[method as 'get'](handler);
    const allow = Object.keys(methods).map((method) => method.toUpperCase());
    if (allow.includes('GET')) allow.push('HEAD');
    at.all(() => {
      throw new TokenringError('method_not_allowed', { expected: allow.join(', ') });
    });
  }

  app.all('/v1/allow', decisions.allow);
  app.all('/v1/allow/batch', decisions.batch);
  app.all('/v1/check/nginx', decisions.check.nginx);
  app.all(['/v1/check/forward-auth', '/v1/check/traefik'], decisions.check.forwardAuth);
  app.all(['/v1/check/envoy', '/v1/check/envoy/*path'], decisions.check.envoy);
  route('/v1/settle', {
    post: [
      asker,
      async (req, res) => {
        const { clientId, reservation, cost } = readSettle(await readBody(req));
        const settled = await cluster.settler.settle(clientId, reservation, cost);
        if (settled.kind === 'unknown') throw new TokenringError('unknown_reservation', { field: 'reservation' });
        if (settled.kind === 'unavailable')
          throw new TokenringError('unavailable', {
            detail: 'the owner does not answer; send it again: it counts once',
          });
        res.json({ reservation, clientId, ...settled.settlement });
      },
    ],
  });
  const client = createClientHandlers({ cluster, audit: auditTrail.audit, actorFrom });
  route('/v1/clients/:clientId', { get: [reader, client.describe], delete: [admin, client.forget] });
  const policies = createPolicyHandlers({ ...deps, actorFrom }, options);
  const guarded = ({ get, put, delete: remove }: typeof policies.policy): Record<string, RequestHandler[]> => {
    return { get: [reader, get], put: [admin, put], delete: [admin, remove] };
  };
  route('/v1/clients/:clientId/overrides/:policy', guarded(policies.override));
  route('/v1/clients/:clientId/tier', guarded(policies.tier));
  route('/v1/policies', { get: [reader, policies.list] });
  route('/v1/policies/:policy', guarded(policies.policy));
  const load = createLoadHandlers({ adaptive: cluster.adaptive, activePolicies, readBody });
  // The role `decide` is enough: its holder chooses limits anyway, and a report only ever makes limits smaller.
  route('/v1/load/:policy', { get: [reader, load.get], put: [asker, load.put] });
  route('/v1/cluster', { get: [reader, (_req, res) => void res.json(describeCluster(cluster.membership))] });
  route('/v1/cluster/owner', {
    get: [
      reader,
      (req, res) => {
        const clientId = req.query['clientId'];
        if (typeof clientId !== 'string')
          throw new TokenringError('invalid_request', { field: 'clientId', expected: 'one in the query' });
        requireClientId(clientId);
        res.json(describeOwner(cluster.membership, clientId));
      },
    ],
  });
  const { top, stats, denials } = createObservationHandlers(deps, () => performance.now());
  route('/v1/top', { get: [reader, top] });
  route('/v1/stats', { get: [reader, stats] });
  route('/v1/denials', { post: [asker, denials] });
  const events = createEventStream({
    ...deps,
    membership: cluster.membership,
    observer: cluster.observer,
  });
  route('/v1/events', { get: [reader, events] });
  route('/v1/audit', { get: [admin, (_req, res) => void res.json({ changes: auditTrail.recent() })] });
  // The server answers usual health checks itself. Here are other methods, and other forms of the addresses.
  const check =
    (path: HealthPath): RequestHandler =>
    (req, res) =>
      health.send(path, req, res);
  route('/healthz', { get: check('/healthz') });
  route('/readyz', { get: check('/readyz') });
  const scrapes = new SharedAnswers<string>(() => performance.now(), 0);
  route('/metrics', {
    get: [
      reader,
      async (_req, res) => {
        const text = await scrapes.get('', () => metrics.metrics());
        turns.run('other', () => res.setHeader('Content-Type', metrics.contentType).end(text));
      },
    ],
  });
  const openApi = JSON.stringify(openApiDocument(options.version));
  route('/openapi.json', { get: createDocument('application/json; charset=utf-8', openApi, turns) });
  for (const [path, get] of createPages(turns)) route(path, { get });
  app.use(leadBrowsers);

  function refuse(req: IncomingMessage, res: ServerResponse, error: unknown): void {
    if (res.headersSent) return void res.destroy();
    const problem = asProblem(error);
    if (problem.status === 500) log.error({ err: error, method: req.method, route: routeOf(req) }, 'a request failed');
    countProblem(counters, problem.code);
    sendProblem(req, res, problem);
  }

  let inFlight = 0;
  return (req, res) => {
    // Decision endpoints have no such headers, as a browser shows no answer to a POST of a script.
    for (let i = 0; i < BROWSER_HEADERS.length; i += 2) res.setHeader(BROWSER_HEADERS[i]!, BROWSER_HEADERS[i + 1]!);
    // Express calls this if no handler answered, if a handler threw, or if it cannot parse the address. Its router does
    // so by `setImmediate`, behind the end of the turn.
    const unanswered = (error?: unknown): void =>
      turns.run('other', () => refuse(req, res, error ?? new TokenringError('not_found')));
    if (inFlight >= options.maxInFlight) {
      return refuse(req, res, new TokenringError('overloaded', { detail: 'too many requests are in flight' }));
    }
    inFlight += 1;
    res.once('close', () => (inFlight -= 1));
    app(req as Request, res as Response, unanswered);
  };
}

function actorFrom(res: Response): Actor {
  return res.locals['who'] as Actor;
}

/** Returns the pattern of the address, as the address itself may contain a client id. */
function routeOf(req: IncomingMessage): unknown {
  return (req as Partial<{ route: { path: string } }>).route?.path;
}

function asProblem(error: unknown): TokenringError {
  if (error instanceof TokenringError) return error;
  // Express's router throws this error for an address with a broken percent encoding.
  if (error instanceof URIError)
    return new TokenringError('invalid_request', { field: 'path', expected: 'percent-encoded UTF-8' });
  return new TokenringError('internal', {}, { cause: error });
}
