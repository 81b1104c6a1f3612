import type { FastifyInstance, FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify';
import type { Decision } from '../../limits/decide/decision.js';
import { RequestLimiter } from '../middleware/rate-limit.js';
import type { CommonOptions } from '../middleware/rate-limit-options.js';
import { ofFastify, sendByFastify } from './exchanges.js';

export * from './common.js';

type Done = (error?: Error) => void;

export interface RateLimitOptions extends CommonOptions<[request: FastifyRequest, reply: FastifyReply]> {
  /**
   * Answers each denial, or calls `next` to let it pass. The headers are already set, and errors go to Fastify. Default:
   * 429, `application/problem+json`.
   */
  readonly onDenied?: (request: FastifyRequest, reply: FastifyReply, decision: Decision, next: Done) => unknown;
}

/** Limits of one route, and options in place of those of the plugin. */
export type RouteRateLimit = Partial<RateLimitOptions>;

declare module 'fastify' {
  interface FastifyRequest {
    /** The decision of the last limiter; `null` for a request that was skipped. */
    rateLimit?: Decision | null;
  }
  interface FastifyContextConfig {
    /** Limits of this route in place of those of `rateLimitPlugin`; `false` for none. */
    rateLimit?: RouteRateLimit | false;
  }
}

/** A hook. Servers of `node:http2` have other types for the same request. */
type Hook = { hook(request: FastifyRequest, reply: FastifyReply, done: Done): void }['hook'];

/**
 * Creates a hook that lets a request pass, or answers 429 with `Retry-After`. Both answers have `RateLimit-Policy` and
 * `RateLimit`. The decision is `request.rateLimit`. As `onRequest`, it denies before the body is read and parsed; as
 * `preHandler`, `key` knows the body.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function rateLimit(options: RateLimitOptions): Hook {
  const limiter = new RequestLimiter<[FastifyRequest, FastifyReply]>(options);
  return (request, reply, done) => {
    limiter.limit(ofFastify(request, reply), [request, reply], done).then((passage) => {
      if (passage.kind === 'pass') done();
      if (passage.kind === 'answer') sendByFastify(reply, passage.answer);
    }, done);
  };
}

/** The hook of each route with options of its own, by these options, and the plugin that made it. */
const routeHooks = new WeakMap<RouteRateLimit, { readonly plugin: object; readonly hook: Hook }>();

/** Options that a route does not take from the plugin, as they say what is counted together. */
const OWN = ['name', 'limit', 'window', 'windowMs', 'burst', 'algorithm', 'limits', 'policy'] as const;

/**
 * Limits each request to its scope, 404s included, as `onRequest`. A route may have `config.rateLimit`: limits in place
 * of those of the plugin, with other options where they differ, or `false`. Routes that share one such object share a
 * limiter.
 */
export const rateLimitPlugin: FastifyPluginCallback<RateLimitOptions> = (app, options, done) => {
  try {
    install(app, options);
  } catch (error) {
    return done(error as TypeError);
  }
  done();
};

function install(app: FastifyInstance, options: RateLimitOptions): void {
  const plugin = {};
  const hook = rateLimit(options);
  const defaults = without(options, OWN);
  if (!app.hasRequestDecorator('rateLimit')) app.decorateRequest('rateLimit', null);

  function hookOf(own: RouteRateLimit): Hook {
    const made = { plugin, hook: rateLimit({ ...defaults, ...own }) };
    routeHooks.set(own, made);
    return made.hook;
  }

  // If plugins of several scopes see a route, the innermost comes last, and its options are the defaults.
  app.addHook('onRoute', ({ config }) => {
    const own = config?.rateLimit;
    if (own !== undefined && own !== false && routeHooks.get(own)?.plugin !== plugin) hookOf(own);
  });
  app.addHook('onRequest', (request, reply, next) => {
    const own = request.routeOptions.config.rateLimit;
    if (own === false) return next();
    if (own === undefined) return hook(request, reply, next);
    const made = routeHooks.get(own);
    // A route that was added before the plugin was loaded is not known yet.
    if (made === undefined) return hookOf(own)(request, reply, next);
    if (made.plugin !== plugin) return next();
    made.hook(request, reply, next);
  });
}

// As fastify-plugin does: the hooks are for the scope that registers the plugin, not for one inside it.
Object.assign(rateLimitPlugin, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'tokenring',
  [Symbol.for('plugin-meta')]: { name: 'tokenring', fastify: '5.x' },
});

function without<T extends object, K extends keyof T>(object: T, names: readonly K[]): Omit<T, K> {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name as K))) as Omit<T, K>;
}
