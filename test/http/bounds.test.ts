import { expect } from 'chai';
import { EventEmitter, once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect as connectTo, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { deciderOf } from '../support/batch.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { Access } from '../../src/server/edge/access.js';
import { Api } from '../../src/server/http/api/api.js';
import { Connections, DEFAULT_BOUNDS, type ConnectionBounds } from '../../src/server/edge/connections.js';
import { ClientCalls } from '../../src/server/edge/client-calls.js';
import { Counters } from '../../src/server/edge/counters.js';
import { ServerContext, type NodeStage } from '../../src/server/edge/server-context.js';
import { DecisionEndpoints } from '../../src/server/http/decisions/handlers.js';
import { HttpServer } from '../../src/server/http/server.js';
import type { ProtocolServer } from '../../src/server/edge/protocol-server.js';
import { NO_DECISIONS, readyNode } from '../support/decisions.js';
import { call, expectProblem, liveNode, post } from '../support/http.js';
import { MIB } from './memory.js';
import { connect, exchange, frame, type Wire } from './wire.js';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const BIG = 64 * MIB;
const SOME = 8 * MIB;

const started: ProtocolServer[] = [];
const stage = (): NodeStage => 'ready';

/** A server whose API sends much, and whose decision endpoint never answers. */
async function startServer(bounds: Partial<ConnectionBounds>): Promise<{
  port: number;
  otherPort: number;
  counters: Counters;
  waiting: ServerResponse[];
}> {
  const counters = new Counters();
  const waiting: ServerResponse[] = [];
  const decisions = { ...NO_DECISIONS, allow: (_req: unknown, res: ServerResponse) => void waiting.push(res) };
  const api = (req: IncomingMessage, res: ServerResponse): void =>
    void res.end(req.url === '/' ? 'hello' : Buffer.alloc(req.url === '/big' ? BIG : SOME));
  const publicServer = new HttpServer({
    decisions,
    api,
    ...readyNode(counters),
    connections: new Connections({ ...DEFAULT_BOUNDS, ...bounds }, counters),
  });
  // A port of its own beside the shared one, as a worker has it.
  const other = createServer({ allowHalfOpen: true, noDelay: true });
  publicServer.attachListener(other);
  const [port, otherPort] = await Promise.all(
    [publicServer.server, other].map(async (server) => {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      return (server.address() as AddressInfo).port;
    }),
  );
  started.push(publicServer);
  return { port: port!, otherPort: otherPort!, counters, waiting };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    expect(tries, what).to.be.below(1_000);
    await wait(5);
  }
}

const ALLOWED: Decision = {
  allowed: true,
  limit: 5,
  remaining: 4,
  retryAfterMs: 0,
  resetMs: 1,
  limits: undefined,
  owner: 'x',
  source: 'forwarded',
  degraded: false,
};

