import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import express, { type Request, type RequestHandler, type Response } from 'express';
import type { Registry } from 'prom-client';
import type { ClusterNode } from '../../../node/node.js';
import type { Role } from '../../edge/access.js';
import { actorOf, type Actor, type AuditTrail } from '../../edge/audit.js';
import type { ActivePolicies } from '../../../policy/active-policies.js';
import type { PolicyWriter } from '../../../node/policies/policy-writer.js';
import type { BodyReader } from '../body.js';
import type { Health } from '../health.js';
import { describeCluster, describeOwner } from './cluster-view.js';
import type { DecisionHandlers } from '../decisions/handlers.js';
import type { ServerContext } from '../../edge/server-context.js';
import { LoadEndpoints } from './load.js';
import { openApiDocument, type Group, type PathItem } from './openapi.js';
import { routesOf, type Handlers } from './routes.js';
import { EventStream } from './event-stream.js';
import { ObservationEndpoints } from './observations.js';
import { Document, redirectToDashboard, pageHandlers } from '../pages.js';
import type { NodeEvents } from './node-events.js';
import { actorFrom, clientIdOf, PolicyEndpoints } from './policies.js';
import { TokenringError } from '../../../lib/error.js';
import { requireClientId } from '../../validate/request.js';
import type { ClientCalls } from '../../edge/client-calls.js';
import { BROWSER_HEADERS, sendProblem } from '../send.js';
import { Coalescer } from '../coalescer.js';

/** The public API on Express. The server answers most decision requests before they reach it. */
export class Api {
  private readonly app = express();
  private readonly scrapes = new Coalescer<string>(() => performance.now(), 0);
  private inFlight = 0;

  /**
   * @param parts.policyWriter all changes of policies go through it
   * @param parts.maxInFlight bound of the requests that are answered at once
   * @param parts.maxPolicyBytes bound of all policies as JSON, for errors
   */
  constructor(
    private readonly parts: {
      readonly context: Pick<ServerContext, 'access' | 'counters' | 'elapsedMs' | 'log' | 'stage' | 'turns'>;
      readonly cluster: Pick<ClusterNode, 'admin' | 'membership' | 'adaptive' | 'observer'>;
      readonly calls: ClientCalls;
      readonly activePolicies: ActivePolicies;
      readonly policyWriter: PolicyWriter<Actor>;
      readonly decisions: DecisionHandlers;
      readonly bodies: BodyReader;
      readonly auditTrail: AuditTrail;
      readonly events: NodeEvents;
      readonly metrics: Pick<Registry, 'metrics' | 'contentType'>;
      readonly health: Health;
      readonly version: string;
      readonly maxInFlight: number;
      readonly maxPolicyBytes: number;
    },
  ) {
    const { app } = this;
    app.disable('x-powered-by').disable('etag');
    // Answers are never cached. Without this, Express answers 304 to `If-None-Match: *`.
    Object.defineProperty(app.request, 'fresh', { value: false });
    app.set('query parser', 'simple');
    const { version } = parts;
    const { turns } = parts.context;
    const groups: readonly Group[] = routesOf(
      this.handlers((req, res) => document.send(req, res)),
      version,
    );
    const text = JSON.stringify(openApiDocument(groups, version));
    // One of the routes, whose text tells of all of them.
    const document = Document.ofText('application/json; charset=utf-8', text, turns);
    for (const { paths } of groups) for (const [path, item] of Object.entries(paths)) this.add(path, item);
    for (const [path, get] of pageHandlers(turns)) this.addMethods(path, { get: [get] });
    app.use(redirectToDashboard);
  }

  /** Answers a request. */
  readonly answer: RequestListener = (req, res) => {
    // Decision endpoints have no such headers, as a browser shows no answer to a POST of a script.
    for (let i = 0; i < BROWSER_HEADERS.length; i += 2) res.setHeader(BROWSER_HEADERS[i]!, BROWSER_HEADERS[i + 1]!);
    // Express calls this if no handler answered, if a handler threw, or if it cannot parse the address. Its router does
    // so by `setImmediate`, behind the end of the turn.
    const unanswered = (error?: unknown): void =>
      this.parts.context.turns.run('other', () => this.refuse(req, res, error ?? new TokenringError('not_found')));
    if (this.inFlight >= this.parts.maxInFlight) {
      return this.refuse(req, res, new TokenringError('overloaded', { detail: 'too many requests are in flight' }));
    }
    this.inFlight += 1;
    res.once('close', () => (this.inFlight -= 1));
    this.app(req as Request, res as Response, unanswered);
  };

