import 'reflect-metadata';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  Catch,
  Controller,
  Get,
  Module,
  Req,
  Res,
  UseFilters,
  type ArgumentsHost,
  type ExecutionContext,
  type INestApplication,
  type NestApplicationOptions,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter, type NestExpressApplication } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Response } from 'express';
import type { FastifyReply } from 'fastify';
import { RateLimit, type RateLimitOptions } from '../../../../src/client/frameworks/nestjs.js';
import {
  errorBody,
  forFramework,
  type App,
  type AppSpec,
  type Framework,
  type Handler,
  type LimiterOptions,
  type Seen,
} from './app.js';
import { answerByExpress } from './express.js';
import { answerByFastify } from './fastify.js';

const QUIET = { logger: false } as object as NestApplicationOptions;

interface AnyRequest {
  readonly headers: Readonly<Record<string, string>>;
  readonly rateLimit?: unknown;
}
type AnyResponse = Response | FastifyReply;

const seen = (context: ExecutionContext): Seen => {
  const { headers } = context.switchToHttp().getRequest<AnyRequest>();
  return {
    header: (name) => (Object.hasOwn(headers, name) ? headers[name] : undefined),
    status: () => context.switchToHttp().getResponse<AnyResponse>().statusCode,
  };
};

function send(response: AnyResponse, status: number, body: string | object): void {
  if ('raw' in response) response.code(status).send(body);
  else response.status(status).send(body);
}

function limiterOf(options: LimiterOptions): ReturnType<typeof RateLimit> {
  const { onDenied } = options;
  return RateLimit({
    ...(forFramework(options, seen) as RateLimitOptions),
    ...(onDenied && {
      onDenied: async (context, decision, next) => {
        const wanted = await onDenied(seen(context), decision);
        if (wanted === 'pass') next();
        else send(context.switchToHttp().getResponse<AnyResponse>(), wanted.status, wanted.text);
      },
    }),
  });
}

class ErrorFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<AnyResponse>();
    const isSent = 'raw' in response ? response.sent : response.headersSent;
    if (!isSent) send(response, 500, errorBody(error));
  }
}
Catch()(ErrorFilter);

/** As decorators would do, without a compiler that knows them. */
function moduleOf({ limiters, handler = { kind: 'json' }, onPass }: AppSpec): new () => object {
  class Routes {
    root(request: AnyRequest, response: AnyResponse): void {
      onPass?.();
      answer(response, request.rateLimit, handler);
    }
  }
  const method = Object.getOwnPropertyDescriptor(Routes.prototype, 'root')!;
  Req()(Routes.prototype, 'root', 0);
  Res()(Routes.prototype, 'root', 1);
  Get('/')(Routes.prototype, 'root', method);
  for (const limiter of limiters) limiterOf(limiter)(Routes.prototype, 'root', method);
  Controller()(Routes);
  UseFilters(new ErrorFilter())(Routes);
  class AppModule {
    readonly name = 'app';
  }
  Module({ controllers: [Routes] })(AppModule);
  return AppModule;
}

function answer(response: AnyResponse, decision: unknown, handler: Handler): void {
  if ('raw' in response) answerByFastify(response, decision, handler);
  else answerByExpress(response, decision, handler);
}

async function listen(app: INestApplication): Promise<App> {
  await app.listen(0, '127.0.0.1');
  const server = app.getHttpServer() as Server;
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.closeAllConnections();
      await app.close();
    },
  };
}

export const nestExpressApp: Framework = {
  name: 'NestJS 11 on Express',
  async start(spec) {
    const app = await NestFactory.create<NestExpressApplication>(moduleOf(spec), new ExpressAdapter(), QUIET);
    if (spec.behindProxy === true) app.set('trust proxy', 1);
    return listen(app);
  },
};

export const nestFastifyApp: Framework = {
  name: 'NestJS 11 on Fastify',
  async start(spec) {
    const adapter = new FastifyAdapter({ trustProxy: spec.behindProxy === true && '127.0.0.1' });
    return listen(await NestFactory.create<NestFastifyApplication>(moduleOf(spec), adapter, QUIET));
  },
};
