import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import { ArrivingBytes } from '../../src/server/edge/arriving.js';
import { Counters } from '../../src/server/edge/counters.js';
import { DEFAULT_TIMEOUTS, HttpServer } from '../../src/server/http/server.js';
import type { ProtocolServer, ServerTimeouts } from '../../src/server/edge/protocol-server.js';
import { NO_DECISIONS, readyNode } from '../support/decisions.js';
import { expectProblem } from '../support/http.js';
import { connect, exchange, type Wire } from './wire.js';

const LONG_MS = 60_000;
const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const SLOW = 'POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n';

const started: ProtocolServer[] = [];

interface Started {
  readonly publicServer: ProtocolServer;
  readonly port: number;
  /** The answers that the decision endpoint owes. */
  readonly waiting: readonly ServerResponse[];
}

/** A public server with an API that says hello, and a decision endpoint that answers when it is told to. */
async function startServer(timeouts: Partial<ServerTimeouts>): Promise<Started> {
  const waiting: ServerResponse[] = [];
  const decisions = {
    ...NO_DECISIONS,
    allow: (_req: unknown, res: ServerResponse) => void waiting.push(res),
    batch: (_req: unknown, res: ServerResponse) => void res.end(),
    // As in production: every connection begins there, and goes on with node:http.
    direct: { allow: () => false, batch: () => false, arriving: new ArrivingBytes(0) },
  };
  const api = (_req: unknown, res: ServerResponse): void => void res.end('hello');
  const publicServer = new HttpServer({
    ...{ decisions, api, ...readyNode(new Counters()) },
    timeouts: { ...DEFAULT_TIMEOUTS, ...timeouts },
  });
  publicServer.server.listen(0, '127.0.0.1');
  await once(publicServer.server, 'listening');
  started.push(publicServer);
  return { publicServer, port: (publicServer.server.address() as AddressInfo).port, waiting };
}

/** How long the other side takes to throw a client out, where a byte is sent every 10 ms until then. */
async function patienceMs(wire: Wire, bytes: string): Promise<number> {
  const startMs = performance.now();
  const dribble = setInterval(() => wire.send(bytes), 10);
  await wire.closed();
  clearInterval(dribble);
  return performance.now() - startMs;
}

