import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { Envelope, PeerAnswer, PeerMessage, Sender } from '../../src/cluster/messages.js';
import type { Log, PeerTransport } from '../../src/cluster/ports.js';
import type { NodeId } from '../../src/core/ring.js';
import { createPeerAuth } from '../../src/peer/auth.js';
import { createPeerCounters } from '../../src/peer/counters.js';
import type { PeerCounters } from '../../src/peer/counters.js';
import { createPeerServer } from '../../src/peer/server.js';
import type { PeerServer, PeerServerOptions } from '../../src/peer/server.js';
import { createPeerTransport } from '../../src/peer/transport.js';
import type { PeerTransportOptions } from '../../src/peer/transport.js';

export const SENDER: Sender = {
  from: { id: '127.0.0.1:9080', incarnation: 1, state: 'active', beat: 7, version: '0.1.0', url: '', silentMs: 0 },
  view: 'abc',
  policies: '0f',
};

/** A message that its answer can be told by. */
export function ask(chunk: number): Envelope<PeerMessage> {
  return { sender: SENDER, body: { kind: 'handoff', chunk, gone: [] } };
}

export function answerTo({ body }: Envelope<PeerMessage>): Envelope<PeerAnswer> {
  const total = body.kind === 'handoff' ? body.chunk : 0;
  return { sender: SENDER, body: { kind: 'handed', clients: [], more: false, total } };
}

function answerAtOnce(message: Envelope<PeerMessage>): Promise<Envelope<PeerAnswer>> {
  return Promise.resolve(answerTo(message));
}

export interface Logged extends Log {
  readonly lines: { readonly fields: Readonly<Record<string, unknown>>; readonly message: string }[];
}

export function createLog(): Logged {
  const lines: Logged['lines'] = [];
  const note = (fields: object, message: string): void => void lines.push({ fields: { ...fields }, message });
  return { lines, info: note, warn: note };
}

const cleanups: (() => unknown)[] = [];

/** Ends what the test has started, last first. To be called after each. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export interface TestPeer {
  readonly id: NodeId;
  readonly port: number;
  readonly peer: PeerServer;
  readonly counters: PeerCounters;
  readonly log: Logged;
  readonly received: Envelope<PeerMessage>[];
  /** Connections that were made to it. */
  readonly connections: () => number;
  /** Those of them that are open. */
  readonly open: () => number;
}

export interface TestPeerOptions extends PeerServerOptions {
  readonly secret?: string | undefined;
  readonly port?: number;
  readonly host?: string;
  readonly receive?: (message: Envelope<PeerMessage>) => Promise<Envelope<PeerAnswer>>;
}

/** A peer that answers with what it was asked. */
export async function startPeer(options: TestPeerOptions = {}): Promise<TestPeer> {
  const { secret, host = '127.0.0.1', receive = answerAtOnce } = options;
  const received: Envelope<PeerMessage>[] = [];
  const counters = createPeerCounters();
  const log = createLog();
  const peer = createPeerServer(
    {
      receive(message) {
        received.push(message);
        return receive(message);
      },
      counters,
      log,
      auth: secret === undefined ? undefined : createPeerAuth(secret),
    },
    options,
  );
  let connections = 0;
  let open = 0;
  peer.server.on('connection', (socket: Socket) => {
    connections += 1;
    open += 1;
    socket.on('close', () => (open -= 1));
  });
  const port = await listenOn(peer.server, options.port ?? 0, host);
  cleanups.push(() => peer.close(0));
  return {
    id: `${host}:${port}`,
    port,
    peer,
    counters,
    log,
    received,
    connections: () => connections,
    open: () => open,
  };
}

export interface TestTransport {
  readonly transport: PeerTransport & { close(): Promise<void> };
  readonly counters: PeerCounters;
  readonly log: Logged;
}

export function createSender(options: PeerTransportOptions & { secret?: string | undefined } = {}): TestTransport {
  const counters = createPeerCounters();
  const log = createLog();
  const auth = options.secret === undefined ? undefined : createPeerAuth(options.secret);
  const transport = createPeerTransport({ counters, log, auth }, options);
  cleanups.push(() => transport.close());
  return { transport, counters, log };
}

export async function listenOn(server: Server, port = 0, host = '127.0.0.1'): Promise<number> {
  server.listen(port, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A TCP server that does to each connection what it is told. @returns its id */
export async function startRaw(handle: (socket: Socket) => void): Promise<NodeId> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    handle(socket);
  });
  const port = await listenOn(server);
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${port}`;
}

/** A server that answers every request with these bytes and then does as told. */
export function startAnswering(
  bytes: string | Buffer,
  then: (socket: Socket) => void = () => undefined,
): Promise<NodeId> {
  return startRaw((socket) => {
    socket.once('data', () => socket.write(bytes, () => then(socket)));
  });
}

export function http(status: number, body: string, headers = ''): string {
  return `HTTP/1.1 ${status} X\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`;
}

/** A port on which nobody listens. */
export async function closedPort(): Promise<number> {
  const server = createServer();
  const port = await listenOn(server);
  server.close();
  await once(server, 'close');
  return port;
}

export interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
  /** Of a problem. */
  readonly code: string | undefined;
}

/** Sends bytes on a connection of their own, and collects what comes back until it ends or an answer is there in full. */
export async function sendRaw(port: number, ...parts: (string | Buffer)[]): Promise<RawAnswer> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  for (const part of parts) socket.write(part);
  let text = '';
  for await (const chunk of socket) {
    text += (chunk as Buffer).toString('utf8');
    const end = text.indexOf('\r\n\r\n');
    const length = /content-length: (\d+)/i.exec(text)?.[1];
    if (end >= 0 && length !== undefined && Buffer.byteLength(text.slice(end + 4)) >= Number(length)) break;
  }
  socket.destroy();
  const [head = '', body = ''] = text.split(/\r\n\r\n(.*)/s);
  const code = /"code":"(\w+)"/.exec(body)?.[1];
  return { status: Number(head.split(' ')[1]), head, body, code };
}

export function post(body: string, headers = '', path = '/peer/v2/message'): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`;
}

export interface Tap {
  readonly id: NodeId;
  /** The requests that went through, as bytes. */
  readonly requests: Buffer[];
  readonly answers: Buffer[];
}

export interface Tampering {
  readonly request?: (bytes: Buffer) => Buffer;
  readonly answer?: (bytes: Buffer) => Buffer;
}

/** Somebody on the path to a peer, who records and may change what goes by. Messages must fit one packet. */
export async function startTap(port: number, tampering: Tampering = {}): Promise<Tap> {
  const { request = unchanged, answer = unchanged } = tampering;
  const requests: Buffer[] = [];
  const answers: Buffer[] = [];
  const id = await startRaw((near) => {
    const far = connect(port, '127.0.0.1');
    far.on('error', () => near.destroy());
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
    near.on('data', (bytes: Buffer) => {
      requests.push(bytes);
      far.write(request(bytes));
    });
    far.on('data', (bytes: Buffer) => {
      answers.push(bytes);
      near.write(answer(bytes));
    });
  });
  return { id, requests, answers };
}

function unchanged(bytes: Buffer): Buffer {
  return bytes;
}

/** Waits until something holds, for at most two seconds. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 400; i += 1) {
    if (holds()) return;
    await sleep(5);
  }
  throw new Error(`waited in vain: ${what}`);
}

export function sleep(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}

/** A promise and its resolution. */
export function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}
