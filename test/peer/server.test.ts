import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { expect } from 'chai';
import { decodeAnswer, WIRE_VERSION } from '../../src/protocol/format/messages.js';
import { MismatchLog } from '../../src/protocol/link/refusal.js';
import { encodeClients } from '../../src/state/client-format.js';
import { encodeMessage } from '../support/wire.js';
import {
  answerTo,
  ask,
  cleanUp,
  createLog,
  createSender,
  frame,
  gate,
  http,
  offerHeaders,
  openRawLink,
  sendRaw,
  sleep,
  startAnswering,
  startPeer,
  until,
  upgradeRequest,
} from './support.js';

/** Bytes of a full record. */
const RECORD = 64 * 1024;

describe('peer listener', () => {
  afterEach(cleanUp);

  it('answers a health check, and tells others what the port is for', async () => {
    const { port } = await startPeer({ secret: 'a secret' });
    expect(await sendRaw(port, 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')).to.deep.include({
      status: 200,
      body: '{"status":"ok"}',
    });
    const plain = await sendRaw(port, 'GET /peer HTTP/1.1\r\nHost: x\r\n\r\n');
    expect(plain).to.include({ status: 426, code: 'upgrade_required' });
    expect(plain.head).to.match(/upgrade: tokenring/i);
  });

  describe('refuses, says why, and counts', () => {
    const offer = offerHeaders();
    const cases: [what: string, status: number, code: string, request: string][] = [
      [
        'a version that it does not speak',
        426,
        'unknown_version',
        upgradeRequest({ ...offer, 'tokenring-versions': `1,${WIRE_VERSION + 1}` }),
      ],
      ['any other address', 404, 'not_found', 'POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello'],
      ['an upgrade of any other address', 404, 'not_found', upgradeRequest(offer, '/')],
      ['a peer that does not say who it is', 400, 'malformed', upgradeRequest({ ...offer, 'tokenring-node': '' })],
      ['a peer whose id is no address', 400, 'malformed', upgradeRequest({ ...offer, 'tokenring-node': 'a@b:1' })],
      ['a web page', 403, 'from_browser', upgradeRequest({ ...offer, Origin: 'http://127.0.0.1:9080' })],
      [
        'a peer with a secret, as it has none',
        401,
        'unexpected_credentials',
        upgradeRequest(offerHeaders({ secret: 'x' })),
      ],
      ['what is no HTTP', 400, 'bad_http', 'hello\r\n\r\n'],
      ['headers of 1,300 bytes', 431, 'headers_too_large', `GET / HTTP/1.1\r\nX: ${'x'.repeat(1_300)}\r\n\r\n`],
    ];
    for (const [what, status, code, request] of cases) {
      it(what, async () => {
        const { port, counters, received, log } = await startPeer();
        const answer = await sendRaw(port, request);
        expect(answer).to.deep.include({ status, code });
        expect(JSON.parse(answer.body)).to.include({ status, type: `urn:tokenring:problem:peer:${code}` });
        expect(counters.refused).to.include({ [code]: 1 });
        expect(received).to.deep.equal([]);
        expect(log.lines.map(({ fields }) => fields['reason'])).to.deep.equal([code]);
      });
    }
  });

  it('takes the longest handshake that there is: three hosts of 253 characters, and a cluster name of 64, and four secrets', async () => {
    const options = { secret: 'a,b,c,d', cluster: 'c'.repeat(64) };
    const { port } = await startPeer({ ...options, strangerMs: 100 });
    const host = `${'a.'.repeat(125)}abc:65535`;
    const offer = { ...offerHeaders(options), 'tokenring-node': host, 'tokenring-to': host };
    const request = upgradeRequest(offer).replace('Host: x', `Host: ${host}`);
    expect(request.length).to.be.within(1_000, 1_280);
    expect((await sendRaw(port, request)).head).to.match(/^HTTP\/1.1 101 /);
  });

  it('tells a peer of another version which ones it speaks', async () => {
    const { port } = await startPeer();
    const answer = await sendRaw(port, upgradeRequest({ ...offerHeaders(), 'tokenring-versions': '1' }));
    expect(JSON.parse(answer.body)).to.deep.include({
      versions: [WIRE_VERSION],
      detail: `this node speaks version ${WIRE_VERSION}`,
    });
  });

  it('of another version than a peer is said in the log, once a minute for each peer, with both versions and what to do', async () => {
    const { port, log, counters } = await startPeer();
    const theirs = String(WIRE_VERSION + 1);
    const from = (peer: string): string =>
      upgradeRequest({ ...offerHeaders(), 'tokenring-node': peer, 'tokenring-versions': theirs });
    for (const peer of ['a:1', 'a:1', 'a:1', 'b:1']) await sendRaw(port, from(peer));
    expect(log.lines.map(({ fields }) => fields['peer'])).to.deep.equal(['a:1', 'b:1']);
    const [{ fields, message }] = log.lines as [(typeof log.lines)[0]];
    expect(fields).to.include({ reason: 'unknown_version', version: WIRE_VERSION, theirs });
    expect(fields['advice']).to.match(/same release/);
    expect(message).to.equal('refused a node of another wire version');
    expect(counters.refused.unknown_version).to.equal(4);
    // A minute later, it is said again.
    let nowMs = 0;
    const again = createLog();
    const mismatches = new MismatchLog('default', again, () => nowMs);
    const headers = { 'tokenring-node': 'a:1', 'tokenring-versions': theirs };
    for (nowMs of [0, 59_999, 60_001, 60_002]) mismatches.note('unknown_version', headers, '127.0.0.1');
    mismatches.note('other_cluster', headers, '127.0.0.1');
    expect(again.lines.map(({ fields: { reason } }) => reason)).to.deep.equal([
      ...['unknown_version', 'unknown_version'],
      'other_cluster',
    ]);
  });

  it('is told to the sender with both versions', async () => {
    const detail = `this node speaks version ${WIRE_VERSION + 1}`;
    const id = await startAnswering(http(426, JSON.stringify({ code: 'unknown_version', detail })));
    const { transport, log } = createSender();
    for (let i = 0; i < 3; i += 1) await transport.send(id, ask(i), 5_000);
    expect(log.lines).to.have.length(1);
    expect(log.lines[0]!.fields['reason']).to.match(
      new RegExp(`version ${WIRE_VERSION + 1}, and the sender version ${WIRE_VERSION}; .*same release`),
    );
  });

  it('logs the first, tenth and hundredth of many refusals', async () => {
    const { port, log } = await startPeer();
    for (let i = 0; i < 100; i += 1) await sendRaw(port, 'hello\r\n\r\n');
    expect(log.lines.map(({ fields }) => fields['times'])).to.deep.equal([1, 10, 100]);
  });

  it('says that the mistake is its own when it is', async () => {
    const { id, counters, log } = await startPeer({ receive: () => Promise.reject(new Error('oh')) });
    const result = await createSender().transport.send(id, ask(1), 5_000);
    expect(result).to.deep.equal({ kind: 'broken', reason: 'refused: internal' });
    expect(counters.refused.internal).to.equal(1);
    expect(log.lines.some(({ message }) => message === 'could not answer a message from a peer')).to.equal(true);
  });

  it('refuses a malformed message by name of the field, and answers the next one on the same link', async () => {
    const { port, counters, received } = await startPeer();
    const { socket, seal, answers } = await openRawLink(port);
    socket.write(seal(Buffer.concat([frame(1, Buffer.from('hello')), frame(2, encodeMessage(ask(7)))])));
    await until(() => answers.size === 2, 'two answers');
    expect(String(answers.get(1))).to.match(/malformed.*expected/);
    expect(decodeAnswer(answers.get(2)!)).to.deep.equal(answerTo(ask(7)));
    expect(received).to.deep.equal([ask(7)]);
    expect(counters.refused.malformed).to.equal(1);
  });

  it('refuses a message in the name of another node than that of the handshake', async () => {
    const { port, counters, received } = await startPeer({ secret: 'a secret' });
    const { socket, seal, answers } = await openRawLink(port, 'a secret');
    const { sender, body } = ask(7);
    const forged = { sender: { ...sender, from: { ...sender.from, id: '127.0.0.1:9' } }, body };
    socket.write(seal(frame(1, encodeMessage(forged))));
    await until(() => answers.size === 1, 'the answer');
    expect(String(answers.get(1))).to.match(/malformed.*sender: expected 127.0.0.1:9080, as in the handshake/);
    expect(received).to.deep.equal([]);
    expect(counters.refused.malformed).to.equal(1);
  });

  it('takes a message that comes byte by byte', async () => {
    const { port, received } = await startPeer({ secret: 'a secret' });
    const { socket, seal, answers } = await openRawLink(port, 'a secret');
    for (const byte of seal(frame(1, encodeMessage(ask(7))))) socket.write(Buffer.from([byte]));
    await until(() => answers.size === 1, 'the answer');
    expect(received).to.deep.equal([ask(7)]);
  });

  it('ends a link on which a message comes in crumbs, each a record with a tag of its own', async () => {
    const { port, counters, received } = await startPeer({ secret: 'a secret' });
    const { socket, seal } = await openRawLink(port, 'a secret');
    const crumbs = [...frame(1, encodeMessage(ask(7)))].map((byte) => seal(Buffer.from([byte])));
    socket.write(Buffer.concat(crumbs));
    await once(socket, 'close');
    expect(received).to.deep.equal([]);
    expect(counters.refused.bad_record).to.equal(1);
  });

  it('takes a message of several full records', async () => {
    const { port, received } = await startPeer({ secret: 'a secret' });
    const { socket, seal, answers } = await openRawLink(port, 'a secret');
    const gone = Array.from({ length: 2_000 }, (_, i) => `${'long-host-name-'.repeat(5)}${i}:9080`);
    const long: ReturnType<typeof ask> = { ...ask(7), body: { kind: 'handoff', chunk: 7, gone } };
    const bytes = frame(1, encodeMessage(long));
    expect(bytes.length).to.be.above(128 * 1024);
    socket.write(seal(bytes));
    await until(() => answers.size === 1, 'the answer');
    expect(received).to.deep.equal([long]);
  });

  for (const [what, asRecords] of [
    ['in one record', (seal: (frames: Buffer) => Buffer, frames: Buffer[]) => seal(Buffer.concat(frames))],
    ['in a record each', (seal: (frames: Buffer) => Buffer, frames: Buffer[]) => Buffer.concat(frames.map(seal))],
  ] as const) {
    it(`takes at most 256 messages in one turn of the event loop, ${what}`, async () => {
      let turn = 0;
      const byTurn = new Map<number, number>();
      const { port, received } = await startPeer({
        secret: 'a secret',
        receive(message) {
          byTurn.set(turn, (byTurn.get(turn) ?? 0) + 1);
          return Promise.resolve(answerTo(message));
        },
      });
      const { socket, seal, answers } = await openRawLink(port, 'a secret');
      const frames = Array.from({ length: 1_000 }, (_, i) => frame(i + 1, encodeMessage(ask(i))));
      let turning = true;
      const nextTurn = (): void => {
        turn += 1;
        if (turning) setImmediate(nextTurn);
      };
      nextTurn();
      socket.write(asRecords(seal, frames));
      await until(() => answers.size === 1_000, 'all answers');
      turning = false;
      expect(received).to.deep.equal(Array.from({ length: 1_000 }, (_, i) => ask(i)));
      expect(Math.max(...byTurn.values())).to.be.at.most(256);
    });
  }

  it('ends the link that holds the most when half messages of many links take too much', async () => {
    const { port, id, counters } = await startPeer();
    const half = (bytes: number): Buffer => Buffer.concat([frame(1, Buffer.alloc(8 * 1024 * 1024)).subarray(0, bytes)]);
    const small = await openRawLink(port);
    small.socket.write(small.seal(half(RECORD)));
    const large = [];
    for (let i = 0; i < 12; i += 1) {
      const link = await openRawLink(port);
      link.socket.write(link.seal(half((60 + i) * RECORD)));
      large.push(link);
    }
    await until(() => counters.refused.too_large >= 3, 'links to end');
    const open = [small, ...large].map(({ socket }) => !socket.destroyed);
    expect(open[0]).to.equal(true);
    // Eight of them hold 31 to 35 MiB.
    expect(open.filter(Boolean).length).to.be.within(8, 10);
    for (const { socket } of large) socket.destroy();
    expect((await createSender().transport.send(id, ask(7), 5_000)).kind).to.equal('answer');
  });

  it('gives back what ended links held', async () => {
    const { port, counters } = await startPeer();
    const half = frame(1, Buffer.alloc(8 * 1024 * 1024)).subarray(0, 100 * RECORD);
    for (let i = 0; i < 12; i += 1) {
      const link = await openRawLink(port);
      link.socket.write(link.seal(half));
      await sleep(20);
      link.socket.destroy();
    }
    expect(counters.refused.too_large).to.equal(0);
  });

  it('ends a link on which a message is larger than it takes, before the message is there', async () => {
    const { port, counters } = await startPeer({ maxBytes: 1_000 });
    const { socket, seal } = await openRawLink(port);
    socket.write(seal(frame(1, Buffer.alloc(1_001)).subarray(0, 20)));
    await once(socket, 'close');
    expect(counters.refused.too_large).to.equal(1);
  });

  it('takes 20,000 malformed frames and records, crashes on none, and consumes nothing', async function () {
    this.timeout(60_000);
    const { port, id, received } = await startPeer();
    const good = encodeMessage(ask(1));
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return (state >>> 8) % below;
    };
    let sent = 0;
    while (sent < 20_000) {
      const { socket, seal } = await openRawLink(port);
      const frames: Buffer[] = [];
      for (let i = 0; i < 500; i += 1, sent += 1) {
        const bytes = i % 2 === 0 ? Buffer.from(good) : Buffer.alloc(random(60));
        // The version or the kind is wrong.
        if (i % 2 === 0) bytes[random(2)] = 100 + random(100);
        else for (let at = 0; at < bytes.length; at += 1) bytes[at] = random(256);
        frames.push(frame(1 + i, bytes));
      }
      const bytes = seal(Buffer.concat(frames));
      // Every other link ends with a record or a frame that is none.
      if (sent % 1_000 === 0) bytes[random(bytes.length)]! ^= 1 << random(8);
      socket.write(bytes);
      socket.end();
      await once(socket, 'close');
    }
    expect(received).to.deep.equal([]);
    expect((await createSender().transport.send(id, ask(7), 5_000)).kind).to.equal('answer');
  });

  describe('gives strangers a budget of their own:', () => {
    it('drops the oldest above a number of connections, and no link of a member', async () => {
      const secret = 'a secret';
      const { port, id, counters, connections, open: openNow } = await startPeer({ secret, maxStrangers: 3 });
      const { transport } = createSender({ secret });
      expect((await transport.send(id, ask(1), 5_000)).kind).to.equal('answer');
      const strangers: Socket[] = [];
      for (let i = 0; i < 6; i += 1) strangers.push(await open(port));
      await Promise.all(strangers.slice(0, 3).map((socket) => closing(socket)));
      expect(counters.refused.too_many_connections).to.equal(3);
      expect((await transport.send(id, ask(2), 5_000)).kind).to.equal('answer');
      expect([connections(), openNow()]).to.deep.equal([7, 4]);
      expect((await createSender({ secret }).transport.send(id, ask(3), 5_000)).kind).to.equal('answer');
    });

    it('drops one that has not proved who it is in time, however far it came', async () => {
      const { port, counters } = await startPeer({ secret: 'a secret', strangerMs: 100 });
      const [silent, half, unproven] = [await open(port), await open(port), await open(port)];
      half.write('GET /peer HTTP/1.1\r\nHost:');
      unproven.write(upgradeRequest(offerHeaders({ secret: 'a secret' })));
      await Promise.all([silent, half, unproven].map((socket) => closing(socket)));
      expect(counters.refused.timeout).to.be.at.least(2);
    });

    it('reads no body, and no more than a proof behind an upgrade', async () => {
      const { port, peer, received } = await startPeer({ secret: 'a secret' });
      let read = 0;
      peer.server.on('connection', (socket: Socket) => socket.on('close', () => (read = socket.bytesRead)));
      for (const request of [
        'POST /peer HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n',
        upgradeRequest(offerHeaders({ secret: 'a secret' })),
      ]) {
        const socket = await open(port);
        socket.write(request);
        socket.write(Buffer.alloc(8_000_000));
        await closing(socket);
        await until(() => read > 0, 'the connection to end');
        expect(read).to.be.below(1_000_000);
        read = 0;
      }
      expect(received).to.deep.equal([]);
    });
  });

  it('takes no more links than its bound', async () => {
    const { port, id, counters } = await startPeer({ maxLinks: 2 });
    await Promise.all([openRawLink(port), openRawLink(port)]);
    const result = await createSender().transport.send(id, ask(1), 5_000);
    expect(result).to.deep.equal({ kind: 'broken', reason: 'HTTP 503 too_many_connections' });
    expect(counters.refused.too_many_connections).to.equal(1);
  });

  it('ends a link on which nothing moves', async () => {
    const { port } = await startPeer({ idleMs: 100 });
    const { socket } = await openRawLink(port);
    const startMs = performance.now();
    await once(socket, 'close');
    // Without a limit of its own, the link would stay; Node's for requests is 5 s.
    expect(performance.now() - startMs).to.be.within(50, 4_500);
  });

  it('reads no further while its answers are not read, and then gives every one', async () => {
    const { port, received } = await startPeer({
      receive: (message) => {
        const client = ['x'.repeat(256), []] as const;
        const clients = encodeClients(Array.from({ length: 1_000 }, () => client));
        const { sender } = answerTo(message);
        return Promise.resolve({
          sender,
          body: { kind: 'handed', clients, more: false, total: 1 },
        });
      },
    });
    const { socket, seal, answers } = await openRawLink(port);
    socket.pause();
    for (let i = 1; i <= 60; i += 1) {
      socket.write(seal(frame(i, encodeMessage(ask(i)))));
      await sleep(2);
    }
    expect(received.length).to.be.below(60);
    socket.resume();
    // The raw link hands out records; an answer of 1 MB takes many.
    await until(() => received.length === 60, 'all messages to be read');
    expect(answers.size).to.be.above(0);
  });

  describe('when it closes', () => {
    it('answers what is in flight, and takes nothing new', async () => {
      const { opened, open: release } = gate();
      const {
        id,
        peer,
        received,
        open: connections,
      } = await startPeer({
        receive: (message) => opened.then(() => answerTo(message)),
      });
      const { transport } = createSender();
      const inFlight = transport.send(id, ask(1), 5_000);
      await until(() => received.length === 1, 'the message to arrive');
      let closed = false;
      const closing = peer.close(5_000).then(() => (closed = true));
      // It has begun: nobody listens any more.
      expect((await createSender().transport.send(id, ask(2), 5_000)).kind).to.equal('refused');
      expect(closed).to.equal(false);
      release();
      expect((await inFlight).kind).to.equal('answer');
      await closing;
      await until(() => connections() === 0, 'the connections to end');
    });

    it('answers a message that crosses its goodbye', async () => {
      const { port, peer, received } = await startPeer();
      const { socket, seal, answers } = await openRawLink(port);
      const closing = peer.close(5_000);
      await until(() => answers.has(0), 'the goodbye');
      socket.write(seal(frame(1, encodeMessage(ask(7)))));
      await until(() => answers.has(1), 'the answer');
      expect(received).to.deep.equal([ask(7)]);
      socket.end();
      await closing;
    });

    it('does not wait for connections on which nothing was sent, or nothing more', async () => {
      const { port, peer, id } = await startPeer();
      await open(port);
      await createSender().transport.send(id, ask(1), 5_000);
      const startMs = performance.now();
      await peer.close(5_000);
      expect(performance.now() - startMs).to.be.below(2_500);
    });

    it('cuts off what is not done in time', async () => {
      const { id, peer, received } = await startPeer({ receive: () => new Promise(() => undefined) });
      const inFlight = createSender().transport.send(id, ask(1), 5_000);
      await until(() => received.length === 1, 'the message to arrive');
      await peer.close(50);
      expect((await inFlight).kind).to.equal('broken');
    });
  });
});

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Unlike `once`, no error of the socket fails it. */
function closing(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    socket.resume().on('close', () => resolve());
  });
}
