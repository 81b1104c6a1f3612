import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import fc from 'fast-check';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { eventually } from '../support/eventually.js';
import { ALONE, call, newClient } from '../support/http.js';
import { command, connectResp, repliesOf, type Reply } from '../resp/wire.js';

const MIB = 1024 * 1024;

describe('a hostile caller at the port of the Redis protocol', () => {
  let node: RunningNode;
  before(async () => {
    node = await startNode(readSettings([...ALONE, '--resp-port', '0', '--max-connections', '100'], {}));
  });
  after(() => node.stop());

  /** Sends bytes and ends its side. @returns everything that the node answers before it closes */
  async function exchange(...bytes: readonly (Buffer | string)[]): Promise<string> {
    const socket = connect({ port: node.respPort!, host: '127.0.0.1' }).on('error', () => undefined);
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    for (const one of bytes) socket.write(one);
    socket.end();
    await once(socket, 'close');
    return text;
  }

  const isWell = async (): Promise<void> => {
    const wire = await connectResp(node.respPort!);
    expect(await wire.ask('PING')).to.deep.equal({ status: 'PONG' });
    wire.socket.destroy();
    const metrics = (await call(node, '/metrics')).text;
    expect(metrics).to.match(/^tokenring_requests_in_flight 0$/m);
  };

  it('sends 20,000 inputs that are no good, and gets answers of the protocol and nothing else', async () => {
    const arg = fc.oneof(
      fc.constantFrom('a', '0', '1', '-1', '10', '1m', 'LIMIT', 'WINDOW', 'BURST', 'COST', 'POLICY', 'ID', 'RESERVE'),
      fc.constantFrom('PEEK', 'AUTH', '2', '3', 'x\r\n+OK\r\n', '', '99999999999999999999', '\u0000', '__proto__'),
      fc.string({ maxLength: 8 }),
    );
    const name = fc.constantFrom(
      ...['TR.ALLOW', 'tr.allow', 'CL.THROTTLE', 'THROTTLE', 'TR.SETTLE', 'TR.DESCRIBE', 'PING', 'ECHO', 'HELLO'],
      ...['COMMAND', 'CLIENT', 'INFO', 'RESET', 'GET', 'AUTH', '', '\r\n'],
    );
    const good = fc.tuple(name, fc.array(arg, { maxLength: 7 })).map(([one, args]) => command(one, ...args));
    const bad = fc.oneof(
      fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom('*1\r\n$-1\r\n', '*-1\r\n', '*9\r\n', '$5\r\nhello\r\n', '\r\n', 'PING\r\n', '*1\r\n*1\r\n'),
    );
    const input = fc.oneof({ weight: 9, arbitrary: good }, { weight: 1, arbitrary: bad });
    const inputs = fc.sample(input, { numRuns: 20_000, seed: 18 }).map((one) => Buffer.from(one));
    expect(inputs).to.have.length(20_000);
    for (let from = 0; from < inputs.length; from += 10) {
      const some = inputs.slice(from, from + 10);
      let text = '';
      try {
        repliesOf((text = await exchange(Buffer.concat(some))));
      } catch (error) {
        throw new Error(`${Buffer.concat(some).toString('base64')} got ${JSON.stringify(text)}`, { cause: error });
      }
    }
    const { text } = await call(node, '/metrics');
    expect(text, 'no failure of the node').not.to.match(/^tokenring_problems_total\{code="internal"\} [1-9]/m);
    await isWell();
  }).timeout(120_000);

  it('announces 2 GiB, arrays in arrays, or more arguments than any command has, and is hung up at once', async () => {
    const before = process.memoryUsage().rss;
    for (const bytes of ['*1\r\n$2147483647\r\n', '*2147483647\r\n', '*1\r\n'.repeat(1_000), `*65\r\n`]) {
      const wire = await connectResp(node.respPort!);
      wire.send(bytes);
      const [reply, ...others] = await wire.rest();
      expect((reply as { error: string }).error).to.match(/^ERR Protocol error: /);
      expect(others).to.deep.equal([]);
    }
    expect(process.memoryUsage().rss - before).to.be.below(64 * MIB);
  });

  it('leads a browser here, whose form has commands in its body: the first line of HTTP ends the connection', async () => {
    const clientId = newClient();
    const ask = command('TR.ALLOW', clientId, 'LIMIT', 1, 'WINDOW', '1d');
    const text = await exchange('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n', ask);
    expect(repliesOf(text).map((reply) => (reply as { error: string }).error.slice(0, 28))).to.deep.equal([
      "ERR unknown command 'POST'; ",
    ]);
    const wire = await connectResp(node.respPort!);
    expect(((await wire.ask('TR.DESCRIBE', clientId)) as Reply[])[5], 'nothing was decided').to.deep.equal([]);
    wire.socket.destroy();
  });

  it('puts line ends into names, and gets one line for each command', async () => {
    const evil = 'x\r\n+OK\r\n:1\r\n';
    const commands = [
      [evil],
      ['TR.ALLOW', 'a', evil],
      ['TR.ALLOW', 'a', 'LIMIT', evil],
      ['TR.ALLOW', 'a', 'POLICY', evil],
      ['CL.THROTTLE', 'a', evil, 1, 1],
      ['HELLO', evil],
      ['HELLO', 3, evil],
      ['TR.SETTLE', evil, 1],
      ['CLIENT', 'SETNAME', evil],
    ];
    const replies = repliesOf(await exchange(...commands.map((args) => command(...args))));
    expect(replies).to.have.length(commands.length);
    for (const reply of replies) expect(reply).to.have.all.keys('error');
  });

  it('asks for a gigabyte of answers and reads none: the node stops reading, and others are answered', async () => {
    const before = process.memoryUsage().rss;
    const lines = 'COMMAND DOCS\r\n'.repeat(40_000);
    const sockets = Array.from({ length: 20 }, () => {
      const socket = connect({ port: node.respPort!, host: '127.0.0.1' }).on('error', () => undefined);
      socket.pause().write(lines);
      return socket;
    });
    await wait(1_000);
    await isWell();
    // All answers would take a gigabyte.
    expect(process.memoryUsage().rss - before).to.be.below(128 * MIB);
    for (const socket of sockets) socket.destroy();
  });

  it('opens all connections and says nothing, or half a command: others find room', async () => {
    const silent = Array.from({ length: 100 }, () =>
      connect({ port: node.respPort!, host: '127.0.0.1' }).on('error', () => undefined),
    );
    await Promise.all(silent.map((socket) => once(socket, 'connect')));
    await wait(200);
    await isWell();
    for (const socket of silent) socket.destroy();
  });

  it('sends a command byte by byte, and one of many megabytes of nothing', async () => {
    const wire = await connectResp(node.respPort!);
    for (const byte of command('CL.THROTTLE', newClient(), 1, 1, 60)) {
      wire.send(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    expect(await wire.reply()).to.deep.equal([0, 2, 1, -1, 60]);
    wire.socket.destroy();
    expect(await exchange('\r\n'.repeat(2 * MIB), 'PING\r\n')).to.equal('+PONG\r\n');
    expect(await exchange('*0\r\n'.repeat(MIB), 'PING\r\n')).to.equal('+PONG\r\n');
  });

  it('breaks off with commands under way, again and again, and leaves nothing behind', async () => {
    for (let i = 0; i < 200; i += 1) {
      const socket = connect({ port: node.respPort!, host: '127.0.0.1' }).on('error', () => undefined);
      await once(socket, 'connect');
      socket.write(Buffer.concat(Array.from({ length: 600 }, () => command('TR.DESCRIBE', 'x'))));
      await new Promise(setImmediate);
      socket.resetAndDestroy();
    }
    const open = async (): Promise<string> => (await call(node, '/metrics')).text;
    await eventually(open, (text) => /^tokenring_connections\{protocol="resp"\} 0$/m.test(text));
    await isWell();
  });
});
