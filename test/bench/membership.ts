import { setTimeout as sleep } from 'node:timers/promises';
import { startEtcd } from '../discovery/etcd-process.js';
import { freePorts } from '../support/ports.js';
import { GENERATOR_CORE, SERVER_CORE } from './machine.js';
import { startNode, type ServerProcess } from './processes.js';
import { missing } from '../support/programs.js';

/**
 * `tsx test/bench/membership.ts`: what each way of knowing the members costs, with three nodes: a decision of the owner and a
 * forwarded one, asked one at a time; the messages between idle nodes; and the time until somebody decides for the clients of a
 * node that was killed, or cut off with its machine, which here is frozen.
 */
const NODES = 3;
const DECISIONS = 1_000;
const IDLE_MS = 5_000;

interface Ring {
  readonly nodes: readonly ServerProcess[];
  readonly ids: readonly string[];
}

interface Answer {
  readonly allowed: boolean;
  readonly source: string;
}

async function get<T>(port: number, path: string): Promise<T> {
  return (await (await fetch(`http://127.0.0.1:${port}${path}`)).json()) as T;
}

async function allow(port: number, clientId: string): Promise<Answer> {
  const answer = await fetch(`http://127.0.0.1:${port}/v1/allow`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ clientId, limit: 1_000_000, window: '1h' }),
  });
  return (await answer.json()) as Answer;
}

async function startRing(settings: readonly string[]): Promise<Ring> {
  const ports = await freePorts(NODES);
  const ids = ports.map((port) => `127.0.0.1:${port}`);
  const nodes: ServerProcess[] = [];
  for (const [i, port] of ports.entries()) {
    const all = ['--peer-port', String(port), '--peers', ids.join(), '--policies', 'none', ...settings];
    nodes.push(await startNode(i === 0 ? SERVER_CORE : GENERATOR_CORE, 'dist/esm', all));
  }
  return { nodes, ids };
}

/** A client that this member owns, not asked for before. */
async function clientOf(ring: Ring, owner: string, from: number): Promise<string> {
  for (let i = from; ; i += 1) {
    const answer = await get<{ owner: string }>(ring.nodes[0]!.port, `/v1/cluster/owner?clientId=client-${i}`);
    if (answer.owner === owner) return `client-${i}`;
  }
}

async function medianMs(port: number, clientIds: readonly string[]): Promise<number> {
  const took: number[] = [];
  for (let i = 0; i < DECISIONS; i += 1) {
    const startedMs = performance.now();
    await allow(port, clientIds[i % clientIds.length]!);
    if (i >= DECISIONS / 5) took.push(performance.now() - startedMs);
  }
  return took.sort((a, b) => a - b)[Math.floor(took.length / 2)]!;
}

async function messages({ nodes }: Ring): Promise<number> {
  let sum = 0;
  for (const { port } of nodes) {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    for (const [, count] of text.matchAll(/^tokenring_peer_messages_total\{.*\} (\d+)$/gm)) sum += Number(count);
  }
  return sum;
}

/** @returns ms until a node decides for a client of one that ended just now */
async function failoverMs(ring: Ring, end: (node: ServerProcess) => void): Promise<number> {
  const victim = ring.nodes.at(-1)!;
  const clientId = await clientOf(ring, ring.ids.at(-1)!, 1_000);
  await allow(ring.nodes[0]!.port, clientId);
  await sleep(200);
  const startedMs = performance.now();
  end(victim);
  while (performance.now() - startedMs < 30_000) {
    const { allowed, source } = await allow(ring.nodes[0]!.port, clientId);
    if (allowed && source !== 'fallback') break;
    await sleep(5);
  }
  return performance.now() - startedMs;
}

async function measure(name: string, settings: readonly string[]): Promise<void> {
  const ring = await startRing(settings);
  const own = await clientOf(ring, ring.ids[0]!, 0);
  const foreign: string[] = [];
  // Some, so that none is hot enough to be decided with leased tokens.
  for (let i = 0; foreign.length < 200; i += 1) {
    const { owner } = await get<{ owner: string }>(ring.nodes[0]!.port, `/v1/cluster/owner?clientId=other-${i}`);
    if (owner !== ring.ids[0]) foreign.push(`other-${i}`);
  }
  const ownMs = await medianMs(ring.nodes[0]!.port, [own]);
  const forwardedMs = await medianMs(ring.nodes[0]!.port, foreign);
  await sleep(2_000);
  const before = await messages(ring);
  await sleep(IDLE_MS);
  const idle = ((await messages(ring)) - before) / (IDLE_MS / 1_000) / NODES;
  const killedMs = await failoverMs(ring, (node) => node.kill('SIGKILL'));
  await Promise.all(ring.nodes.map((node) => node.stop()));
  const again = await startRing(settings);
  const frozenMs = await failoverMs(again, (node) => node.kill('SIGSTOP'));
  await Promise.all(again.nodes.map((node) => node.stop()));
  process.stdout.write(
    `${name}: owner ${ownMs.toFixed(2)} ms, forwarded ${forwardedMs.toFixed(2)} ms; idle ${idle.toFixed(1)} messages a node and second; ` +
      `decides for a killed node after ${killedMs.toFixed(0)} ms, for a frozen one after ${frozenMs.toFixed(0)} ms\n`,
  );
}

await measure('static', []);
const why = missing('etcd');
if (why === undefined) {
  const etcd = await startEtcd({ size: 3 });
  await etcd.ready();
  const inEtcd = ['--discovery', 'etcd', '--etcd-endpoints', etcd.endpoints.join()];
  await measure('etcd', [...inEtcd, '--etcd-prefix', '/plain/']);
  const strict = ['--strict', 'true', '--on-unavailable', 'closed', '--replicas', '2'];
  await measure('strict', [...inEtcd, '--etcd-prefix', '/strict/', ...strict]);
  await etcd.close();
} else process.stdout.write(`${why}\n`);
process.exit(0);
