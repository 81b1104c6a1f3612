import { Worker } from 'node:worker_threads';
import { COMMANDS } from '../../src/server/resp/commands.js';

/** One connection after the other asks `text` again as soon as it has the answers to all that it asked. */
interface Attack {
  readonly port: number;
  readonly connections: number;
  /** A request, or several. */
  readonly text: string;
  /** Marks the end of each answer, and how many of them answer `text`. */
  readonly answerEnd: string;
  readonly answers: number;
}

/** Calls of one method of gRPC, so many at once on each connection. */
interface GrpcAttack {
  readonly port: number;
  readonly connections: number;
  readonly streams: number;
  readonly path: string;
  readonly message: Buffer;
}

/** Attackers run in a thread of their own, at a lower priority: they stand for other machines. */
const CODE = `
  const { readlinkSync } = require('node:fs');
  const { connect } = require('node:net');
  const http2 = require('node:http2');
  const { setPriority } = require('node:os');
  const { workerData: attack, parentPort } = require('node:worker_threads');
  setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), 10);
  let answered = 0;
  const ends = [];
  function ask({ port, text, answerEnd, answers }) {
    const socket = connect(port, '127.0.0.1');
    const end = Buffer.from(answerEnd);
    let tail = '';
    let got = 0;
    socket.on('error', () => undefined);
    socket.on('connect', () => socket.write(text));
    socket.on('data', (chunk) => {
      const seen = tail + chunk.toString('latin1');
      let at = 0;
      for (let next; (next = seen.indexOf(answerEnd, at)) >= 0; at = next + end.length) got += 1;
      tail = seen.slice(Math.max(at, seen.length - end.length + 1));
      if (got < answers) return;
      answered += got;
      got = 0;
      socket.write(text);
    });
    ends.push(() => socket.destroy());
  }
  function call({ port, streams, path, message }) {
    const session = http2.connect('http://127.0.0.1:' + port);
    session.on('error', () => undefined);
    const begin = () => {
      if (session.destroyed) return;
      const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' });
      stream.on('error', () => undefined);
      stream.on('data', () => undefined);
      stream.on('close', () => {
        answered += 1;
        setImmediate(begin);
      });
      stream.end(message);
    };
    session.on('connect', () => {
      for (let i = 0; i < streams; i += 1) begin();
    });
    ends.push(() => session.destroy());
  }
  let open = 0;
  const opening = setInterval(() => {
    for (let i = 0; i < 100 && open < attack.connections; i += 1, open += 1) (attack.path ? call : ask)(attack);
  }, 10);
  parentPort.once('message', () => {
    clearInterval(opening);
    for (const end of ends) end();
    parentPort.postMessage(answered);
    parentPort.close();
  });
`;

/** @returns ends it, and says how many answers the attackers got */
export function startAttack(attack: Attack | GrpcAttack): () => Promise<number> {
  const worker = new Worker(CODE, { eval: true, workerData: attack });
  return () =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject);
      worker.postMessage('end');
    });
}

/** So many connections that each get this page again and again. */
function getting(port: number, path: string, connections: number): Attack {
  const text = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
  return { port, connections, text, answerEnd: 'HTTP/1.1 ', answers: 1 };
}

interface Attacked {
  readonly port: number;
  readonly respPort: number;
  readonly grpcPort: number;
}

/** What keeps a node busy with anything but decisions, by name. */
export function attacksOn({ port, respPort, grpcPort }: Attacked): Readonly<Record<string, Attack | GrpcAttack>> {
  const bad =
    'POST /v1/allow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{x';
  const path = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
  return {
    '200 on /openapi.json': getting(port, '/openapi.json', 200),
    '2,000 on /healthz': getting(port, '/healthz', 2_000),
    '4,000 on /healthz': getting(port, '/healthz', 4_000),
    '500 pipelining COMMAND': {
      port: respPort,
      connections: 500,
      text: 'COMMAND\r\n'.repeat(64),
      answerEnd: `*${Object.keys(COMMANDS).length}\r\n`,
      answers: 64,
    },
    '50 of gRPC with 128 calls': { port: grpcPort, connections: 50, streams: 128, path, message: rateLimitMessage() },
    '200 on /v1/top': getting(port, '/v1/top', 200),
    '200 on /v1/stats': getting(port, '/v1/stats', 200),
    '200 on /metrics': getting(port, '/metrics', 200),
    '200 on /dashboard': getting(port, '/dashboard', 200),
    '2,000 on an unknown path': getting(port, '/nowhere', 2_000),
    '500 with bad JSON': { ...getting(port, '', 500), text: bad },
  };
}

/** A question of Envoy without a domain that the node knows, behind its prefix of gRPC: the node answers OK. */
function rateLimitMessage(): Buffer {
  const text = (tag: number, value: string): Buffer =>
    Buffer.concat([Buffer.from([tag, value.length]), Buffer.from(value)]);
  const bytes = (tag: number, value: Buffer): Buffer => Buffer.concat([Buffer.from([tag, value.length]), value]);
  const entry = bytes(0x0a, Buffer.concat([text(0x0a, 'user'), text(0x12, 'alice')]));
  const limit = bytes(0x12, Buffer.from([0x08, 100, 0x10, 2]));
  const message = Buffer.concat([text(0x0a, 'edge'), bytes(0x12, Buffer.concat([entry, limit]))]);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
