import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { TokenringError } from '../../src/lib/error.js';
import { ArrivingBytes } from '../../src/server/edge/arriving.js';
import { Counters } from '../../src/server/edge/counters.js';
import { Turns } from '../../src/lib/turns.js';
import { Health } from '../../src/server/http/health.js';
import { HttpServer } from '../../src/server/http/server.js';
import type { ProtocolServer } from '../../src/server/edge/protocol-server.js';
import { NO_DECISIONS } from '../support/decisions.js';
import { expectProblem } from '../support/http.js';
import { connect, exchange } from './wire.js';

/** A head that only node:http reads. */
const UNUSUAL = 'X-Other: 1\r\n';
const get = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;

describe('health checks and other requests of a public server', () => {
  let publicServer: ProtocolServer;
  let port: number;
  let problem: TokenringError | undefined;
  /** Requests that reached the API. */
  let asked: string[];
  /** Ends the turn of the server's work. */
  let turn: () => void;
  let turns: Turns;

  beforeEach(async () => {
    asked = [];
    problem = undefined;
    const deferred: (() => void)[] = [];
    turn = () => deferred.shift()?.();
    // Each look at the clock takes 1 ms.
    let nowMs = 0;
    const timers = { soon: (callback: () => void): void => void deferred.push(callback) };
    turns = new Turns({ timers, spent: () => (nowMs += 1), perTurn: 4, maxWaiting: 5 });
    const counters = new Counters();
    const direct = { allow: () => false, batch: () => false, arriving: new ArrivingBytes(1_000) };
    publicServer = new HttpServer({
      decisions: { ...NO_DECISIONS, direct },
      api({ url }: IncomingMessage, res: ServerResponse) {
        asked.push(url!);
        res.end('page');
      },
      health: new Health(counters, () => problem),
      context: { counters, turns, requireJoined: () => undefined },
    });
    publicServer.server.listen(0, '127.0.0.1');
    await once(publicServer.server, 'listening');
    ({ port } = publicServer.server.address() as AddressInfo);
  });
  afterEach(() => publicServer.drain(0, 0));

  it('are answered without the API, on both paths alike', async () => {
    for (const [path, body] of [
      ['/healthz', 'ok\n'],
      ['/readyz', 'ready\n'],
    ]) {
      turn();
      const [wire, other] = await Promise.all([connect(port), connect(port)]);
      wire.send(get(path!));
      const [direct] = await wire.answers(1);
      turn();
      other.send(get(path!, UNUSUAL));
      const [byNodeHttp] = await other.answers(1);
      expect(direct).to.include({ status: 200, text: body });
      // The second in which each was written may differ.
      const { headers } = direct!;
      expect(headers).to.deep.equal({ ...byNodeHttp!.headers, date: headers['date'] });
      expect(headers['cache-control']).to.equal('no-store');
      wire.destroy();
      other.destroy();
    }
    expect(asked).to.deep.equal([]);
  });

  it('say why the node is not ready, on both paths alike', async () => {
    problem = new TokenringError('draining');
    for (const headers of ['', UNUSUAL]) {
      turn();
      const [answer] = await exchange(port, get('/readyz', `Connection: close\r\n${headers}`));
      expectProblem(answer!, 'draining');
      expect(answer!.headers).to.include({ 'retry-after': '1', 'cache-control': 'no-store' });
    }
  });

  it('wait for their turn; above the bound, others get 503 in their turn, and health checks 200', async () => {
    // Something takes the whole turn.
    while (turns.mayWork());
    const pages = await Promise.all(Array.from({ length: 7 }, () => connect(port)));
    for (const wire of pages) wire.send(get('/openapi.json'));
    const probes = await Promise.all([connect(port), connect(port)]);
    probes[0].send(get('/healthz'));
    probes[1].send(get('/healthz', UNUSUAL));
    let answered = 0;
    const all = Promise.all([...pages, ...probes].map((wire) => wire.answers(1).then(() => (answered += 1))));
    // All have arrived when the last of each path has.
    while (!turns.isFull() || asked.length > 0) await new Promise(setImmediate);
    for (let i = 0; i < 20; i += 1) await new Promise(setImmediate);
    expect(answered).to.equal(0);
    const taking = setInterval(turn, 1);
    await all;
    clearInterval(taking);
    const answers = await Promise.all(pages.map(async (wire) => (await wire.answers(1))[0]!));
    const refused = answers.filter(({ status }) => status === 503);
    expect(refused).to.have.lengthOf(2);
    for (const answer of refused) {
      expectProblem(answer, 'overloaded');
      expect(answer.headers['retry-after']).to.equal('1');
    }
    expect(asked).to.have.lengthOf(5);
    for (const probe of probes) expect((await probe.answers(1))[0]).to.include({ status: 200, text: 'ok\n' });
    for (const wire of [...pages, ...probes]) wire.destroy();
  });

  it('begin nothing for a caller who has gone meanwhile', async () => {
    while (turns.mayWork());
    const [gone, stays] = await Promise.all([connect(port), connect(port)]);
    gone.send(get('/gone'));
    stays.send(get('/stays'));
    for (let i = 0; i < 20; i += 1) await new Promise(setImmediate);
    gone.destroy();
    for (let i = 0; i < 20; i += 1) await new Promise(setImmediate);
    const taking = setInterval(turn, 1);
    await stays.answers(1);
    clearInterval(taking);
    expect(asked).to.deep.equal(['/stays']);
    stays.destroy();
  });
});
