import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import express from 'express';
import { rateLimit, type Options, type Store } from 'express-rate-limit';
import { expressStore, type StoreOptions } from '../../../src/client/stores/store.js';
import { createClient } from '../../../src/client/index.js';
import { createNode, type Node } from '../../../src/index.js';
import { eventually } from '../../support/eventually.js';
import { call, type Answer } from '../../support/http.js';
import { freePort } from '../../support/ports.js';

const HOUR_MS = 3_600_000;

describe('the store for express-rate-limit', () => {
  let node: Node;
  const servers: Server[] = [];
  beforeEach(async () => {
    node = await createNode();
  });
  afterEach(async () => {
    for (const server of servers.splice(0)) (server.closeAllConnections(), server.close());
    await node.close();
  });

  /** A store as express-rate-limit initializes it. The assignment checks its interface. */
  function storeOf(
    options: Partial<Options> = {},
    more: Partial<StoreOptions> = {},
  ): Required<Omit<Store, 'resetAll'>> {
    const store = expressStore({ limiter: node, ...more }) satisfies Store;
    store.init({ windowMs: HOUR_MS, limit: 3, skipFailedRequests: false, skipSuccessfulRequests: false, ...options });
    return store;
  }

  /** Answers with the status that `x-status` names, behind the real middleware. */
  async function serve(options: Partial<Options>): Promise<(status?: number, key?: string) => Promise<Answer>> {
    const app = express();
    app.use(rateLimit({ windowMs: HOUR_MS, limit: 3, keyGenerator: (req) => req.get('x-key')!, ...options }));
    app.get('/', (req, res) => void res.status(Number(req.get('x-status'))).end());
    const server = app.listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    const at = server.address() as AddressInfo;
    return (status = 200, key = 'a') => call(at, '/', { headers: { 'x-status': String(status), 'x-key': key } });
  }

  it('blames nobody where no node can be asked: 503, and when to come again', async () => {
    const closed = createClient({ nodes: [`http://127.0.0.1:${await freePort()}`], onUnavailable: 'closed' });
    const ask = await serve({ store: expressStore({ limiter: closed }) });
    for (let i = 0; i < 3; i += 1) {
      const { status, headers } = await ask();
      expect({ status, ...headers }).to.include({ status: 503, 'retry-after': '1' });
    }
    await closed.close();
  });

  it('counts the hits of each key, and tells when the count is over', async () => {
    const store = storeOf();
    for (const totalHits of [1, 2, 3, 4, 4]) {
      const { totalHits: counted, resetTime } = await store.increment('a');
      expect(counted).to.equal(totalHits);
      expect(resetTime!.getTime() - Date.now()).to.be.within(HOUR_MS - 5_000, HOUR_MS * (33 / 32) + 5_000);
    }
    expect((await store.increment('b')).totalHits).to.equal(1);
  });

  it('reads a key without counting, and forgets one', async () => {
    const store = storeOf();
    expect(await store.get('a')).to.equal(undefined);
    await store.increment('a');
    await store.increment('a');
    expect(await store.get('a')).to.include({ totalHits: 2 });
    expect(await store.get('a')).to.include({ totalHits: 2 });
    await store.resetKey('a');
    expect(await store.get('a')).to.equal(undefined);
    expect((await store.increment('a')).totalHits).to.equal(1);
  });

  it('shares its keys with other instances of one prefix, and says so', async () => {
    const [one, other, separate] = [storeOf(), storeOf(), storeOf({}, { prefix: 'other:' })];
    await one.increment('a');
    expect((await other.increment('a')).totalHits).to.equal(2);
    expect((await separate.increment('a')).totalHits).to.equal(1);
    expect([one.localKeys, one.prefix, separate.prefix]).to.deep.equal([false, 'rl:', 'other:']);
  });

  it('counts the key itself as the client, in the scope of the prefix, so that lists know it', async () => {
    await storeOf().increment('a');
    await storeOf({ limit: () => 3 }, { prefix: '' }).increment('a');
    const { buckets } = await node.describe('a');
    expect(buckets.map(({ scope }) => scope)).to.deep.equal([`@${Math.floor(Date.now() / HOUR_MS)}`, 'rl:']);
    const listed = await createNode({ policies: { policies: {}, deny: ['load5'] } });
    const store = storeOf({}, { limiter: listed });
    expect((await store.increment('load5')).totalHits).to.equal(4);
    expect((await store.increment('a')).totalHits).to.equal(1);
    await listed.close();
  });

  it('gives hits back one by one, but none that was denied', async () => {
    const store = storeOf({ skipFailedRequests: true });
    for (let i = 0; i < 4; i += 1) await store.increment('a');
    await store.decrement('a'); // of the denied hit
    expect(await store.get('a')).to.include({ totalHits: 3 });
    for (const left of [2, 1]) {
      await store.decrement('a');
      expect(await store.get('a')).to.include({ totalHits: left });
    }
    await store.decrement('a');
    await store.decrement('a');
    expect(await store.get('a')).to.equal(undefined);
    await store.shutdown();
  });

  it('refuses to give back what was not reserved, and to count without a window', async () => {
    const messageOf = async (failing: unknown): Promise<string> => {
      try {
        await failing;
      } catch (error) {
        return String(error);
      }
      return 'nothing was thrown';
    };
    expect(await messageOf(storeOf().decrement('a'))).to.include('only with skipFailedRequests or skipSuccessfulReq');
    expect(await messageOf(expressStore({ limiter: node }).increment('a'))).to.include('has to call init()');
  });

  it('denies the real middleware beyond the limit, and tells the time after which the next one passes', async () => {
    const ask = await serve({ store: expressStore({ limiter: node }), standardHeaders: 'draft-6' });
    const answers = [await ask(), await ask(), await ask(), await ask(), await ask(200, 'b')];
    expect(answers.map(({ status }) => status)).to.deep.equal([200, 200, 200, 429, 200]);
    expect(answers.map(({ headers }) => headers['ratelimit-remaining'])).to.deep.equal(['2', '1', '0', '0', '2']);
    expect(Number(answers[3]!.headers['retry-after'])).to.be.within(3_590, 3_720);
  });

  it('lets a client that asks on while it is denied pass again when the window has passed', async () => {
    const ask = await serve({ store: expressStore({ limiter: node }), limit: 1, windowMs: 300 });
    const statuses: number[] = [];
    const passed = await eventually(
      async () => (statuses.push((await ask()).status), statuses.filter((status) => status === 200).length),
      (count) => count === 3,
    );
    expect(passed).to.equal(3);
    expect(statuses).to.include(429);
  });

  it('takes a limit that depends on the request, though it is known only after the count', async () => {
    const ask = await serve({
      store: expressStore({ limiter: node }),
      limit: (req) => Promise.resolve(req.get('x-key') === 'a' ? 2 : 4),
    });
    const statuses = async (key: string): Promise<number[]> => {
      const got: number[] = [];
      for (let i = 0; i < 5; i += 1) got.push((await ask(200, key)).status);
      return got;
    };
    expect(await statuses('a')).to.deep.equal([200, 200, 429, 429, 429]);
    expect(await statuses('b')).to.deep.equal([200, 200, 200, 200, 429]);
  });

  it('lets a client with such a limit pass in the next window, however often it was denied', async () => {
    const store = storeOf({ limit: () => 1, windowMs: 200 });
    const counts: number[] = [];
    const restarts = await eventually(
      async () => (counts.push((await store.increment('a')).totalHits), counts.filter((count) => count === 1).length),
      (count) => count === 3,
    );
    expect(restarts).to.equal(3);
    // The second of these windows was seen whole.
    expect(Math.max(...counts)).to.be.above(1);
  });

  for (const [option, given, kept] of [
    ['skipFailedRequests', 401, 200],
    ['skipSuccessfulRequests', 200, 401],
  ] as const)
    it(`gives back by ${option} of the real middleware, also beyond the limit`, async () => {
      const store = expressStore({ limiter: node });
      const ask = await serve({ store, [option]: true });
      const hits = async (expected: number): Promise<void> => {
        const read = async (): Promise<number> => (await store.get('a'))?.totalHits ?? 0;
        expect(await eventually(read, (now) => now === expected)).to.equal(expected);
      };
      for (let i = 0; i < 5; i += 1) {
        expect((await ask(given)).status).to.equal(given);
        await hits(0);
      }
      for (let i = 1; i <= 3; i += 1) {
        await ask(kept);
        await hits(i);
      }
      expect((await ask(given)).status).to.equal(429);
      await hits(3);
    });

  it('works with limits of 0 and beyond those of a bucket', async () => {
    expect((await (await serve({ store: expressStore({ limiter: node }), limit: 0 }))()).status).to.equal(429);
    const endless = await serve({ store: expressStore({ limiter: node, prefix: 'endless:' }), limit: Infinity });
    expect((await endless()).status).to.equal(200);
  });

  it('passes the errors of the limiter on, or lets all pass by passOnStoreError', async () => {
    const failing = { ...node, check: () => Promise.reject(new Error('no answer')) };
    const app = await serve({ store: expressStore({ limiter: failing }) });
    expect((await app()).status).to.equal(500);
    const open = await serve({ store: expressStore({ limiter: failing }), passOnStoreError: true });
    expect((await open()).status).to.equal(200);
  });

  it('names what is wrong with its options', () => {
    const table: [options: unknown, message: RegExp][] = [
      [undefined, /^expressStore: expected options: expressStore\(\{ limiter \}\)$/],
      [{}, /^expressStore: limiter: expected a node/],
      [{ limiter: Promise.resolve(node) }, /^expressStore: limiter: it is a promise/],
      [{ limiter: node, perfix: 'a' }, /^expressStore: perfix: .* did you mean `prefix`\?$/],
      [{ limiter: node, prefix: 'x'.repeat(65) }, /^expressStore: prefix: .* at most 64 characters$/],
      [{ limiter: node, algorithm: 'fixed-window' }, /^expressStore: algorithm: "fixed-window" is not valid/],
    ];
    for (const [options, message] of table)
      expect(() => expressStore(options as StoreOptions), String(message)).to.throw(TypeError, message);
  });
});
