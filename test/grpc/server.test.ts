import { once } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import { connect as connectHttp2, constants, type ClientHttp2Session, type OutgoingHttpHeaders } from 'node:http2';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { expect } from 'chai';
import { status } from '@grpc/grpc-js';
import type { Check } from '../../src/limits/decide/check.js';
import { deciderOf } from '../support/batch.js';
import { TokenringError } from '../../src/lib/error.js';
import { Access } from '../../src/server/edge/access.js';
import { Connections, DEFAULT_BOUNDS } from '../../src/server/edge/connections.js';
import { Counters } from '../../src/server/edge/counters.js';
import { ServerContext } from '../../src/server/edge/server-context.js';
import { GrpcServer } from '../../src/server/grpc/server.js';
import { WITHOUT_POLICIES } from '../../src/policy/active-policies.js';
import { envoyDomainOf } from '../../src/policy/envoy-table.js';
import { policyOf } from '../../src/policy/policy.js';
import { createRandom } from '../sim/random.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { eventually } from '../support/eventually.js';
import { codeOf, descriptor, grpcClient, requestSerialize } from '../support/grpc.js';

const PATH = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
const HEADERS = { ':method': 'POST', ':path': PATH, 'content-type': 'application/grpc', te: 'trailers' };
const ASKED = { domain: 'edge', descriptors: [descriptor('user=x')] };
const HOUR = 3_600_000;
const SLOW = { firstMs: HOUR, requestMs: HOUR, idleMs: HOUR };

const DECISION: Decision = {
  allowed: true,
  limit: 10,
  remaining: 9,
  retryAfterMs: 0,
  resetMs: 6_000,
  owner: 'a:1',
  source: 'owner',
  degraded: false,
  limits: undefined,
};

async function becomes<T>(read: () => T, wanted: T): Promise<void> {
  const last = await eventually(read, (value) => isDeepStrictEqual(value, wanted));
  expect(last).to.deep.equal(wanted);
}

const framed = (message: Buffer, flag = 0): Buffer => {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
};
const MESSAGE = framed(requestSerialize(ASKED));

interface Stage {
  readonly grpcServer: GrpcServer;
  readonly port: number;
  readonly counters: Counters;
  stage: 'joining' | 'ready' | 'stopping';
  check: (check: Check) => Decision | Promise<Decision>;
  /** The time of the server, in ms. */
  nowMs: () => number;
  /** Calls for decisions that the server began to handle. */
  begun: number;
}

const opened: Stage[] = [];

async function open(
  options: { timeouts?: object; max?: number; answerMs?: number; maxArriving?: number; maxInFlight?: number } = {},
): Promise<Stage> {
  const counters = new Counters();
  const policy = policyOf('p', { limit: 10, window: '1m' });
  const domain = envoyDomainOf('edge', [{ entries: ['user'], policy: 'p' }]);
  const policies = {
    ...WITHOUT_POLICIES,
    resolve: () => ({ policy, rules: policy.rules }),
    envoyDomain: (name: string) => (name === 'edge' ? domain : undefined),
  };
  const limiter = deciderOf((check) => one.check(check));
  const context = new ServerContext({
    limiter,
    policies,
    access: new Access({ required: [], tokens: [] }),
    counters,
    // Each call looks whether the node has joined.
    stage: () => {
      one.begun += 1;
      return one.stage;
    },
    elapsedMs: () => one.nowMs(),
    log: { error: (fields) => expect.fail(JSON.stringify(fields)) },
    maxInFlight: options.maxInFlight ?? 1_000,
  });
  const { max = 1_000, answerMs = HOUR } = options;
  const connections = new Connections({ ...DEFAULT_BOUNDS, max, answerMs }, counters);
  const grpcServer = new GrpcServer({
    context,
    connections,
    settler: { settle: () => expect.fail('settled') },
    maxArriving: options.maxArriving ?? 1_000,
    timeouts: { ...SLOW, ...options.timeouts },
  });
  await new Promise<void>((resolve) => grpcServer.server.listen(0, '127.0.0.1', resolve));
  const { port } = grpcServer.server.address() as AddressInfo;
  const one: Stage = {
    grpcServer,
    port,
    counters,
    stage: 'ready',
    check: () => DECISION,
    nowMs: () => performance.now(),
    begun: 0,
  };
  opened.push(one);
  return one;
}

