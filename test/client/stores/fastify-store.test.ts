import { createRequire } from 'node:module';
import { expect } from 'chai';
import { fastify, type FastifyInstance, type FastifyPluginCallback } from 'fastify';
import { fastifyStore, type StoreOptions } from '../../../src/client/stores/store.js';
import { createClient } from '../../../src/client/index.js';
import { createNode, type Node } from '../../../src/index.js';
import { eventually } from '../../support/eventually.js';
import { freePort } from '../../support/ports.js';

// Without its types: they and those of tokenring/fastify name the same fields of routes.
const plugin = createRequire(import.meta.url)('@fastify/rate-limit') as FastifyPluginCallback;

describe('the store for @fastify/rate-limit', () => {
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

  async function register(options: object): Promise<void> {
    const keyGenerator = ({ headers }: { headers: Record<string, string> }): string => headers['x-key'] ?? 'a';
    const all = { max: 2, timeWindow: '1 hour', store: fastifyStore({ limiter: node }), keyGenerator, ...options };
    await app.register(plugin, all as never);
    app.get('/', () => 'hello');
  }

  const ask = async (url = '/', key = 'a'): Promise<{ status: number; remaining: unknown; reset: number }> => {
    const { statusCode, headers } = await app.inject({ url, headers: { 'x-key': key } });
    const reset = Number(headers['x-ratelimit-reset']);
    return { status: statusCode, remaining: headers['x-ratelimit-remaining'], reset };
  };
  const statuses = async (count: number, url = '/', key = 'a'): Promise<number[]> => {
    const got: number[] = [];
    for (let i = 0; i < count; i += 1) got.push((await ask(url, key)).status);
    return got;
  };

  it('blames nobody where no node can be asked: 503, and when to come again', async () => {
    const closed = createClient({ nodes: [`http://127.0.0.1:${await freePort()}`], onUnavailable: 'closed' });
    await register({ store: fastifyStore({ limiter: closed }) });
    for (let i = 0; i < 3; i += 1) {
      const { statusCode, headers } = await app.inject({ url: '/' });
      expect({ statusCode, ...headers }).to.include({ statusCode: 503, 'retry-after': '1' });
    }
    await closed.close();
  });

  it('counts the hits of each key, and tells when the next one passes', async () => {
    await register({});
    const answers = [await ask(), await ask(), await ask(), await ask('/', 'b')];
    expect(answers.map(({ status }) => status)).to.deep.equal([200, 200, 429, 200]);
    expect(answers.map(({ remaining }) => String(remaining))).to.deep.equal(['1', '0', '0', '1']);
    for (const { reset } of answers) expect(reset).to.be.within(3_590, 3_720);
  });

  it('counts routes with limits of their own apart, and takes limits and windows that depend on the request', async () => {
    await register({});
    const limit = (max: unknown): object => ({ config: { rateLimit: { max, timeWindow: () => 3_600_000 } } });
    app.get('/one', limit(1), () => 'one');
    app.get(
      '/three',
      limit(() => Promise.resolve(3)),
      () => 'three',
    );
    expect(await statuses(2, '/one')).to.deep.equal([200, 429]);
    expect(await statuses(4, '/three')).to.deep.equal([200, 200, 200, 429]);
    expect(await statuses(3)).to.deep.equal([200, 200, 429]);
  });

  it('counts the key itself as the client, also on routes whose address is longer than a scope', async () => {
    await register({});
    const own = { config: { rateLimit: { max: 1, timeWindow: 3_600_000 } } };
    const long = `/${'long/'.repeat(60)}`;
    app.get(`${long}a`, own, () => 'a');
    app.get(`${long}b`, own, () => 'b');
    expect(await statuses(2, `${long}a`)).to.deep.equal([200, 429]);
    expect(await statuses(2, `${long}b`)).to.deep.equal([200, 429]);
    expect(await statuses(1)).to.deep.equal([200]);
    const { buckets } = await node.describe('a');
    const scopes = buckets.map(({ scope }) => scope!);
    expect(new Set(scopes).size).to.equal(3);
    for (const scope of scopes) expect(scope).to.match(/^fastify-rate-limit-/);
    const listed = await createNode({ policies: { policies: {}, deny: ['load5'] } });
    const other = fastify();
    const options = {
      max: 9,
      timeWindow: 1_000,
      store: fastifyStore({ limiter: listed }),
      keyGenerator: () => 'load5',
    };
    await other.register(plugin, options as never);
    other.get('/', () => 'hello');
    expect((await other.inject('/')).statusCode).to.equal(429);
    await other.close();
    await listed.close();
  });

  it('reads without counting, by createRateLimit and increment: false', async () => {
    await register({ global: false });
    const check = (
      app as unknown as { createRateLimit: () => (...args: unknown[]) => Promise<unknown> }
    ).createRateLimit();
    app.get('/peek', async (request) => [
      await check(request, { increment: false }),
      await check(request),
      await check(request, { increment: false }),
    ]);
    const left = (await app.inject('/peek')).json<{ remaining: number }[]>().map(({ remaining }) => remaining);
    expect(left).to.deep.equal([2, 1, 1]);
  });

  it('lets a client that asks on while it is denied pass again when the window has passed', async () => {
    await register({ max: 1, timeWindow: 300 });
    const got: number[] = [];
    const passed = await eventually(
      async () => (got.push((await ask()).status), got.filter((status) => status === 200).length),
      (count) => count === 3,
    );
    expect(passed).to.equal(3);
    expect(got).to.include(429);
  });

  it('bans at the first denial by ban: 0, and refuses options that count denials', async () => {
    await register({ max: 1, ban: 0 });
    expect(await statuses(2)).to.deep.equal([200, 403]);
    for (const more of [{ ban: 2 }, { continueExceeding: true }, { exponentialBackoff: true }]) {
      const other = fastify();
      const options = { max: 1, timeWindow: 1_000, store: fastifyStore({ limiter: node }), ...more };
      const failed = await Promise.resolve(other.register(plugin, options as never)).then(
        () => undefined,
        (error: unknown) => String(error),
      );
      expect(failed).to.equal(
        `TypeError: fastifyStore: ${Object.keys(more)[0]}: it counts denied requests, and here a denial consumes nothing`,
      );
    }
  });

  it('answers 500 when the limiter fails, or lets all pass by skipOnError', async () => {
    const store = fastifyStore({ limiter: { ...node, check: () => Promise.reject(new Error('no answer')) } });
    await register({ store });
    expect(await statuses(1)).to.deep.equal([500]);
    const open = fastify();
    await open.register(plugin, { max: 1, timeWindow: 1_000, store, skipOnError: true } as never);
    open.get('/', () => 'hello');
    expect((await open.inject('/')).statusCode).to.equal(200);
    await open.close();
  });

  it('names what is wrong with its options', () => {
    expect(() => fastifyStore({ limiter: node, nameSpace: 'a' } as StoreOptions)).to.throw(
      TypeError,
      /^fastifyStore: nameSpace: there is no such option/,
    );
  });
});
