import { EventEmitter, once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import {
  Connections,
  DEFAULT_BOUNDS,
  type Connection,
  type ConnectionBounds,
  type ConnectionState,
  type OpenConnection,
} from '../../src/server/edge/connections.js';
import { ProtocolServer } from '../../src/server/edge/protocol-server.js';
import { Counters } from '../../src/server/edge/counters.js';
import { eventually } from '../support/eventually.js';

interface OpenServer {
  readonly port: number;
  /** The connections that the server keeps. */
  readonly open: Set<Socket>;
}

const FOREVER = { silent: Infinity, arriving: Infinity, busy: Infinity, idle: Infinity, ended: Infinity };

describe('the connections of several servers', () => {
  const counters = new Counters();
  const opened: Server[] = [];
  const callers: Socket[] = [];
  afterEach(() => {
    for (const socket of callers.splice(0)) socket.destroy();
    for (const server of opened.splice(0)) server.close();
  });

  /** A server that sends `answer` to each connection, and keeps it as one that is owed an answer. */
  async function openServer(bounded: Connections, answer = Buffer.from('x')): Promise<OpenServer> {
    const server = createServer();
    const open = new Set<Socket>();
    const protocolServer = new (class extends ProtocolServer {
      protected override begin(socket: Socket): Connection {
        open.add(socket);
        socket.on('error', () => undefined).on('close', () => open.delete(socket));
        socket.resume().write(answer);
        return { state: () => 'busy', sinceMs: () => 0, unreadBytes: () => 0, end: () => expect.fail('ended') };
      }

      protected override draining(): void {
        // Nothing drains here.
      }
    })({ protocol: 'x', server, connections: bounded, longestMs: FOREVER, nowMs: () => performance.now() });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    opened.push(protocolServer.server);
    return { port: (server.address() as AddressInfo).port, open };
  }

  /** @returns whether the server keeps the connection */
  async function call(port: number, bytes = 'y'): Promise<boolean> {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    callers.push(socket);
    socket.write(bytes);
    return Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]);
  }

  async function twoServers(bounds: Partial<ConnectionBounds>): Promise<[OpenServer, OpenServer]> {
    const bounded = new Connections({ ...DEFAULT_BOUNDS, ...bounds }, counters);
    return [await openServer(bounded), await openServer(bounded)];
  }

  it('have one bound together, whichever server a connection comes through', async () => {
    const [a, b] = await twoServers({ max: 5 });
    const before = counters.refusedConnections;
    for (const port of [a.port, b.port, a.port, b.port, b.port]) expect(await call(port)).to.equal(true);
    expect([await call(a.port), await call(b.port)]).to.deep.equal([false, false]);
    expect(counters.refusedConnections - before).to.equal(2);
    expect([a.open.size, b.open.size]).to.deep.equal([2, 3]);
    callers[1]!.destroy();
    const open = (): number => b.open.size;
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
    const bounded = new Connections({ ...DEFAULT_BOUNDS, maxUnreadBytes: 20 * MIB }, counters);
    const servers = [
      await openServer(bounded, Buffer.alloc(18 * MIB)),
      await openServer(bounded, Buffer.alloc(15 * MIB)),
    ];
    for (const { port } of servers) {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      callers.push(socket.pause());
      await once(socket, 'connect');
    }
    const open = (): number[] => servers.map(({ open: kept }) => kept.size);
    expect(await eventually(open, ([first]) => first === 0)).to.deep.equal([0, 1]);
    expect(counters.slowReaders).to.equal(1);
  });
});

