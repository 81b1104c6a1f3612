import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { expect } from 'chai';
import { WITHOUT_POLICIES } from '../../src/policy/active-policies.js';
import { Access } from '../../src/server/edge/access.js';
import { Connections, DEFAULT_BOUNDS } from '../../src/server/edge/connections.js';
import type { ProtocolServer } from '../../src/server/edge/protocol-server.js';
import { Counters } from '../../src/server/edge/counters.js';
import { ServerContext } from '../../src/server/edge/server-context.js';
import { LINGER_MS, RespServer } from '../../src/server/resp/server.js';
import { eventually } from '../support/eventually.js';
import { command, connectResp, repliesOf, type RespWire } from './wire.js';

/** The server looks at its connections every 50 ms. Its clock is that of the test, so nothing here waits for it. */
const TIMEOUTS = { firstMs: 5_000, requestMs: 100, idleMs: 1_000 };
const PONG = { status: 'PONG' };
const PING = command('PING');

/** A connection to a client that reads nothing until it is told to. */
class Unread extends Duplex {
  text = '';
  #held: (() => void)[] = [];
  #reads = false;

  override _read(): void {
    // `push` brings bytes.
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('latin1');
    if (this.#reads) done();
    else this.#held.push(done);
  }

  readAll(): void {
    this.#reads = true;
    for (const done of this.#held.splice(0)) done();
  }
}

describe('the server of the Redis protocol', () => {
  let respServer: ProtocolServer;
  let nowMs: number;
  /** Time in ms that a look at the clock takes. */
  let lookMs: number;
  /** The ends of the node. */
  let ends: Socket[];
  let wires: RespWire[];

  beforeEach(async () => {
    [nowMs, lookMs] = [0, 0];
    [ends, wires] = [[], []];
    const counters = new Counters();
    const context = new ServerContext({
      limiter: { decide: () => undefined },
      policies: WITHOUT_POLICIES,
      access: new Access({ required: [], tokens: [] }),
      counters,
      stage: () => 'ready',
      elapsedMs: () => (nowMs += lookMs),
      log: { error: (fields) => expect.fail(JSON.stringify(fields)) },
      maxInFlight: 1_000,
    });
    const connections = new Connections(DEFAULT_BOUNDS, counters);
    const calls = { describe: () => expect.fail('asked'), settle: () => expect.fail('asked') };
    respServer = new RespServer({ context, connections, calls: calls as never, version: '1', timeouts: TIMEOUTS });
    respServer.server.on('connection', (socket: Socket) => ends.push(socket));
    await new Promise<void>((resolve) => respServer.server.listen(0, '127.0.0.1', resolve));
  });
  afterEach(async () => {
    for (const { socket } of wires) socket.destroy();
    await respServer.drain(0, 0);
  });

  /** Connects, sends bytes, and waits until the node has them. */
  async function open(bytes: Buffer): Promise<RespWire> {
    const wire = await connectResp((respServer.server.address() as AddressInfo).port);
    await eventually(
      () => ends.length,
      (count) => count > wires.length,
    );
    wires.push(wire);
    await send(wire, bytes);
    return wire;
  }

  async function send(wire: RespWire, bytes: Buffer): Promise<void> {
    const end = ends[wires.indexOf(wire)]!;
    const all = end.bytesRead + bytes.length;
    wire.send(bytes);
    await eventually(
      () => end.bytesRead,
      (read) => read === all,
    );
  }

  const isClosed = ({ socket }: RespWire): Promise<unknown> =>
    socket.closed ? Promise.resolve() : once(socket, 'close');

  it('gives a command its time from the first byte, however many bytes follow', async () => {
    const slow = await open(PING.subarray(0, 3));
    nowMs = 1;
    const late = await open(PING.subarray(0, 3));
    nowMs = 90;
    await send(slow, PING.subarray(3, 4));
    nowMs = TIMEOUTS.requestMs + 1;
    await isClosed(slow);
    // The second one has had all of its time, and not more.
    late.send(PING.subarray(3));
    expect(await late.reply()).to.deep.equal(PONG);
  });

  it('begins the time of a command again where the one before it ends', async () => {
    const first = await open(PING.subarray(0, 3));
    const second = await open(PING.subarray(0, 3));
    nowMs = 60;
    await send(first, Buffer.concat([PING.subarray(3), PING.subarray(0, 3)]));
    expect(await first.reply()).to.deep.equal(PONG);
    nowMs = TIMEOUTS.requestMs + 1;
    await isClosed(second);
    first.send(PING.subarray(3));
    expect(await first.reply()).to.deep.equal(PONG);
  });

  it('gives the commands of a transaction their time, as they take memory', async () => {
    const open1 = await open(Buffer.concat([command('MULTI'), PING]));
    expect([await open1.reply(), await open1.reply()]).to.deep.equal([{ status: 'OK' }, { status: 'QUEUED' }]);
    const done = await open(Buffer.concat([command('MULTI'), PING, command('EXEC')]));
    for (let i = 0; i < 3; i += 1) await done.reply();
    nowMs = TIMEOUTS.requestMs + 1;
    await isClosed(open1);
    expect(await done.ask('PING')).to.deep.equal(PONG);
  });

  it('lets a connection be silent for its time', async () => {
    const silent = await open(PING);
    const unheard = await open(Buffer.alloc(0));
    expect(await silent.reply()).to.deep.equal(PONG);
    nowMs = 1;
    const late = await open(PING);
    expect(await late.reply()).to.deep.equal(PONG);
    nowMs = TIMEOUTS.idleMs + 1;
    await Promise.all([isClosed(silent), isClosed(unheard)]);
    expect(await late.ask('PING')).to.deep.equal(PONG);
  });

  it('closes a connection whose client does not, after the answer to QUIT', async () => {
    const { socket } = await open(Buffer.alloc(0));
    socket.allowHalfOpen = true;
    const [end] = ends;
    await send(wires[0]!, command('QUIT'));
    expect(await wires[0]!.reply()).to.deep.equal({ status: 'OK' });
    await eventually(
      () => end!.writableFinished,
      (finished) => finished,
    );
    nowMs = LINGER_MS + 1;
    await once(end!, 'close');
  });

  it('keeps a connection that has ended until its client has read the last answers', async () => {
    const silent = await open(Buffer.alloc(0));
    const unread = new Unread();
    respServer.server.emit('connection', unread);
    unread.push(Buffer.concat([command('ECHO', 'x'.repeat(9_000)), command('QUIT')]));
    await eventually(
      () => unread.text,
      (text) => text !== '',
    );
    nowMs = TIMEOUTS.idleMs + 1;
    // The server has looked at all connections.
    await isClosed(silent);
    expect(unread.destroyed).to.equal(false);
    unread.readAll();
    await eventually(
      () => unread.writableFinished,
      (finished) => finished,
    );
    expect(repliesOf(unread.text)).to.deep.equal(['x'.repeat(9_000), { status: 'OK' }]);
    unread.destroy();
  });

  it('answers some commands of a chunk in one turn of the event loop, also checks that it refuses', async () => {
    lookMs = 1;
    for (const [line, code] of [
      ['PING\n', 'PONG'],
      ['TR.ALLOW a X 1\n', 'INVALID_REQUEST'],
      ['THROTTLE a x 1 1\n', 'Cell error'],
    ] as const) {
      const client = new Unread();
      client.readAll();
      respServer.server.emit('connection', client);
      const count = Math.floor(65_536 / line.length);
      client.push(Buffer.from(line.repeat(count)));
      const answered = (): number => client.text.split(code).length - 1;
      const turns: number[] = [];
      while (answered() < count) {
        const before = answered();
        await new Promise(setImmediate);
        turns.push(answered() - before);
      }
      expect(Math.max(...turns), line).to.be.at.most(128);
      client.destroy();
    }
  });

  it('shares the time of a turn among all connections', async () => {
    lookMs = 1;
    const clients = Array.from({ length: 50 }, () => new Unread());
    for (const client of clients) {
      client.readAll();
      respServer.server.emit('connection', client);
      client.push(Buffer.from('COMMAND COUNT\n'.repeat(1_000)));
    }
    const answers = (): number[] => clients.map(({ text }) => repliesOf(text).length);
    const sum = (numbers: number[]): number => numbers.reduce((total, one) => total + one, 0);
    while (sum(answers()) < 10_000) {
      const before = sum(answers());
      await new Promise(setImmediate);
      expect(sum(answers()) - before, 'commands of all connections in a turn').to.be.at.most(128);
    }
    expect(Math.max(...answers()) - Math.min(...answers()), 'fair').to.be.at.most(64);
    for (const client of clients) client.destroy();
  });
});