describe('the public server', () => {
  after(() => Promise.all(started.map((publicServer) => publicServer.drain(0, 0))));

  describe('with the slow and the silent', () => {
    it('ends a connection on which nothing is ever sent', async () => {
      const { port } = await startServer({ firstMs: 150 });
      const wire = await connect(port);
      expectProblem((await wire.closed())[0]!, 'timeout');
    });

    it('ends a connection whose headers take too long, however busy it looks', async () => {
      const { port } = await startServer({ firstMs: 150, requestMs: LONG_MS });
      const wire = await connect(port, { stubborn: true });
      wire.send('GET / HTTP/1.1\r\nHost: x\r\n');
      expect(await patienceMs(wire, 'X: y\r\n')).to.be.within(100, 5_000);
      expectProblem((await wire.closed())[0]!, 'timeout');
    });

    it('ends a connection whose body takes too long, however busy it looks', async () => {
      const { port } = await startServer({ firstMs: 150, requestMs: 300 });
      const wire = await connect(port, { stubborn: true });
      wire.send(SLOW);
      expect(await patienceMs(wire, 'x')).to.be.within(200, 5_000);
      expectProblem((await wire.closed())[0]!, 'timeout');
    });

    it('ends a connection that stays idle after a request', async () => {
      const { port } = await startServer({ idleMs: 100, requestMs: LONG_MS });
      const wire = await connect(port);
      wire.send(GET);
      const startMs = performance.now();
      const [answer] = await wire.closed();
      expect(answer?.status).to.equal(200);
      // Node's own limit would be 5 s.
      expect(performance.now() - startMs).to.be.within(90, 4_500);
    });

    it('keeps a connection on which requests go on coming', async () => {
      const { port } = await startServer({ idleMs: 1_000, firstMs: 150, requestMs: 300 });
      const wire = await connect(port);
      for (let i = 1; i <= 4; i += 1) {
        wire.send(GET);
        await wire.answers(i);
        await wait(200);
      }
      wire.destroy();
    });

    it('answers others while many dawdle', async () => {
      const { port } = await startServer({ firstMs: 300 });
      const slow = await Promise.all(Array.from({ length: 200 }, () => connect(port)));
      for (const wire of slow) wire.send('POST / HT');
      const [answer] = await exchange(port, GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
      expect(answer?.status).to.equal(200);
      await Promise.all(slow.map((wire) => wire.closed()));
    });
  });

  describe('when it drains', () => {
    it('ends each connection with an answer during the notice, and takes no new one after it', async () => {
      const { port, publicServer } = await startServer({});
      const [kept, other] = await Promise.all([connect(port), connect(port)]);
      kept.send(GET);
      expect((await kept.answers(1))[0]?.headers['connection']).to.equal('keep-alive');
      const drained = publicServer.drain(300, 5_000);
      kept.send(GET);
      const [, last] = await kept.closed();
      expect(last).to.include({ status: 200 });
      expect(last?.headers['connection']).to.equal('close');
      other.send(GET);
      expect((await other.closed())[0]?.headers['connection']).to.equal('close');
      await drained;
      const refused = await connect(port).catch((error: unknown) => (error as NodeJS.ErrnoException).code);
      expect(refused).to.equal('ECONNREFUSED');
    });

    it('resets no connection that waits to be accepted, though the process hardly runs', async () => {
      const { port, publicServer } = await startServer({});
      const asked: Promise<number | string | undefined>[] = [];
      async function ask(): Promise<number | string | undefined> {
        const wire = await connect(port);
        wire.send(GET);
        return (await wire.answers(1))[0]?.status;
      }
      // More connections come in a turn than the one that Node.js accepts in it.
      const starving = setInterval(() => {
        for (let i = 0; i < 4 && asked.length < 24; i += 1) asked.push(ask().catch((error: unknown) => String(error)));
        for (const untilMs = performance.now() + 20; performance.now() < untilMs;);
      }, 5);
      await publicServer.drain(100, 5_000);
      clearInterval(starving);
      expect(new Set(await Promise.all(asked))).to.deep.equal(new Set([200]));
    });

    it('answers who was let in during the notice and asks after it', async () => {
      const { port, publicServer } = await startServer({});
      const drained = publicServer.drain(300, 5_000);
      const late = await connect(port);
      while (publicServer.server.listening) await wait(5);
      late.send(GET);
      const [answer] = await late.closed();
      expect(answer).to.include({ status: 200 });
      expect(answer?.headers['connection']).to.equal('close');
      await drained;
    });

    it('prolongs the notice by the time in which the process did not run', async () => {
      const { port, publicServer } = await startServer({});
      const drained = publicServer.drain(200, 5_000);
      for (const untilMs = performance.now() + 400; performance.now() < untilMs;);
      const [answer] = await exchange(port, GET);
      expect(answer).to.include({ status: 200 });
      await drained;
    });

    it('waits for what is in flight, and ends its connection with the answer', async () => {
      const { port, publicServer, waiting } = await startServer({});
      const wire = await connect(port);
      wire.send(SLOW, 'x'.repeat(1000));
      while (waiting.length === 0) await wait(1);
      let done = false;
      const drained = publicServer.drain(0, 5_000).then(() => (done = true));
      // It has begun once nobody listens any more.
      const isListening = (): Promise<boolean> =>
        connect(port).then(
          (other) => (other.destroy(), true),
          () => false,
        );
      while (await isListening());
      expect(done).to.equal(false);
      waiting[0]?.end('late');
      const [answer] = await wire.closed();
      expect(answer).to.include({ status: 200 });
      expect(answer?.headers['connection']).to.equal('close');
      await drained;
    });

    it('waits for what is in flight at another port too, and closes that', async () => {
      const { publicServer, waiting } = await startServer({});
      const other = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1');
      await once(other, 'listening');
      publicServer.attachListener(other);
      const { port } = other.address() as AddressInfo;
      const [wire, idle] = await Promise.all([connect(port), connect(port)]);
      idle.send(GET);
      await idle.answers(1);
      wire.send(SLOW, 'x'.repeat(1000));
      while (waiting.length === 0) await wait(1);
      const drained = publicServer.drain(0, 5_000);
      waiting[0]?.end('late');
      expect((await wire.closed())[0]).to.include({ status: 200 });
      await Promise.all([drained, idle.closed()]);
      expect(other.listening).to.equal(false);
    });

    it('does not wait for connections without a request, whether used before or never', async () => {
      const { port, publicServer } = await startServer({});
      const [idle, silent] = await Promise.all([connect(port), connect(port)]);
      idle.send(GET);
      await idle.answers(1);
      const startMs = performance.now();
      await publicServer.drain(0, 5_000);
      expect(performance.now() - startMs).to.be.below(1_000);
      await Promise.all([idle.closed(), silent.closed()]);
    });

    it('cuts off what is not done within the grace', async () => {
      const { port, publicServer, waiting } = await startServer({});
      const wire = await connect(port);
      wire.send(SLOW, 'x');
      while (waiting.length === 0) await wait(1);
      const startMs = performance.now();
      await publicServer.drain(0, 100);
      expect(performance.now() - startMs).to.be.within(90, 1_500);
      expect(await wire.closed()).to.deep.equal([]);
    });
  });
});