describe('a new connection, where all places are taken', () => {
  /** A connection in a state that the test chooses. */
  class Fake extends EventEmitter {
    state: ConnectionState = 'arriving';
    isOpen = true;
    readonly bytesRead = 1;
    open: OpenConnection | undefined;

    constructor(readonly remoteAddress: string) {
      super();
    }

    destroy(): void {
      this.isOpen = false;
      this.emit('close');
    }
  }

  let connections: Connections;
  let counters: Counters;
  let all: Fake[];
  beforeEach(() => {
    counters = new Counters();
    connections = new Connections({ ...DEFAULT_BOUNDS, max: 8 }, counters);
    all = [];
    connections.addServer({
      protocol: 'x',
      closeIdle: () => all.forEach((one) => one.isOpen && one.state === 'idle' && one.destroy()),
    });
  });
  afterEach(() => connections.removeServer([...connections['servers']][0]!));

  function open(address: string, state: ConnectionState = 'arriving'): Fake {
    const socket = new Fake(address);
    all.push(socket);
    socket.open = connections.take(socket as unknown as Socket, 'x');
    socket.state = state;
    if (socket.open !== undefined)
      socket.open.connection = {
        state: () => socket.state,
        sinceMs: () => 0,
        unreadBytes: () => 0,
        end: () => socket.destroy(),
      };
    return socket;
  }
  function serve(address: string): Fake {
    const socket = open(address, 'idle');
    socket.open!.served();
    return socket;
  }
  const openOf = (sockets: readonly Fake[]): boolean[] => sockets.map(({ isOpen }) => isOpen);

  it('takes the place of the oldest that has not completed a request', () => {
    const before = Array.from({ length: 8 }, (_, i) => open(`10.0.0.${i}`));
    const next = [open('10.0.1.1'), open('10.0.1.2')];
    expect(openOf(before)).to.deep.equal([false, false, true, true, true, true, true, true]);
    expect(openOf(next)).to.deep.equal([true, true]);
    expect(counters.displacedConnections).to.equal(2);
    expect(counters.connections.get('x')).to.equal(8);
  });

  it('takes no place of one that is owed an answer', () => {
    const busy = Array.from({ length: 7 }, (_, i) => open(`10.0.0.${i}`, 'busy'));
    const half = open('10.0.0.7');
    expect([open('10.0.1.1', 'busy').isOpen, half.isOpen]).to.deep.equal([true, false]);
    expect(open('10.0.1.2').isOpen).to.equal(false);
    expect(openOf(busy)).to.not.include(false);
    expect(counters.refusedConnections).to.equal(1);
  });

  it('takes the place of a stranger before that of an address that was answered, while strangers have a quarter', () => {
    const served = [serve('10.0.0.1'), open('10.0.0.1')];
    const strangers = Array.from({ length: 6 }, (_, i) => open(`10.0.1.${i}`));
    for (let i = 0; i < 4; i += 1) open('10.0.0.1', 'busy');
    expect(openOf(strangers)).to.deep.equal([false, false, false, false, true, true]);
    expect(openOf(served)).to.deep.equal([true, true]);
    expect(open('10.0.0.1', 'busy').isOpen).to.equal(true);
    expect(openOf([...strangers.slice(4), ...served])).to.deep.equal([true, true, true, false]);
  });

  it('of a stranger leaves a part of the places to addresses that were answered', () => {
    serve('10.0.0.1');
    const strangers = Array.from({ length: 6 }, (_, i) => open(`10.0.1.${i}`, 'busy'));
    expect(open('10.0.2.1').isOpen).to.equal(false);
    expect(open('10.0.0.1').isOpen).to.equal(true);
    expect(openOf(strangers)).to.not.include(false);
  });

  it('of a stranger takes any place as long as no address was answered, as behind a proxy that starts', () => {
    const busy = Array.from({ length: 8 }, () => open('10.0.0.1', 'busy'));
    expect(openOf(busy)).to.not.include(false);
  });

  it('from a proxy takes the place of a half request, though the proxy was answered before', () => {
    serve('10.0.0.1').state = 'busy';
    const half = Array.from({ length: 7 }, () => open('10.0.0.1'));
    const busy = Array.from({ length: 7 }, () => open('10.0.0.1', 'busy'));
    expect(openOf(busy)).to.not.include(false);
    expect(openOf(half)).to.not.include(true);
  });

  it('takes the place of one that was answered and then sent half a request', () => {
    const served = Array.from({ length: 8 }, (_, i) => serve(`10.0.0.${i}`));
    for (const one of served) one.state = 'arriving';
    expect([open('10.0.1.1').isOpen, open('10.0.1.2').isOpen]).to.deep.equal([true, true]);
  });
});
