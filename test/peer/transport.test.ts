import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import type { PeerResult } from '../../src/protocol/messages.js';
import { WIRE_VERSION } from '../../src/protocol/format/messages.js';
import { encodeAnswer } from '../support/wire.js';
import { RecordWriter } from '../../src/protocol/link/record.js';
import {
  answerTo,
  ask,
  cleanUp,
  closedPort,
  frame,
  createSender,
  gate,
  http,
  listenOn,
  sleep,
  startAnswering,
  startPeer,
  startRaw,
  startTap,
  until,
} from './support.js';

/** Far less than the time that messages get here, and far more than anything takes on a busy machine. */
const SOON_MS = 2_500;
/** A peer without a secret that upgrades. */
const UPGRADED =
  'HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: tokenring\r\n' +
  `Tokenring-Version: ${WIRE_VERSION}\r\nTokenring-Cluster: default\r\nTokenring-Node: 127.0.0.1:1\r\n\r\n`;

/** A record with one frame. */
function recordOf(payload: string | Buffer, number = 1): Buffer {
  const bytes = frame(number, Buffer.from(payload));
  return new RecordWriter(undefined).seal(bytes);
}

/** Something that upgrades, and answers the first message with these bytes. */
function startUpgrading(answer: string | Buffer, then: (socket: Socket) => void = () => undefined): Promise<string> {
  return startRaw((socket) => {
    socket.once('data', () => {
      socket.write(UPGRADED);
      socket.once('data', () => socket.write(answer, () => then(socket)));
    });
  });
}

function numberOf(result: PeerResult): number | undefined {
  return result.kind === 'answer' && result.answer.body.kind === 'handed' ? result.answer.body.total : undefined;
}

