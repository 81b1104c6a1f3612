/**
 * `npx tsx test/attacks/strangers-under-load.ts [seconds]`, after `npm run build`: three nodes under load while strangers
 * attack all peer ports for 30 s. Prints what was admitted beyond the limits, ring changes, and the latency before and
 * during the attack. Ends with 1 if any limit was exceeded, any request failed, or the ring changed.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { freePorts } from '../support/ports.js';
import { startStrangers } from './strangers.js';

const NODES = 3;
const LIMIT = 10;
/** Requests of one client; the load moves on to the next client then. */
const ASKED = 3 * LIMIT;
const PER_SECOND = 300;
const CALM_MS = 10_000;

interface Cluster {
  readonly ringChecksum: string;
  readonly members: readonly { readonly state: string }[];
}

const attackMs = 1_000 * Number(process.argv[2] ?? 30);
const ports = await freePorts(2 * NODES);
const [publicPorts, peerPorts] = [ports.slice(0, NODES), ports.slice(NODES)];
const agent = new Agent({ connections: 64 });
const nodes = publicPorts.map((port, i) =>
  spawn(
    process.execPath,
    [
      join(import.meta.dirname, '../../dist/esm/cli.js'),
      'serve',
      ...['--port', String(port), '--peer-port', String(peerPorts[i]), '--log-level', 'silent'],
      ...['--peer-secret', 'correct horse battery staple', '--policies', 'none'],
      ...['--peers', peerPorts.map((peer) => `127.0.0.1:${peer}`).join(',')],
    ],
    { stdio: 'ignore' },
  ),
);
process.on('exit', () => nodes.forEach((node) => node.kill('SIGKILL')));

async function cluster(port: number): Promise<Cluster | undefined> {
  try {
    const { statusCode, body } = await request(`http://127.0.0.1:${port}/v1/cluster`, { dispatcher: agent });
    const answer = await body.json();
    return statusCode === 200 ? (answer as Cluster) : undefined;
  } catch {
    return undefined;
  }
}

/** The ring as all nodes see it; more than one where they differ, or not all are in it. */
async function rings(): Promise<string[]> {
  const seen = await Promise.all(publicPorts.map(cluster));
  const active = (one: Cluster): number => one.members.filter(({ state }) => state === 'active').length;
  return [...new Set(seen.map((one) => (one === undefined ? 'no answer' : `${one.ringChecksum} ${active(one)}`)))];
}

const admitted = new Map<string, number>();
let asked = 0;
let failed = 0;

async function ask(latenciesMs: number[]): Promise<void> {
  const clientId = `client-${Math.floor(asked / ASKED)}`;
  const port = publicPorts[asked % NODES]!;
  asked += 1;
  const startMs = performance.now();
  try {
    const { statusCode, body } = await request(`http://127.0.0.1:${port}/v1/allow`, {
      method: 'POST',
      dispatcher: agent,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ clientId, limit: LIMIT, window: '1d' }),
    });
    await body.dump();
    if (statusCode === 200) admitted.set(clientId, (admitted.get(clientId) ?? 0) + 1);
    else if (statusCode !== 429) failed += 1;
  } catch {
    failed += 1;
  }
  latenciesMs.push(performance.now() - startMs);
}

/** Asks evenly for so long. @returns the latencies, sorted */
async function load(durationMs: number): Promise<number[]> {
  const latenciesMs: number[] = [];
  const under: Promise<void>[] = [];
  const startMs = performance.now();
  for (let i = 0; performance.now() - startMs < durationMs; i += 1) {
    under.push(ask(latenciesMs));
    await sleep(Math.max(0, startMs + ((i + 1) * 1_000) / PER_SECOND - performance.now()));
  }
  await Promise.all(under);
  return latenciesMs.sort((a, b) => a - b);
}

const p99 = (sorted: readonly number[]): string => `${sorted[Math.floor(0.99 * sorted.length)]!.toFixed(1)} ms`;

while (!(await rings()).join().endsWith(` ${NODES}`)) await sleep(200);
await load(3_000);
const before = await rings();
const calm = await load(CALM_MS);
const changes = new Set<string>(before);
const looking = setInterval(() => void rings().then((seen) => seen.forEach((ring) => changes.add(ring))), 500);
const end = startStrangers(peerPorts, { roundMs: 2_000 });
const attacked = await load(attackMs);
const connections = await end();
clearInterval(looking);
const over = [...admitted.values()].filter((count) => count > LIMIT).length;
process.stdout.write(
  `${asked} requests, ${failed} failed, ${over} clients over their limit; ${connections} connections of strangers\n` +
    `rings seen: ${[...changes].join(', ')}\np99 before ${p99(calm)}, during the attack ${p99(attacked)}\n`,
);
process.exit(over + failed > 0 || changes.size > 1 ? 1 : 0);
