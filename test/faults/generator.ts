/**
 * The load, a process of its own so that nothing else keeps it from sending and from reading the time: asks for decisions
 * at a steady rate whatever the answers do, retries nothing, and writes down how each request ended. Told what to do by the
 * messages of `protocol.ts`; its argument is a JSON of `GeneratorOptions`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { Decision } from '../../src/limits/decide/decision.js';
import { createRandom } from '../sim/random.js';
import { questionOf, type AskedClient } from './clients.js';
import { machineMs, type Asked } from './history.js';
import type { Call, CallName, Calls, Reply } from './protocol.js';
import type { HttpResult } from './http-client.js';
import { createRotation } from './rotation.js';

export interface GeneratorOptions {
  readonly seed: number;
  /** A file of the clients, as JSON. */
  readonly clients: string;
}

const TICK_MS = 4;
/** What could not be sent for longer is not sent any more. */
const MAX_ARREARS_MS = 1_000;
/** A tick that comes so late was kept off the processor. Meanwhile a node may have said that it stops, and stopped. */
const LATE_MS = 100;
const TIMEOUT_MS = 15_000;
const GETS_AT_ONCE = 8;

const options = JSON.parse(process.argv[2]!) as GeneratorOptions;
const random = createRandom(options.seed);
const clients = JSON.parse(readFileSync(options.clients, 'utf8')) as readonly AskedClient[];
const questions = clients.map(questionOf);
/** Each client as often as it weighs: a draw is one look. */
const weighted = (some: readonly number[]): number[] =>
  some.flatMap((client) => new Array<number>(clients[client]!.weight).fill(client));
let draw = weighted([...clients.keys()]);
const rotation = createRotation();
const history: Asked[] = [];
let underWay = 0;

type Times = Pick<Asked, 'node' | 'sentMs' | 'receivedMs'>;

/** @param done is called with what the answer says of when it was asked and answered, and by whom */
function post(path: string, body: string, node: number, done: (answer: HttpResult, times: Times) => void): void {
  const sentMs = machineMs();
  underWay += 1;
  rotation.client(node).request(`POST ${path}`, body, TIMEOUT_MS, (answer) => {
    underWay -= 1;
    done(answer, { node, sentMs, receivedMs: machineMs() });
    fill();
  });
}

/** How a request ends on a connection that the node had closed before. */
const BROKEN = /ECONNRESET|EPIPE|was closed/;
/**
 * Requests to a node that was last asked whether it is ready before this process was kept off the processor. It may have
 * closed its port meanwhile, and no balancer would have sent them.
 */
let unsent = 0;
let lateAtMs = 0;

function ask(client: number, node: number): void {
  const readyAtMs = rotation.readyAtMs(node);
  const wasBlind = lateAtMs > readyAtMs;
  post('/v1/allow', questions[client]!, node, (answer, times) => {
    const about = { client, ...times };
    if ('error' in answer) {
      // Without a connection nothing was sent yet; otherwise it matters what was known when it was sent.
      const isBlind = answer.error.startsWith('connect ')
        ? lateAtMs > readyAtMs
        : wasBlind && BROKEN.test(answer.error);
      if (isBlind) unsent += 1;
      else history.push({ ...about, status: 0, error: answer.error });
      return;
    }
    const { status, body } = answer;
    if (status !== 200 && status !== 429) return void history.push({ ...about, status, error: body.slice(0, 200) });
    history.push({ ...about, status, ...(JSON.parse(body) as Decision) });
  });
}

/** Asks for all these clients in one request. Each item becomes a line of the history, as if asked alone. */
function askBatch(some: readonly number[], node: number): Promise<void> {
  const requests = some.map((client) => questions[client]!).join();
  return new Promise((resolve) => {
    post('/v1/allow/batch', `{"requests":[${requests}]}`, node, (answer, times) => {
      noteBatch(some, answer, times);
      resolve();
    });
  });
}

function noteBatch(some: readonly number[], answer: HttpResult, times: Times): void {
  const status = 'error' in answer ? 0 : answer.status;
  if ('error' in answer || status !== 200) {
    const error = 'error' in answer ? answer.error : answer.body.slice(0, 200);
    for (const client of some) history.push({ client, ...times, status, error });
    return;
  }
  const { results } = JSON.parse(answer.body) as { results: readonly (Decision | { error: { status: number } })[] };
  results.forEach((result, i) => {
    const about = { client: some[i]!, ...times };
    if ('error' in result) history.push({ ...about, status: result.error.status, error: JSON.stringify(result.error) });
    else history.push({ ...about, status: result.allowed ? 200 : 429, ...result });
  });
}