describe('peer transport', () => {
  afterEach(cleanUp);

  describe('to a peer with a Unix socket', () => {
    let directory = '';
    before(() => (directory = mkdtempSync(join(tmpdir(), 'peer-'))));
    after(() => rmSync(directory, { recursive: true }));

    it('uses that, proves the secret there, and uses TCP where the file is missing', async () => {
      const socketPath = join(directory, 'socket');
      const peer = await startPeer({ secret: 'shared', socketPath });
      for (const [secret, path, expected, byTcp] of [
        ['shared', socketPath, 'answer', 0],
        ['guessed', socketPath, 'broken', 0],
        ['shared', `${socketPath} that is not there`, 'answer', 1],
      ] as const) {
        const before = peer.connections();
        const { transport } = createSender({ secret, socketPathOf: () => path });
        expect((await transport.send(peer.id, ask(1), 5_000)).kind, path).to.equal(expected);
        expect(peer.connections() - before, path).to.equal(byTcp);
      }
      expect(peer.counters.refused.wrong_secret).to.equal(1);
    });

    it('ends with the peer, which answers what is in flight', async () => {
      const socketPath = join(directory, 'ending');
      const answers = gate();
      const peer = await startPeer({
        socketPath,
        receive: async (message) => {
          await answers.opened;
          return answerTo(message);
        },
      });
      const { transport } = createSender({ socketPathOf: () => socketPath });
      const asked = transport.send(peer.id, ask(1), 5_000);
      await until(() => peer.received.length === 1, 'the message is there');
      const closed = peer.peer.close(5_000);
      answers.open();
      expect((await asked).kind).to.equal('answer');
      await closed;
    });
  });

  it('carries a message to a peer and its answer back', async () => {
    const peer = await startPeer();
    const { transport, counters } = createSender();
    const result = await transport.send(peer.id, ask(7), 5_000);
    expect(result).to.deep.equal({ kind: 'answer', answer: answerTo(ask(7)) });
    expect(peer.received).to.deep.equal([ask(7)]);
    expect([counters.sent.handoff, counters.results.answer, peer.counters.received.handoff]).to.deep.equal([1, 1, 1]);
  });

  it('carries it to an IPv6 address', async function () {
    const server = createServer();
    const port = await listenOn(server, 0, '::1').catch(() => undefined);
    if (port === undefined) {
      this.test!.title += ' (pending: this machine has no ::1)';
      return this.skip();
    }
    await new Promise((resolve) => server.close(resolve));
    await startPeer({ host: '::1', port });
    expect(numberOf(await createSender().transport.send(`[::1]:${port}`, ask(7), 5_000))).to.equal(7);
  });

  describe('says refused', () => {
    it('where nobody listens, at once', async () => {
      const { transport, counters } = createSender();
      const result = await soon(transport.send(`127.0.0.1:${await closedPort()}`, ask(1), 5_000));
      expect(result).to.deep.equal({ kind: 'refused' });
      expect(counters.results.refused).to.equal(1);
    });

    it('where nobody listens on any address of a name', async () => {
      const result = await createSender().transport.send(`localhost:${await closedPort()}`, ask(1), 5_000);
      expect(result).to.deep.equal({ kind: 'refused' });
    });

    it('to each of many messages at once', async () => {
      const { transport } = createSender();
      const to = `127.0.0.1:${await closedPort()}`;
      const results = await Promise.all(Array.from({ length: 100 }, (_, i) => transport.send(to, ask(i), 5_000)));
      expect(new Set(results.map(({ kind }) => kind))).to.deep.equal(new Set(['refused']));
    });

    it('never because an address, a network or a name cannot be reached: the peer may be alive for others', async () => {
      const { transport } = createSender();
      for (const to of ['[100::1]:9080', '240.0.0.1:9080', 'nobody.invalid:9080', 'no address', '127.0.0.1:99999']) {
        const { kind } = await transport.send(to, ask(1), 300);
        expect(['broken', 'timeout'], to).to.include(kind);
      }
    });
  });

  describe('says timeout, in time,', () => {
    it('when the peer takes the message and never answers, and gives the connection up', async () => {
      let closed = false;
      const to = await startRaw((socket) => socket.on('data', () => undefined).on('close', () => (closed = true)));
      const { transport } = createSender({ openTimeoutMs: 400 });
      const startMs = performance.now();
      expect(await transport.send(to, ask(1), 150)).to.deep.equal({ kind: 'timeout' });
      expect(performance.now() - startMs).to.be.within(145, SOON_MS);
      await until(() => closed, 'the connection to be closed');
    });

    it('when only half of an answer comes', async () => {
      const to = await startUpgrading(recordOf(encodeAnswer(answerTo(ask(1)))).subarray(0, -5));
      expect(await soon(createSender().transport.send(to, ask(1), 150))).to.deep.equal({ kind: 'timeout' });
    });

    it('when the connection is not made', async () => {
      // To the sender a connection is there when the handshake is done; this listener never does its part.
      const to = await startRaw(() => undefined);
      const { transport } = createSender({ tls: { cert: '', key: '' } });
      const results = Array.from({ length: 20 }, (_, i) => soon(transport.send(to, ask(i), 150)));
      for (const result of results) expect(await result).to.deep.equal({ kind: 'timeout' });
    });

    it('when the connection is given up before the message is', async () => {
      const to = await startRaw(() => undefined);
      const { transport } = createSender({ tls: { cert: '', key: '' }, openTimeoutMs: 300 });
      expect(await soon(transport.send(to, ask(1), 10_000))).to.deep.equal({ kind: 'timeout' });
    });

    it('before there is a link, and then never delivers the message', async () => {
      const { opened, open } = gate();
      const peer = await startPeer();
      const to = await startRaw((near) => {
        const far = connect(peer.port, '127.0.0.1');
        near.on('close', () => far.destroy());
        near.pause();
        void opened.then(() => near.pipe(far).pipe(near));
      });
      const { transport } = createSender();
      expect(await soon(transport.send(to, ask(1), 150))).to.deep.equal({ kind: 'timeout' });
      const later = transport.send(to, ask(2), 5_000);
      open();
      expect(numberOf(await later)).to.equal(2);
      expect(peer.received).to.deep.equal([ask(2)]);
    });
  });

  describe('says broken, and why,', () => {
    const cases: [what: string, answer: string, reason: RegExp][] = [
      ['the answer is no HTTP', 'SSH-2.0-OpenSSH_9.6\r\n', /HPE_|UND_ERR|HTTP/],
      ['the upgrade is answered by no peer', UPGRADED.replace(/Tokenring-Node.*/, ''), /no peer/],
      ['the peer says it is of another cluster', UPGRADED.replace('default', 'other'), /no peer/],
      ['the peer has another version', UPGRADED.replace(`Version: ${WIRE_VERSION}`, 'Version: 1'), /no peer/],
      ['the upgrade is answered plainly', http(200, 'hello'), /HTTP 200/],
      ['the answer is a problem', http(404, '{"code":"unknown_version"}'), /HTTP 404 unknown_version/],
      ['the answer is an error of somebody else', http(502, '<html>'), /HTTP 502/],
      ['the answer is a redirect', http(307, '', 'Location: http://127.0.0.1/\r\n'), /HTTP 307/],
      ['a refusal is larger than any', http(500, 'x'.repeat(9_000)), /no refusal of a peer/],
      [
        'the answer claims to be larger than any',
        'HTTP/1.1 200 X\r\nContent-Length: 99999999999999999999\r\n\r\n',
        /./,
      ],
    ];
    const answerCases: [what: string, answer: Buffer | string, reason: RegExp][] = [
      ['is of no known kind', recordOf('hello'), /malformed/],
      ['is empty', recordOf(''), /malformed/],
      ['is JSON of another form', recordOf('{"kind":"kept"}'), /malformed/],
      ['is a message', recordOf('["f",["127.0.0.1:1",1,1,7,"0.1.0",0,"","abc"],"alice"]'), /malformed/],
      ['is a refusal', recordOf('\0{"code":"internal"}'), /refused: internal/],
      ['is no record', '\0\0\0\0\0\0', /no records/],
      ['is HTTP', http(200, 'hello'), /no records/],
    ];
    for (const [what, bytes, reason] of answerCases) {
      it(`when what comes on the link ${what}`, async () => {
        const { transport, counters } = createSender();
        const result = await soon(transport.send(await startUpgrading(bytes), ask(1), 5_000));
        expect(result.kind).to.equal('broken');
        expect(result).to.have.property('reason').which.matches(reason);
        expect(counters.results.broken).to.equal(1);
      });
    }

    for (const [what, bytes, reason] of cases) {
      it(`when ${what}`, async () => {
        const { transport, counters } = createSender();
        const result = await soon(transport.send(await startAnswering(bytes), ask(1), 5_000));
        expect(result.kind).to.equal('broken');
        expect(result).to.have.property('reason').which.matches(reason);
        expect(counters.results.broken).to.equal(1);
      });
    }

    it('when the peer hangs up without an answer', async () => {
      const to = await startAnswering('', (socket) => socket.destroy());
      expect((await soon(createSender().transport.send(to, ask(1), 5_000))).kind).to.equal('broken');
    });

    it('when the peer resets the connection', async () => {
      const to = await startAnswering('', (socket) => socket.resetAndDestroy());
      expect((await soon(createSender().transport.send(to, ask(1), 5_000))).kind).to.equal('broken');
    });

    it('when the peer hangs up in the middle of an answer', async () => {
      const to = await startUpgrading(recordOf(encodeAnswer(answerTo(ask(1)))).subarray(0, -5), (socket) =>
        socket.end(),
      );
      expect((await soon(createSender().transport.send(to, ask(1), 5_000))).kind).to.equal('broken');
    });

    it('when the answer is larger than allowed', async () => {
      const to = await startUpgrading(recordOf('x'.repeat(1_001)).subarray(0, -5));
      const { transport } = createSender({ maxAnswerBytes: 1_000 });
      const half = await soon(transport.send(to, ask(1), 150));
      expect(half.kind).to.equal('timeout');
      const whole = await startUpgrading(recordOf('x'.repeat(1_001)));
      expect(await soon(transport.send(whole, ask(1), 5_000)))
        .to.have.property('reason')
        .which.matches(/too large/);
    });

    it('when a fake peer announces more than 8 MiB, before any of it is held', async () => {
      const announced = Buffer.alloc(8);
      announced.writeUInt32LE(8 * 1024 * 1024 + 1);
      announced.writeUInt32LE(1, 4);
      const to = await startUpgrading(new RecordWriter(undefined).seal(announced));
      expect(await soon(createSender().transport.send(to, ask(1), 5_000)))
        .to.have.property('reason')
        .which.matches(/too large/);
    });

    it('when the message is larger than a peer takes, without sending it', async () => {
      const peer = await startPeer();
      const result = await createSender({ maxMessageBytes: 20 }).transport.send(peer.id, ask(1), 2_000);
      expect(result.kind).to.equal('broken');
      expect(peer.received).to.deep.equal([]);
    });

    it('once in the log, until the peer answers again or it fails otherwise', async () => {
      const problem = (status: number): string => http(status, '');
      const answers = [problem(500), problem(500), UPGRADED, problem(500), problem(501)];
      let n = 0;
      const to = await startRaw((socket) =>
        socket.once('data', () => {
          const answer = answers[n++]!;
          socket.write(answer);
          if (answer !== UPGRADED) return void socket.end();
          socket.once('data', () => socket.end(recordOf(encodeAnswer(answerTo(ask(1))))));
        }),
      );
      const { transport, log } = createSender();
      while (n < answers.length) {
        await transport.send(to, ask(1), 5_000);
        // The news that the connection has ended.
        await sleep(20);
      }
      expect(log.lines.map(({ fields }) => fields['reason'])).to.deep.equal([
        'HTTP 500 without a code',
        'HTTP 500 without a code',
        'HTTP 501 without a code',
      ]);
    });
  });

  it('settles in time as one of the four, whatever bytes come back', async () => {
    let bytes = Buffer.alloc(0);
    const to = await startRaw((socket) => socket.once('data', () => socket.end(bytes)));
    const { transport } = createSender({ openTimeoutMs: 400 });
    const pieces = fc.constantFrom(
      'HTTP/1.1 200 OK\r\n',
      'Content-Length: 3\r\n',
      '\r\n',
      'Connection: close\r\n',
      'HTTP/1.1 100 C\r\n\r\n',
      UPGRADED,
      recordOf(encodeAnswer(answerTo(ask(1)))).toString('latin1'),
    );
    const mixed = fc.array(fc.oneof(pieces, fc.string({ maxLength: 9 })), { maxLength: 6 }).map((all) => all.join(''));
    const rough = fc.uint8Array({ maxLength: 60 }).map((all) => Buffer.from(all).toString('latin1'));
    await fc.assert(
      fc.asyncProperty(fc.oneof(mixed, rough), async (answer) => {
        bytes = Buffer.from(answer, 'latin1');
        const result = await soon(transport.send(to, ask(1), 400));
        if (result.kind === 'answer') expect(result.answer).to.deep.equal(answerTo(ask(1)));
        else expect(['broken', 'timeout']).to.include(result.kind);
      }),
      { numRuns: 300 },
    );
  });

  it('sends all messages over one link', async () => {
    const peer = await startPeer();
    const { transport } = createSender();
    for (let i = 0; i < 200; i += 1) expect(numberOf(await transport.send(peer.id, ask(i), 5_000))).to.equal(i);
    expect(peer.connections()).to.equal(1);
  });

  it('gives each of many messages at once its own answer, over one link', async () => {
    const peer = await startPeer({ receive: (message) => sleep(Math.random() * 5).then(() => answerTo(message)) });
    const { transport } = createSender();
    const results = await Promise.all(Array.from({ length: 1_000 }, (_, i) => transport.send(peer.id, ask(i), 10_000)));
    expect(results.map(numberOf)).to.deep.equal(Array.from({ length: 1_000 }, (_, i) => i));
    expect(peer.connections()).to.equal(1);
  });

  it('does not wait for an answer that is slow to come before it sends the next message', async () => {
    const { opened, open } = gate();
    const slowly = (chunk: number): boolean => chunk < 7;
    const peer = await startPeer({
      async receive(message) {
        if (message.body.kind === 'handoff' && slowly(message.body.chunk)) await opened;
        return answerTo(message);
      },
    });
    const { transport } = createSender();
    const slow = Array.from({ length: 7 }, (_, i) => transport.send(peer.id, ask(i), 5_000));
    expect(numberOf(await soon(transport.send(peer.id, ask(8), 5_000)))).to.equal(8);
    open();
    await Promise.all(slow);
  });

  it('lets no more messages wait for a peer than its bound', async () => {
    const { opened, open } = gate();
    const peer = await startPeer({ receive: (message) => opened.then(() => answerTo(message)) });
    const { transport } = createSender({ maxMessages: 10 });
    const waiting = Array.from({ length: 10 }, (_, i) => transport.send(peer.id, ask(i), 5_000));
    expect((await soon(transport.send(peer.id, ask(10), 5_000))).kind).to.equal('broken');
    open();
    expect((await Promise.all(waiting)).map(numberOf)).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(numberOf(await transport.send(peer.id, ask(11), 5_000))).to.equal(11);
  });

  it('takes a new link for the next message where nothing comes on the old one, on which late answers still count', async () => {
    const { opened, open } = gate();
    const peer = await startPeer({
      async receive(message) {
        if (message.body.kind === 'handoff' && message.body.chunk < 3) await opened;
        return answerTo(message);
      },
    });
    const { transport } = createSender();
    expect(numberOf(await transport.send(peer.id, ask(5), 5_000))).to.equal(5);
    const late = transport.send(peer.id, ask(1), 5_000);
    expect(await transport.send(peer.id, ask(2), 150)).to.deep.equal({ kind: 'timeout' });
    expect(numberOf(await transport.send(peer.id, ask(3), 5_000))).to.equal(3);
    expect([peer.connections(), peer.open()]).to.deep.equal([2, 2]);
    open();
    expect(numberOf(await late)).to.equal(1);
    await until(() => peer.open() === 1, 'the old link to end');
    expect(numberOf(await transport.send(peer.id, ask(4), 5_000))).to.equal(4);
    expect(peer.connections()).to.equal(2);
  });

  it('says broken to all that is under way when a link breaks, and makes another for what comes next', async () => {
    const peer = await startPeer({
      receive: (message) =>
        peer.received.length <= 10 ? new Promise(() => undefined) : Promise.resolve(answerTo(message)),
    });
    let cuts = 0;
    const tap = await startTap(peer.port, { cut: () => peer.received.length === 10 && (cuts += 1) === 1 });
    const { transport } = createSender();
    const results = await Promise.all(Array.from({ length: 10 }, (_, i) => transport.send(tap.id, ask(i), 5_000)));
    expect(results.map(({ kind }) => kind)).to.deep.equal(results.map(() => 'broken'));
    expect(numberOf(await transport.send(tap.id, ask(11), 5_000))).to.equal(11);
  });

  it('lets no more bytes wait for a peer that does not read than its bound', async () => {
    const to = await startRaw((socket) => {
      socket.once('data', () => {
        socket.write(UPGRADED);
        socket.pause();
      });
    });
    const { transport } = createSender({ maxMessageBytes: 1_000_000 });
    const large = { ...ask(1), body: { kind: 'forget' as const, clientId: 'x'.repeat(900_000) } };
    const results = await Promise.all(Array.from({ length: 20 }, () => transport.send(to, large, 3_000)));
    const kinds = results.map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'timeout').length).to.be.within(1, 12);
    expect(kinds.filter((kind) => kind === 'broken').length).to.be.at.least(8);
  });

  it('reaches a peer that has started again at the same address', async () => {
    const first = await startPeer();
    const { transport } = createSender();
    expect(numberOf(await transport.send(first.id, ask(1), 5_000))).to.equal(1);
    await first.peer.close(0);
    await sleep(20);
    expect((await transport.send(first.id, ask(2), 5_000)).kind).to.equal('refused');
    await startPeer({ port: first.port });
    expect(numberOf(await transport.send(first.id, ask(3), 5_000))).to.equal(3);
  });

  it('ends the link to a peer that it has not written to for long, and makes another for the next message', async () => {
    const peer = await startPeer();
    const { transport } = createSender({ forgetAfterMs: 50 });
    await transport.send(peer.id, ask(1), 5_000);
    await until(() => peer.open() === 0, 'the connection to be closed');
    expect(numberOf(await transport.send(peer.id, ask(2), 5_000))).to.equal(2);
    expect(peer.connections()).to.equal(2);
  });

  it('keeps links to no more peers than its bound', async () => {
    const peers = [await startPeer(), await startPeer(), await startPeer()];
    const { transport } = createSender({ maxPeers: 2 });
    for (const peer of peers) expect(numberOf(await transport.send(peer.id, ask(1), 5_000))).to.equal(1);
    await until(() => peers[0]!.open() === 0, 'the connection to the first to be closed');
    expect(peers[1]!.open() + peers[2]!.open()).to.equal(2);
  });

  it('waits for what is in flight when it closes, and takes nothing new', async () => {
    const { opened, open } = gate();
    const peer = await startPeer({ receive: (message) => opened.then(() => answerTo(message)) });
    const { transport } = createSender();
    const inFlight = transport.send(peer.id, ask(1), 5_000);
    await until(() => peer.received.length === 1, 'the message to arrive');
    let closed = false;
    const closing = transport.close().then(() => (closed = true));
    expect((await transport.send(peer.id, ask(2), 5_000)).kind).to.equal('broken');
    await sleep(20);
    expect(closed).to.equal(false);
    open();
    expect(numberOf(await inFlight)).to.equal(1);
    await closing;
    await until(() => peer.open() === 0, 'the connection to be closed');
  });
});

/** Fails if the promise takes about as long as the messages here may. */
async function soon<T>(promise: Promise<T>): Promise<T> {
  const startMs = performance.now();
  const result = await promise;
  expect(performance.now() - startMs).to.be.below(SOON_MS);
  return result;
}
