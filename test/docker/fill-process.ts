// Fills nodes with everything that they remember and hold, all at once. Runs where the nodes are reached: in a network
// namespace, say. Arguments: seconds, and the public ports.
// Prints one JSON line: what was asked, and how decisions went on meanwhile.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';

export interface Filled {
  /** Answers to what filled the nodes, by kind and status; 0: no answer. */
  readonly asked: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Single decisions of clients that take no part in it. */
  readonly decisions: { readonly answered: number; readonly failed: number; readonly p99Ms: number };
  /** Metrics of each node at the end; −1: it does not answer. */
  readonly clients: readonly number[];
  readonly reservations: readonly number[];
  /** Clients that were dropped although their limits still counted. Some: the tables were full. */
  readonly evictions: readonly number[];
}

const [seconds, ...ports] = process.argv.slice(2).map(Number) as [number, ...number[]];
let endMs = Infinity;
const agent = new Agent({ connections: 32 });
const asked: Record<string, Record<string, number>> = {};
const DAY_MS = 86_400_000;
const goesOn = (): boolean => performance.now() < endMs;
let ids = 0;

function note(kind: string, status: number): void {
  const counts = (asked[kind] ??= {});
  counts[status] = (counts[status] ?? 0) + 1;
}

async function post(kind: string, port: number, path: string, body: object): Promise<void> {
  try {
    const answer = await request(`http://127.0.0.1:${port}${path}`, {
      method: 'POST',
      dispatcher: agent,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    await answer.body.dump();
    note(kind, answer.statusCode);
    if (answer.statusCode === 503) await sleep(50);
  } catch {
    note(kind, 0);
    await sleep(50);
  }
}

/** Eight limits that no other client has, over windows whose ms need more than 31 bits. */
function limitsOf(i: number): object[] {
  return Array.from({ length: 8 }, (_, at) => ({ limit: 1_000 + (i % 1_000_000), window: 30 * DAY_MS + at }));
}

const longId = (i: number, bytes: number): string => `${i}-`.padEnd(bytes, 'x');

/** Items of one batch. Bodies of more than 64 KiB would share their memory with those that are held. */
const BATCH_SIZES: Readonly<Record<string, number>> = { plain: 600, 'long ids': 150, policies: 600, leases: 600 };
const SMALL_BATCH = 80;
/** Fillers of one kind, where there is more than one. */
const FILLERS: Readonly<Record<string, number>> = { plain: 2, 'long ids': 4, reservations: 2 };

/** What one item of a batch asks, by kind. */
const KINDS: Readonly<Record<string, (i: number) => object>> = {
  plain: (i) => ({ clientId: `client:${String(i).padStart(13, '0')}`, limit: 100, window: '1h' }),
  'long ids': (i) => ({ clientId: longId(i, 256), limit: 100, window: '1h' }),
  'rules of their own': (i) => ({ clientId: `rule:${i}`, limit: 10 + i, window: DAY_MS + (i % 1_000_000) }),
  'eight limits': (i) => ({ clientId: `eight:${i}`, limits: limitsOf(i) }),
  'sliding windows': (i) => ({ clientId: `sliding:${i}`, limit: 100, window: '1d', algorithm: 'sliding-window' }),
  reservations: (i) => ({
    clientId: longId(i, 200),
    limits: limitsOf(i),
    requestId: longId(i, 128),
    reserve: true,
  }),
  'request ids': (i) => ({ clientId: `ids:${i % 50_000}`, limit: 1_000_000, window: '1d', requestId: longId(i, 128) }),
  denials: (i) => ({ clientId: `denied:${i}`, limits: [{ limit: 0, window: '1d' }, ...limitsOf(i).slice(1)] }),
  leases: (i) => ({ clientId: `hot:${i % 500}`, limit: 1_000_000, window: '1m' }),
  policies: (i) => ({ clientId: `policy:${i % 100_000}`, policy: `policy-${i % 80}` }),
};

async function fill(kind: string, item: (i: number) => object): Promise<void> {
  for (let i = 0; goesOn(); i += 1) {
    const requests = Array.from({ length: BATCH_SIZES[kind] ?? SMALL_BATCH }, () => item((ids += 1)));
    await post(kind, ports[i % ports.length]!, '/v1/allow/batch', { requests });
  }
}

/** Opens a connection, and again when it is cut, and sends `text` on each. */
async function hold(kind: string, port: number, text: string, reads: boolean): Promise<void> {
  let socket: Socket | undefined;
  process.once('exit', () => socket?.destroy());
  while (goesOn()) {
    socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    if (!reads) socket.pause();
    socket.write(text);
    const closed = once(socket, 'close').catch(() => undefined);
    if (reads) socket.resume();
    note(kind, 1);
    await Promise.race([closed, sleep(Math.max(0, endMs - performance.now()))]);
    await sleep(reads ? 500 : 5_000);
  }
}

function requestText(path: string, body: string, announced = body.length): string {
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${announced}\r\n\r\n${body}`;
}

function holdAll(): Promise<void>[] {
  const batch = { requests: Array.from({ length: 400 }, (_, i) => ({ clientId: `unread:${i}`, limits: limitsOf(i) })) };
  // Answers of more than a MiB, which take little time to make.
  const unread = requestText('/v1/allow/batch', JSON.stringify(batch)).repeat(4);
  const small = requestText('/v1/allow', ' '.repeat(60_000), 60_001);
  const large = requestText('/v1/allow/batch', ' '.repeat(900_000), 900_001);
  const settle = requestText('/v1/settle', ' '.repeat(60_000), 60_001);
  const headers = `POST /v1/allow HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(15_000)}`;
  return ports.flatMap((port) => [
    ...Array.from({ length: 60 }, () => hold('connections that do not read', port, unread, false)),
    ...Array.from({ length: 100 }, () => hold('small bodies held', port, small, true)),
    ...Array.from({ length: 30 }, () => hold('large bodies held', port, large, true)),
    ...Array.from({ length: 50 }, () => hold('bodies of settlements held', port, settle, true)),
    ...Array.from({ length: 200 }, () => hold('headers held', port, headers, true)),
    ...Array.from({ length: 300 }, () => hold('idle connections', port, requestText('/v1/allow', '{}'), true)),
  ]);
}

const latenciesMs: number[] = [];
let failed = 0;

async function decide(port: number): Promise<void> {
  for (let i = 0; goesOn(); i += 1) {
    const startMs = performance.now();
    try {
      const answer = await request(`http://127.0.0.1:${port}/v1/allow`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ clientId: `regular:${port}:${i % 20}`, limit: 1_000, window: '1h' }),
      });
      await answer.body.dump();
      if (answer.statusCode !== 200 && answer.statusCode !== 429) failed += 1;
    } catch {
      failed += 1;
    }
    latenciesMs.push(performance.now() - startMs);
    await sleep(20);
  }
}

