import { once } from 'node:events';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { expect } from 'chai';
import Koa from 'koa';
import { rateLimit } from '../../../src/client/frameworks/koa.js';
import { createNode, type Node } from '../../../src/index.js';
import { call } from '../../support/http.js';
import { expectBrokenGivenBack } from './broken-off.js';

describe('the Koa middleware', () => {
  let node: Node;
  before(async () => {
    node = await createNode();
  });
  after(() => node.close());

  async function serving<T>(app: Koa, use: (at: { port: number }) => Promise<T>): Promise<T> {
    const server = createHttpServer(app.callback() as RequestListener).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      return await use(server.address() as AddressInfo);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }

  it('keeps its headers on an answer of Koa’s own error handler, which removes all others', async () => {
    const app = new Koa();
    app.silent = true;
    app.use(rateLimit({ limiter: node, limit: 9, window: '1h', name: 'errors' }));
    app.use((ctx) => {
      ctx.set('X-Other', 'removed');
      throw Object.assign(new Error('mine'), { status: 418, headers: { 'X-Mine': 'kept' } });
    });
    const { status, headers } = await serving(app, (at) => call(at, '/'));
    expect(status).to.equal(418);
    expect(headers).to.include({ 'ratelimit-policy': '"errors";q=9;w=3600', 'x-mine': 'kept' });
    expect(headers).not.to.have.property('x-other');
  });

  it('passes on what a handler throws that is no error, or cannot be changed', async () => {
    for (const thrown of [undefined, 'text', Object.freeze(new Error('frozen'))]) {
      const caught: unknown[] = [];
      const app = new Koa();
      app.use((_ctx, next) => next().catch((error: unknown) => void caught.push(error)));
      app.use(rateLimit({ limiter: node, limit: 9, window: '1h', name: 'thrown' }));
      app.use(() => {
        // eslint-disable-next-line @typescript-eslint/only-throw-error
        throw thrown;
      });
      await serving(app, (at) => call(at, '/'));
      expect(caught).to.deep.equal([thrown]);
    }
  });

  it('takes the state and context types of an app', () => {
    const app = new Koa<{ user: string }, { extra: number }>();
    app.use(rateLimit({ limiter: node, limit: 9, window: '1h', key: (ctx) => String(ctx.state['user']) }));
    expect(app.middleware).to.have.lengthOf(1);
  });

  it('adds nothing to an answer that another handler has sent meanwhile', async () => {
    const slow = { check: () => new Promise<never>((_resolve, reject) => setTimeout(reject, 40, new Error('slow'))) };
    let passed = 0;
    const app = new Koa();
    app.silent = true;
    app.use((ctx, next) => {
      setTimeout(() => ctx.res.writeHead(503).end('late'), 10);
      return next();
    });
    app.use(rateLimit({ limiter: slow, limit: 9, window: '1h' }));
    app.use(() => void (passed += 1));
    expect(await serving(app, (at) => call(at, '/'))).to.include({ status: 503, text: 'late' });
    expect(passed).to.equal(0);
  });

  it('limits over HTTP/2, and gives back what a caller breaks off', async () => {
    const app = new Koa();
    let hangs = 0;
    app.use(rateLimit({ limiter: node, limit: 5, window: '1h', key: () => 'h2', name: 'h2', skipFailed: true }));
    app.use(async (ctx) => {
      ctx.body = 'hello';
      if (ctx.path !== '/hang') return;
      hangs += 1;
      await new Promise(() => undefined);
    });
    const server = createServer(app.callback() as never).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const remaining = (): Promise<number> => node.remaining('h2', 5, '1h', { scope: 'h2' });
    try {
      await expectBrokenGivenBack({ port, policy: '"h2";q=5;w=3600', hangs: () => hangs, remaining });
    } finally {
      server.close();
    }
  });
});
