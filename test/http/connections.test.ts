import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { decisionOf, expectProblem, liveNode, newClient } from '../support/http.js';
import { bytesInUse, MIB } from './memory.js';
import { CLOSE, connect, exchange, frame, JSON_CLOSE } from './wire.js';

describe('a connection to the public API', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });
  const question = (clientId: string): string => JSON.stringify({ clientId, limit: 100, window: '1d' });

  it('carries requests sent ahead of their answers, and answers in order', async () => {
    const body = question(newClient());
    const bad = frame('/v1/allow', '{"clientId":');
    const many = Array.from({ length: 50 }, (_, i) => (i % 5 === 4 ? bad : frame('/v1/allow', body)));
    const answers = await exchange(
      node.port,
      Buffer.concat(many),
      frame('/healthz', '', { method: 'GET', headers: CLOSE }),
    );
    expect(answers).to.have.length(51);
    const remaining = answers
      .slice(0, 50)
      .map((answer) => (answer.status === 200 ? decisionOf(answer).remaining : answer.status));
    let left = 100;
    expect(remaining).to.deep.equal(many.map((sent) => (sent === bad ? 400 : (left -= 1))));
    expect(answers.at(-1)?.text).to.equal('ok\n');
  });

  it('carries a request that arrives byte by byte', async () => {
    const wire = await connect(node.port);
    for (const byte of frame('/v1/allow', question(newClient()))) {
      wire.send(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    const [answer] = await wire.answers(1);
    expect(decisionOf(answer!).allowed).to.equal(true);
    wire.destroy();
  });

  it('stays open after a mistake in a request that came whole', async () => {
    const wire = await connect(node.port);
    wire.send(frame('/v1/allow', '{'), frame('/v1/allow/batch', '{}'), frame('/nowhere', '', { method: 'GET' }));
    expect((await wire.answers(3)).map(({ status }) => status)).to.deep.equal([400, 400, 404]);
    wire.send(frame('/v1/allow', question(newClient())));
    expect((await wire.answers(4)).at(-1)?.status).to.equal(200);
    wire.destroy();
  });

  it('speaks HTTP/1.0 to those who do', async () => {
    const [answer] = await exchange(node.port, 'GET /healthz HTTP/1.0\r\n\r\n');
    expect(answer).to.include({ status: 200, text: 'ok\n' });
  });

  it('takes an address with the host in it, and an upgrade for a request', async () => {
    const request = 'GET http://x/healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n';
    expect((await exchange(node.port, request))[0]?.status).to.equal(200);
  });

  it('goes on with the body when asked to say so first, and ignores other expectations', async () => {
    const body = question(newClient());
    const wire = await connect(node.port);
    wire.send(frame('/v1/allow', body, { headers: 'Content-Type: application/json\r\nExpect: 100-continue\r\n' }));
    expect((await wire.answers(2)).map(({ status }) => status)).to.deep.equal([100, 200]);
    wire.send(frame('/v1/allow', body, { headers: 'Content-Type: application/json\r\nExpect: the-worst\r\n' }));
    expect((await wire.answers(3)).at(-1)?.status).to.equal(200);
    wire.destroy();
  });

  it('refuses a body that is too large, or a token that is missing, before it asks for the body', async () => {
    const head = (method: string, path: string, length: number): string =>
      `${method} ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`;
    const tooLarge = await exchange(node.port, head('POST', '/v1/allow', 70_000));
    expect(tooLarge.map(({ status }) => status)).to.deep.equal([413]);
    const notAdmin = await exchange(node.port, head('PUT', '/v1/policies/p', 10));
    expect(notAdmin.map(({ status }) => status)).to.deep.equal([403]);
  });

  it('ends a connection with the answer where it never asks for the body that was announced', async () => {
    const request = `GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n`;
    const [answer, ...others] = await exchange(node.port, request);
    expect(answer).to.include({ status: 200, text: 'ok\n' });
    expect(answer!.headers['connection']).to.equal('close');
    expect(others).to.deep.equal([]);
  });

  const ends = '\r\nHost: x\r\nConnection: close\r\n\r\n';
  const post = 'POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
  const notHttp: [what: string, bytes: string | Buffer][] = [
    ['random bytes', Buffer.from(Array.from({ length: 300 }, (_, i) => (i * 167 + 13) % 256))],
    ['a TLS handshake', Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['an unknown method', `SHOUT /healthz HTTP/1.1${ends}`],
    ['a request for a tunnel', `CONNECT example.org:443 HTTP/1.1${ends}`],
    ['an unknown version', `GET /healthz HTTP/7.1${ends}`],
    ['an address with a letter beyond ASCII', Buffer.from(`GET /v1/clients/\u00e9 HTTP/1.1${ends}`)],
    ['an address with a NUL', `GET /v1/clients/\0 HTTP/1.1${ends}`],
    ['a header with a space in its name', `GET /healthz HTTP/1.1\r\nHo st: x${ends}`],
    ['a header folded over two lines', `GET /healthz HTTP/1.1\r\nX: a\r\n b${ends}`],
    ['a length that is no number', `${post}Content-Length: 2x\r\n\r\n{}`],
    ['a negative length', `${post}Content-Length: -2\r\n\r\n{}`],
    ['two lengths', `${post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`],
    ['a length and chunks at once', `${post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a chunk of no length', `${post}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`],
    ['line ends without a carriage return', 'GET /healthz HTTP/1.1\nHost: x\n\n'],
  ];
  for (const [what, bytes] of notHttp) {
    it(`is answered with a problem, and ended, for ${what}`, async () => {
      const answers = await exchange(node.port, bytes);
      expect(answers).to.have.length(1);
      expectProblem(answers[0]!, 'invalid_request');
      expect(answers[0]?.headers['connection']).to.equal('close');
    });
  }

  it('is told that a request of HTTP/1.1 has no host', async () => {
    const [answer] = await exchange(node.port, `GET /healthz HTTP/1.1\r\n${CLOSE}\r\n`);
    expectProblem(answer!, 'invalid_request', 'Host');
  });

  it('is told that there is nothing at an address that is none', async () => {
    for (const address of ['*', 'http://[/healthz', 'http://', '//', '/%zz', '/..%2f..']) {
      const [answer] = await exchange(node.port, `GET ${address} HTTP/1.1${ends}`);
      expectProblem(answer!, 'not_found');
    }
  });

  it('may not have headers without end', async () => {
    for (const bytes of [20_000, 100_000, 1_000_000]) {
      const [answer] = await exchange(node.port, `GET /healthz HTTP/1.1\r\nX: ${'x'.repeat(bytes)}${ends}`);
      expectProblem(answer!, 'headers_too_large');
    }
    const [address] = await exchange(node.port, `GET /${'x'.repeat(20_000)} HTTP/1.1${ends}`);
    expectProblem(address!, 'headers_too_large');
  });

  it('is answered where its client stops within the body, and its request consumes nothing', async () => {
    const clientId = newClient();
    const request = frame('/v1/allow', question(clientId));
    const wire = await connect(node.port);
    wire.send(request.subarray(0, -5));
    wire.end();
    expectProblem((await wire.closed())[0]!, 'invalid_request');
    const rude = await connect(node.port);
    rude.send(request.subarray(0, -5));
    await wait(5);
    rude.destroy();
    const [after] = await exchange(node.port, frame('/v1/allow', question(clientId), { headers: JSON_CLOSE }));
    expect(decisionOf(after!).remaining).to.equal(99);
  });

  it('is not what holds the body of a request that was answered', async () => {
    const body = JSON.stringify({ requests: [JSON.parse(question(newClient()))] }).padEnd(MIB);
    const request = frame('/v1/allow/batch', body);
    const before = bytesInUse();
    const wires = await Promise.all(Array.from({ length: 40 }, () => connect(node.port)));
    for (const wire of wires) {
      wire.send(request);
      await wire.answers(1);
    }
    expect((bytesInUse() - before) / MIB).to.be.below(15);
    for (const wire of wires) wire.destroy();
  });

  it('may be dropped between question and answer, as often as one likes', async () => {
    const request = frame('/v1/allow', question(newClient()));
    for (let i = 0; i < 50; i += 1) {
      const wire = await connect(node.port);
      wire.send(request);
      wire.destroy();
    }
    const [answer] = await exchange(node.port, frame('/healthz', '', { method: 'GET', headers: CLOSE }));
    expect(answer?.status).to.equal(200);
  });
});