/** @param from the caller's address, on loopback */
async function http2(port: number, from = '127.0.0.1'): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://127.0.0.1:${port}`, {
    createConnection: () => connect({ port, host: '127.0.0.1', localAddress: from }),
  });
  session.on('error', () => undefined);
  await once(session, 'connect');
  return session;
}

interface Ended {
  readonly http: number | undefined;
  readonly grpc: number | undefined;
  readonly message: string;
}

/** Sends a call, and waits for its end. */
function send(
  session: ClientHttp2Session,
  body: Buffer | undefined,
  headers: OutgoingHttpHeaders = {},
): Promise<Ended> {
  const stream = session.request({ ...HEADERS, ...headers });
  let http: number | undefined;
  let grpc: Record<string, unknown> = {};
  stream.on('response', (given) => {
    http = given[':status'];
    grpc = { ...given };
  });
  stream.on('trailers', (given: Record<string, unknown>) => (grpc = given));
  stream.on('error', () => undefined);
  stream.resume();
  if (body !== undefined) stream.end(body);
  return new Promise((resolve) =>
    stream.on('close', () => {
      const code = grpc['grpc-status'] as string | undefined;
      resolve({ http, grpc: code === undefined ? undefined : Number(code), message: String(grpc['grpc-message']) });
    }),
  );
}

const isOver = ({ closed, destroyed }: ClientHttp2Session): boolean => closed || destroyed;

const closedBy = (session: ClientHttp2Session): Promise<unknown> =>
  isOver(session) ? Promise.resolve() : new Promise((resolve) => session.once('close', resolve));