async function metricOf(port: number, name: string): Promise<number> {
  try {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
  } catch {
    return -1;
  }
}

async function isReady(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
  return answer?.ok === true;
}

process.setMaxListeners(0);
for (const port of ports) {
  for (let tries = 0; !(await isReady(port)); tries += 1) {
    if (tries === 450) throw new Error(`the node at port ${port} is not ready after 90 s`);
    await sleep(200);
  }
}
endMs = performance.now() + 1_000 * seconds;
const holding = holdAll();
const fillers = Object.entries(KINDS).flatMap(([kind, item]) =>
  Array.from({ length: FILLERS[kind] ?? 1 }, () => fill(kind, item)),
);
await Promise.all([...fillers, ...ports.map(decide)]);
const metricsOf = (name: string): Promise<number[]> => Promise.all(ports.map((port) => metricOf(port, name)));
void Promise.all(holding);
latenciesMs.sort((a, b) => a - b);
const filled: Filled = {
  asked,
  decisions: {
    answered: latenciesMs.length - failed,
    failed,
    p99Ms: Math.round(latenciesMs[Math.floor(0.99 * latenciesMs.length)]!),
  },
  clients: await metricsOf('tokenring_clients'),
  reservations: await metricsOf('tokenring_reservations'),
  evictions: await metricsOf('tokenring_unexpired_evictions_total'),
};
process.stdout.write(`${JSON.stringify(filled)}\n`);
process.exit(0);