  private handlers(openapi: RequestHandler): Handlers {
    const { context, cluster, calls, activePolicies, policyWriter, bodies, auditTrail, events, health } = this.parts;
    const { turns } = context;
    const { membership, observer, adaptive } = cluster;
    const { maxPolicyBytes } = this.parts;
    const observations = new ObservationEndpoints({ context, observer, activePolicies, bodies });
    return {
      decisions: this.parts.decisions,
      settle: async (req, res) => {
        const { reservation, clientId, settlement } = await calls.settle(await bodies.read(req));
        res.json({ reservation, clientId, ...settlement });
      },
      client: {
        get: async (req, res) => void res.json(await calls.describe(clientIdOf(req))),
        delete: async (req, res) => {
          const target = clientIdOf(req);
          const before = (await cluster.admin.describe(target))?.buckets ?? 'unknown';
          let what = 'client forgotten on some nodes';
          try {
            await calls.reset(target);
            what = 'client forgotten';
          } finally {
            auditTrail.audit({ who: actorFrom(res), what, target, before });
          }
          res.status(204).end();
        },
      },
      policies: new PolicyEndpoints({ activePolicies, policyWriter, observer, bodies, turns, maxPolicyBytes }),
      load: new LoadEndpoints(adaptive, activePolicies, bodies),
      cluster: {
        members: (_req, res) => void res.json(describeCluster(membership)),
        owner: (req, res) => {
          const { clientId } = req.query;
          if (typeof clientId !== 'string')
            throw new TokenringError('invalid_request', { field: 'clientId', expected: 'one in the query' });
          requireClientId(clientId);
          res.json(describeOwner(membership, clientId));
        },
      },
      observations: {
        top: observations.top,
        stats: observations.stats,
        denials: observations.denials,
        events: new EventStream({ context, membership, observer, events }).answer,
        audit: (_req, res) => void res.json({ changes: auditTrail.recent() }),
      },
      node: {
        // The server answers usual health checks itself. Here are other methods, and other forms of the addresses.
        healthz: (req, res) => health.send('/healthz', req, res),
        readyz: (req, res) => health.send('/readyz', req, res),
        metrics: async (_req, res) => {
          const { metrics } = this.parts;
          const text = await this.scrapes.get('', () => metrics.metrics());
          turns.run('other', () => res.setHeader('Content-Type', metrics.contentType).end(text));
        },
        openapi,
      },
    };
  }

  private add(path: string, { all, ...operations }: PathItem): void {
    const address = path.replace(/\{path\}$/, '*path').replaceAll(/\{(\w+)\}/g, ':$1');
    if (all !== undefined) return void this.app.all(address, all);
    const handlers = Object.entries(operations).map(([method, { role, handle }]) => {
      return [method, role === 'open' ? [handle!] : [this.only(role), handle!]] as const;
    });
    this.addMethods(address, Object.fromEntries(handlers));
  }

  /** Adds an address with the handlers of each method, and answers 405 to other methods. */
  private addMethods(address: string, methods: Readonly<Record<string, readonly RequestHandler[]>>): void {
    const at = this.app.route(address);
    for (const [method, handlers] of Object.entries(methods)) at[method as 'get'](...handlers);
    const allow = Object.keys(methods).map((method) => method.toUpperCase());
    if (allow.includes('GET')) allow.push('HEAD');
    at.all(() => {
      throw new TokenringError('method_not_allowed', { expected: allow.join(', ') });
    });
  }

  private only(role: Role): RequestHandler {
    return (req, res, next) => {
      const token = this.parts.context.access.authorize(req.headers.authorization, role);
      res.locals['who'] = actorOf(req, token);
      next();
    };
  }

  private refuse(req: IncomingMessage, res: ServerResponse, error: unknown): void {
    if (res.headersSent) return void res.destroy();
    const problem = asProblem(error);
    if (problem.status === 500)
      this.parts.context.log.error({ err: error, method: req.method, route: routeOf(req) }, 'a request failed');
    this.parts.context.counters.countProblem(problem.code);
    sendProblem(req, res, problem);
  }
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
