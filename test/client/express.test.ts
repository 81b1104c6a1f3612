import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { IncomingMessage, type Server } from 'node:http';
import { Socket, type AddressInfo } from 'node:net';
import { expect } from 'chai';
import express, { type ErrorRequestHandler, type Express, type Request } from 'express';
import { addressKey, rateLimit, type RateLimitOptions } from '../../src/client/frameworks/express.js';
import { createClient, TokenringError } from '../../src/client/index.js';
import { createNode, type Node } from '../../src/index.js';
import { startNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { call, liveNode, post, type Answer } from '../support/http.js';
import { freePort } from '../support/ports.js';

/** All that most options need of a limiter. */
const CHECKS = { check: () => Promise.reject(new Error('not asked')) };

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
    options: RateLimitOptions,
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

  // Uncovers the real one.
  afterEach(() => Reflect.deleteProperty(performance, 'now'));

  /** Lets all nodes of this process read the same time until the test ends: headers round a time up to seconds. */
  function stopClock(): void {
    const nowMs = performance.now();
    performance.now = () => nowMs;
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
      stopClock();
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

  it('hands on that nobody could decide, lets the request pass, or answers 503, with one client', async () => {
    const nodes = [`http://127.0.0.1:${await freePort()}`];
    const question = { limit: 1, window: '1d', key: () => 'x' } as const;
    const table: [onUnavailable: 'open' | 'closed' | 'throw', more: object, status: number][] = [
      ['throw', {}, 500],
      ['throw', { onUnavailable: 'closed' }, 503],
      ['throw', { onUnavailable: 'open' }, 200],
      ['closed', {}, 503],
      ['closed', { onUnavailable: 'open' }, 200],
      ['open', {}, 200],
      ['open', { onUnavailable: 'closed' }, 503],
    ];
    for (const [onUnavailable, more, status] of table) {
      const client = createClient({ nodes, onUnavailable });
      const answer = await call(await serve({ limiter: client, ...question, ...more }), '/');
      expect(answer.status, `${onUnavailable} ${JSON.stringify(more)}`).to.equal(status);
      if (status === 503) expect(answer.headers).to.include({ 'retry-after': '1' });
      expect(answer.headers).not.to.have.any.keys('ratelimit', 'ratelimit-policy');
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

  it('goes on when the policy is deleted, warns once, and shows nobody a stack', async () => {
    const policies = { policies: { doomed: { limit: 5, window: '1d' } } } as const;
    const warnings: string[] = [];
    const listener = ({ message, code }: Error & { code?: string }): void => {
      if (code === 'TOKENRING_UNKNOWN_POLICY') warnings.push(message);
    };
    process.on('warning', listener);
    for (const [onUnavailable, status] of [
      ['open', 200],
      ['closed', 503],
      ['throw', 500],
    ] as const) {
      const other = await startNode(
        readSettings(
          [
            '--port',
            '0',
            '--peer-port',
            '0',
            '--policies',
            'none',
            '--policies-state',
            'none',
            '--admin-token',
            'a',
            '--log-level',
            'silent',
          ],
          {},
        ),
      );
      const base = `http://127.0.0.1:${other.port}`;
      const change = (method: string, query = '', body?: object): Promise<Response> =>
        fetch(`${base}/v1/policies/doomed${query}`, {
          method,
          headers: { authorization: 'Bearer a', 'content-type': 'application/json' },
          ...(body && { body: JSON.stringify(body) }),
        });
      await change('PUT', '', policies.policies.doomed);
      const client = createClient({ nodes: [base], onUnavailable });
      const app = express();
      app.set('env', 'development');
      app.use(rateLimit({ limiter: client, policy: 'doomed', key: () => onUnavailable }));
      app.get('/', (_req, res) => void res.end('served'));
      // Express prints the error that it answers.
      const { error } = console;
      console.error = () => undefined;
      const server = await listen(app);
      expect((await call(server, '/')).status).to.equal(200);
      expect((await change('DELETE')).status).to.equal(409);
      expect((await change('DELETE', '?force=true')).status).to.equal(200);
      for (let i = 0; i < 3; i += 1) {
        const answer = await call(server, '/');
        expect(answer.status, onUnavailable).to.equal(status);
        expect(answer.text).not.to.match(/at .*[.:]\d+/);
      }
      console.error = error;
      await client.close();
      await other.stop();
    }
    process.off('warning', listener);
    expect(warnings).to.have.length(3);
    expect(warnings[0]).to.match(
      /^rateLimit: No policy has this name: policy: "doomed" is not a policy; .* requests pass$/,
    );
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

  const misuses: [what: string, options: unknown, message: RegExp][] = [
    ['no options', undefined, /^rateLimit: expected options: rateLimit\(\{ limiter, limit: 100, window: "1m" \}\)$/],
    ['a limiter in place of options', CHECKS, /^rateLimit: expected options: rateLimit\(\{ limiter, /],
    ['a request in place of options', new IncomingMessage(new Socket()), /^rateLimit: expected options: rateLimit\(/],
    ['no limiter', { limit: 1, window: '1m' }, /^rateLimit: limiter: expected a node \(createNode\) or a client/],
    [
      'a promise of a node',
      { limiter: Promise.resolve(CHECKS), limit: 1, window: '1m' },
      /^rateLimit: limiter: it is a promise; write `await createNode\(\)`$/,
    ],
    [
      'the former `client`',
      { client: CHECKS, limit: 1, window: '1m' },
      /^rateLimit: client: .* `client` is `limiter` here/,
    ],
    ['no limit', { limiter: CHECKS }, /^rateLimit: limit: missing; expected limit and window, limits, or policy/],
    ['no window', { limiter: CHECKS, limit: 3 }, /^rateLimit: window: missing; expected whole milliseconds or "250ms"/],
    [
      'a window that is none',
      { limiter: CHECKS, limit: 3, window: 'banana' },
      /^rateLimit: window: "banana" is not valid; use whole/,
    ],
    [
      'express-rate-limit’s `max`',
      { limiter: CHECKS, max: 3, windowMs: 1 },
      /^rateLimit: max: .* `max` is `limit` here$/,
    ],
    [
      'express-rate-limit’s `keyGenerator`',
      { limiter: CHECKS, limit: 3, windowMs: 1, keyGenerator: () => '' },
      /`keyGenerator` is `key` here$/,
    ],
    ['rate-limiter-flexible’s `points`', { limiter: CHECKS, points: 3, duration: 1 }, /`points` is `limit` here$/],
    [
      'a typing mistake',
      { limiter: CHECKS, limit: 3, widnow: '1m' },
      /^rateLimit: widnow: .* did you mean `window`\?$/,
    ],
    [
      'a limit that is text',
      { limiter: CHECKS, limit: '3', window: '1m' },
      /^rateLimit: limit: "3" is not valid; use a whole number/,
    ],
    [
      'a key that is no function',
      { limiter: CHECKS, policy: 'p', key: 'ip' },
      /^rateLimit: key: "ip" is not valid; use a function$/,
    ],
    [
      'a limit beside a policy',
      { limiter: CHECKS, policy: 'p', limit: 3 },
      /^rateLimit: limit: expected none beside policy$/,
    ],
    [
      'a bad limit among several',
      { limiter: CHECKS, limits: [{ limit: 1 }] },
      /^rateLimit: limits\[0\]\.window: missing/,
    ],
    [
      'an unknown header style',
      { limiter: CHECKS, policy: 'p', headers: 'draft-5' },
      /^rateLimit: headers: "draft-5" is not valid; use "draft-11"/,
    ],
    [
      'a wait that is none',
      { limiter: CHECKS, policy: 'p', wait: 'soon' },
      /^rateLimit: wait: "soon" is not valid; use whole/,
    ],
    [
      'a cost of 0',
      { limiter: CHECKS, policy: 'p', cost: 0 },
      /^rateLimit: cost: 0 is not valid; use a whole number from 1/,
    ],
    [
      'costs after, and no `settle`',
      { limiter: CHECKS, policy: 'p', skipFailed: true },
      /^rateLimit: limiter: expected one with `settle`/,
    ],
  ];
  for (const [what, options, message] of misuses) {
    it(`says at creation what is wrong with ${what}`, () => {
      expect(() => rateLimit(options as RateLimitOptions)).to.throw(TypeError, message);
    });
  }

  it('has types that refuse a window that is none, and give callbacks the response of Express', () => {
    // @ts-expect-error: no duration
    expect(() => rateLimit({ limiter: CHECKS, limit: 3, window: 'banana' })).to.throw(TypeError);
    const typed: RateLimitOptions = {
      limiter: node,
      policy: true,
      onDenied: (req, res) => res.status(429).json(req.ip),
    };
    expect(rateLimit(typed)).to.be.a('function');
  });

  it('counts each limiter by itself, unless a name or a policy says otherwise', async () => {
    const own = await createNode({ policies: { policies: { p: { limit: 1, window: '1d' } } } });
    const app = express();
    const limit = { limiter: own, limit: 1, window: '1d', key: () => 'same' } as const;
    for (const path of ['/a', '/b']) app.get(path, rateLimit(limit), (_req, res) => void res.end());
    for (const path of ['/c', '/d'])
      app.get(path, rateLimit({ ...limit, name: 'shared' }), (_req, res) => void res.end());
    const named = { limiter: own, policy: 'p', key: () => 'same' };
    for (const path of ['/e', '/f']) app.get(path, rateLimit(named), (_req, res) => void res.end());
    const server = await listen(app);
    const statuses: number[] = [];
    for (const path of ['/a', '/b', '/c', '/d', '/e', '/f']) statuses.push((await call(server, path)).status);
    expect(statuses).to.deep.equal([200, 200, 200, 429, 200, 429]);
    await own.close();
  });

  it('refuses an address on the deny list by its default key, whatever the names of the limiters', async () => {
    const own = await createNode({ policies: { policies: {}, deny: ['ip:127.0.0.1'] } });
    const app = express();
    const limit = { limiter: own, limit: 9, window: '1d' } as const;
    const limiters = [rateLimit(limit), rateLimit(limit), rateLimit({ ...limit, name: 'ip' })];
    limiters.forEach((limiter, i) => app.get(`/${i}`, limiter, (_req, res) => void res.end()));
    const server = await listen(app);
    const statuses: number[] = [];
    for (const path of ['/0', '/1', '/2']) statuses.push((await call(server, path)).status);
    expect(statuses).to.deep.equal([429, 429, 429]);
    await own.close();
  });

  it('takes limit, policy, cost, key and skip from the request, now or later', async () => {
    const own = await createNode({
      policies: { policies: { free: { limit: 1, window: '1d' }, paid: { limit: 9, window: '1d' } } },
    });
    const byPlan = await serve({
      limiter: own,
      policy: (req) => Promise.resolve(req.get('x-plan')!),
      key: () => 'plan',
    });
    const planned = async (plan: string): Promise<unknown> =>
      (await call(byPlan, '/', { headers: { 'x-plan': plan } })).json;
    expect(await planned('free')).to.include({ limit: 1 });
    expect(await planned('paid')).to.include({ limit: 9 });
    const byLimit = await serve({
      limiter: own,
      limit: (req) => Promise.resolve(Number(req.get('x-limit'))),
      window: '1d',
      cost: () => Promise.resolve(2),
      skip: (req) => Promise.resolve(req.get('x-skip') !== undefined),
      key: () => Promise.resolve('limit'),
    });
    expect((await call(byLimit, '/', { headers: { 'x-limit': '5' } })).json).to.include({ limit: 5, remaining: 3 });
    expect((await call(byLimit, '/', { headers: { 'x-limit': '7' } })).json).to.include({ limit: 7, remaining: 3 });
    expect((await call(byLimit, '/', { headers: { 'x-skip': '1' } })).json).to.equal(null);
    await own.close();
  });

  it('shows every limiter of a route in the headers, each under a name of its own', async () => {
    const app = express();
    app.use(rateLimit({ limiter: node, limit: 9, window: '1h', name: 'app', key: () => 'stack' }));
    app.use(rateLimit({ limiter: node, limit: 5, window: '1m', key: () => 'stack' }));
    app.use(rateLimit({ limiter: node, limit: 1, window: '1d', key: () => 'stack' }));
    app.get('/', (_req, res) => void res.end());
    const server = await listen(app);
    const { headers } = await call(server, '/');
    expect(headers['ratelimit-policy']).to.equal('"app";q=9;w=3600, "default";q=5;w=60, "default-2";q=1;w=86400');
    expect(String(headers['ratelimit']).replaceAll(/;t=\d+/g, '')).to.equal(
      '"app";r=8, "default";r=4, "default-2";r=0',
    );
    const denied = await call(server, '/');
    expect(denied.json).to.deep.include({ status: 429, 'violated-policies': ['default-2'] });
  });

  it('writes the headers of older drafts where that is wanted', async () => {
    const limit = { limiter: node, limit: 5, window: '1m', key: () => 'drafts' } as const;
    const fields7 = (await call(await serve({ ...limit, headers: 'draft-7' }), '/')).headers;
    expect(fields7).to.include({ 'ratelimit-policy': '5;w=60', ratelimit: 'limit=5, remaining=4, reset=12' });
    const both = (await call(await serve({ ...limit, headers: ['draft-6', 'legacy'] }), '/')).headers;
    expect(both).to.include({
      'ratelimit-policy': '5;w=60',
      'ratelimit-limit': '5',
      'ratelimit-remaining': '4',
      'ratelimit-reset': '12',
    });
    expect(both).to.include({ 'x-ratelimit-limit': '5', 'x-ratelimit-remaining': '4' });
    expect(Number(both['x-ratelimit-reset']) - Date.now() / 1_000).to.be.within(10, 14);
    const none = (await call(await serve({ ...limit, headers: false }), '/')).headers;
    expect(Object.keys(none).filter((name) => /ratelimit/.test(name))).to.deep.equal([]);
  });

  it('shows the limiter with the fewest tokens left in the older headers, which have room for one', async () => {
    const app = express();
    const headers = ['draft-7', 'legacy'] as const;
    for (const limit of [9, 3, 5])
      app.use(rateLimit({ limiter: node, limit, window: '1h', name: `of ${limit}`, key: () => 'old', headers }));
    app.get('/', (_req, res) => void res.end());
    const { headers: shown } = await call(await listen(app), '/');
    expect(shown['ratelimit-policy']).to.equal('9;w=3600, 3;w=3600, 5;w=3600');
    expect(shown['ratelimit']).to.match(/^limit=3, remaining=2, /);
    expect(shown).to.include({ 'x-ratelimit-limit': '3', 'x-ratelimit-remaining': '2' });
  });

  it('tells each denial, and the first one of a client in a window besides', async () => {
    const denials: string[] = [];
    const app = await serve({
      limiter: node,
      limit: 1,
      window: '1d',
      key: (req) => req.get('x-key')!,
      onDenied: (_req, res) => (denials.push('denied'), void res.status(429).end()),
      onFirstDenied: (req, { allowed }) => void denials.push(`first ${req.get('x-key')} ${allowed}`),
    });
    for (const key of ['a', 'a', 'a', 'b', 'b']) await call(app, '/', { headers: { 'x-key': key } });
    expect(denials).to.deep.equal(['first a false', 'denied', 'denied', 'first b false', 'denied']);
  });

  it('warns once of a window without a unit that may be meant in seconds', async () => {
    const warnings: string[] = [];
    const listener = ({ message }: Error): void => void warnings.push(message);
    process.on('warning', listener);
    for (const options of [
      { limit: 9, window: 62 },
      { limit: 9, window: 62 },
      { limits: [{ limit: 9, window: 63 }] },
      { limit: 9, window: '64ms' },
      { limit: 9, windowMs: 65 },
      { limit: 9, window: 1_000 },
    ] as const)
      rateLimit({ limiter: node, ...options });
    await new Promise(setImmediate);
    process.off('warning', listener);
    expect(warnings.filter((one) => one.includes('milliseconds'))).to.deep.equal([
      'rateLimit: window: 62 means 62 milliseconds; for seconds write "62s", otherwise "62ms"',
      'rateLimit: limits[0].window: 63 means 63 milliseconds; for seconds write "63s", otherwise "63ms"',
    ]);
  });

  it('warns once where `trust proxy` does not fit the requests', async () => {
    const warnings: string[] = [];
    const listener = (warning: Error & { code?: string }): void => void warnings.push(String(warning.code));
    process.on('warning', listener);
    const limit = { limiter: node, limit: 9, window: '1d' } as const;
    const headers = { 'x-forwarded-for': '203.0.113.1' };
    for (const [trust, sent] of [
      [false, headers],
      [true, headers],
      ['loopback', {}],
      ['loopback', headers],
    ] as const) {
      const app = await serve(limit, { trust });
      for (let i = 0; i < 2; i += 1) await call(app, '/', { headers: sent });
    }
    process.off('warning', listener);
    const known = ['TOKENRING_UNTRUSTED_PROXY', 'TOKENRING_TRUSTS_ANYBODY', 'TOKENRING_MISSING_PROXY'];
    for (const code of known) expect(warnings.filter((one) => one === code).length, code).to.be.at.most(1);
    // The first may have come in a test before.
    expect(warnings).to.include.members(known.slice(1));
  });

  it('lets a denied request wait for its turn where that is wanted', async () => {
    const app = await serve({ limiter: node, limit: 1, window: '200ms', name: 'wait', key: () => 'x', wait: '5s' });
    const answers = await Promise.all(Array.from({ length: 4 }, () => call(app, '/')));
    expect(answers.map(({ status }) => status)).to.deep.equal([200, 200, 200, 200]);
    const hasty = await serve({ limiter: node, limit: 1, window: '1h', name: 'hasty', key: () => 'x', wait: 50 });
    expect((await call(hasty, '/')).status).to.equal(200);
    expect((await call(hasty, '/')).status).to.equal(429);
  });

  describe('counting by outcome', () => {
    /** Waits until what is left is so many: a cost is settled after the response. */
    async function left(scope: string, key: string, limit: number, expected: number): Promise<void> {
      for (let tries = 0; tries < 100; tries += 1) {
        if ((await node.remaining(key, limit, '15m', { scope })) === expected) return;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      expect(await node.remaining(key, limit, '15m', { scope })).to.equal(expected);
    }

    it('gives back what succeeds, or what fails, or all but the final cost', async () => {
      const limit = { limiter: node, limit: 5, window: '15m', key: () => 'x' } as const;
      const table: [name: string, more: Partial<RateLimitOptions>, status: number, remaining: number][] = [
        ['good-skipped', { skipSuccessful: true }, 200, 5],
        ['bad-counted', { skipSuccessful: true }, 401, 4],
        ['good-counted', { skipFailed: true }, 200, 4],
        ['bad-skipped', { skipFailed: true }, 500, 5],
        ['by-size', { cost: 5, costAfter: (_req, res) => Promise.resolve(res.statusCode === 200 ? 2 : 5) }, 200, 3],
      ];
      for (const [name, more, status, remaining] of table) {
        await call(await serve({ ...limit, ...more, name }, { status }), '/');
        await left(name, 'x', 5, remaining);
      }
    });

    it('gives back what breaks off before the response has ended', async () => {
      const app = express();
      app.use(rateLimit({ limiter: node, limit: 5, window: '15m', name: 'broken', key: () => 'x', skipFailed: true }));
      app.get('/', (_req, res) => void res.destroy());
      await call(await listen(app), '/').catch(() => undefined);
      await left('broken', 'x', 5, 5);
    });

    it('allows five failed logins per quarter of an hour, by account and by address', async () => {
      const failures = { limiter: node, limit: 5, window: '15m', skipSuccessful: true } as const;
      const app = express();
      app.set('trust proxy', 'loopback');
      app.post(
        '/login',
        express.json(),
        rateLimit({ ...failures, name: 'login by address' }),
        rateLimit({
          ...failures,
          name: 'login by account',
          key: (req: Request<object, unknown, { account?: unknown } | undefined>) => String(req.body?.account),
        }),
        (req: Request<object, unknown, { password?: unknown } | undefined>, res) =>
          void res.status(req.body?.password === 'right' ? 200 : 401).end(),
      );
      const server = await listen(app);
      const login = async (account: string, password: string, address: string): Promise<number> => {
        const headers = { 'content-type': 'application/json', 'x-forwarded-for': address };
        const { status } = await call(server, '/login', {
          method: 'POST',
          headers,
          body: JSON.stringify({ account, password }),
        });
        return status;
      };
      for (let i = 0; i < 8; i += 1) expect(await login('alice', 'right', '203.0.113.1')).to.equal(200);
      await left('login by address', 'ip:203.0.113.1', 5, 5);
      for (let i = 0; i < 5; i += 1) expect(await login('alice', 'wrong', '203.0.113.1')).to.equal(401);
      expect(await login('alice', 'right', '203.0.113.1'), 'the address has failed too often').to.equal(429);
      expect(await login('alice', 'right', '203.0.113.2'), 'and so has the account').to.equal(429);
      expect(await login('bob', 'right', '203.0.113.2'), 'another account from another address').to.equal(200);
      const bare = await call(server, '/login', { method: 'POST', headers: { 'x-forwarded-for': '203.0.113.3' } });
      expect(bare.status, 'a request without a body fails like any other login').to.equal(401);
      expect(readFileSync('docs/sdk.md', 'utf8')).to.include('key: (req) => String(req.body?.account)');
    });
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
