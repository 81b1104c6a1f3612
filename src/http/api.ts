import express from 'express';
import type { ErrorRequestHandler, Express, Request, RequestHandler, Response } from 'express';
import type { Registry } from 'prom-client';
import type { Limiter } from '../cluster/limiter.js';
import { requireAdmin } from './admin.js';
import { countProblem } from './counters.js';
import type { Counters } from './counters.js';
import type { DecisionHandlers } from './decisions.js';
import { openApiDocument } from './openapi.js';
import { Problem } from './problem.js';
import { requireClientId } from './request.js';
import { sendProblem } from './send.js';

export interface ApiDeps {
  readonly limiter: Limiter;
  readonly decisions: DecisionHandlers;
  readonly counters: Counters;
  readonly metrics: Registry;
  /** Whether the node is in the ring and not draining. */
  readonly isReady: () => boolean;
  readonly log: { error(fields: object, message: string): void };
}

/** The whole public API as an Express app. The server answers the two decision endpoints before they get here. */
export function createApi(deps: ApiDeps, options: { adminToken: string | undefined; version: string }): Express {
  const { limiter, decisions, counters, metrics, isReady, log } = deps;
  const openApi = openApiDocument(options.version);
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.set('query parser', 'simple');
  app.use((_req, res, next) => {
    res.setHeader('X-Content-Type-Options', 'nosniff');
    next();
  });
  const admin: RequestHandler = (req, _res, next) => {
    requireAdmin(req.headers.authorization, options.adminToken);
    next();
  };

  /** One address: what it does for each method, and 405 for the rest. */
  function route(path: string, methods: Record<string, RequestHandler | RequestHandler[]>): void {
    const at = app.route(path);
    for (const [method, handler] of Object.entries(methods)) at[method as 'get'](handler);
    const allow = Object.keys(methods).map((method) => method.toUpperCase());
    if (allow.includes('GET')) allow.push('HEAD');
    at.all(() => {
      throw new Problem('method_not_allowed', { expected: allow.join(', ') });
    });
  }

  app.all('/v1/allow', decisions.allow);
  app.all('/v1/allow/batch', decisions.batch);
  route('/v1/clients/:clientId', {
    get: async (req, res) => {
      res.json(await limiter.describe(clientIdOf(req)));
    },
    delete: [
      admin,
      async (req, res) => {
        await limiter.forget(clientIdOf(req));
        res.status(204).end();
      },
    ],
  });
  route('/healthz', { get: (_req, res) => sendText(res, 200, 'ok') });
  route('/readyz', { get: (_req, res) => (isReady() ? sendText(res, 200, 'ready') : sendText(res, 503, 'not ready')) });
  route('/metrics', {
    get: async (_req, res) => {
      const text = await metrics.metrics();
      res.setHeader('Content-Type', metrics.contentType);
      res.end(text);
    },
  });
  route('/openapi.json', { get: (_req, res) => void res.json(openApi) });
  app.use(() => {
    throw new Problem('not_found');
  });
  const onError: ErrorRequestHandler = (error, req, res, next) => {
    if (res.headersSent) return next(error);
    const problem = asProblem(error);
    if (problem.status === 500) log.error({ err: error as unknown, url: req.url }, 'a request failed');
    countProblem(counters, problem.code);
    sendProblem(req, res, problem);
  };
  return app.use(onError);
}

function clientIdOf(req: Request): string {
  const clientId = req.params['clientId'] as string;
  requireClientId(clientId);
  return clientId;
}

function sendText(res: Response, status: number, text: string): void {
  res.status(status).type('text/plain').send(`${text}\n`);
}

function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  // Express's router throws this for an address with a broken percent encoding.
  if (error instanceof URIError)
    return new Problem('invalid_request', { field: 'path', expected: 'percent-encoded UTF-8' });
  return new Problem('internal', {}, { cause: error });
}
