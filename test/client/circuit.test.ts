import { expect } from 'chai';
import { ClusterClient } from '../../src/client/client.js';
import { readClientOptions, type ClientOptions } from '../../src/client/options.js';
import type { Connections } from '../../src/client/nodes/transport.js';
import type { TokenringError } from '../../src/lib/error.js';
import { errorOf } from '../support/error-of.js';
import { createFakeTime } from '../support/fake-time.js';
import { ALLOWED } from '../support/stub-node.js';

const DAY = { limit: 10, window: '1d' } as const;
const OVERLOADED = JSON.stringify({ code: 'overloaded', status: 503 });

/** A view of members that no ring can be made of: any node serves. */
const VIEW = { self: 'x', ringChecksum: 'x', members: [] };

type Way = 'refuses' | 'hangs' | 'answers' | 'is overloaded' | 'hangs on questions';

/** A client of nodes that live in this process, on a clock that only the test moves. */
function createWorld(nodes: readonly string[], options: Partial<ClientOptions> = {}) {
  const time = createFakeTime();
  const ways = new Map(nodes.map((node): [string, Way] => [node, 'answers']));
  const asked: string[] = [];
  let probing = 0;
  let mostProbing = 0;
  const connections: Connections = {
    exchange({ origin, path, body }, { answered, failed }) {
      const isQuestion = path.startsWith('/v1/allow');
      asked.push(`${isQuestion ? 'question' : 'look'} ${origin}`);
      const way = ways.get(origin);
      if (!isQuestion) mostProbing = Math.max(mostProbing, (probing += 1));
      const end = (action: () => void): void => {
        if (!isQuestion) probing -= 1;
        setImmediate(action);
      };
      const send = (status: number, text: string): void => end(() => answered({ status, retryAfter: undefined, text }));
      if (way === 'refuses') end(() => failed(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })));
      if (way === 'is overloaded') send(503, OVERLOADED);
      if (way === 'answers' || (way === 'hangs on questions' && !isQuestion)) {
        const { requests = [] } = body === undefined ? {} : (JSON.parse(body) as { requests?: unknown[] });
        send(200, JSON.stringify(isQuestion ? { results: requests.map(() => ALLOWED) } : VIEW));
      }
      return (reason) => end(() => failed(reason));
    },
    close: () => Promise.resolve(),
  };
  const client = new ClusterClient(connections, time, readClientOptions({ nodes, ...options }));
  let names = 0;
  return {
    time,
    client,
    ways,
    asked,
    /** Returns the most lookups at once since the last call. */
    mostProbing: (): number => {
      const most = mostProbing;
      mostProbing = probing;
      return most;
    },
    all: (way: Way) => nodes.forEach((node) => ways.set(node, way)),
    ask: () => client.check({ clientId: `c ${(names += 1)}`, ...DAY }),
    /** Asks, and lets time pass until there is an answer. @returns ms that it took */
    wait: async (ask: () => Promise<unknown>): Promise<number> => {
      const startMs = time.nowMs();
      const over = { is: false };
      void ask().then(
        () => (over.is = true),
        () => (over.is = true),
      );
      for (let i = 0; i < 400; i += 1) {
        if (over.is) break;
        await new Promise((resolve) => setImmediate(resolve));
        if (i % 10 === 9) await time.pass(100);
      }
      return time.nowMs() - startMs;
    },
  };
}

const NODES = ['http://a:1', 'http://b:1', 'http://c:1'];

