import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import express from 'express';
import type { ErrorRequestHandler, Express, Request } from 'express';
import { addressKey, rateLimit } from '../../src/client/express.js';
import type { Limiter, RateLimitOptions } from '../../src/client/express.js';
import { createClient, TokenringError } from '../../src/client/index.js';
import { createNode } from '../../src/index.js';
import type { Node } from '../../src/index.js';
import { call, liveNode, post } from '../support/http.js';
import type { Answer } from '../support/http.js';
import { freePort } from '../support/ports.js';

describe('the Express middleware', function () {
  this.timeout(20_000);
  let node: Node;
  const servers: Server[] = [];
  before(async () => {
    node = await createNode();
  });
  after(async () => {
    await node.close();
  });
  afterEach(() => {
    for (const server of servers.splice(0)) (server.closeAllConnections(), server.close());
  });

  /** An app whose one route answers with the decision on it, and whose errors are answered 500 with their code. */
  async function serve(
    options: RateLimitOptions<Request>,
    { trust, status = 200 }: { trust?: unknown; status?: number } = {},
  ): Promise<{ port: number }> {
    const app = express();
    if (trust !== undefined) app.set('trust proxy', trust);
    app.use(rateLimit(options));
    app.get('/', (_req, res) => void res.status(status).json(res.locals['rateLimit'] ?? null));
    const onError: ErrorRequestHandler = (error: { code?: string; field?: string }, _req, res, next) => {
      if (res.headersSent) return next(error);
      res.status(500).json({ code: error.code, field: error.field });
    };
    app.use(onError);
    return listen(app);
  }

  async function listen(app: Express): Promise<{ port: number }> {
    const server = app.listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    return { port: (server.address() as AddressInfo).port };
  }

  const fields = ({ headers }: Answer): unknown[] =>
    ['ratelimit-policy', 'ratelimit', 'retry-after'].map((name) => headers[name]);

  const questions: object[] = [
    { limit: 2, window: '1d' },
    { limit: 2, window: 86_400_000, burst: 3 },
    { limit: 2, windowMs: 1_500, algorithm: 'sliding-window' },
    { limit: 0, window: '1d' },
    {
      limits: [
        { limit: 2, window: '1h' },
        { limit: 9, window: '1d', algorithm: 'sliding-window' },
      ],
    },
  ];
  for (const [i, question] of questions.entries()) {
    it(`answers ${JSON.stringify(question)} with the headers of POST /v1/allow`, async () => {
      const app = await serve({ limiter: node, ...question, key: () => `same ${i}` });
      const api = await liveNode();
      for (let n = 0; n < 4; n += 1) {
        const [mine, its] = [
          await call(app, '/'),
          await post(api, '/v1/allow', { clientId: `same ${i}`, ...question }),
        ];
        expect(mine.status).to.equal(its.status);
        expect(fields(mine)).to.deep.equal(fields(its));
        expect(fields(mine)[1]).to.be.a('string');
      }
    });
  }

  it('tells the handler the decision, and who is denied when to come again', async () => {
    const app = await serve({ limiter: node, limit: 1, window: '1h', key: () => 'told' });
    expect((await call(app, '/')).json).to.include({ allowed: true, limit: 1, remaining: 0 });
    const { status, headers, json } = await call(app, '/');
    expect(status).to.equal(429);
    expect(headers).to.include({ 'content-type': 'application/problem+json', 'cache-control': 'no-store' });
    expect(headers['retry-after']).to.equal('3600');
    expect(json).to.include({ type: 'https://iana.org/assignments/http-problem-types#quota-exceeded', status: 429 });
    expect((json as { retryAfterMs: number }).retryAfterMs).to.be.within(3_590_000, 3_600_000);
  });

  it('denies as it is told', async () => {
    const denied: RateLimitOptions = { limiter: node, limit: 0, window: '1h', key: () => 'own' };
    const own = await serve({ ...denied, onDenied: (_req, res, { limit }) => void res.writeHead(418).end(`${limit}`) });
    expect(await call(own, '/')).to.include({ status: 418, text: '0' });
    const through = await serve({ ...denied, onDenied: (_req, _res, _decision, next) => next() });
    expect((await call(through, '/')).json).to.include({ allowed: false });
    const throwing = await serve({
      ...denied,
      onDenied: () => {
        throw Object.assign(new Error('x'), { code: 'mine' });
      },
    });
    expect(await call(throwing, '/')).to.deep.include({ status: 500, json: { code: 'mine' } });
    const rejecting = await serve({
      ...denied,
      onDenied: () => Promise.reject(Object.assign(new Error('x'), { code: 'mine' })),
    });
    expect(await call(rejecting, '/')).to.deep.include({ status: 500, json: { code: 'mine' } });
  });

  it('takes cost, key and what is skipped from the request', async () => {
    const app = await serve({
      limiter: node,
      limit: 10,
      window: '1d',
      key: (req: Request) => Promise.resolve(req.get('x-key') ?? ''),
      cost: (req: Request) => Number(req.get('x-cost') ?? 1),
      skip: (req: Request) => req.get('x-skip') !== undefined,
    });
    const ask = async (headers: Record<string, string>): Promise<unknown> => (await call(app, '/', { headers })).json;
    expect(await ask({ 'x-key': 'a', 'x-cost': '4' })).to.include({ remaining: 6 });
    expect(await ask({ 'x-key': 'b' })).to.include({ remaining: 9 });
    expect(await ask({ 'x-key': 'a', 'x-skip': '1', 'x-cost': '9' })).to.equal(null);
    expect(await ask({ 'x-key': 'a' })).to.include({ remaining: 5 });
    // What is no id is a mistake of the service, and told to its error handler.
    expect(await ask({})).to.deep.equal({ code: 'invalid_request', field: 'clientId' });
    expect(await ask({ 'x-key': 'a', 'x-cost': '0' })).to.deep.equal({ code: 'invalid_request', field: 'cost' });
  });

  it('knows who asks by the address, which only a trusted proxy may tell', async () => {
    const limits: RateLimitOptions = { limiter: node, limit: 1_000, window: '1d', burst: 900 };
    const from = async (app: { port: number }, address: string): Promise<unknown> => {
      const { json } = await call(app, '/', { headers: { 'x-forwarded-for': address } });
      return (json as { remaining: number }).remaining;
    };
    const behind = await serve(limits, { trust: 'loopback' });
    expect(await from(behind, '203.0.113.1')).to.equal(899);
    expect(await from(behind, '203.0.113.2')).to.equal(899);
    expect(await from(behind, '2001:db8:1:200::1')).to.equal(899);
    expect(await from(behind, '2001:db8:1:200:ffff::2')).to.equal(898);
    for (const [i, written] of ['198.51.100.7:5678', '198.51.100.7:9', '::ffff:c633:6407', '198.51.100.7'].entries())
      expect(await from(behind, written), written).to.equal(899 - i);
    expect(await from(behind, '::ffff:c633:6408'), 'the next address').to.equal(899);
    const direct = await serve(limits);
    expect(await from(direct, '203.0.113.1')).to.equal(899);
    expect(await from(direct, '203.0.113.9')).to.equal(898);
  });

  it('hands on that nobody could decide, or answers 503 where that is wanted', async () => {
    const nodes = [`http://127.0.0.1:${await freePort()}`];
    const question = { limit: 1, window: '1d', key: () => 'x' } as const;
    const table: [onUnavailable: 'open' | 'closed' | 'throw', more: object, status: number][] = [
      ['throw', {}, 500],
      ['throw', { unavailableStatus: 503 }, 503],
      ['closed', {}, 429],
      ['closed', { unavailableStatus: 503 }, 503],
      ['open', { unavailableStatus: 503 }, 200],
    ];
    for (const [onUnavailable, more, status] of table) {
      const client = createClient({ nodes, onUnavailable });
      const answer = await call(await serve({ limiter: client, ...question, ...more }), '/');
      expect(answer.status, `${onUnavailable} ${JSON.stringify(more)}`).to.equal(status);
      if (status === 503) expect(answer.headers).to.include({ 'retry-after': '1' });
      await client.close();
    }
  });

  it('shows no caller the status that a node had for the service: its token, its policy, its limit', async () => {
    for (const [code, status] of [
      ['unauthorized', 401],
      ['forbidden', 403],
      ['unknown_policy', 400],
    ] as const) {
      const refused = new TokenringError(code, { status, field: 'x' });
      const app = express();
      app.use(rateLimit({ limiter: { check: () => Promise.reject(refused) }, policy: 'p' }));
      const errors: unknown[] = [];
      // Express answers with the status of an error, where it has one.
      const onError: ErrorRequestHandler = (error: unknown, _req, _res, next) => (errors.push(error), next(error));
      app.set('env', 'test').use(onError);
      expect((await call(await listen(app), '/')).status, code).to.equal(500);
      expect(errors[0]).to.include({ code, field: 'x', status: 500, cause: refused });
    }
  });

  it('lets nobody through because a function of the service throws what is no error', async () => {
    for (const thrown of [undefined, null, 'route', 'router', 0] as unknown as Error[]) {
      const nothing = (): Promise<never> => Promise.reject(thrown);
      for (const options of [{ key: nothing }, { key: () => 'none', onDenied: nothing }])
        expect((await call(await serve({ limiter: node, limit: 0, window: '1h', ...options }), '/')).status).to.equal(
          500,
        );
    }
  });

  it('measures what is let through, and nothing else', async () => {
    const ended: boolean[] = [];
    const load = { begin: () => (ok?: boolean) => void ended.push(ok === true) };
    const question = { limiter: node, limit: 2, window: '1d', load } as const;
    const good = await serve({ ...question, key: () => 'good' });
    for (let n = 0; n < 5; n += 1) await call(good, '/');
    expect(ended).to.deep.equal([true, true]);
    const bad = await serve({ ...question, key: () => 'bad' }, { status: 502 });
    await call(bad, '/');
    expect(ended).to.deep.equal([true, true, false]);
  });

  it('names what is wrong with its limiter', () => {
    const client: Pick<Limiter, 'check'> = { check: (request) => node.check(request) };
    const wrong: [options: object, message: string][] = [
      [{}, 'rateLimit: limiter: expected a node (createNode) or a client (createClient)'],
      [{ limiter: {} }, 'rateLimit: limiter: expected a node (createNode) or a client (createClient)'],
      [{ client }, 'rateLimit: client: there is no such option; pass it as limiter: rateLimit({ limiter: client })'],
      [{ node }, 'rateLimit: node: there is no such option; pass it as limiter: rateLimit({ limiter: node })'],
    ];
    for (const [options, message] of wrong)
      expect(() => rateLimit({ policy: 'p', ...options } as unknown as RateLimitOptions)).to.throw(TypeError, message);
    const typed: RateLimitOptions = { limiter: client, policy: 'p', key: (req) => String(req.ip) };
    expect(rateLimit(typed)).to.be.a('function');
  });

  it('makes keys of addresses: an IPv4 address, or an IPv6 /64, never a port', () => {
    const table = [
      ['::ffff:203.0.113.1', 'ip:203.0.113.1'],
      ['203.0.113.1:80', 'ip:203.0.113.1'],
      ['2001:db8:1:2ff:ffff::2', 'ip:2001:db8:1:2ff::/64'],
      [undefined, 'ip:unknown'],
    ] as const;
    for (const [address, key] of table) expect(addressKey(address), address).to.equal(key);
  });
});
