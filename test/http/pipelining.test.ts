import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect as connectTo, type AddressInfo, type Socket } from 'node:net';
import { expect } from 'chai';
import { Connections, DEFAULT_BOUNDS } from '../../src/server/edge/connections.js';
import { Counters } from '../../src/server/edge/counters.js';
import { HttpServer } from '../../src/server/http/server.js';
import type { ProtocolServer } from '../../src/server/edge/protocol-server.js';
import { NO_DECISIONS, readyNode } from '../support/decisions.js';
import { eventually } from '../support/eventually.js';
import { call, liveNode } from '../support/http.js';
import { MIB } from './memory.js';
import { connect } from './wire.js';

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
const ALLOW = 'POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n';
const HANGS = get('/v1/events');

describe('requests that come before the last answer on their connection', () => {
  const started: ProtocolServer[] = [];
  const begun: string[] = [];
  const open: ServerResponse[] = [];
  let most = 0;
  let counters: Counters;

  /** A server that answers `/v1/events` never, and other requests in a later turn; decisions answer at once. */
  async function startServer(answerBytes = 2): Promise<number> {
    begun.length = open.length = most = 0;
    counters = new Counters();
    const answer = (res: ServerResponse): void => void res.end('x'.repeat(answerBytes));
    const allow = ({ url }: IncomingMessage, res: ServerResponse): void => {
      begun.push(url!);
      answer(res);
    };
    const api = ({ url }: IncomingMessage, res: ServerResponse): void => {
      begun.push(url!);
      open.push(res);
      most = Math.max(most, open.length);
      if (url === '/v1/events') return;
      setImmediate(() => {
        open.splice(open.indexOf(res), 1);
        answer(res);
      });
    };
    const publicServer = new HttpServer({
      decisions: { ...NO_DECISIONS, allow },
      api,
      ...readyNode(counters),
      connections: new Connections({ ...DEFAULT_BOUNDS, maxUnreadBytes: MIB }, counters),
    });
    started.push(publicServer);
    publicServer.server.listen(0, '127.0.0.1');
    await once(publicServer.server, 'listening');
    return (publicServer.server.address() as AddressInfo).port;
  }
  after(() => Promise.all(started.map((publicServer) => publicServer.drain(0, 0))));

  it('begin one after the other, and are answered in order', async () => {
    const wire = await connect(await startServer());
    wire.send(Array.from({ length: 100 }, (_, i) => get(`/${i}`)).join(''));
    expect(await wire.answers(100)).to.have.length(100);
    expect(most).to.equal(1);
    expect(begun).to.deep.equal(Array.from({ length: 100 }, (_, i) => `/${i}`));
    wire.destroy();
  });

  it('begin at once if they are decisions, unless one before them waits', async () => {
    const wire = await connect(await startServer());
    wire.send(get('/1') + ALLOW + ALLOW + get('/2') + ALLOW);
    await wire.answers(5);
    expect(begun).to.deep.equal(['/1', '/v1/allow', '/v1/allow', '/2', '/v1/allow']);
    wire.destroy();
  });

  it('do not begin once the connection is gone', async () => {
    const port = await startServer();
    for (let i = 0; i < 3; i += 1) {
      const wire = await connect(port);
      wire.send(HANGS + get('/1') + get('/2'));
      await eventually(
        () => open.length,
        (length) => length === i + 1,
      );
      wire.destroy();
      await once(open[i]!, 'close');
    }
    expect(begun).to.deep.equal(['/v1/events', '/v1/events', '/v1/events']);
  });

  it('leave no place taken when their connection breaks', async () => {
    const node = await liveNode('--max-in-flight', '9');
    for (let i = 0; i < 3; i += 1) {
      const wire = await connect(node.port);
      wire.send(HANGS + get('/v1/cluster').repeat(15));
      await eventually(
        () => call(node, '/v1/cluster'),
        ({ status }) => status === 200,
      );
      wire.destroy();
    }
    // One caller may have eight streams at once, so those of the connections that broke must be over.
    const inFlight = async (): Promise<number> =>
      Number(/^tokenring_requests_in_flight (\d+)$/m.exec((await call(node, '/metrics')).text)?.[1]);
    expect(await eventually(inFlight, (count) => count <= 1)).to.be.at.most(1);
    const wires = await Promise.all(Array.from({ length: 8 }, () => connect(node.port)));
    for (const wire of wires) wire.send(HANGS);
    for (const wire of wires) expect((await wire.answers(1))[0]).to.include({ status: 200 });
    for (const wire of wires) wire.destroy();
  });

  it('end the connection if there are too many of them, on one connection or on all', async () => {
    const port = await startServer();
    const one = await connect(port);
    one.send(HANGS + get('/1').repeat(128));
    expect(await one.closed()).to.deep.equal([]);
    expect(counters.slowReaders).to.equal(1);
    const many = await Promise.all(Array.from({ length: 40 }, () => connect(port)));
    for (const wire of many) wire.send(HANGS + get('/1').repeat(127));
    await eventually(
      () => counters.slowReaders,
      (cut) => cut === 1 + 8,
    );
    expect(counters.slowReaders).to.equal(1 + 8);
    for (const wire of many) wire.destroy();
    // Their places are free again.
    await eventually(
      () => open.filter(({ closed }) => !closed).length,
      (left) => left === 0,
    );
    const after = await connect(port);
    after.send(get('/1').repeat(100));
    expect(await after.answers(100)).to.have.length(100);
    after.destroy();
  });

  it('count with the unread answers', async () => {
    const port = await startServer(200_000);
    const sockets: Socket[] = [];
    for (let i = 0; i < 2; i += 1) {
      const socket = connectTo(port, '127.0.0.1').on('error', () => undefined);
      sockets.push(socket);
      socket.write(HANGS + ALLOW.repeat(4));
    }
    await eventually(
      () => counters.slowReaders,
      (cut) => cut > 0,
    );
    expect(counters.slowReaders).to.equal(1);
    for (const socket of sockets) socket.destroy();
  });
});