describe('the gRPC server', () => {
  afterEach(async () => {
    await Promise.all(opened.splice(0).map(({ grpcServer }) => grpcServer.drain(0, 0)));
  });

  it('answers the health of the server and of its services', async () => {
    const stage = await open();
    const client = grpcClient(stage.port);
    const check = (service: string): Promise<Buffer> =>
      client.raw(
        '/grpc.health.v1.Health/Check',
        Buffer.concat([Buffer.from([0x0a, service.length]), Buffer.from(service)]),
      );
    const rateLimit = 'envoy.service.ratelimit.v3.RateLimitService';
    for (const [now, code] of [
      ['joining', 2],
      ['ready', 1],
      ['stopping', 2],
    ] as const) {
      stage.stage = now;
      expect(await check('')).to.deep.equal(Buffer.from([0x08, code]));
      expect(await check(rateLimit)).to.deep.equal(Buffer.from([0x08, code]));
    }
    expect(await codeOf(check('other'))).to.equal(status.NOT_FOUND);
    client.close();
  });

  it('tells a watch of each change, and of a service that it does not know', async () => {
    const stage = await open();
    stage.stage = 'joining';
    const { client } = grpcClient(stage.port);
    const same = (bytes: Buffer): Buffer => bytes;
    const watch = (service: string): number[] => {
      const seen: number[] = [];
      const request = Buffer.concat([Buffer.from([0x0a, service.length]), Buffer.from(service)]);
      const call = client.makeServerStreamRequest('/grpc.health.v1.Health/Watch', same, same, request);
      call.on('data', (message: Buffer) => seen.push(message[1]!));
      call.on('error', () => seen.push(-1));
      return seen;
    };
    const [whole, other] = [watch(''), watch('other')];
    await becomes(() => [whole, other], [[2], [3]]);
    stage.stage = 'ready';
    stage.grpcServer.stageChanged();
    stage.grpcServer.stageChanged();
    await becomes(() => whole, [2, 1]);
    stage.stage = 'stopping';
    stage.grpcServer.stageChanged();
    await stage.grpcServer.drain(0, 1_000);
    await becomes(
      () => [whole, other],
      [
        [2, 1, 2, -1],
        [3, -1],
      ],
    );
    client.close();
  });

  it('answers UNAVAILABLE before the node has joined, and when it is overloaded', async () => {
    const stage = await open({ maxInFlight: 1 });
    const client = grpcClient(stage.port);
    stage.stage = 'joining';
    expect(await codeOf(client.limit(ASKED))).to.equal(status.UNAVAILABLE);
    stage.stage = 'ready';
    stage.check = () => Promise.reject(new TokenringError('overloaded'));
    expect(await codeOf(client.limit(ASKED))).to.equal(status.UNAVAILABLE);
    let decide: (decision: Decision) => void = () => undefined;
    stage.check = () => new Promise((resolve) => (decide = resolve));
    const waits = client.limit(ASKED);
    await becomes(() => stage.counters.inFlight, 1);
    expect(await codeOf(client.limit(ASKED))).to.equal(status.UNAVAILABLE);
    decide(DECISION);
    expect((await waits).overall_code).to.equal(1);
    expect(stage.counters.inFlight).to.equal(0);
    client.close();
  });

  it('keeps the deadline of the caller, and forgets a call that is cancelled', async () => {
    const stage = await open();
    const session = await http2(stage.port);
    stage.check = () => new Promise(() => undefined);
    expect((await send(session, MESSAGE, { 'grpc-timeout': '20m' })).grpc).to.equal(status.DEADLINE_EXCEEDED);
    expect((await send(session, MESSAGE, { 'grpc-timeout': '0n' })).grpc).to.equal(status.DEADLINE_EXCEEDED);
    const stream = session.request(HEADERS);
    stream.on('error', () => undefined);
    stream.end(MESSAGE);
    await becomes(() => stage.counters.inFlight, 1);
    stream.close(constants.NGHTTP2_CANCEL);
    await becomes(() => stage.counters.inFlight, 0);
    session.close();
  });

  it('refuses what is no call of it, as gRPC demands', async () => {
    const stage = await open();
    const session = await http2(stage.port);
    const { UNIMPLEMENTED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED } = status;
    expect(await send(session, MESSAGE, { ':path': '/x.Y/Zä' })).to.include({ http: 200, grpc: UNIMPLEMENTED });
    expect(await send(session, MESSAGE, { ':method': 'PUT' })).to.include({ http: 405, grpc: undefined });
    expect(await send(session, MESSAGE, { origin: 'http://localhost' })).to.include({ http: 403, grpc: undefined });
    expect(await send(session, MESSAGE, { 'content-type': 'application/json' })).to.include({ http: 415 });
    expect(await send(session, MESSAGE, { 'content-type': 'application/grpc+json' })).to.include({
      grpc: UNIMPLEMENTED,
    });
    expect(await send(session, MESSAGE, { 'content-type': 'application/grpc+proto' })).to.include({ grpc: 0 });
    expect(await send(session, MESSAGE, { 'grpc-encoding': 'gzip' })).to.include({ grpc: UNIMPLEMENTED });
    expect(await send(session, framed(Buffer.alloc(3), 1))).to.include({ grpc: INVALID_ARGUMENT });
    expect(await send(session, Buffer.alloc(0))).to.include({ grpc: INVALID_ARGUMENT });
    expect(await send(session, Buffer.concat([MESSAGE, MESSAGE]))).to.include({ grpc: INVALID_ARGUMENT });
    expect(await send(session, MESSAGE.subarray(0, 9))).to.include({ grpc: INVALID_ARGUMENT });
    expect(await send(session, framed(Buffer.alloc(64 * 1024 + 1)))).to.include({ grpc: RESOURCE_EXHAUSTED });
    expect(await send(session, MESSAGE)).to.include({ grpc: 0 });
    expect(stage.counters.inFlight).to.equal(0);
    session.close();
  });

  it('reads a message that comes in crumbs', async () => {
    const stage = await open();
    const session = await http2(stage.port);
    const stream = session.request(HEADERS);
    let trailers: Record<string, unknown> = {};
    stream.on('trailers', (given: Record<string, unknown>) => (trailers = given));
    stream.resume();
    for (const byte of MESSAGE) await new Promise((resolve) => stream.write(Buffer.from([byte]), resolve));
    stream.end();
    await once(stream, 'close');
    expect(trailers['grpc-status']).to.equal('0');
    session.close();
  });

  it('ends a call whose message does not arrive in time', async () => {
    const stage = await open({ timeouts: { firstMs: 100, requestMs: 50 } });
    const session = await http2(stage.port);
    const stream = session.request(HEADERS);
    let headers: Record<string, unknown> = {};
    stream.on('response', (given) => (headers = given));
    stream.on('error', () => undefined);
    stream.write(MESSAGE.subarray(0, 7));
    await once(stream, 'close');
    expect(Number(headers['grpc-status'])).to.equal(status.DEADLINE_EXCEEDED);
    expect(stage.counters.inFlight).to.equal(0);
    session.close();
  });

  it('closes a connection that says nothing, and one that is idle', async () => {
    const stage = await open({ timeouts: { firstMs: 100, idleMs: 200 } });
    const silent = connect(stage.port, '127.0.0.1').resume();
    const idle = await http2(stage.port);
    await Promise.all([once(silent, 'close'), closedBy(idle)]);
  });

  it('cuts a caller that does not read its answers', async () => {
    const stage = await open({ timeouts: { firstMs: 100 }, answerMs: 200 });
    // A window of 0 keeps the answers at the server.
    const session = connectHttp2(`http://127.0.0.1:${stage.port}`, { settings: { initialWindowSize: 0 } });
    session.on('error', () => undefined);
    await once(session, 'connect');
    const stream = session.request(HEADERS);
    stream.on('error', () => undefined);
    stream.end(MESSAGE);
    await closedBy(session);
    expect(stage.counters.slowReaders).to.equal(1);
  });

  it('cuts the connection with the most calls that have not arrived, when there are too many', async () => {
    const stage = await open({ timeouts: { firstMs: 100 }, maxArriving: 20 });
    const [few, many] = [await http2(stage.port), await http2(stage.port)];
    const begin = (session: ClientHttp2Session): void => void session.request(HEADERS).on('error', () => undefined);
    begin(few);
    for (let i = 0; i < 40; i += 1) begin(many);
    await closedBy(many);
    expect(few.closed).to.equal(false);
    few.destroy();
  });

  it('counts the calls that have not arrived also between two sweeps', async () => {
    const { setInterval } = globalThis;
    let stage: Stage;
    try {
      globalThis.setInterval = (() => ({ unref: () => undefined })) as unknown as typeof setInterval;
      stage = await open({ maxArriving: 20 });
    } finally {
      globalThis.setInterval = setInterval;
    }
    const [few, many] = [await http2(stage.port), await http2(stage.port)];
    const begin = (session: ClientHttp2Session): void => void session.request(HEADERS).on('error', () => undefined);
    begin(few);
    for (let i = 0; i < 41; i += 1) begin(many);
    await closedBy(many);
    expect(few.closed).to.equal(false);
    few.destroy();
  });

  it('cuts a connection that resets calls as fast as it makes them', async () => {
    const stage = await open();
    const session = await http2(stage.port);
    let resets = 0;
    while (!isOver(session) && resets < 20_000) {
      for (let i = 0; i < 100; i += 1) {
        if (isOver(session)) break;
        const stream = session.request(HEADERS);
        stream.on('error', () => undefined);
        stream.close(constants.NGHTTP2_CANCEL);
        resets += 1;
      }
      await new Promise(setImmediate);
    }
    await closedBy(session);
    expect(resets).to.be.below(20_000);
    const next = await http2(stage.port);
    expect((await send(next, MESSAGE)).grpc).to.equal(0);
    next.close();
  });

  it('cuts a connection that sends 1,000 calls with their resets at once, before it has begun them', async () => {
    const stage = await open();
    const other = await http2(stage.port);
    const socket = await rawHttp2(stage.port);
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    const cancel = Buffer.of(0, 0, 0, constants.NGHTTP2_CANCEL);
    const calls = Array.from({ length: 1_000 }, (_, i) =>
      Buffer.concat([frame(1, END_HEADERS, 2 * i + 1, RAW_HEADERS), frame(3, 0, 2 * i + 1, cancel)]),
    );
    const closed = once(socket, 'close');
    socket.write(Buffer.concat(calls));
    expect((await send(other, MESSAGE)).grpc).to.equal(0);
    await closed;
    const goaway = framesOf(Buffer.concat(received)).find(({ type }) => type === GOAWAY);
    expect(goaway?.payload.readUInt32BE(4)).to.equal(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    expect(stage.begun).to.be.below(400);
    expect((await send(other, MESSAGE)).grpc).to.equal(0);
    other.close();
  });

  it('lets a caller whose calls all run out of time reset them', async () => {
    const stage = await open();
    stage.check = () => new Promise(() => undefined);
    const session = await http2(stage.port);
    const streams = Array.from({ length: 128 }, () => session.request(HEADERS).on('error', () => undefined));
    for (const stream of streams) stream.end(MESSAGE);
    await becomes(() => stage.counters.inFlight, 128);
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL);
    await becomes(() => stage.counters.inFlight, 0);
    stage.check = () => DECISION;
    expect((await send(session, MESSAGE)).grpc).to.equal(0);
    session.close();
  });

  it('cuts a connection that resets calls of no method', async () => {
    const stage = await open();
    const session = await http2(stage.port);
    for (let i = 0; i < 100 && !isOver(session); i += 1) {
      for (let n = 0; n < 50 && !isOver(session); n += 1) {
        const stream = session.request({ ...HEADERS, ':path': '/none' });
        stream.on('error', () => undefined);
        stream.close(constants.NGHTTP2_CANCEL);
      }
      await new Promise(setImmediate);
    }
    await closedBy(session);
  });

  /** Opens a watch. @returns the statuses that it is told; at its end -1 and the status of the call */
  function watchOn(session: ClientHttp2Session): number[] {
    const seen: number[] = [];
    const stream = session.request({ ...HEADERS, ':path': '/grpc.health.v1.Health/Watch' });
    stream.on('error', () => undefined);
    stream.on('data', (message: Buffer) => seen.push(message[6]!));
    stream.on('trailers', (given: Record<string, unknown>) => seen.push(-1, Number(given['grpc-status'])));
    stream.on('response', (given) => {
      if (given['grpc-status'] !== undefined) seen.push(-1, Number(given['grpc-status']));
    });
    stream.end(framed(Buffer.alloc(0)));
    return seen;
  }

  it('lets nobody hold all places of watches', async () => {
    const stage = await open();
    const greedy = await Promise.all(Array.from({ length: 8 }, () => http2(stage.port)));
    const watches = greedy.map((session) => Array.from({ length: 125 }, () => watchOn(session))).flat();
    const ended = (): number => watches.filter(([first]) => first === -1).length;
    await becomes(() => watches.filter((seen) => seen.length > 0).length, 1_000);
    expect(ended()).to.equal(900);
    const ninth = await http2(stage.port, '127.0.0.9');
    const seen = watchOn(ninth);
    await becomes(() => seen, [1]);
    for (const session of [...greedy, ninth]) session.destroy();
  });

  it('gives a place of the address with the most watches to one that has fewer', async () => {
    const stage = await open();
    const sessions: ClientHttp2Session[] = [];
    const first = await http2(stage.port, '127.0.1.1');
    const oldest = watchOn(first);
    await becomes(() => oldest, [1]);
    const watches = Array.from({ length: 99 }, () => watchOn(first));
    for (let i = 2; i <= 10; i += 1) {
      const session = await http2(stage.port, `127.0.1.${i}`);
      sessions.push(session);
      watches.push(...Array.from({ length: 100 }, () => watchOn(session)));
    }
    await becomes(() => watches.every(([told]) => told === 1), true);
    const last = await http2(stage.port, '127.0.1.11');
    const seen = watchOn(last);
    await becomes(() => [seen, oldest], [[1], [1, -1, status.UNAVAILABLE]]);
    expect(watches.filter((one) => one.length > 1)).to.deep.equal([]);
    for (const session of [first, last, ...sessions]) session.destroy();
  });

  it('ends watches of a connection without a call for the time of idle ones, by GOAWAY', async () => {
    const stage = await open({ timeouts: { firstMs: 20, idleMs: 65_000 } });
    let nowMs = 1;
    stage.nowMs = () => nowMs;
    const [watching, asking] = [await http2(stage.port), await http2(stage.port)];
    const [ends, stays] = [watchOn(watching), watchOn(asking)];
    await becomes(() => [ends, stays], [[1], [1]]);
    nowMs += 64_000;
    expect((await send(asking, MESSAGE)).grpc).to.equal(0);
    // A further watch is no call.
    const late = watchOn(watching);
    await becomes(() => late, [1]);
    expect(ends).to.deep.equal([1]);
    nowMs += 1_001;
    await closedBy(watching);
    expect([ends, late]).to.deep.equal([
      [1, -1, status.UNAVAILABLE],
      [1, -1, status.UNAVAILABLE],
    ]);
    expect((await send(asking, MESSAGE)).grpc).to.equal(0);
    expect(stays).to.deep.equal([1]);
    asking.destroy();
  });

  it('closes connections that only watch when others need their places', async () => {
    const stage = await open({ max: 2 });
    const watching = await http2(stage.port);
    const seen = watchOn(watching);
    await becomes(() => seen, [1]);
    await http2(stage.port);
    await closedBy(watching);
    expect(seen).to.deep.equal([1, -1, status.UNAVAILABLE]);
  });

  it('refuses headers that are too many or too large, and floods of PING, CONTINUATION, and empty DATA', async () => {
    const stage = await open();
    const many = await http2(stage.port);
    const crowd = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-${i}`, 'y']));
    expect((await send(many, undefined, crowd)).grpc).to.equal(undefined);
    many.destroy();
    const large = await http2(stage.port);
    expect((await send(large, undefined, { 'x-large': 'y'.repeat(200_000) })).grpc).to.equal(undefined);
    large.destroy();
    const pings = Buffer.concat(Array.from({ length: 5_000 }, () => frame(6, 0, 0, Buffer.alloc(8))));
    const continued = Buffer.concat([
      frame(1, 0, 1, Buffer.alloc(0)),
      ...Array.from({ length: 20_000 }, () => frame(9, 0, 1, Buffer.alloc(0))),
    ]);
    // A line of 4 KiB goes into the table of headers; each byte after it stands for that line again.
    const [name, value] = [
      Buffer.from([0x40, 1, 0x78]),
      Buffer.concat([Buffer.from([0x7f, 0xbd, 0x1d]), Buffer.alloc(3_900, 0x79)]),
    ];
    const bomb = Buffer.concat([
      frame(1, 0, 1, Buffer.concat([name, value, Buffer.alloc(10_000, 0xbe)])),
      ...Array.from({ length: 100 }, () => frame(9, 0, 1, Buffer.alloc(16_000, 0xbe))),
    ]);
    const head = [literal(':path', PATH), literal(':authority', 'x'), literal('content-type', 'application/grpc')];
    const empty = Buffer.concat([
      frame(1, 4, 1, Buffer.concat([Buffer.from([0x83, 0x86]), ...head])),
      ...Array.from({ length: 20_000 }, () => frame(0, 0, 1, Buffer.alloc(0))),
    ]);
    for (const flood of [pings, continued, bomb, empty]) {
      const socket = await rawHttp2(stage.port);
      socket.write(flood);
      if (!socket.closed) await once(socket, 'close');
    }
    const next = await http2(stage.port);
    expect((await send(next, MESSAGE)).grpc).to.equal(0);
    next.close();
  });

  it('shares the bound of connections with the other servers, and closes idle ones at the bound', async () => {
    const stage = await open({ max: 2 });
    const first = await http2(stage.port);
    await new Promise((resolve) => first.ping(resolve));
    await http2(stage.port);
    await closedBy(first);
  });

  it('answers 20,000 damaged inputs of a connection with errors, and goes on', async function () {
    this.timeout(180_000);
    const stage = await open();
    const chance = createRandom(2_026);
    const between = (min: number, max: number): number => chance.between(min, max);
    let session = await http2(stage.port);
    let sent = 0;
    while (sent < 20_000) {
      if (isOver(session)) session = await http2(stage.port);
      const calls = Array.from({ length: 50 }, () => {
        const damaged = Buffer.from(MESSAGE.subarray(0, between(1, MESSAGE.length)));
        for (let n = between(0, 3); n >= 0; n -= 1) damaged[between(0, damaged.length - 1)] = between(0, 255);
        return send(session, damaged);
      });
      for (const { grpc } of await Promise.all(calls)) {
        expect([0, status.INVALID_ARGUMENT, status.RESOURCE_EXHAUSTED, undefined]).to.include(grpc);
      }
      sent += calls.length;
    }
    expect((await send(session, MESSAGE)).grpc).to.equal(0);
    expect(stage.counters.inFlight).to.equal(0);
    session.close();
  });

  it('survives 2,000 connections whose frames are damaged', async () => {
    const stage = await open();
    const chance = createRandom(7);
    const between = (min: number, max: number): number => chance.between(min, max);
    for (let i = 0; i < 2_000; i += 50) {
      const sockets = await Promise.all(Array.from({ length: 50 }, () => rawHttp2(stage.port)));
      for (const socket of sockets) {
        const flags = between(0, 255);
        socket.end(
          frame(
            between(0, 10),
            flags,
            between(0, 5),
            Buffer.from(Array.from({ length: between(0, 40) }, () => between(0, 255))),
          ),
        );
      }
      await Promise.all(
        sockets.map((socket) => (socket.closed ? Promise.resolve() : once(socket, 'close').then(() => undefined))),
      );
    }
    const session = await http2(stage.port);
    expect((await send(session, MESSAGE)).grpc).to.equal(0);
    session.close();
  });

  it('drains without failing a call: GOAWAY first, then no connections, then the end', async () => {
    const stage = await open();
    const session = await http2(stage.port);
    const goaway = once(session, 'goaway');
    let decide: (decision: Decision) => void = () => undefined;
    stage.check = () => new Promise((resolve) => (decide = resolve));
    const waits = send(session, MESSAGE);
    await becomes(() => stage.counters.inFlight, 1);
    const drained = stage.grpcServer.drain(50, 5_000);
    // The call in flight is the last. The caller sends later ones again, elsewhere.
    expect((await goaway)[1]).to.equal(1);
    await becomes(() => stage.grpcServer.server.listening, false);
    decide(DECISION);
    expect((await waits).grpc).to.equal(0);
    await drained;
    await closedBy(session);
  });

  it('answers each call that crosses GOAWAY, or names it as unseen and has charged nothing', async () => {
    for (let round = 0; round < 20; round += 1) {
      const stage = await open();
      let charged = 0;
      stage.check = async () => {
        charged += 1;
        await new Promise(setImmediate);
        return DECISION;
      };
      const socket = await rawHttp2(stage.port);
      const received: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => received.push(chunk));
      let sent = 0;
      const call = (): void => {
        const id = 2 * sent + 1;
        sent += 1;
        socket.write(Buffer.concat([frame(1, END_HEADERS, id, RAW_HEADERS), frame(0, END_STREAM, id, MESSAGE)]));
      };
      for (let i = 0; i < 10; i += 1) call();
      await becomes(() => charged > 0, true);
      // The server reads these further calls before it sends GOAWAY in some rounds, and after it in others.
      for (let i = 0; i < 10; i += 1) call();
      for (let i = 0; i < round % 4; i += 1) await new Promise(setImmediate);
      const drained = stage.grpcServer.drain(20, 5_000);
      for (let i = 0; i < 10; i += 1) call();
      await drained;
      if (!socket.closed) await once(socket, 'close');
      const frames = framesOf(Buffer.concat(received));
      const last = Math.min(
        ...frames.filter(({ type }) => type === GOAWAY).map(({ payload }) => payload.readUInt32BE(0)),
      );
      const answered = frames
        .filter(({ type, flags }) => type === 1 && (flags & END_STREAM) !== 0)
        .map(({ stream }) => stream);
      const seen = Array.from({ length: sent }, (_, i) => 2 * i + 1).filter((id) => id <= last);
      expect(answered.sort((a, b) => a - b)).to.deep.equal(seen);
      expect(charged).to.equal(seen.length);
      expect(seen.length).to.be.at.least(10);
    }
  });
});

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

const [END_STREAM, END_HEADERS, GOAWAY] = [1, 4, 7];

/** The headers of a call as HPACK, each as a literal without index. */
const RAW_HEADERS = Buffer.concat(
  Object.entries({ ...HEADERS, ':scheme': 'http', ':authority': 'x' })
    .sort(([a], [b]) => Number(b.startsWith(':')) - Number(a.startsWith(':')))
    .flatMap(([name, value]) => [
      Buffer.of(0, name.length),
      Buffer.from(name),
      Buffer.of(value.length),
      Buffer.from(value),
    ]),
);

function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    const [type, flags, stream] = [bytes[at + 3]!, bytes[at + 4]!, bytes.readUInt32BE(at + 5)];
    frames.push({ type, flags, stream, payload: bytes.subarray(at + 9, end) });
    at = end;
  }
  return frames;
}

/** Encodes a header of fewer than 128 bytes as HPACK literal without a place in the table. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x10, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

/** A connection that has sent its preface, and sends frames as they are. */
async function rawHttp2(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.resume();
  await once(socket, 'connect');
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(frame(4, 0, 0, Buffer.alloc(0)));
  return socket;
}
