import { once } from 'node:events';
import net from 'node:net';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, expectProblem, liveNode, parse, type Answer } from '../support/http.js';
import { createRandom } from '../sim/random.js';
import { CANARY, fuzzRequest, type FuzzRequest } from './fuzz-requests.js';
import { bytesInUse, MIB } from './memory.js';
import { connect } from './wire.js';

const REQUESTS = 20_000;
const CONNECTIONS = 8;
const STATUSES = new Set([200, 204, 302, 400, 401, 403, 404, 405, 413, 415, 429, 431, 503]);

interface Head {
  readonly status: number;
  readonly type: string;
  readonly closes: boolean;
  readonly bodyBytes: number;
  readonly headBytes: number;
}

function readHead(bytes: Buffer, answer: FuzzRequest['answer']): Head | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const text = bytes.toString('latin1', 0, end).toLowerCase();
  const length = /\r\ncontent-length: (\d+)/.exec(text)?.[1] ?? '0';
  return {
    status: Number(text.slice(9, 12)),
    type: /\r\ncontent-type: ([^\r]*)/.exec(text)?.[1] ?? '',
    closes: text.includes('\r\nconnection: close'),
    bodyBytes: answer === 'none' ? 0 : Number(length),
    headBytes: end + 4,
  };
}

/** Sends one request after the other over one connection, and over a new one where the server ended it. */
async function talk(
  port: number,
  next: () => FuzzRequest | undefined,
  seen: (head: Head, body: string) => void,
): Promise<void> {
  for (let request = next(); request !== undefined;) {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    await once(socket, 'connect');
    request = await new Promise<FuzzRequest | undefined>((resolve, reject) => {
      let pending = Buffer.alloc(0);
      let current: FuzzRequest | undefined = request;
      const broken = (why: string): void => {
        reject(new Error(`${why}, asked: ${JSON.stringify(current?.bytes.toString('latin1'))}`));
        socket.destroy();
      };
      socket.on('error', (error) => broken(error.message));
      socket.on('close', () => broken('hung up without an answer'));
      socket.setTimeout(5_000, () => broken('no answer in 5 s'));
      socket.on('data', (chunk) => {
        pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
        const head = readHead(pending, current!.answer);
        if (head === undefined || pending.length < head.headBytes + head.bodyBytes) return;
        if (pending.length > head.headBytes + head.bodyBytes)
          return broken(`more than an answer: ${pending.toString()}`);
        try {
          check(current!, head, pending.toString('utf8', head.headBytes));
        } catch (error) {
          return broken(String(error));
        }
        pending = Buffer.alloc(0);
        current = next();
        if (current === undefined || head.closes) {
          socket.removeAllListeners('close').destroy();
          return resolve(current);
        }
        socket.write(current.bytes);
      });
      socket.write(request!.bytes);
    });
  }

  function check(request: FuzzRequest, head: Head, body: string): void {
    if (!STATUSES.has(head.status)) throw new Error(`status ${head.status}, ${body}`);
    // A browser that asks for / is led elsewhere, without a body.
    if (request.answer === 'json' && head.status !== 204 && head.status !== 302) {
      if (!head.type.startsWith('application/')) throw new Error(`a body of ${head.type}, ${body}`);
      parse(body);
    }
    seen(head, body);
  }
}

describe('any request', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode('--admin-token', 'fuzz-token', '--max-clients', '1000');
  });
  const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 1_000_000_000);

  it(`is answered with a documented status, in JSON, and breaks nothing (FUZZ_SEED=${seed})`, async function () {
    this.timeout(90_000);
    const random = createRandom(seed);
    const statuses = new Map<number, number>();
    let left = REQUESTS;
    const inUse: number[] = [];
    const next = (): FuzzRequest | undefined => {
      if (left === 0) return undefined;
      left -= 1;
      if (left === REQUESTS / 2) inUse.push(bytesInUse());
      return fuzzRequest(random);
    };
    const seen = ({ status }: Head): void => void statuses.set(status, (statuses.get(status) ?? 0) + 1);
    await Promise.all(Array.from({ length: CONNECTIONS }, () => talk(node.port, next, seen)));
    inUse.push(bytesInUse());

    expect([...statuses.values()].reduce((a, b) => a + b)).to.equal(REQUESTS);
    // The mix reaches every kind of answer, or it would prove little.
    for (const status of [200, 204, 400, 401, 404, 405, 415, 429]) {
      expect(statuses.get(status), `requests answered with ${status}`).to.be.above(REQUESTS / 5_000);
    }
    expect(statuses.get(200)).to.be.above(REQUESTS / 10);
    expect(inUse[1]! - inUse[0]!, 'bytes more after the second half').to.be.below(16 * MIB);
    await expectNothingConsumed();
  });

  it(`is answered, or hung up on, however little like HTTP it is (FUZZ_SEED=${seed})`, async function () {
    this.timeout(90_000);
    const random = createRandom(seed + 1);
    const mangled = (): Buffer => {
      const { bytes, answer } = fuzzRequest(random);
      // What answers without a body, though it names its length, would be misread.
      if (answer === 'none') return mangled();
      for (let i = random.between(1, 6); i > 0; i -= 1)
        bytes[random.between(0, bytes.length - 1)] = random.between(0, 255);
      return bytes.subarray(0, random.chance(0.3) ? random.between(1, bytes.length) : bytes.length);
    };
    for (let round = 0; round < 50; round += 1) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => sayAndStop(node.port, mangled())));
      for (const { status, text } of answers.flat()) {
        expect(status === 100 || STATUSES.has(status), `${status} ${text}`).to.equal(true);
      }
    }
    await expectNothingConsumed();
  });

  async function expectNothingConsumed(): Promise<void> {
    const answer: Answer = await call(node, `/v1/clients/${CANARY}`);
    expect((answer.json as { buckets: unknown[] }).buckets).to.deep.equal([]);
    const question = { clientId: CANARY, limit: 9, window: '366d', peek: true };
    expect(await allow(node, question)).to.include({ allowed: true, remaining: 9 });
    expectProblem(await call(node, '/v1/clients/x', { method: 'DELETE' }), 'unauthorized');
  }
});

async function sayAndStop(port: number, bytes: Buffer): Promise<readonly Answer[]> {
  const wire = await connect(port);
  wire.send(bytes);
  wire.end();
  return wire.closed();
}
