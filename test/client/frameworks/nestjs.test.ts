import 'reflect-metadata';
import {
  Controller,
  Get,
  HttpException,
  Module,
  type DynamicModule,
  type INestApplication,
  type Type,
  type NestApplicationOptions,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { RateLimit, rateLimitGuard, RateLimitModule, SkipRateLimit } from '../../../src/client/frameworks/nestjs.js';
import { createNode, type Node } from '../../../src/index.js';
import { call } from '../../support/http.js';

const QUIET = { logger: false } as object as NestApplicationOptions;

type Decorate = MethodDecorator & ClassDecorator;

/** A controller with one route for each name, as decorators would make it. */
function controller(path: string, routes: Record<string, Decorate[]>, whole: Decorate[] = []): Type {
  class Routes {
    readonly path = path;
  }
  for (const [name, decorators] of Object.entries(routes)) {
    Object.defineProperty(Routes.prototype, name, { value: () => name, configurable: true, writable: true });
    const method = Object.getOwnPropertyDescriptor(Routes.prototype, name)!;
    for (const decorate of [Get(name) as Decorate, ...decorators]) decorate(Routes.prototype, name, method);
  }
  for (const decorate of [Controller(path) as Decorate, ...whole]) decorate(Routes);
  return Routes;
}

function moduleOf(controllers: Type[], imports: DynamicModule[] = []): Type {
  class AppModule {
    readonly name = 'app';
  }
  Module({ controllers, imports })(AppModule);
  return AppModule;
}

describe('the NestJS guard', () => {
  let node: Node;
  let app: INestApplication | undefined;
  beforeEach(async () => {
    node = await createNode();
  });
  afterEach(async () => {
    await app?.close();
    app = undefined;
    await node.close();
  });

  async function start(
    module: Type,
    before: (app: INestApplication) => void = () => undefined,
  ): Promise<{ port: number }> {
    app = await NestFactory.create(module, QUIET);
    before(app);
    await app.listen(0, '127.0.0.1');
    return (app.getHttpServer() as Server).address() as AddressInfo;
  }
  const policy = async (at: { port: number }, path: string): Promise<unknown> =>
    (await call(at, path)).headers['ratelimit-policy'];
  const HOUR = { window: '1h' } as const;

  it('limits all routes as a global guard, then those of a controller and of a route, but none that is skipped', async () => {
    const limit = (name: string): Decorate => RateLimit({ limiter: node, limit: 5, ...HOUR, name });
    const routes = controller('', { own: [limit('route')], none: [SkipRateLimit()], usual: [] }, [limit('controller')]);
    const skipped = controller('skipped', { a: [] }, [SkipRateLimit()]);
    const at = await start(moduleOf([routes, skipped]), (one) =>
      one.useGlobalGuards(rateLimitGuard({ limiter: node, limit: 9, ...HOUR, name: 'app' })),
    );
    expect(await policy(at, '/own')).to.equal('"app";q=9;w=3600, "controller";q=5;w=3600, "route";q=5;w=3600');
    expect(await policy(at, '/usual')).to.equal('"app";q=9;w=3600, "controller";q=5;w=3600');
    expect(await policy(at, '/none')).to.equal(undefined);
    expect(await policy(at, '/skipped/a')).to.equal(undefined);
  });

  it('takes the limiter of RateLimitModule, one for all modules, and closes one that it has made', async () => {
    const limited = (): Decorate => RateLimit({ limit: 3, ...HOUR, name: 'shared' });
    const one = controller('one', { a: [limited()] });
    const feature = moduleOf([controller('two', { a: [limited()] })]);
    let closed = 0;
    const limiter = { ...node, close: () => ((closed += 1), Promise.resolve()) };
    const made = RateLimitModule.forRootAsync({ useFactory: () => Promise.resolve(limiter) });
    const at = await start(moduleOf([one], [made, { module: feature }]));
    const remaining = async (path: string): Promise<unknown> => (await call(at, path)).headers['ratelimit'];
    expect(await remaining('/one/a')).to.match(/r=2;/);
    expect(await remaining('/two/a')).to.match(/r=1;/);
    await app!.close();
    expect(closed).to.equal(1);
  });

  it('counts the routes of one decorator together, though each module makes a guard of its own', async () => {
    const limited = RateLimit({ limit: 3, ...HOUR });
    const feature = moduleOf([controller('two', { a: [limited] })]);
    const at = await start(
      moduleOf(
        [controller('one', { a: [limited] })],
        [RateLimitModule.forRoot({ limiter: node }), { module: feature }],
      ),
    );
    const remaining = async (path: string): Promise<unknown> => (await call(at, path)).headers['ratelimit'];
    expect(await remaining('/one/a')).to.match(/r=2;/);
    expect(await remaining('/two/a')).to.match(/r=1;/);
  });

  it('leaves a limiter open that others have made', async () => {
    let closed = 0;
    const limiter = { ...node, close: () => ((closed += 1), Promise.resolve()) };
    const at = await start(
      moduleOf([controller('', { a: [RateLimit({ limit: 1, ...HOUR })] })], [RateLimitModule.forRoot({ limiter })]),
    );
    expect((await call(at, '/a')).status).to.equal(200);
    expect((await call(at, '/a')).status).to.equal(429);
    await app!.close();
    expect(closed).to.equal(0);
  });

  it('leaves a denial to the exception filters when onDenied throws an HttpException', async () => {
    const onDenied = (): never => {
      throw new HttpException('slow down', 429);
    };
    const at = await start(
      moduleOf([controller('', { a: [RateLimit({ limiter: node, limit: 0, ...HOUR, onDenied })] })]),
    );
    const { status, json } = await call(at, '/a');
    expect({ status, json }).to.deep.equal({ status: 429, json: { statusCode: 429, message: 'slow down' } });
  });

  it('says at the start that there is no limiter, or that the one of the module lacks a call', async () => {
    const routes = (): Type => controller('', { a: [RateLimit({ limit: 1, ...HOUR, skipFailed: true })] });
    const create = (module: Type): Promise<unknown> =>
      NestFactory.create(module, { ...QUIET, abortOnError: false } as object as NestApplicationOptions).then(
        () => undefined,
        (error: unknown) => error,
      );
    expect(String(await create(moduleOf([routes()])))).to.include('Symbol(limiter of RateLimitModule)');
    const limiter = { check: () => Promise.reject(new Error('not asked')) };
    const module = moduleOf([routes()], [RateLimitModule.forRoot({ limiter })]);
    expect(String(await create(module))).to.include('rateLimit: limiter: expected one with `settle`');
  });

  it('refuses what is no request of http', () => {
    const guard = rateLimitGuard({ limiter: node, limit: 1, ...HOUR });
    const context = { getType: () => 'graphql', getHandler: () => () => undefined, getClass: () => Object };
    expect(() => guard.canActivate(context as never)).to.throw(
      'rateLimit: it limits requests of http, and this one is of graphql',
    );
  });
});