describe('the circuit of a client', () => {
  for (const [way, nodes, mostMs] of [
    ['refuses', NODES, 100],
    ['refuses', NODES.slice(0, 1), 100],
    ['hangs', NODES, 2_100],
    ['hangs', NODES.slice(0, 1), 2_100],
  ] as const)
    it(`opens when each of ${nodes.length} nodes ${way}: one question waits, and no other, nor a call`, async () => {
      const { all, wait, ask, asked, client } = createWorld(nodes, { onUnavailable: 'open' });
      all(way);
      expect(await wait(ask)).to.be.at.most(mostMs);
      const before = asked.filter((one) => one.startsWith('question')).length;
      for (let i = 0; i < 20; i += 1) {
        expect(await wait(ask)).to.equal(0);
        expect(await wait(() => client.describe('x'))).to.equal(0);
      }
      expect(await ask()).to.include({ allowed: true, source: 'fallback', degraded: true });
      expect(asked.filter((one) => one.startsWith('question'))).to.have.lengthOf(before);
    });

  it('ends the wait of the questions that are under way when it opens', async () => {
    const { all, ask, time } = createWorld(NODES, { onUnavailable: 'closed' });
    all('hangs');
    let over = 0;
    void ask().then(() => (over += 1));
    await time.pass(1_500);
    void ask().then(() => (over += 1));
    await time.pass(400);
    expect(over).to.equal(0);
    await time.pass(200);
    expect(over).to.equal(2);
  });

  it('probes one node at a time while it is open, and closes with the first answer', async () => {
    const { all, wait, ask, asked, ways, time, mostProbing } = createWorld(NODES, { onUnavailable: 'closed' });
    await time.pass(1_000);
    all('hangs');
    await wait(ask);
    await time.pass(5_000);
    const before = asked.length;
    mostProbing();
    for (let i = 0; i < 100; i += 1) {
      expect(await ask()).to.include({ allowed: false, source: 'fallback' });
      await time.pass(100);
    }
    // Each takes a second to fail, and the pauses between them grow to a second.
    const probes = asked.slice(before);
    expect(probes.length).to.be.within(4, 8);
    expect(new Set(probes)).to.deep.equal(new Set(NODES.map((node) => `look ${node}`)));
    expect(mostProbing()).to.equal(1);
    ways.set(NODES[1]!, 'answers');
    let passedMs = 0;
    for (; (await ask()).source === 'fallback' && passedMs < 60_000; passedMs += 100) await time.pass(100);
    expect(passedMs).to.be.at.most(3 * 2_100);
    expect(await ask()).to.include({ allowed: true, source: 'owner' });
  });

  it('probes only while it is asked', async () => {
    const { all, wait, ask, asked, time } = createWorld(NODES, { onUnavailable: 'open' });
    all('refuses');
    await wait(ask);
    await time.pass(5_000);
    const before = asked.length;
    await time.pass(60_000);
    expect(asked).to.have.lengthOf(before);
    all('answers');
    expect(await ask()).to.include({ source: 'fallback' });
    await time.pass(200);
    expect(await ask()).to.include({ source: 'owner' });
  });

  it('tells when the next probe is', async () => {
    const { all, wait, ask, time, client } = createWorld(NODES, { onUnavailable: 'throw' });
    all('refuses');
    await wait(ask);
    for (let i = 0; i < 40; i += 1) {
      void errorOf(ask());
      await time.pass(100);
    }
    const { code, retryAfterMs } = (await errorOf(ask())) as TokenringError;
    expect(code).to.equal('no_answer');
    expect(retryAfterMs).to.be.within(100, 1_000);
    const [ofMany] = await client.checkMany([{ clientId: 'x', ...DAY }]);
    expect(ofMany).to.include({ code: 'no_answer', item: 0, retryAfterMs });
  });

  it('stays closed while nodes are overloaded', async () => {
    const { all, wait, ask, time } = createWorld(NODES, { timeoutMs: 500 });
    all('is overloaded');
    for (let i = 0; i < 5; i += 1) {
      await wait(ask);
      await time.pass(2_000);
    }
    all('answers');
    expect(await ask()).to.include({ allowed: true, source: 'owner' });
  });

  it('stays closed where single questions are slow', async () => {
    const { all, wait, ask, asked, time } = createWorld(NODES.slice(0, 1));
    all('hangs on questions');
    for (let i = 0; i < 3; i += 1) {
      expect(await wait(ask)).to.be.at.least(1_900);
      await time.pass(200);
    }
    const before = asked.length;
    all('answers');
    expect(await ask()).to.include({ allowed: true, source: 'owner' });
    expect(asked.slice(before)).to.include('question http://a:1');
  });

  it('stays closed when callers give up', async () => {
    const { all, wait, client, ask } = createWorld(NODES);
    all('hangs');
    for (let i = 0; i < 3; i += 1) {
      const gone = new AbortController();
      const acquired = errorOf(client.acquire({ clientId: `gone ${i}`, ...DAY }, { wait: '1s', signal: gone.signal }));
      await new Promise((resolve) => setImmediate(resolve));
      gone.abort();
      expect(await acquired).to.include({ name: 'AbortError' });
    }
    all('answers');
    let late: unknown;
    await wait(async () => (late = await ask().catch(String)));
    expect(late).to.include({ allowed: true, source: 'owner' });
  });

  it('leaves no timer behind when the client is closed', async () => {
    const { all, wait, ask, time, client } = createWorld(NODES);
    all('refuses');
    await wait(ask);
    await client.close();
    await time.pass(2_000);
    expect(time.timers()).to.equal(0);
  });
});
