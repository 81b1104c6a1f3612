import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent } from 'undici';
import { startValkey } from '../support/valkey.js';
import { childrenOf, cpuSeconds } from './machine.js';
import { missing } from '../support/programs.js';

/**
 * `tsx test/bench/store.ts`: what a store costs a node that decides 2,000 times a second for 1,000 clients, who all change all the time:
 * CPU of the node and of the process that keeps its file or of the server, and the time that decisions take; and a start with
 * 100,000 clients stored.
 */
const PER_SECOND = 2_000;
const CLIENTS = 1_000;
const SECONDS = 6;
const STORED = 100_000;

interface Node {
  readonly url: string;
  readonly pid: number;
  readonly readyMs: number;
  stop(): Promise<void>;
}

async function startNode(store: string): Promise<Node> {
  const startedMs = performance.now();
  const args = ['dist/esm/cli.js', 'serve', '--port', '0', '--peer-port', '0', '--policies', 'none', '--store', store];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise<number>((resolve, reject) => {
    let said = '';
    child.once('close', () => reject(new Error(said)));
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const ready = said.split('\n').find((line) => line.includes('"msg":"tokenring ready"'));
      if (ready !== undefined) resolve((JSON.parse(ready) as { port: number }).port);
    });
  });
  const stop = async (): Promise<void> => {
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    await ended;
  };
  return { url: `http://127.0.0.1:${port}`, pid: child.pid!, readyMs: performance.now() - startedMs, stop };
}

const agent = new Agent({ connections: 16 });

async function post(url: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const { body: answer } = await agent.request({
    origin: url,
    path: '/v1/allow/batch',
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  });
  await answer.text();
}

async function metric(url: string, name: string): Promise<number> {
  const { body } = await agent.request({ origin: url, path: '/metrics', method: 'GET' });
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(await body.text())?.[1] ?? NaN);
}

const ask = (i: number): object => ({ clientId: `client ${i}`, limit: 1_000, burst: 1_000_000, window: '1d' });

/** Batches of ten at a steady rate. @returns the time that each took, in ms, sorted */
async function load(url: string): Promise<number[]> {
  const took: number[] = [];
  const startMs = performance.now();
  const sent: Promise<void>[] = [];
  for (let i = 0; i < (PER_SECOND / 10) * SECONDS; i += 1) {
    const dueMs = startMs + (i * 10_000) / PER_SECOND;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    const sentMs = performance.now();
    const requests = Array.from({ length: 10 }, (_, j) => ask((i * 10 + j * 101) % CLIENTS));
    sent.push(post(url, { requests }).then(() => void took.push(performance.now() - sentMs)));
  }
  await Promise.all(sent);
  return took.sort((a, b) => a - b);
}

function rssMb(pid: number): string {
  const kb = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return `${Math.round(Number(kb) / 1_024)} MB`;
}

async function measure(name: string, store: string, serverPid: number | undefined): Promise<void> {
  const node = await startNode(store);
  await load(node.url);
  const keeperPid = serverPid ?? childrenOf(node.pid)[0];
  const keeper = (): number => (keeperPid === undefined ? 0 : cpuSeconds(keeperPid));
  const before = {
    node: cpuSeconds(node.pid),
    keeper: keeper(),
    written: await metric(node.url, 'tokenring_store_written_clients_total'),
  };
  const took = await load(node.url);
  const written = (await metric(node.url, 'tokenring_store_written_clients_total')) - before.written;
  const percent = (seconds: number): string => `${((seconds / SECONDS) * 100).toFixed(1)}%`;
  const at = (part: number): string => took[Math.floor(took.length * part)]!.toFixed(2);
  process.stdout.write(
    `${name}: node ${percent(cpuSeconds(node.pid) - before.node)} of a core, beside it ${percent(keeper() - before.keeper)}` +
      `${keeperPid === undefined ? '' : ` (${rssMb(keeperPid)})`}, ${Math.round((written || 0) / SECONDS)} clients written a second; ` +
      `a batch of ten p50 ${at(0.5)} ms, p99 ${at(0.99)} ms\n`,
  );
  if (store !== 'memory') {
    for (let i = 0; i < STORED; i += 1_000)
      await post(node.url, { requests: Array.from({ length: 1_000 }, (_, j) => ask(CLIENTS + i + j)) });
    while ((await metric(node.url, 'tokenring_store_waiting_clients')) > 0) await sleep(50);
  }
  await node.stop();
  const again = await startNode(store);
  const loaded = await metric(again.url, 'tokenring_store_loaded_clients_total');
  process.stdout.write(`${name}: ready after ${Math.round(again.readyMs)} ms, ${loaded || 0} clients read\n`);
  await again.stop();
}

const folder = mkdtempSync(join(tmpdir(), 'tokenring-bench-'));
await measure('memory', 'memory', undefined);
await measure('lmdb', `lmdb:${join(folder, 'store')}`, undefined);
if (missing('valkey-server') === undefined) {
  const valkey = await startValkey();
  await measure('redis', valkey.url, valkey.pid);
  await valkey.remove();
} else process.stdout.write(`redis: ${missing('valkey-server')}\n`);
rmSync(folder, { recursive: true });
await agent.close();
process.exit(0);
