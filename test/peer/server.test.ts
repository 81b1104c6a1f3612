import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { once } from 'node:events';
import { expect } from 'chai';
import { encodeMessage } from '../../src/wire/codec.js';
import { answerTo, ask, cleanUp, createSender, gate, post, sendRaw, sleep, startPeer, until } from './support.js';

const MESSAGE = String(encodeMessage(ask(1)));

describe('peer listener', () => {
  afterEach(cleanUp);

  it('answers a message', async () => {
    const { port, counters } = await startPeer();
    const { status, head, body } = await sendRaw(port, post(MESSAGE));
    expect(status).to.equal(200);
    expect(head)
      .to.match(/content-type: application\/json/i)
      .and.match(/connection: keep-alive/i);
    expect(JSON.parse(body)).to.be.an('array').with.property('0', 'h');
    expect(counters.received.handoff).to.equal(1);
  });

  it('answers one that comes in pieces, or in chunks', async () => {
    const { port } = await startPeer();
    const whole = post(MESSAGE);
    expect((await sendRaw(port, whole.slice(0, 10), whole.slice(10, -10), whole.slice(-10))).status).to.equal(200);
    const chunks = [MESSAGE.slice(0, 5), MESSAGE.slice(5)].map((part) => `${part.length.toString(16)}\r\n${part}\r\n`);
    const head = 'POST /peer/v2/message HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n';
    expect((await sendRaw(port, head, ...chunks, '0\r\n\r\n')).status).to.equal(200);
  });

  describe('refuses, says why, and counts', () => {
    const none = 'GET /peer/v2/message HTTP/1.1\r\nHost: x\r\n\r\n';
    const chunked = 'POST /peer/v2/message HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n';
    const cases: [what: string, status: number, code: string, ...parts: string[]][] = [
      ['a version that it does not speak', 404, 'unknown_version', post(MESSAGE, '', '/peer/v1/message')],
      ['any other address', 404, 'not_found', post(MESSAGE, '', '/v1/allow')],
      ['any other method', 405, 'method_not_allowed', none],
      ['a message that is no JSON', 400, 'malformed', post('hello')],
      ['a message that is empty', 400, 'malformed', post('')],
      ['a message out of range', 400, 'malformed', post(MESSAGE.replace(/1,\[\]\]$/, '-1,[]]'))],
      ['a message said to be larger than it takes', 413, 'too_large', post('x'.repeat(1_001))],
      ['a message that grows larger than it takes', 413, 'too_large', chunked, `fff\r\n${'x'.repeat(0xfff)}\r\n`],
      ['a web page', 403, 'from_browser', post(MESSAGE, 'Origin: http://127.0.0.1:9080\r\n')],
      ['a signed message, as it has no secret', 401, 'unexpected_credentials', post(MESSAGE, 'Authorization: x\r\n')],
      ['what is no HTTP', 400, 'bad_http', 'hello\r\n\r\n'],
      ['headers without end', 431, 'headers_too_large', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`],
    ];
    for (const [what, status, code, ...parts] of cases) {
      it(what, async () => {
        const { port, counters, received, log } = await startPeer({ maxBytes: 1_000 });
        const answer = await sendRaw(port, ...parts);
        expect(answer).to.deep.include({ status, code });
        expect(JSON.parse(answer.body)).to.include({ status, type: `urn:tokenring:problem:peer:${code}` });
        expect(counters.refused).to.include({ [code]: 1 });
        expect(received).to.deep.equal([]);
        expect(log.lines.map(({ fields }) => fields['reason'])).to.deep.equal([code]);
      });
    }
  });

  it('says which versions it speaks, and which method', async () => {
    const { port } = await startPeer();
    const answer = await sendRaw(port, post(MESSAGE, '', '/peer/v1/message'));
    expect(JSON.parse(answer.body)).to.have.property('versions').deep.equal([2]);
    expect((await sendRaw(port, 'GET /peer/v2/message HTTP/1.1\r\nHost: x\r\n\r\n')).head).to.match(/allow: POST/i);
  });

  it('logs the first, tenth and hundredth of many refusals', async () => {
    const { port, log } = await startPeer();
    for (let i = 0; i < 100; i += 1) await sendRaw(port, post('hello'));
    expect(log.lines.map(({ fields }) => fields['times'])).to.deep.equal([1, 10, 100]);
  });

  it('says that the mistake is its own when it is', async () => {
    const { id, counters, log } = await startPeer({ receive: () => Promise.reject(new Error('oh')) });
    const result = await createSender().transport.send(id, ask(1), 5_000);
    expect(result).to.deep.equal({ kind: 'broken', reason: 'HTTP 500 internal' });
    expect(counters.refused.internal).to.equal(1);
    expect(log.lines.some(({ message }) => message === 'could not answer a message from a peer')).to.equal(true);
  });

  it('holds no more bytes of arriving messages than its bound, and all of that for others once they are gone', async () => {
    const { port, counters } = await startPeer({ maxArriving: 10_000 });
    const half = `POST /peer/v2/message HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n${'x'.repeat(6_000)}`;
    const first = await open(port);
    first.write(half);
    await sleep(20);
    expect(await sendRaw(port, half)).to.include({ status: 503, code: 'busy' });
    expect((await sendRaw(port, post(MESSAGE))).status).to.equal(200);
    first.destroy();
    await sleep(20);
    const second = await open(port);
    second.write(half);
    await sleep(20);
    expect(counters.refused.busy).to.equal(1);
    second.destroy();
  });

  it('takes no more connections than its bound', async () => {
    const { port, counters } = await startPeer({ maxConnections: 2 });
    const sockets = [await open(port), await open(port)];
    const third = connect(port, '127.0.0.1').on('error', () => undefined);
    await once(third, 'close');
    expect(counters.refused.too_many_connections).to.equal(1);
    for (const socket of sockets) socket.destroy();
  });

  describe('gives up', () => {
    const slow = { headersMs: 100, requestMs: 200, idleMs: 300 };

    it('a request whose headers do not come to an end', async () => {
      const { port, counters } = await startPeer(slow);
      expect(await sendRaw(port, 'POST /peer/v2/message HTTP/1.1\r\nHost:')).to.include({
        status: 408,
        code: 'timeout',
      });
      expect(counters.refused.timeout).to.equal(1);
    });

    it('a message that does not come to an end', async () => {
      const { port } = await startPeer(slow);
      expect(await sendRaw(port, post(MESSAGE).slice(0, -1))).to.include({ status: 408, code: 'timeout' });
    });

    it('a connection on which nothing comes, or nothing more', async () => {
      const { port } = await startPeer(slow);
      const silent = await open(port);
      const used = await open(port);
      used.write(post(MESSAGE));
      silent.resume();
      used.resume();
      await Promise.all([once(silent, 'close'), once(used, 'close')]);
    });
  });

  it('gives up a connection whose answer does not come', async () => {
    const { port } = await startPeer({
      headersMs: 50,
      requestMs: 100,
      idleMs: 150,
      receive: () => new Promise(() => undefined),
    });
    const socket = await open(port);
    socket.resume();
    socket.write(post(MESSAGE));
    await once(socket, 'close');
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
      expect((await transport.send(id, ask(2), 5_000)).kind).to.equal('refused');
      await sleep(20);
      expect(closed).to.equal(false);
      release();
      expect((await inFlight).kind).to.equal('answer');
      await closing;
      await until(() => connections() === 0, 'the connections to end');
    });

    it('takes a message that is just arriving', async () => {
      const { port, peer } = await startPeer();
      const whole = post(MESSAGE);
      const answer = sendLater(port, whole.slice(0, -5), whole.slice(-5));
      await sleep(20);
      const closing = peer.close(5_000);
      expect(await answer)
        .to.match(/^HTTP\/1.1 200 /)
        .and.match(/connection: close/i);
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

/** Sends the second part 100 ms after the first. @returns all that comes until the connection ends */
async function sendLater(port: number, first: string, second: string): Promise<string> {
  const socket = await open(port);
  socket.write(first);
  await sleep(100);
  socket.write(second);
  let text = '';
  for await (const chunk of socket) text += (chunk as Buffer).toString();
  return text;
}
