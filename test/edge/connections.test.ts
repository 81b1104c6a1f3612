import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { expect } from 'chai';
import { createConnections, DEFAULT_BOUNDS } from '../../src/server/edge/connections.js';
import type { ConnectionBounds, Connections, ServerConnections } from '../../src/server/edge/connections.js';
import { createCounters } from '../../src/server/edge/counters.js';
import { eventually } from '../support/eventually.js';

interface OpenServer {
  readonly server: Server;
  readonly port: number;
  readonly connections: ServerConnections;
  /** How often the server was told to close idle connections. */
  readonly idleClosed: () => number;
}

describe('the connections of several servers', () => {
  const counters = createCounters();
  const opened: Server[] = [];
  const callers: Socket[] = [];
  afterEach(() => {
    for (const socket of callers.splice(0)) socket.destroy();
    for (const server of opened.splice(0)) server.close();
  });

  /** A server that sends `answer` to each connection, and keeps it. */
  async function openServer(bounded: Connections, answer = Buffer.from('x')): Promise<OpenServer> {
    let closed = 0;
    const server = createServer();
    const connections = bounded.addServer({ protocol: 'x', server, closeIdle: () => (closed += 1) });
    server.on('connection', (socket) => {
      socket.on('error', () => undefined);
      if (!socket.destroyed) socket.resume().write(answer);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    opened.push(server);
    return { server, port: (server.address() as AddressInfo).port, connections, idleClosed: () => closed };
  }

  /** @returns whether the server keeps the connection */
  async function call(port: number, bytes = 'y'): Promise<boolean> {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    callers.push(socket);
    socket.write(bytes);
    return Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]);
  }

  async function twoServers(bounds: Partial<ConnectionBounds>): Promise<[OpenServer, OpenServer]> {
    const bounded = createConnections({ ...DEFAULT_BOUNDS, ...bounds }, counters);
    return [await openServer(bounded), await openServer(bounded)];
  }

  it('have one bound together, whichever server a connection comes through', async () => {
    const [a, b] = await twoServers({ max: 5 });
    const before = counters.refusedConnections;
    for (const port of [a.port, b.port, a.port, b.port, b.port]) expect(await call(port)).to.equal(true);
    expect([await call(a.port), await call(b.port)]).to.deep.equal([false, false]);
    expect(counters.refusedConnections - before).to.equal(2);
    expect([a.connections.open.size, b.connections.open.size]).to.deep.equal([2, 3]);
    expect([a.idleClosed(), b.idleClosed()].map((count) => count > 0)).to.deep.equal([true, true]);
    callers[1]!.destroy();
    const open = (): number => b.connections.open.size;
    expect(await eventually(open, (size) => size === 2)).to.equal(2);
    expect([await call(a.port), await call(b.port)]).to.deep.equal([true, false]);
  });

  it('refuse a connection at an empty server when others have taken all room', async () => {
    const [a, b] = await twoServers({ max: 2 });
    expect([await call(a.port), await call(a.port), await call(b.port)]).to.deep.equal([true, true, false]);
  });

  it('have one bound for each address together', async () => {
    const [a, b] = await twoServers({ maxPerAddress: 2 });
    expect([await call(a.port), await call(b.port), await call(a.port)]).to.deep.equal([true, true, false]);
    expect(counters.refusedOfAddress).to.equal(1);
  });

  it('have one bound on unread answers together, which costs the connection with the most', async () => {
    const MIB = 1024 * 1024;
    const bounded = createConnections({ ...DEFAULT_BOUNDS, maxUnreadBytes: 20 * MIB }, counters);
    const servers = [
      await openServer(bounded, Buffer.alloc(18 * MIB)),
      await openServer(bounded, Buffer.alloc(15 * MIB)),
    ];
    for (const { port } of servers) {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      callers.push(socket.pause());
      await once(socket, 'connect');
    }
    const open = (): number[] => servers.map(({ connections }) => connections.open.size);
    expect(await eventually(open, ([first]) => first === 0)).to.deep.equal([0, 1]);
    expect(counters.slowReaders).to.equal(1);
  });
});
