import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Envelope, PeerAnswer, PeerMessage, Sender, PeerTransport } from '../../src/protocol/messages.js';
import type { Log } from '../../src/lib/system.js';
import { NO_CLIENTS } from '../support/wire.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import { PeerCounters } from '../../src/protocol/link/counters.js';
import { FrameReader } from '../../src/protocol/link/frame.js';
import {
  createOffer,
  readAcceptance,
  UPGRADE,
  type Identity,
  type LinkKeys,
  peerKeysOf,
} from '../../src/protocol/link/handshake.js';
import { RecordReader, RecordWriter } from '../../src/protocol/link/record.js';
import { PeerServer, type PeerServerOptions } from '../../src/protocol/link/server.js';
import { LinkTransport, type PeerTransportOptions } from '../../src/protocol/link/transport.js';

export const SENDER: Sender = {
  from: {
    id: '127.0.0.1:9080',
    incarnation: 1,
    state: 'active',
    beat: 7,
    version: '0.1.0',
    url: '',
    silentMs: 0,
    suspected: false,
  },
  view: 'abc',
  policies: '0f',
};

/** A message that its answer can be told by. */
export function ask(chunk: number): Envelope<PeerMessage> {
  return { sender: SENDER, body: { kind: 'handoff', chunk, gone: [] } };
}

export function answerTo({ body }: Envelope<PeerMessage>): Envelope<PeerAnswer> {
  const total = body.kind === 'handoff' ? body.chunk : 0;
  return { sender: SENDER, body: { kind: 'handed', clients: NO_CLIENTS, more: false, total } };
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
  readonly cluster?: string;
  readonly port?: number;
  readonly host?: string;
  readonly socketPath?: string;
  readonly receive?: (message: Envelope<PeerMessage>) => Promise<Envelope<PeerAnswer>>;
}

/** A peer that answers with what it was asked. */
export async function startPeer(options: TestPeerOptions = {}): Promise<TestPeer> {
  const { secret, cluster = 'default', host = '127.0.0.1', receive = answerAtOnce } = options;
  const received: Envelope<PeerMessage>[] = [];
  const counters = new PeerCounters();
  const log = createLog();
  const peer = new PeerServer(
    {
      receive(message) {
        received.push(message);
        return receive(message);
      },
      counters,
      log,
      identity: { cluster, keys: peerKeysOf(secret, cluster), self: () => id },
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
  if (options.socketPath !== undefined) {
    peer.local.listen(options.socketPath);
    await once(peer.local, 'listening');
  }
  const id = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  cleanups.push(() => peer.close(0));
  return {
    id,
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

export interface TestSenderOptions extends PeerTransportOptions {
  readonly secret?: string | undefined;
  readonly cluster?: string;
}

export function createSender(options: TestSenderOptions = {}): TestTransport {
  const counters = new PeerCounters();
  const log = createLog();
  const transport = new LinkTransport({ counters, log, identity: identityOf(options) }, options);
  cleanups.push(() => transport.close());
  return { transport, counters, log };
}

/** A node that only sends. */
export function identityOf({
  secret,
  cluster = 'default',
}: {
  secret?: string | undefined;
  cluster?: string;
}): Identity {
  return { cluster, keys: peerKeysOf(secret, cluster), self: () => '127.0.0.1:9080' };
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

/** A request that a peer upgrades to a link. */
export function upgradeRequest(headers: Readonly<Record<string, string>>, path = '/peer'): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: ${UPGRADE}\r\n${lines.join('')}\r\n`;
}

/** What a node without a secret sends. */
export function offerHeaders(options: { secret?: string; cluster?: string } = {}): Record<string, string> {
  return { ...createOffer(identityOf(options), '127.0.0.1:1').headers };
}

/** A link made by hand, to send what no peer sends. */
export interface RawLink {
  readonly socket: Socket;
  /** Puts frames into records. */
  readonly seal: (frames: Buffer) => Buffer;
  /** The payloads that have come, by the number of their frame. */
  readonly answers: Map<number, Buffer>;
}

export async function openRawLink(port: number, secret?: string): Promise<RawLink> {
  const identity = identityOf({ secret });
  const offer = createOffer(identity, `127.0.0.1:${port}`);
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  cleanups.push(() => socket.destroy());
  socket.write(upgradeRequest(offer.headers));
  let text = '';
  while (!text.includes('\r\n\r\n')) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) await once(socket, 'readable');
    else text += chunk.toString('latin1');
  }
  const headers: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/^([\w-]+): (.*)\r$/gm)) headers[name!] = value!;
  const acceptance = readAcceptance(identity, offer, headers);
  if ('reason' in acceptance) throw new Error(acceptance.reason);
  let keys: LinkKeys | undefined;
  if (acceptance.derived !== undefined) {
    const { clientProof, clientKey, serverKey } = acceptance.derived;
    socket.write(clientProof);
    while (socket.readableLength < 32) await once(socket, 'readable');
    socket.read(32);
    keys = { send: clientKey, receive: serverKey };
  }
  const answers = new Map<number, Buffer>();
  const records = new RecordReader(keys?.receive);
  const frames = new FrameReader(2 ** 30);
  socket.on('data', (chunk) => {
    records.push(chunk);
    for (let record = records.next(); Buffer.isBuffer(record); record = records.next()) {
      frames.push(record);
      for (let payload = frames.next(); Buffer.isBuffer(payload); payload = frames.next())
        answers.set(frames.number, Buffer.from(payload));
    }
  });
  const sealer = new RecordWriter(keys?.send);
  return { socket, answers, seal: (frames) => sealer.seal(frames) };
}

export function frame(number: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(payload.length, 0);
  head.writeUInt32LE(number, 4);
  return Buffer.concat([head, payload]);
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
  /** Looked at again and again: once it holds, the connection is reset. */
  readonly cut?: () => boolean;
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
    const cutting = setInterval(() => {
      if (tampering.cut?.() === true) near.resetAndDestroy();
    }, 5);
    near.on('close', () => clearInterval(cutting));
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
