import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { fastify, type FastifyInstance, type LightMyRequestResponse } from 'fastify';
import { rateLimit, rateLimitPlugin } from '../../../src/client/frameworks/fastify.js';
import { createNode, type Node } from '../../../src/index.js';
import { eventually } from '../../support/eventually.js';
import { expectBrokenGivenBack } from './broken-off.js';

describe('the Fastify plugin', () => {
  let node: Node;
  let app: FastifyInstance;
  beforeEach(async () => {
    node = await createNode();
    app = fastify();
  });
  afterEach(async () => {
    await app.close();
    await node.close();
  });

  const limitOf = ({ headers }: LightMyRequestResponse): unknown => headers['ratelimit-policy'];
  const get = (url: string): Promise<LightMyRequestResponse> => app.inject(url);
  const plugin = (limit: number): Parameters<typeof rateLimitPlugin>[1] => ({ limiter: node, limit, window: '1h' });

  it('limits each route and each 404 of the scope that registers it, and of those inside it', async () => {
    await app.register(async (inner) => {
      await inner.register(rateLimitPlugin, plugin(9));
      inner.get('/a', (request) => request.rateLimit ?? {});
      inner.register((innermost, _options, done) => (innermost.get('/b', () => 'b'), done()));
    });
    app.get('/outside', () => 'outside');
    expect((await get('/a')).json()).to.include({ allowed: true, remaining: 8 });
    expect(limitOf(await get('/b'))).to.equal('"default";q=9;w=3600');
    expect(limitOf(await get('/outside'))).to.equal(undefined);
    const whole = fastify();
    await whole.register(rateLimitPlugin, plugin(1));
    const unknown = [await whole.inject('/none'), await whole.inject('/none')];
    expect(unknown.map(({ statusCode }) => statusCode)).to.deep.equal([404, 429]);
    await whole.close();
  });

  it('takes the limits of a route in place of its own, also of one that was added before', async () => {
    const own = { limit: 1, window: '1m' } as const;
    app.get('/early', { config: { rateLimit: { ...own } } }, () => 'early');
    await app.register(rateLimitPlugin, { ...plugin(9), key: () => 'x', name: 'app', headers: ['draft-11', 'legacy'] });
    app.get('/own', { config: { rateLimit: { ...own } } }, () => 'own');
    app.get('/other', { config: { rateLimit: { ...own, name: 'other' } } }, () => 'other');
    app.get('/none', { config: { rateLimit: false } }, () => 'none');
    app.get('/usual', () => 'usual');
    for (const url of ['/early', '/own']) {
      const [first, second] = [await get(url), await get(url)];
      expect([limitOf(first), first.statusCode, second.statusCode], url).to.deep.equal([
        '"default";q=1;w=60',
        200,
        429,
      ]);
      expect(first.headers, 'other options are those of the plugin').to.include({ 'x-ratelimit-limit': '1' });
    }
    expect(limitOf(await get('/other'))).to.equal('"other";q=1;w=60');
    expect(limitOf(await get('/none'))).to.equal(undefined);
    expect((await get('/usual')).headers).to.include({
      'ratelimit-policy': '"app";q=9;w=3600',
      'x-ratelimit-remaining': '8',
    });
  });

  it('counts GET and HEAD of a route together, and routes that share one options object', async () => {
    await app.register(rateLimitPlugin, plugin(99));
    const shared = { limit: 3, window: '1h' } as const;
    app.get('/a', { config: { rateLimit: shared } }, () => 'a');
    app.get('/b', { config: { rateLimit: shared } }, () => 'b');
    await get('/a');
    await app.inject({ url: '/a', method: 'HEAD' });
    expect((await get('/b')).headers['ratelimit']).to.match(/r=0;/);
    expect((await get('/a')).statusCode).to.equal(429);
  });

  it('stacks with another registration, and leaves the limits of a route to the innermost', async () => {
    await app.register(rateLimitPlugin, { ...plugin(9), name: 'outer' });
    await app.register(rateLimitPlugin, { ...plugin(5), name: 'second' });
    app.get('/both', () => 'both');
    await app.register(async (inner) => {
      await inner.register(rateLimitPlugin, { ...plugin(3), key: () => 'inner', name: 'inner' });
      inner.get('/three', () => 'three');
      inner.get('/own', { config: { rateLimit: { limit: 2, window: '1h', name: 'own' } } }, () => 'own');
    });
    expect(limitOf(await get('/both'))).to.equal('"outer";q=9;w=3600, "second";q=5;w=3600');
    expect(limitOf(await get('/three'))).to.equal('"outer";q=9;w=3600, "second";q=5;w=3600, "inner";q=3;w=3600');
    expect(limitOf(await get('/own'))).to.equal('"own";q=2;w=3600');
    expect(await node.remaining('inner', 2, '1h', { scope: 'own' }), 'the key is that of the innermost').to.equal(1);
  });

  it('is known as a plugin of Fastify 5', async () => {
    await app.register(rateLimitPlugin, plugin(9));
    expect(app.hasPlugin('tokenring')).to.equal(true);
  });

  it('says where a route is added what is wrong with its limits', async () => {
    await app.register(rateLimitPlugin, plugin(9));
    const add = (own: object) => () => app.get('/', { config: { rateLimit: own } }, () => '');
    expect(add({ max: 3, timeWindow: 1_000 })).to.throw(TypeError, /^rateLimit: max: .* `max` is `limit` here$/);
    expect(add({ cost: 3 })).to.throw(TypeError, /^rateLimit: limit: missing/);
  });

  it('refuses the requests of a route that was added before, and is wrong', async () => {
    app.get('/early', { config: { rateLimit: { limit: -1, window: '1m' } } }, () => 'early');
    await app.register(rateLimitPlugin, plugin(9));
    const answer = await get('/early');
    expect(answer.statusCode).to.equal(500);
    expect(answer.json()).to.include({
      message: 'rateLimit: limit: -1 is not valid; use a whole number from 0 to 1000000000, or a function',
    });
  });

  it('knows the body in a preHandler, and gives back what succeeds of an injected request', async () => {
    const byAccount = rateLimit({
      limiter: node,
      limit: 5,
      window: '1h',
      skipSuccessful: true,
      key: ({ body }) => (body as { account: string }).account,
    });
    app.post('/login', { preHandler: byAccount }, () => 'welcome');
    await app.inject({ url: '/login', method: 'POST', payload: { account: 'alice' } });
    const left = (): Promise<number> => node.remaining('alice', 5, '1h');
    expect(await eventually(left, (now) => now === 5)).to.equal(5);
  });

  it('adds nothing to an answer that another hook has sent meanwhile', async () => {
    let passed = 0;
    app.addHook('onRequest', (_request, reply, done) => {
      setTimeout(() => void reply.code(503).send('late'), 10);
      done();
    });
    const slow = { check: () => new Promise<never>((_resolve, reject) => setTimeout(reject, 40, new Error('slow'))) };
    await app.register(rateLimitPlugin, { ...plugin(1), limiter: slow });
    app.get('/', () => ((passed += 1), ''));
    expect(await get('/')).to.include({ statusCode: 503, body: 'late' });
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(passed).to.equal(0);
  });

  it('limits over HTTP/2, and gives back what a caller breaks off', async () => {
    const server = fastify({ http2: true });
    server.addHook('onRequest', rateLimit({ limiter: node, limit: 5, window: '1h', key: () => 'x', skipFailed: true }));
    server.get('/', () => 'hello');
    let hangs = 0;
    server.get('/hang', (_request, reply) => void ((hangs += 1), reply.hijack()));
    await server.listen({ port: 0, host: '127.0.0.1' });
    const { port } = server.server.address() as AddressInfo;
    const remaining = (): Promise<number> => node.remaining('x', 5, '1h');
    try {
      await expectBrokenGivenBack({ port, policy: '"default";q=5;w=3600', hangs: () => hangs, remaining });
    } finally {
      await server.close();
    }
  });
});
