import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { decisionOf, expectProblem, liveNode, newClient, type Answer } from '../support/http.js';
import { connect, exchange, frame } from './wire.js';

const JSON_TYPE = 'Content-Type: application/json\r\n';
const GET = 'GET /v1/cluster HTTP/1.1\r\nHost: x\r\n\r\n';

describe('a connection for plain decision requests', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });
  const ask = (clientId: string, headers = JSON_TYPE): Buffer =>
    frame('/v1/allow', JSON.stringify({ clientId, limit: 10, window: '1d' }), { headers });
  const withoutDate = ({ headers: { date, ...headers }, ...rest }: Answer): object => {
    expect(date).to.match(/ GMT$/);
    return { ...rest, headers };
  };

  it('answers as node:http does, header for header', async () => {
    const [plain, other] = await Promise.all([connect(node.port), connect(node.port)]);
    plain.send(ask(newClient()));
    other.send(ask(newClient(), `${JSON_TYPE}X-Other: 1\r\n`));
    const [[direct], [byNodeHttp]] = await Promise.all([plain.answers(1), other.answers(1)]);
    expect(withoutDate(direct!)).to.deep.equal(withoutDate(byNodeHttp!));
    expect(Object.keys(direct!.headers)).to.deep.equal(Object.keys(byNodeHttp!.headers));
    plain.destroy();
    other.destroy();
  });

  it('counts each request once, before and after an unusual one moves it to node:http', async () => {
    const wire = await connect(node.port);
    const clientId = newClient();
    const batch = frame('/v1/allow/batch', JSON.stringify({ requests: [{ clientId, limit: 10, window: '1d' }] }));
    const asked = [ask(clientId), batch, ask(clientId), Buffer.from(GET), ask(clientId), batch];
    for (const [i, bytes] of asked.entries()) {
      wire.send(bytes);
      await wire.answers(i + 1);
    }
    const answers = await wire.answers(asked.length);
    expect(answers.map(({ status }) => status)).to.deep.equal([200, 200, 200, 200, 200, 200]);
    expect(decisionOf(answers[4]!)).to.include({ remaining: 6 });
    wire.destroy();
  });

  it('answers a request that comes in two parts, wherever it is cut', async () => {
    const clientId = newClient();
    const bytes = ask(clientId);
    for (let cut = 1; cut < bytes.length; cut += 13) {
      const wire = await connect(node.port);
      wire.send(bytes.subarray(0, cut));
      await wait(5);
      wire.send(bytes.subarray(cut));
      expect((await wire.answers(1))[0]!.status).to.be.oneOf([200, 429]);
      wire.destroy();
    }
  });

  it('answers several requests in one piece, and each once', async () => {
    const wire = await connect(node.port);
    const clientId = newClient();
    wire.send(Buffer.concat([ask(clientId), ask(clientId), ask(clientId)]));
    const answers = await wire.answers(3);
    expect(answers.map((answer) => decisionOf(answer).remaining)).to.deep.equal([9, 8, 7]);
    wire.destroy();
  });

  it('refuses a bad request with nothing consumed, and goes on', async () => {
    const wire = await connect(node.port);
    wire.send(ask(newClient()));
    await wire.answers(1);
    wire.send(frame('/v1/allow', '{"clientId":"x","limit":1,"limit":2}'));
    expectProblem((await wire.answers(2))[1]!, 'invalid_json', 'limit');
    const clientId = newClient();
    wire.send(ask(clientId));
    expect(decisionOf((await wire.answers(3))[2]!)).to.include({ remaining: 9 });
    wire.destroy();
  });

  it('answers a bad body as node:http does, header for header, and stays', async () => {
    const bodies = ['{', '{"clientId":"a","limit":"x"}', '{"clientId":"a","limit":1,"limit":2}', '[]', '"\\ud800"'];
    const [plain, other] = await Promise.all([connect(node.port), connect(node.port)]);
    for (const [i, body] of bodies.entries()) {
      for (const path of ['/v1/allow', '/v1/allow/batch']) {
        plain.send(frame(path, body, { headers: JSON_TYPE }));
        other.send(frame(path, body, { headers: `${JSON_TYPE}X-Other: 1\r\n` }));
        const place = 2 * i + (path === '/v1/allow' ? 0 : 1);
        const direct = (await plain.answers(place + 1))[place]!;
        const byNodeHttp = (await other.answers(place + 1))[place]!;
        expect(direct.status).to.equal(400);
        expect(withoutDate(direct)).to.deep.equal(withoutDate(byNodeHttp));
        expect(Object.keys(direct.headers)).to.deep.equal(Object.keys(byNodeHttp.headers));
      }
    }
    plain.destroy();
    other.destroy();
  });

  it('ends with the side that asked', async () => {
    const wire = await connect(node.port);
    wire.send(ask(newClient()));
    await wire.answers(1);
    wire.end();
    expect(await wire.closed()).to.have.length(1);
  });

  it('refuses two Host headers, as two proxies might each believe another', async () => {
    const body = JSON.stringify({ clientId: newClient(), limit: 1, window: 1 });
    for (const headers of [`${JSON_TYPE}Host: evil\r\n`, `${JSON_TYPE}HOST: localhost\r\n`]) {
      const [answer] = await exchange(
        node.port,
        frame('/v1/allow', body, { headers: `Connection: close\r\n${headers}` }),
      );
      expectProblem(answer!, 'invalid_request', 'Host');
    }
    const [get] = await exchange(node.port, 'GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n');
    expectProblem(get!, 'invalid_request', 'Host');
  });
});