describe('the bounds of the service itself', () => {
  after(() => Promise.all(started.map((publicServer) => publicServer.drain(0, 0))));

  describe('on connections', () => {
    const many = (port: number, count: number): Promise<Wire[]> =>
      Promise.all(Array.from({ length: count }, () => connect(port)));

    it('close idle ones for new ones, so that who opens many and does nothing shuts nobody out', async () => {
      const { port } = await startServer({ max: 20 });
      const used = await many(port, 10);
      for (const wire of used) wire.send(GET);
      for (const wire of used) await wire.answers(1);
      const silent = await many(port, 10);
      await Promise.all(used.map((wire) => wire.closed()));
      const late = await connect(port);
      late.send(GET);
      expect((await late.answers(1))[0]).to.include({ status: 200 });
      for (const wire of [...silent, late]) wire.destroy();
    });

    it('close those that are too many while all others wait for answers, count them, and cut off nobody who waits', async () => {
      const { port, counters, waiting } = await startServer({ max: 20 });
      const busy: Wire[] = [];
      while (busy.length < 20) {
        const wire = await connect(port);
        wire.send('POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}');
        busy.push(wire);
        await until('it waits', () => waiting.length === busy.length);
      }
      const tooMany = await many(port, 5);
      for (const wire of tooMany) expect(await wire.closed()).to.deep.equal([]);
      expect(counters.refusedConnections).to.equal(5);
      for (const res of waiting) res.end('done');
      for (const wire of busy) expect((await wire.answers(1))[0]).to.include({ status: 200 });
      for (const wire of busy) wire.destroy();
    });
  });

  describe('on connections of two ports', () => {
    for (const [first, second] of [
      ['port', 'otherPort'],
      ['otherPort', 'port'],
    ] as const)
      it(`hold for both together, with those of ${first} first`, async () => {
        const { counters, waiting, ...ports } = await startServer({ max: 20 });
        const busy: Wire[] = [];
        while (busy.length < 20) {
          const wire = await connect(ports[busy.length < 12 ? first : second]);
          wire.send('POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}');
          busy.push(wire);
          await until('it waits', () => waiting.length === busy.length);
        }
        for (const port of [first, second]) {
          const tooMany = await connect(ports[port]);
          expect(await tooMany.closed()).to.deep.equal([]);
        }
        expect(counters.refusedConnections).to.equal(2);
        for (const res of waiting) res.end('done');
        for (const wire of busy) expect((await wire.answers(1))[0]).to.include({ status: 200 });
        for (const wire of busy) wire.destroy();
        await wait(50);
        // Their places are free again.
        const later = await connect(ports[first]);
        later.send(GET);
        expect((await later.answers(1))[0]).to.include({ status: 200 });
        later.destroy();
      });
  });

  describe('on connections of one address', () => {
    /** How many of so many connections from an address of loopback stay open. */
    async function openFrom(port: number, localAddress: string, count: number): Promise<Socket[]> {
      const sockets = Array.from({ length: count }, () =>
        connectTo({ port, host: '127.0.0.1', localAddress }).on('error', () => undefined),
      );
      for (const socket of sockets) socket.write(GET);
      await Promise.all(
        sockets.map((socket) => new Promise((resolve) => socket.once('data', resolve).once('close', resolve))),
      );
      return sockets.filter((socket) => !socket.destroyed);
    }

    it('close those that are too many, count them, leave other addresses theirs, and take new ones for those that end', async () => {
      const { port, counters } = await startServer({ maxPerAddress: 5 });
      const first = await openFrom(port, '127.0.0.2', 20);
      expect(first).to.have.length(5);
      expect(counters.refusedOfAddress).to.equal(15);
      const other = await openFrom(port, '127.0.0.3', 5);
      expect(other).to.have.length(5);
      for (const socket of first.splice(0, 3)) socket.destroy();
      await wait(50);
      const later = await openFrom(port, '127.0.0.2', 5);
      expect(later).to.have.length(3);
      for (const socket of [...first, ...other, ...later]) socket.destroy();
    });

    it('are not bounded unless told: behind a gateway all are one', async () => {
      const { port, counters } = await startServer({});
      const all = await openFrom(port, '127.0.0.2', 200);
      expect(all).to.have.length(200);
      expect(counters.refusedOfAddress).to.equal(0);
      for (const socket of all) socket.destroy();
    });
  });

  it('count all connections of one IPv6 /64 as those of one address', () => {
    const counters = new Counters();
    const connections = new Connections({ ...DEFAULT_BOUNDS, maxPerAddress: 2 }, counters);
    const open = (remoteAddress: string): boolean => {
      const socket = Object.assign(new EventEmitter(), { remoteAddress, destroyed: false });
      Object.assign(socket, { destroy: () => (socket.destroyed = true) });
      connections.take(socket as unknown as Socket, 'http');
      return !socket.destroyed;
    };
    expect(['2001:db8:0:1::1', '2001:db8:0:1::2', '2001:db8:0:1:ffff::3'].map(open)).to.deep.equal([true, true, false]);
    expect(open('2001:db8:0:2::1')).to.equal(true);
    expect(['10.0.0.1', '::ffff:10.0.0.1', '10.0.0.1', '10.0.0.2'].map(open)).to.deep.equal([true, true, false, true]);
    expect(counters.refusedOfAddress).to.equal(2);
  });

  describe('on readers', () => {
    /** Asks for much, and reads as much as it is told to. */
    async function reader(
      port: number,
      ...paths: readonly string[]
    ): Promise<{ socket: Socket; read: () => number; ended: () => boolean }> {
      const socket = connectTo(port, '127.0.0.1').on('error', () => undefined);
      let bytes = 0;
      let ended = false;
      socket.on('data', (chunk: Buffer) => (bytes += chunk.length)).on('close', () => (ended = true));
      await once(socket, 'connect');
      for (const path of paths) socket.write(GET.replace('/', path));
      return { socket, read: () => bytes, ended: () => ended };
    }

    it('cut off who asks for much and does not read it', async () => {
      const { port, counters } = await startServer({ answerMs: 300 });
      const { socket } = await reader(port, '/big');
      socket.pause();
      await until('it is cut off', () => counters.slowReaders === 1);
      socket.destroy();
    });

    it('cut off the clients with the most unread bytes once all together have too many, and answer others', async () => {
      const { port, counters } = await startServer({ maxUnreadBytes: 3 * BIG, answerMs: 60_000 });
      const many = await Promise.all(Array.from({ length: 8 }, () => reader(port, '/big')));
      for (const { socket } of many) socket.pause();
      await until('they are cut off', () => counters.slowReaders >= 4);
      expect(counters.slowReaders).to.be.at.most(8);
      const { socket, read } = await reader(port, '/some');
      await until('another is answered', () => read() > SOME);
      for (const one of [...many.map((each) => each.socket), socket]) one.destroy();
    });

    it('let who reads slowly read to the end', async () => {
      const { port, counters } = await startServer({ answerMs: 1_000 });
      const answers = 100;
      const { socket, read, ended } = await reader(port, ...Array.from({ length: answers }, () => '/some'));
      const startMs = performance.now();
      while (read() < answers * SOME && !ended()) {
        socket.pause();
        await wait(25);
        socket.resume();
        await wait(10);
      }
      expect({ all: read() > answers * SOME, slow: counters.slowReaders }).to.deep.equal({ all: true, slow: 0 });
      expect(performance.now() - startMs, 'longer than each answer may take').to.be.above(1_000);
      socket.destroy();
    }).timeout(60_000);
  });

  it('answer 503 with Retry-After beyond so many requests in flight, decisions and others, and say all the same that it lives', async () => {
    const held: ((decision: Decision) => void)[] = [];
    const counters = new Counters();
    const access = new Access({ required: [], tokens: [] });
    const limiter = deciderOf(() => new Promise<Decision>((resolve) => held.push(resolve)));
    const log = { error: () => undefined };
    const context = new ServerContext({ limiter, access, counters, stage, elapsedMs: () => 0, log, maxInFlight: 3 });
    const decisions = new DecisionEndpoints(context, 429);
    const looks: (() => void)[] = [];
    const describe = (): Promise<undefined> => new Promise((resolve) => looks.push(() => resolve(undefined)));
    const cluster = { admin: { describe } };
    const calls = new ClientCalls(cluster as never);
    const parts = { context, cluster, calls, decisions, auditTrail: {}, version: '1', maxInFlight: 2 };
    const api = new Api(parts as unknown as ConstructorParameters<typeof Api>[0]).answer;
    const publicServer = new HttpServer({ decisions, api, ...readyNode(counters) });
    publicServer.server.listen(0, '127.0.0.1');
    await once(publicServer.server, 'listening');
    started.push(publicServer);
    const node = { port: (publicServer.server.address() as AddressInfo).port };
    const question = { clientId: 'x', limit: 5, window: '1s' };
    // A request that still arrives is not in flight yet.
    const slow = await connect(node.port);
    slow.send(frame('/v1/allow', JSON.stringify(question)).subarray(0, -1));
    const waiting = Array.from({ length: 3 }, () => post(node, '/v1/allow', question));
    await until('three wait', () => held.length === 3);
    for (const path of ['/v1/allow', '/v1/allow/batch']) {
      const answer = await post(node, path, question);
      expectProblem(answer, 'overloaded');
      expect(answer.headers['retry-after']).to.equal('1');
    }
    const lookers = Array.from({ length: 2 }, () => call(node, '/v1/clients/x'));
    await until('two look', () => looks.length === 2);
    expectProblem(await call(node, '/v1/clients/x'), 'overloaded');
    expect((await call(node, '/healthz')).status).to.equal(200);
    for (const look of looks) look();
    for (const looker of lookers) expectProblem(await looker, 'unavailable');
    for (const decide of held.splice(0)) decide(ALLOWED);
    for (const answer of waiting) expect((await answer).status).to.equal(200);
    const again = post(node, '/v1/allow', question);
    await until('one waits', () => held.length === 1);
    held[0]!(ALLOWED);
    expect((await again).status).to.equal(200);
    slow.destroy();
  });

  it('answer 503 where the checks that wait for other nodes fill their memory, and let batches take half of it', async () => {
    const held: (() => void)[] = [];
    const later = new Promise<void>((resolve) => held.push(resolve));
    const limiter = deciderOf(() => later.then(() => ALLOWED));
    const counters = new Counters();
    const access = new Access({ required: [], tokens: [] });
    const decisions = new DecisionEndpoints(
      new ServerContext({
        limiter,
        access,
        counters,
        stage,
        elapsedMs: () => 0,
        log: { error: () => undefined },
        maxInFlight: 10_000,
        maxWaitingBytes: MIB,
      }),
      429,
    );
    const publicServer = new HttpServer({ decisions, api: (_req, res) => void res.end(), ...readyNode(counters) });
    publicServer.server.listen(0, '127.0.0.1');
    await once(publicServer.server, 'listening');
    started.push(publicServer);
    const node = { port: (publicServer.server.address() as AddressInfo).port };
    const batches = ['requestId', 'plain'].map((kind) => ({
      requests: Array.from({ length: 100 }, (_, i) => ({
        ...QUESTION,
        clientId: `${kind} ${i}`,
        ...(kind === 'plain' ? {} : { requestId: String(i) }),
      })),
    }));
    const statuses: Promise<number>[] = [];
    const ask = async (path: string, body: object): Promise<void> => {
      const url = `http://127.0.0.1:${node.port}${path}`;
      const headers = { 'content-type': 'application/json' };
      statuses.push(fetch(url, { method: 'POST', headers, body: JSON.stringify(body) }).then(({ status }) => status));
      await until('it waits or is refused', () => counters.inFlight + refused() === statuses.length);
    };
    const refused = (): number => counters.problems.get('overloaded') ?? 0;
    while (refused() === 0 && statuses.length < 50) await ask('/v1/allow/batch', batches[statuses.length % 2]!);
    expect(statuses.length, 'batches of 80 KB').to.be.within(5, 10);
    await ask('/v1/allow', QUESTION);
    expect(refused(), 'a single check beside the batches').to.equal(1);
    while (refused() === 1 && statuses.length < 500) await ask('/v1/allow', QUESTION);
    expect(statuses.length, 'and single checks').to.be.within(50, 200);
    held[0]!();
    const answered = await Promise.all(statuses);
    expect(answered.filter((status) => status === 503)).to.have.length(2);
    expect((await post(node, '/v1/allow/batch', batches[0]!)).status, 'once they are answered').to.equal(200);
  });

  /** A server with room for three decisions and two looks, whose limiter and cluster answer when they are told to. */
  async function startBusy(): Promise<{
    node: { port: number };
    counters: Counters;
    held: { resolve: (decision: Decision) => void; reject: (error: Error) => void }[];
    looks: unknown[];
  }> {
    const held: { resolve: (decision: Decision) => void; reject: (error: Error) => void }[] = [];
    const looks: unknown[] = [];
    const counters = new Counters();
    const access = new Access({ required: [], tokens: [] });
    const check = (): Promise<Decision> => new Promise((resolve, reject) => held.push({ resolve, reject }));
    const log = { error: () => undefined };
    const limiter = deciderOf(check);
    const context = new ServerContext({ limiter, access, counters, stage, elapsedMs: () => 0, log, maxInFlight: 3 });
    const decisions = new DecisionEndpoints(context, 429);
    const cluster = { admin: { describe: () => new Promise<undefined>((resolve) => looks.push(resolve)) } };
    const calls = new ClientCalls(cluster as never);
    const parts = { context, cluster, calls, decisions, auditTrail: {}, version: '1', maxInFlight: 2 };
    const api = new Api(parts as unknown as ConstructorParameters<typeof Api>[0]).answer;
    const publicServer = new HttpServer({ decisions, api, ...readyNode(counters) });
    publicServer.server.listen(0, '127.0.0.1');
    await once(publicServer.server, 'listening');
    started.push(publicServer);
    return { node: { port: (publicServer.server.address() as AddressInfo).port }, counters, held, looks };
  }

  const QUESTION = { clientId: 'x', limit: 5, window: '1s' };

  it('have room again once the limiter has rejected as many requests as may be in flight', async () => {
    const { node, held, counters } = await startBusy();
    // The first kind of request is read from the socket, the second by node:http.
    for (const more of [{}, { 'x-unusual': '1' }]) {
      const headers = { 'content-type': 'application/json', ...more };
      const ask = (): ReturnType<typeof call> =>
        call(node, '/v1/allow', { method: 'POST', headers, body: JSON.stringify(QUESTION) });
      const waiting = Array.from({ length: 3 }, ask);
      await until('three wait', () => held.length === 3);
      expectProblem(await ask(), 'overloaded');
      for (const { reject } of held.splice(0)) reject(new Error('the limiter failed'));
      for (const answer of waiting) expect((await answer).status).to.equal(500);
      expect(counters.inFlight).to.equal(0);
      const again = ask();
      await until('one waits', () => held.length === 1);
      held.pop()!.resolve(ALLOWED);
      expect((await again).status).to.equal(200);
    }
  });

  it('have room again once callers have hung up on as many requests as may be in flight', async () => {
    const { node, held, looks, counters } = await startBusy();
    // Hung up before the body is there, and while the limiter decides.
    for (const cut of [1, 0]) {
      const bytes = frame('/v1/allow', JSON.stringify(QUESTION));
      const wires = await Promise.all(Array.from({ length: 3 }, () => connect(node.port)));
      for (const wire of wires) wire.send(bytes.subarray(0, bytes.length - cut));
      await until('three are in flight', () => counters.inFlight === 3);
      for (const wire of wires) wire.destroy();
      for (const { resolve } of held.splice(0)) resolve(ALLOWED);
      await until('none is in flight', () => counters.inFlight === 0);
      const again = post(node, '/v1/allow', QUESTION);
      await until('one waits', () => held.length === 1);
      held.pop()!.resolve(ALLOWED);
      expect((await again).status).to.equal(200);
    }
    const lookers = await Promise.all([1, 2].map(() => connect(node.port)));
    for (const wire of lookers) wire.send('GET /v1/clients/x HTTP/1.1\r\nHost: x\r\n\r\n');
    await until('two look', () => looks.length === 2);
    expectProblem(await call(node, '/v1/clients/x'), 'overloaded');
    for (const wire of lookers) wire.destroy();
    await wait(50);
    const look = connect(node.port);
    (await look).send('GET /v1/clients/x HTTP/1.1\r\nHost: x\r\n\r\n');
    await until('another looks', () => looks.length === 3);
    (await look).destroy();
  });

  /** Sends this much of a larger body on each of `count` connections. */
  async function holdBodies(
    port: number,
    path: string,
    count: number,
    bytes: number,
    refusals: number,
  ): Promise<{ wires: Wire[]; refused: () => number }> {
    const wires = await Promise.all(Array.from({ length: count }, () => connect(port)));
    const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${bytes + 1}\r\n\r\n`;
    let refused = 0;
    for (const wire of wires) {
      wire.send(head, ' '.repeat(bytes));
      void wire.closed().then(
        (answers) => answers.length > 0 && (refused += 1),
        () => undefined,
      );
    }
    await until(`${refusals} are refused`, () => refused >= refusals);
    await wait(100);
    return { wires, refused: () => refused };
  }

  it('let large bodies that are still arriving of one address take 16 MiB, and no small one suffers', async () => {
    const node = await liveNode();
    const bytes = Math.floor(0.95 * MIB);
    const { wires, refused } = await holdBodies(node.port, '/v1/allow/batch', 80, bytes, 60);
    // 16 of 0.95 MiB fit.
    expect(refused()).to.be.at.most(64);
    const question = { clientId: 'x', limit: 5, window: '1s' };
    expect((await post(node, '/v1/allow', JSON.stringify(question).padEnd(60_000))).status).to.be.oneOf([200, 429]);
    expectProblem(
      await post(node, '/v1/allow/batch', JSON.stringify({ requests: [question] }).padEnd(MIB)),
      'overloaded',
    );
    for (const wire of wires) wire.destroy();
    await wait(100);
    const requests = [{ clientId: 'x', limit: 5, window: '1s' }];
    expect((await post(node, '/v1/allow/batch', JSON.stringify({ requests }).padEnd(MIB))).status).to.equal(200);
  });

  it('let bodies of other requests that are still arriving of one address take 8 MiB', async () => {
    const node = await liveNode();
    const bytes = 60 * 1024;
    const { wires, refused } = await holdBodies(node.port, '/v1/settle', 200, bytes, 55);
    // 136 of 60 KiB fit.
    expect(refused()).to.be.at.most(64);
    for (const wire of wires) wire.destroy();
    await wait(100);
    expectProblem(await post(node, '/v1/settle', ' '.repeat(bytes) + '{}'), 'invalid_request');
  });

  it('take no more than 16 KiB of headers, however they are cut', async () => {
    const node = await liveNode();
    const [most] = await exchange(
      node.port,
      `GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ${'x'.repeat(15_000)}\r\n\r\n`,
    );
    expect(most).to.include({ status: 200 });
    const lines = Array.from({ length: 4_000 }, (_, i) => `X${i}: y\r\n`);
    const [answer] = await exchange(node.port, 'GET /healthz HTTP/1.1\r\nHost: x\r\n', ...lines, '\r\n');
    expectProblem(answer!, 'headers_too_large');
  });
});
