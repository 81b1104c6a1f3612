import { expect } from 'chai';
import {
  createClient,
  TokenringError,
  type Client,
  type ClientOptions,
  type Decision,
  type ErrorCode,
} from '../../src/client/index.js';
import type { RunningNode } from '../../src/app/main.js';
import { errorOf } from '../support/error-of.js';
import { liveNode, post } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { ALLOWED, startStubNode, type Batch, type StubNode, type StubOptions } from '../support/stub-node.js';

const DAY = { limit: 10, window: '1d' } as const;
const OVERLOADED = '{"code":"overloaded","status":503}';

describe('a client whose nodes fail', function () {
  this.timeout(30_000);
  let live: RunningNode;
  let liveUrl: string;
  let deadUrl: string;
  let names = 0;
  const toClose: { close(): Promise<void> }[] = [];
  before(async () => {
    live = await liveNode();
    liveUrl = `http://127.0.0.1:${live.port}`;
    deadUrl = `http://127.0.0.1:${await freePort()}`;
    // Loads undici, which takes longer than the waits below.
    const first = createClient({ nodes: [liveUrl] });
    await first.allow('first', 1, 1_000);
    await first.close();
  });
  afterEach(async () => {
    await Promise.all(toClose.splice(0).map((one) => one.close()));
  });
  const open = (nodes: readonly string[], options: Partial<ClientOptions> = {}): Client => {
    const client = createClient({ nodes, ...options });
    toClose.push(client);
    return client;
  };
  const stub = async (options: StubOptions): Promise<StubNode> => {
    const node = await startStubNode(options);
    toClose.push(node);
    return node;
  };
  const ask = async (client: Client, more: object = {}): Promise<{ decision: Decision; ms: number }> => {
    const startMs = performance.now();
    const decision = await client.check({ clientId: `fails ${(names += 1)}`, ...DAY, ...more });
    return { decision, ms: performance.now() - startMs };
  };

  it('asks another at once where one refuses', async () => {
    for (let i = 0; i < 4; i += 1) {
      const { decision, ms } = await ask(open([deadUrl, liveUrl]));
      expect(decision).to.include({ allowed: true, degraded: false });
      expect(ms).to.be.below(200);
    }
  });

  it('asks another as well where one hangs, and from then on first', async () => {
    const hangs = await stub({ decide: () => undefined });
    const client = open([hangs.url, liveUrl]);
    const first = await Promise.all(Array.from({ length: 10 }, () => ask(client)));
    for (const { decision, ms } of first) {
      expect(decision).to.include({ allowed: true, remaining: 9 });
      expect(ms).to.be.below(1_500);
    }
    expect(hangs.batches).not.to.deep.equal([]);
    const before = hangs.batches.length;
    for (let i = 0; i < 10; i += 1) expect((await ask(client)).ms).to.be.below(200);
    expect(hangs.batches.length).to.equal(before);
  });

  it('is charged once where the answer of the first is lost', async () => {
    // Asks the node, and keeps what it says for itself.
    const eats = await stub({
      decide: ({ requestId, requests, res }) =>
        void post(live, '/v1/allow/batch', { requestId, requests }).then(() => res.destroy()),
    });
    const client = open([eats.url, liveUrl], { rememberDenialsMs: 0 });
    const remaining: number[] = [];
    for (let i = 0; i < 6; i += 1) remaining.push((await ask(client, { clientId: 'lost' })).decision.remaining);
    expect(eats.batches.length).to.be.above(0);
    expect(remaining).to.deep.equal([9, 8, 7, 6, 5, 4]);
  });

  const hostile: [what: string, decide: (batch: Batch) => void, code?: ErrorCode][] = [
    ['no JSON', ({ res }) => void res.end('<html>')],
    ['JSON that is cut off', ({ res }) => void res.writeHead(200, { 'content-length': 99 }).end('{"results":[')],
    ['null', ({ res }) => void res.end('null')],
    ['too few decisions', ({ res }) => void res.end('{"results":[]}')],
    ['a decision that is none', (batch) => batch.answer({ ...ALLOWED, allowed: 'yes' })],
    ['figures that are none', (batch) => batch.answer({ ...ALLOWED, retryAfterMs: 'soon' })],
    ['a source that nobody knows', (batch) => batch.answer({ ...ALLOWED, source: '__proto__' })],
    ['an error that is none', (batch) => batch.answer({ error: null })],
    ['a redirect', ({ res }) => void res.writeHead(307, { location: 'http://127.0.0.1:1/' }).end('{}')],
    ['404, as another server would', ({ res }) => void res.writeHead(404).end('{}')],
    ['that it is overloaded', ({ res }) => void res.writeHead(503).end(OVERLOADED), 'overloaded'],
    ['that one question cannot be answered', (batch) => batch.answer({ error: { code: 'unavailable', status: 503 } })],
    ['a body without end', ({ res }) => endless(res)],
    ['nothing, and hangs up', ({ res }) => void res.destroy()],
  ];
  for (const [what, decide, code = 'no_answer'] of hostile) {
    it(`asks another where one answers ${what}, and says why where there is no other`, async () => {
      const bad = await stub({ decide });
      const client = open([bad.url, liveUrl]);
      for (let i = 0; i < 3; i += 1) expect((await ask(client)).decision).to.include({ allowed: true, remaining: 9 });
      expect(bad.batches.length).to.be.above(0);
      const error = await errorOf(ask(open([bad.url], { timeoutMs: 1_500 })));
      expect(error).to.be.instanceOf(TokenringError).and.to.include({ code });
      expect((error as Error).cause).to.be.instanceOf(Error);
      expect((error as Error).message).to.include(bad.url);
    });
  }

  it('asks no other node where one answers 408 or 429: that would only move the load', async () => {
    for (const [status, code] of [
      [408, 'timeout'],
      [429, 'overloaded'],
    ] as const) {
      const nodes = await Promise.all(
        [1, 2, 3].map(() => stub({ decide: ({ res }) => void res.writeHead(status).end('{}') })),
      );
      const client = open(nodes.map(({ url }) => url));
      expect(await errorOf(ask(client))).to.include({ code, status });
      expect(nodes.map(({ batches }) => batches.length).sort()).to.deep.equal([0, 0, 1]);
      const mild = open(
        nodes.map(({ url }) => url),
        { onUnavailable: 'open' },
      );
      expect((await ask(mild)).decision).to.include({ allowed: true, degraded: true });
    }
  });

  it('sends overloaded nodes at most a tenth more than what it is asked', async () => {
    const overloaded: [what: string, decide: (batch: Batch) => void][] = [
      ['a batch', ({ res }) => void res.writeHead(503).end(OVERLOADED)],
      ['each question', (batch) => batch.answer({ error: JSON.parse(OVERLOADED) as object })],
      ['nothing', ({ res }) => void res.destroy()],
    ];
    for (const [what, decide] of overloaded) {
      const nodes = await Promise.all([1, 2, 3].map(() => stub({ decide })));
      const client = open(
        nodes.map(({ url }) => url),
        { timeoutMs: 500 },
      );
      for (let i = 0; i < 100; i += 1) await Promise.all(Array.from({ length: 10 }, () => errorOf(ask(client))));
      const sent = nodes.flatMap(({ batches }) => batches).reduce((sum, { requests }) => sum + requests.length, 0);
      // Besides: 10 retries to begin with, and what was in flight to each node as it failed for the first time.
      expect(sent, what).to.be.at.most(1_100 + 10 + 30);
    }
  });

  it('asks an overloaded node again when it has said, and not before', async () => {
    const node = await stub({
      decide: (batch) => {
        if (node.batches.length > 1) batch.answer(ALLOWED);
        else batch.res.writeHead(503, { 'retry-after': '1' }).end(OVERLOADED);
      },
    });
    const client = open([node.url], { timeoutMs: 5_000 });
    const first = ask(client);
    await errorOf(open([deadUrl], { timeoutMs: 100 }).allow('a', 1, 1));
    const answers = await Promise.all([first, ask(client)]);
    expect(answers[0].decision).to.include({ allowed: true, degraded: false });
    expect(answers[0].ms).to.be.within(990, 2_000);
    expect(answers[1].decision).to.include({ allowed: true, degraded: false });
    expect(node.batches).to.have.lengthOf(2);
    const hasty = await stub({ decide: ({ res }) => void res.writeHead(503, { 'retry-after': '9' }).end(OVERLOADED) });
    const impatient = open([hasty.url], { timeoutMs: 1_000 });
    for (let i = 0; i < 3; i += 1) expect(await errorOf(ask(impatient))).to.include({ code: 'overloaded' });
    expect(hasty.batches).to.have.lengthOf(1);
  });

  it('names the addresses that it tried, and what came of each', async () => {
    const breaks = await stub({ decide: ({ res }) => void res.destroy() });
    for (const call of [(client: Client) => ask(client), (client: Client) => client.describe('a')]) {
      const error = (await errorOf(call(open([deadUrl, breaks.url])))) as TokenringError;
      expect(error).to.include({ code: 'no_answer' });
      expect(error.message).to.include(`${deadUrl}: connect ECONNREFUSED`).and.to.include(`${breaks.url}: `);
    }
    const refused = (await errorOf(ask(open([deadUrl])))) as TokenringError;
    expect(refused.cause).to.be.instanceOf(Error).with.nested.property('cause.code', 'ECONNREFUSED');
  });

  it('decides as it is told where nobody answers in time', async () => {
    const hangs = await stub({ decide: () => undefined });
    for (const nodes of [[deadUrl], [hangs.url], [hangs.url, deadUrl]]) {
      const timeoutMs = 300;
      const open_ = await ask(open(nodes, { timeoutMs, onUnavailable: 'open' }));
      const closed = await ask(open(nodes, { timeoutMs, onUnavailable: 'closed' }));
      for (const { ms } of [open_, closed]) expect(ms).to.be.below(timeoutMs + 200);
      expect(open_.decision).to.include({ allowed: true, limit: 10, source: 'fallback', degraded: true });
      expect(closed.decision).to.include({ allowed: false, retryAfterMs: 1_000, source: 'fallback', degraded: true });
      const error = await errorOf(ask(open(nodes, { timeoutMs })));
      expect(error).to.be.instanceOf(TokenringError).and.to.include({ code: 'no_answer' });
      expect(await errorOf(open(nodes, { timeoutMs }).describe('a'))).to.include({ code: 'no_answer' });
    }
  });

  it('lists each of several limits where it decides without a node', async () => {
    const limits = [
      { limit: 10, window: '1s' },
      { limit: 100, window: '1h', algorithm: 'sliding-window' },
    ] as const;
    const client = open([deadUrl], { timeoutMs: 300, onUnavailable: 'closed' });
    const figures = { remaining: 0, retryAfterMs: 1_000, resetMs: 0 };
    const decision = await client.check({ clientId: 'a', limits });
    expect(decision.limits).to.deep.equal([
      { algorithm: 'token-bucket', windowMs: 1_000, limit: 10, ...figures },
      { algorithm: 'sliding-window', windowMs: 3_600_000, limit: 100, ...figures },
    ]);
    expect((await client.check({ clientId: 'a', policy: 'api' })).limits).to.equal(undefined);
  });

  it('takes no mistake of the one who asks for a failure of the node', async () => {
    const unauthorized = { code: 'unauthorized', status: 401, title: 'no', field: 'Authorization' };
    const guarded = await stub({ decide: ({ res }) => void res.writeHead(401).end(JSON.stringify(unauthorized)) });
    const client = open([guarded.url, liveUrl], { onUnavailable: 'open' });
    const errors = await Promise.all([1, 2, 3, 4].map(() => errorOf(ask(client))));
    for (const error of errors.filter((one) => one !== undefined))
      expect(error).to.include({ code: 'unauthorized', status: 401, field: 'Authorization' });
    expect(errors).not.to.deep.equal([undefined, undefined, undefined, undefined]);
  });

  it('repeats no more than a few lines of what a node says', async () => {
    const long = { code: 'x'.repeat(1_000_000), status: 400, detail: 'y'.repeat(1_000_000) };
    const node = await stub({ decide: ({ res }) => void res.writeHead(400).end(JSON.stringify(long)) });
    const error = await errorOf(ask(open([node.url])));
    expect(error).to.include({ code: 'unknown_error', status: 400 });
    expect(String(error).length).to.be.below(2_000);
  });

  it('takes no problem whose status no error has', async () => {
    const odd = { code: 'invalid_request', status: 1e300 };
    const node = await stub({ decide: ({ res }) => void res.writeHead(400).end(JSON.stringify(odd)) });
    expect(await errorOf(ask(open([node.url])))).to.include({ code: 'no_answer', status: 503 });
  });

  it('asks once more where all have failed: a connection that broke is no dead node', async () => {
    const node = await stub({
      decide: (batch) => (node.batches.length === 1 ? void batch.res.destroy() : batch.answer(ALLOWED)),
    });
    expect((await ask(open([node.url]))).decision).to.include({ allowed: true, degraded: false });
    const [first, second] = node.batches;
    expect(second!.requests[0]!.requestId).to.equal(`${first!.requestId}#0`);
    expect(second!.requestId).not.to.equal(first!.requestId);
  });

  it('asks a node that is back again', async () => {
    let isUp = false;
    const node = await stub({ decide: (batch) => (isUp ? batch.answer(ALLOWED) : batch.res.destroy()) });
    const client = open([node.url], { onUnavailable: 'closed' });
    expect((await ask(client)).decision).to.include({ degraded: true });
    isUp = true;
    expect((await ask(client)).decision).to.include({ allowed: true, degraded: false });
  });

  it('lets no more wait than it was told', async () => {
    const hangs = await stub({ decide: () => undefined });
    const client = open([hangs.url], { timeoutMs: 500, maxWaiting: 100 });
    const errors = await Promise.all(Array.from({ length: 300 }, () => errorOf(ask(client))));
    const codes = errors.map((error) => (error as TokenringError).code);
    expect(codes.filter((code) => code === 'overloaded')).to.have.lengthOf(200);
    expect(codes.filter((code) => code === 'no_answer')).to.have.lengthOf(100);
  });
});

/** Sends until nobody listens any more. */
function endless(res: Batch['res']): void {
  const chunk = Buffer.alloc(256 * 1024, 0x20);
  const more = (): void => {
    while (!res.destroyed && res.write(chunk));
    if (!res.destroyed) res.once('drain', more);
  };
  more();
}