function askAny(client: number): void {
  const { living } = rotation;
  if (living.length > 0) ask(client, random.pick(living));
}

let inFlight = 0;

/** Sends until as many are under way as are to be. */
function fill(): void {
  while (underWay < inFlight && rotation.living.length > 0) askAny(random.pick(draw));
}

let perSecond = 0;
let pacedMs = 0;
let stalledMs = 0;
let due = 0;
let lastMs = machineMs();
let owed = 0;
setInterval(() => {
  const nowMs = machineMs();
  const elapsedMs = nowMs - lastMs;
  lastMs = nowMs;
  if (elapsedMs > LATE_MS) lateAtMs = nowMs;
  fill();
  if (perSecond === 0 && inFlight === 0) return;
  pacedMs += elapsedMs;
  stalledMs = Math.max(stalledMs, elapsedMs - TICK_MS);
  due += (elapsedMs * perSecond) / 1_000;
  owed = Math.min(owed + (elapsedMs * perSecond) / 1_000, (MAX_ARREARS_MS * perSecond) / 1_000);
  for (; owed >= 1; owed -= 1) askAny(random.pick(draw));
}, TICK_MS);

/** No request ever leaves this machine, or the network namespace that was made for it. */
function requireOwnNetwork(url: string): void {
  const { hostname } = new URL(url);
  if (hostname.startsWith('127.')) return;
  const outward = Object.values(networkInterfaces()).flatMap((all) => (all ?? []).filter(({ internal }) => !internal));
  const subnet = hostname.slice(0, hostname.lastIndexOf('.') + 1);
  const own = outward.filter(({ family }) => family === 'IPv4');
  if (own.length === 1 && own[0]!.address.startsWith(subnet)) return;
  throw new Error(`${url} is not in a network of this test's own`);
}

const calls: {
  [K in CallName]: (asked: Parameters<Calls[K]>[0]) => ReturnType<Calls[K]> | Promise<ReturnType<Calls[K]>>;
} = {
  node({ node, url }) {
    requireOwnNetwork(url);
    rotation.add(node, url);
  },
  pace(asked) {
    ({ perSecond } = asked);
    if (asked.among !== undefined) draw = weighted(asked.among);
    owed = 0;
    return machineMs();
  },
  signal({ signal, to, routing }) {
    for (const { node, pid } of to) {
      process.kill(pid, signal);
      if (routing !== 'as-it-says') rotation.route(node, routing === 'on');
    }
    return machineMs();
  },
  burst({ clients, times, node }) {
    for (let i = 0; i < times; i += 1) {
      for (const client of clients) {
        if (node === undefined) askAny(client);
        else ask(client, node);
      }
    }
  },
  saturate(asked) {
    ({ inFlight } = asked);
  },
  async batches({ clients, times, node }) {
    const fromMs = machineMs();
    await Promise.all(Array.from({ length: times }, () => askBatch(clients, node)));
    return machineMs() - fromMs;
  },
  async get({ node, paths }) {
    const got = [];
    for (let i = 0; i < paths.length; i += GETS_AT_ONCE) {
      const some = paths.slice(i, i + GETS_AT_ONCE);
      got.push(...(await Promise.all(some.map((path) => rotation.get(node, path)))));
    }
    return got;
  },
  routed: ({ node }) => rotation.isRouted(node),
  async finish({ path }) {
    perSecond = inFlight = 0;
    while (underWay > 0) await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    const lines = [JSON.stringify({ pacedMs, stalledMs, due, unsent }), ...history.map((one) => JSON.stringify(one))];
    writeFileSync(path, lines.join('\n') + '\n');
  },
};

async function answer<K extends CallName>({ id, name, asked }: Call<K>): Promise<Reply> {
  try {
    return { id, value: await calls[name](asked) };
  } catch (error) {
    return { id, error: (error as Error).message };
  }
}

process.on('message', (call: Call) => void answer(call).then((reply) => process.send!(reply)));
// Ends with who started it, however that ended.
process.on('disconnect', () => process.exit());
