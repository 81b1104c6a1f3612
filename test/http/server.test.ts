import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import { createPublicServer } from '../../src/http/server.js';
import type { PublicServer } from '../../src/http/server.js';
import { expectProblem } from '../support/http.js';
import { connect, exchange } from './wire.js';
import type { Wire } from './wire.js';

const TIMEOUTS = { headersMs: 150, requestMs: 300, idleMs: 100 };
const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const SLOW = 'POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n';

/** A public server with an API that says hello, and a decision endpoint that answers when it is told to. */
async function startServer(): Promise<{ public_: PublicServer; port: number; waiting: ServerResponse[] }> {
  const waiting: ServerResponse[] = [];
  const decisions = {
    allow: (_req: unknown, res: ServerResponse) => {
      waiting.push(res);
    },
    batch: (_req: unknown, res: ServerResponse) => void res.end(),
  };
  const public_ = createPublicServer({ decisions, api: (_req, res) => void res.end('hello') }, TIMEOUTS);
  public_.server.listen(0, '127.0.0.1');
  await once(public_.server, 'listening');
  return { public_, port: (public_.server.address() as AddressInfo).port, waiting };
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
  let public_: PublicServer;
  let port: number;
  let waiting: ServerResponse[];
  beforeEach(async () => {
    ({ public_, port, waiting } = await startServer());
  });
  afterEach(() => public_.drain(0, 0));

  describe('with the slow and the silent', () => {
    it('ends a connection on which nothing is ever sent', async () => {
      const wire = await connect(port);
      expectProblem((await wire.closed())[0]!, 'timeout');
    });

    it('ends a connection whose headers take too long, however busy it looks', async () => {
      const wire = await connect(port, { stubborn: true });
      wire.send('GET / HTTP/1.1\r\nHost: x\r\n');
      expect(await patienceMs(wire, 'X: y\r\n')).to.be.within(100, 2_000);
      expectProblem((await wire.closed())[0]!, 'timeout');
    });

    it('ends a connection whose body takes too long, however busy it looks', async () => {
      const wire = await connect(port, { stubborn: true });
      wire.send(SLOW);
      expect(await patienceMs(wire, 'x')).to.be.within(200, 2_000);
      expectProblem((await wire.closed())[0]!, 'timeout');
    });

    it('ends a connection that stays idle after a request', async () => {
      const wire = await connect(port);
      wire.send(GET);
      const [answer] = await wire.closed();
      expect(answer?.status).to.equal(200);
    });

    it('keeps a connection on which requests go on coming', async () => {
      const wire = await connect(port);
      for (let i = 1; i <= 8; i += 1) {
        wire.send(GET);
        await wire.answers(i);
        await wait(TIMEOUTS.idleMs / 2);
      }
      wire.destroy();
    });

    it('answers others while many dawdle', async () => {
      const slow = await Promise.all(Array.from({ length: 200 }, () => connect(port)));
      for (const wire of slow) wire.send('POST / HT');
      const [answer] = await exchange(port, GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
      expect(answer?.status).to.equal(200);
      await Promise.all(slow.map((wire) => wire.closed()));
    });
  });

  describe('when it drains', () => {
    it('ends each connection with an answer during the notice, and takes no new one after it', async () => {
      const [kept, other] = await Promise.all([connect(port), connect(port)]);
      kept.send(GET);
      expect((await kept.answers(1))[0]?.headers['connection']).to.equal('keep-alive');
      const drained = public_.drain(80, 5_000);
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

    it('waits for what is in flight, and ends its connection with the answer', async () => {
      const wire = await connect(port);
      wire.send(SLOW, 'x'.repeat(1000));
      while (waiting.length === 0) await wait(1);
      let done = false;
      const drained = public_.drain(0, 5_000).then(() => (done = true));
      await wait(100);
      expect(done).to.equal(false);
      waiting[0]?.end('late');
      const [answer] = await wire.closed();
      expect(answer).to.include({ status: 200 });
      expect(answer?.headers['connection']).to.equal('close');
      await drained;
    });

    it('does not wait for connections without a request, whether used before or never', async () => {
      const [idle, silent] = await Promise.all([connect(port), connect(port)]);
      idle.send(GET);
      await idle.answers(1);
      const startMs = performance.now();
      await public_.drain(0, 5_000);
      expect(performance.now() - startMs).to.be.below(1_000);
      await Promise.all([idle.closed(), silent.closed()]);
    });

    it('cuts off what is not done within the grace', async () => {
      const wire = await connect(port);
      wire.send(SLOW, 'x');
      while (waiting.length === 0) await wait(1);
      const startMs = performance.now();
      await public_.drain(0, 100);
      expect(performance.now() - startMs).to.be.within(90, 1_500);
      expect(await wire.closed()).to.deep.equal([]);
    });
  });
});
