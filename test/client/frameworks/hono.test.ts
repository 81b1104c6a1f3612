import { expect } from 'chai';
import { Hono } from 'hono';
import { rateLimit, type RateLimitOptions } from '../../../src/client/frameworks/hono.js';
import { createNode, type Node } from '../../../src/index.js';
import { eventually } from '../../support/eventually.js';

describe('the Hono middleware where there is no socket', () => {
  let node: Node;
  beforeEach(async () => {
    node = await createNode();
  });
  afterEach(() => node.close());

  const of = (more: Partial<RateLimitOptions> = {}): RateLimitOptions => ({
    limiter: node,
    limit: 5,
    window: '1h',
    key: (c) => c.req.header('cf-connecting-ip') ?? 'x',
    ...more,
  });
  const left = (): Promise<number> => node.remaining('x', 5, '1h');
  const leftIs = async (tokens: number): Promise<void> => {
    expect(await eventually(left, (now) => now === tokens)).to.equal(tokens);
  };

  it('limits, tells handlers the decision with its type, and merges its headers with those of any response', async () => {
    const app = new Hono().use(rateLimit(of())).get('/', (c) => {
      const { remaining } = c.var.rateLimit;
      return new Response(String(remaining), { headers: { 'x-raw': 'kept', 'content-type': 'text/plain' } });
    });
    const answer = await app.request('/');
    expect(await answer.text()).to.equal('4');
    expect(Object.fromEntries(answer.headers)).to.deep.equal({
      'content-type': 'text/plain',
      'ratelimit-policy': '"default";q=5;w=3600',
      ratelimit: '"default";r=4;t=720',
      'x-raw': 'kept',
    });
  });

  it('gives back once the body has been read to its end, and tells the runtime to wait for that', async () => {
    const app = new Hono().use(rateLimit(of({ skipSuccessful: true }))).get('/', (c) => c.text('hello'));
    const waits: Promise<unknown>[] = [];
    const context = {
      waitUntil: (one: Promise<unknown>) => void waits.push(one),
      passThroughOnException: () => undefined,
    };
    const answer = await app.request('/', {}, {}, { ...context, props: {} });
    expect(waits).to.have.lengthOf(1);
    expect(await left()).to.equal(4);
    expect(await answer.text()).to.equal('hello');
    await Promise.all(waits);
    expect(await left()).to.equal(5);
  });

  it('settles at once an answer without a body', async () => {
    const app = new Hono().use(rateLimit(of({ skipSuccessful: true }))).get('/', (c) => c.body(null, 204));
    expect((await app.request('/')).status).to.equal(204);
    await leftIs(5);
  });

  it('takes a body that its reader gives up, or whose source fails, for a failure', async () => {
    const endless = (): Response => new Response(new ReadableStream({ pull: (to) => to.enqueue(new Uint8Array(9)) }));
    const broken = (): Response => new Response(new ReadableStream({ pull: (to) => to.error(new Error('broken')) }));
    const app = new Hono()
      .use(rateLimit(of({ skipFailed: true })))
      .get('/endless', endless)
      .get('/broken', broken);
    const given = await app.request('/endless');
    await given.body!.cancel();
    await leftIs(5);
    const failed = await app.request('/broken');
    await failed.text().then(
      () => expect.fail('the error is told'),
      (error: unknown) => expect(String(error)).to.include('broken'),
    );
    await leftIs(5);
  });

  it('reaches no handler once the request is aborted, also while it waits', async () => {
    let passed = 0;
    await node.allow('x', 1, '1h');
    const app = new Hono().use(rateLimit(of({ limit: 1, wait: '1h' }))).get('/', (c) => ((passed += 1), c.text('')));
    const gone = new AbortController();
    const asked = app.request('/', { signal: gone.signal });
    gone.abort();
    expect((await asked).status).to.equal(499);
    expect(passed).to.equal(0);
  });

  it('sends no client that is too long for a node, nor one that is no text', async () => {
    let asked = 0;
    const limiter = { ...node, check: () => ((asked += 1), Promise.reject(new Error('asked'))) };
    for (const key of ['x'.repeat(257), '', undefined as never]) {
      const errors: unknown[] = [];
      const app = new Hono().use(rateLimit(of({ limiter, key: () => key }))).onError((error, c) => {
        errors.push(error);
        return c.text('', 500);
      });
      expect((await app.request('/')).status).to.equal(500);
      expect(errors[0]).to.include({ code: 'invalid_request', field: 'clientId' });
    }
    expect(asked).to.equal(0);
  });

  it('needs a key, as Hono knows no address', () => {
    const message =
      /^rateLimit: key: missing; the framework does not know the address of the caller; expected a function: /;
    expect(() => rateLimit({ ...of(), key: undefined } as never)).to.throw(TypeError, message);
  });
});
