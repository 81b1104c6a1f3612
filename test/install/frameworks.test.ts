import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { install } from '../support/installed.js';
import { pending } from '../support/programs.js';

const run = promisify(execFile);
const TSC = join(import.meta.dirname, '../../node_modules/typescript/bin/tsc');

/** Names, types, and code of one framework alone, in other versions than those that the other tests use. */
interface Example {
  readonly title: string;
  readonly packages: readonly string[];
  /** A program that answers requests on a free port of `listening`, and is checked with the types that it finds. */
  readonly code: string;
}

const LIMITER = `
import type { Limiter } from '@tokenring/client';
let asked = 0;
const check = () => Promise.resolve({ allowed: (asked += 1) < 2, limit: 1, remaining: 0, retryAfterMs: 1_000,
  resetMs: 1_000, owner: '', source: 'owner' as const, degraded: false, limits: undefined });
const limiter: Pick<Limiter, 'check'> = { check };
async function ask(port: number): Promise<void> {
  const statuses = [];
  for (let i = 0; i < 2; i += 1) statuses.push((await fetch('http://127.0.0.1:' + port)).status);
  console.log(JSON.stringify(statuses));
  process.exit(0);
}
`;

const EXAMPLES: readonly Example[] = [
  {
    title: 'Express 4',
    packages: ['express@4', '@types/express@4'],
    code: `import express from 'express';
import { rateLimit } from '@tokenring/client/express';
const app = express();
app.use(rateLimit({ limiter, limit: 1, window: '1m', key: (req) => req.ip ?? '' }));
app.get('/', (_req, res) => void res.send('hello'));
const server = app.listen(0, '127.0.0.1', () => void ask((server.address() as { port: number }).port));`,
  },
  {
    title: 'Koa 2',
    packages: ['koa@2', '@types/koa@2'],
    code: `import Koa from 'koa';
import { rateLimit } from '@tokenring/client/koa';
const app = new Koa();
app.use(rateLimit({ limiter, limit: 1, window: '1m', key: (ctx) => ctx.ip }));
app.use((ctx) => void (ctx.body = 'hello'));
const server = app.listen(0, '127.0.0.1', () => void ask((server.address() as { port: number }).port));`,
  },
  {
    title: 'Hono 4.0',
    packages: ['hono@4.0.0', '@hono/node-server@1'],
    code: `import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { rateLimit } from '@tokenring/client/hono';
const app = new Hono().use('*', rateLimit({ limiter, limit: 1, window: '1m', key: (c) => c.req.path }));
app.get('/', (c) => c.text('hello'));
serve({ fetch: app.fetch, port: 0 }, ({ port }) => void ask(port));`,
  },
  {
    title: 'Fastify 5.0',
    packages: ['fastify@5.0.0'],
    code: `import { fastify } from 'fastify';
import { rateLimitPlugin } from '@tokenring/client/fastify';
const app = fastify();
await app.register(rateLimitPlugin, { limiter, limit: 1, window: '1m', key: (request) => request.ip });
app.get('/', (request) => String(request.rateLimit?.limit));
await app.listen({ port: 0, host: '127.0.0.1' });
await ask((app.server.address() as { port: number }).port);`,
  },
  {
    title: 'NestJS 12',
    packages: ['common', 'core', 'platform-express']
      .map((name) => `@nestjs/${name}@12`)
      .concat('rxjs', 'reflect-metadata'),
    code: `import 'reflect-metadata';
import { Controller, Get, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { RateLimit, RateLimitModule } from '@tokenring/client/nestjs';
@Controller()
class AppController {
  @Get()
  @RateLimit({ limit: 1, window: '1m', key: (context) => context.getClass().name })
  hello() {
    return 'hello';
  }
}
@Module({ imports: [RateLimitModule.forRoot({ limiter })], controllers: [AppController] })
class AppModule {}
const app = await NestFactory.create(AppModule, { logger: false });
await app.listen(0, '127.0.0.1');
await ask((app.getHttpServer().address() as { port: number }).port);`,
  },
];

describe('an app with one framework and @tokenring/client', function () {
  this.timeout(180_000);

  for (const { title, packages, code } of EXAMPLES) {
    it(`limits with ${title}, and needs the types of no other framework`, async function () {
      const installed = await install('@tokenring/client', '@types/node@20', ...packages);
      if ('why' in installed) pending(this, installed.why);
      const { folder } = installed;
      try {
        writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
        writeFileSync(join(folder, 'app.ts'), `${code.replace(/^((?:import .*\n)+)/, `$1${LIMITER}`)}\n`);
        const others = ['express', 'fastify', 'hono', 'koa'].filter((name) => !title.toLowerCase().startsWith(name));
        for (const name of others.filter((one) => one !== 'express' || !title.startsWith('NestJS')))
          expect(existsSync(join(folder, 'node_modules', name)), name).to.equal(false);
        const flags = '--strict --module nodenext --target es2022 --types node --experimentalDecorators --ignoreConfig';
        await run(process.execPath, [TSC, ...flags.split(' '), '--skipLibCheck', 'app.ts'], { cwd: folder }).catch(
          (error: unknown) => expect.fail((error as { stdout: string }).stdout),
        );
        const { stdout } = await run(process.execPath, ['app.js'], { cwd: folder, timeout: 20_000 });
        expect(stdout.trim()).to.equal('[200,429]');
      } finally {
        installed.remove();
      }
    });
  }
});
