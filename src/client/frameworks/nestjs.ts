import {
  Inject,
  mixin,
  UseGuards,
  type CanActivate,
  type DynamicModule,
  type ExecutionContext,
  type FactoryProvider,
  type ModuleMetadata,
} from '@nestjs/common';
import type { Request, Response } from 'express';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Decision } from '../../limits/decide/decision.js';
import type { Limiter } from '../../limits/request/limiter.js';
import type { Exchange, ProblemAnswer } from '../middleware/exchange.js';
import { RequestLimiter } from '../middleware/rate-limit.js';
import { checkRateLimitOptions, type CommonOptions } from '../middleware/rate-limit-options.js';
import { ofExpress, ofFastify, sendByExpress, sendByFastify } from './exchanges.js';

export * from './common.js';

type Pass = () => void;

export interface GuardOptions extends CommonOptions<[context: ExecutionContext]> {
  /**
   * Answers each denial, calls `next` to let it pass, or throws an HttpException for the exception filters. The headers
   * are already set. Default: 429, `application/problem+json`.
   */
  readonly onDenied?: (context: ExecutionContext, decision: Decision, next: Pass) => unknown;
}

export interface RateLimitOptions extends Omit<GuardOptions, 'limiter'> {
  /** A node (`createNode`) or a client (`createClient`). Default: that of `RateLimitModule`. */
  readonly limiter?: GuardOptions['limiter'];
}

/** Classes and methods that no guard limits. */
const unlimited = new WeakSet<object>();

/**
 * Creates a guard for all routes: `app.useGlobalGuards(rateLimitGuard(options))`, or a provider of `APP_GUARD`. It lets
 * a request pass, or answers 429 with `Retry-After`, on Express and on Fastify. Both answers have `RateLimit-Policy` and
 * `RateLimit`. The decision is `request.rateLimit`.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function rateLimitGuard(options: GuardOptions): CanActivate {
  const limiter = new RequestLimiter<[ExecutionContext]>(options);
  return {
    canActivate(context) {
      if (unlimited.has(context.getHandler()) || unlimited.has(context.getClass())) return true;
      const { exchange, send } = ofNest(context);
      // A request that is answered here has no result, as with a middleware that does not call `next`. With `false`,
      // Nest would answer 403.
      return new Promise((resolve, reject) => {
        const pass = (): void => resolve(true);
        limiter.limit(exchange, [context], pass).then((passage) => {
          if (passage.kind === 'pass') pass();
          if (passage.kind === 'answer') send(passage.answer);
        }, reject);
      });
    },
  };
}

function ofNest(context: ExecutionContext): { exchange: Exchange; send: (answer: ProblemAnswer) => void } {
  if (context.getType() !== 'http')
    throw new Error(`rateLimit: it limits requests of http, and this one is of ${context.getType()}`);
  const http = context.switchToHttp();
  const request = http.getRequest<(Request | FastifyRequest) & { rateLimit?: Decision | null }>();
  const response = http.getResponse<Response | FastifyReply>();
  const isFastify = 'raw' in response;
  const exchange = isFastify ? ofFastify(request as FastifyRequest, response) : ofExpress(request as Request, response);
  return {
    exchange: Object.assign({}, exchange, {
      keep(decision: Decision) {
        exchange.keep(decision);
        request.rateLimit = decision;
      },
    }),
    send: (answer) => (isFastify ? sendByFastify(response, answer) : sendByExpress(response, answer)),
  };
}

/**
 * Limits the routes of a controller, or one route. Several of them on one route count one after the other, the lowest
 * first.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function RateLimit(options: RateLimitOptions): ClassDecorator & MethodDecorator {
  // Callers without types may give no options.
  const limiterFollows = (Object(options) as RateLimitOptions).limiter === undefined;
  checkRateLimitOptions(options, { limiterFollows });
  if (!limiterFollows) return UseGuards(rateLimitGuard(options as GuardOptions));
  // Each module with such a route makes a guard. All of them count together.
  const guards = new WeakMap<object, CanActivate>();
  class RateLimitGuard implements CanActivate {
    readonly #guard: CanActivate;
    constructor(given: GuardOptions['limiter']) {
      this.#guard = guards.get(given) ?? rateLimitGuard(Object.assign({}, options, { limiter: given }));
      guards.set(given, this.#guard);
    }
    canActivate(context: ExecutionContext): ReturnType<CanActivate['canActivate']> {
      return this.#guard.canActivate(context);
    }
  }
  Inject(LIMITER)(RateLimitGuard, undefined, 0);
  return UseGuards(mixin(RateLimitGuard));
}

/** Excepts a controller or a route from all guards of this package. */
export function SkipRateLimit(): ClassDecorator & MethodDecorator {
  return (target: object, _key?: unknown, method?: { value?: unknown }) => {
    unlimited.add((method?.value as object | undefined) ?? target);
  };
}

/** The token under which `RateLimitModule` provides the limiter. */
export const LIMITER = Symbol('limiter of RateLimitModule');

interface LimiterFactory extends Pick<ModuleMetadata, 'imports'> {
  readonly inject?: FactoryProvider['inject'];
  // As in the types of Nest: the arguments are what `inject` names.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly useFactory: (...args: any[]) => Limiter | Promise<Limiter>;
}

/** Gives a limiter to each `@RateLimit()` of the application that has none. */
// Nest takes a module for a class.
// eslint-disable-next-line @typescript-eslint/no-extraneous-class
export class RateLimitModule {
  /** Takes a limiter, which the caller closes. */
  static forRoot({ limiter }: Required<Pick<RateLimitOptions, 'limiter'>>): DynamicModule {
    return {
      module: RateLimitModule,
      global: true,
      providers: [{ provide: LIMITER, useValue: limiter }],
      exports: [LIMITER],
    };
  }

  /** Makes a limiter, and closes it when the application shuts down. */
  static forRootAsync({ imports = [], inject = [], useFactory }: LimiterFactory): DynamicModule {
    const closing = {
      provide: Symbol('closes the limiter'),
      useFactory: (limiter: Limiter) => ({ onApplicationShutdown: () => limiter.close() }),
      inject: [LIMITER],
    };
    return {
      module: RateLimitModule,
      global: true,
      imports,
      providers: [{ provide: LIMITER, useFactory, inject }, closing],
      exports: [LIMITER],
    };
  }
}
