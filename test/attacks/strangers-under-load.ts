/**
 * `npx tsx test/attacks/strangers-under-load.ts [seconds] [--tls]`, after `npm run build`: three nodes under load while
 * strangers attack all peer ports for so long (30 s); with `--tls`, under mTLS instead of a secret. Prints what was
 * admitted beyond the limits, ring changes, and for each phase the latencies and the CPU time of the nodes. In the
 * control, the same strangers attack a bare node:http or node:https server: it shows what they cost any program.
 *
 * The nodes have one core. The load has the other, and so have the strangers, at a lower priority: they stand for
 * machines of their own. Ends with 1 if any limit was exceeded, any request failed, the ring changed, or the p99 more
 * than doubled.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Agent, request } from 'undici';
import { GENERATOR_CORE, hasTaskset, SERVER_CORE } from '../bench/machine.js';
import { startNode, startServer } from '../bench/processes.js';
import { createAuthority } from '../peer/certificates.js';
import { freePorts } from '../support/ports.js';
import { startStrangers } from './strangers.js';

const NODES = 3;
const LIMIT = 10;
/** Requests of one client; the load moves on to the next client then. */
const ASKED = 3 * LIMIT;
const PER_SECOND = 300;
const CALM_MS = 10_000;
/** Refuses all that strangers ask, as the peer port does. Its arguments are the files of a certificate, with TLS. */
const BARE = `
  const { readFileSync } = require('node:fs');
  const [cert, key, ca] = process.argv.slice(1).map((file) => readFileSync(file));
  const answer = (req, res) => {
    res.on('finish', () => req.socket.destroySoon());
    res.writeHead(426, { Connection: 'close' }).end();
  };
  const server = cert
    ? require('node:https').createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true }, answer)
    : require('node:http').createServer(answer);
  server.on('upgrade', (req, socket) => socket.end('HTTP/1.1 401 no\\r\\n\\r\\n', () => socket.destroy()));
  for (const event of ['clientError', 'tlsClientError']) server.on(event, (error, socket) => socket.destroy());
  server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ msg: 'ready', port: server.address().port })));
`;

const { values, positionals } = parseArgs({ allowPositionals: true, options: { tls: { type: 'boolean' } } });
const attackMs = 1_000 * Number(positionals[0] ?? 30);
const dist = join(import.meta.dirname, '../../dist/esm');
const strangersCertificate = values.tls === true ? createAuthority('strangers').issue('IP:127.0.0.1') : undefined;
if (hasTaskset) spawnSync('taskset', ['-a', '-c', '-p', String(GENERATOR_CORE), String(process.pid)]);

/** Files of the certificate, the key, and the authority of all nodes. */
const tlsFiles = values.tls === true ? writeCertificate() : [];

function writeCertificate(): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-strangers-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const authority = createAuthority('peers');
  const { cert, key } = authority.issue('IP:127.0.0.1');
  return [cert, key, authority.ca].map((text, i) => {
    const file = join(folder, String(i));
    writeFileSync(file, text);
    return file;
  });
}

const peerPorts = await freePorts(NODES);
const [cert, key, ca] = tlsFiles as [string, string, string];
const proof =
  values.tls === true
    ? ['--peer-tls-cert', cert, '--peer-tls-key', key, '--peer-tls-ca', ca, '--peer-tls-require-client-cert', 'true']
    : ['--peer-secret', 'correct horse battery staple'];
const peers = peerPorts.map((port) => `127.0.0.1:${port}`).join(',');
const shared = ['--peers', peers, '--policies', 'none', ...proof];
const nodes = await Promise.all(
  peerPorts.map((port) => startNode(SERVER_CORE, dist, ['--peer-port', String(port), ...shared])),
);
const agent = new Agent({ connections: 64 });

interface Cluster {
  readonly ringChecksum: string;
  readonly members: readonly { readonly state: string }[];
}

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
  const seen = await Promise.all(nodes.map(({ port }) => cluster(port)));
  const active = (one: Cluster): number => one.members.filter(({ state }) => state === 'active').length;
  return [...new Set(seen.map((one) => (one === undefined ? 'no answer' : `${one.ringChecksum} ${active(one)}`)))];
}

const admitted = new Map<string, number>();
let asked = 0;
let failed = 0;

async function ask(latenciesMs: number[]): Promise<void> {
  const clientId = `client-${Math.floor(asked / ASKED)}`;
  const { port } = nodes[asked % NODES]!;
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

/** Asks evenly for so long, and prints what it saw. @returns the latency that 99 of 100 requests did not exceed */
async function load(phase: string, durationMs: number): Promise<number> {
  const latenciesMs: number[] = [];
  const under: Promise<void>[] = [];
  const cpu = (): number => nodes.reduce((sum, node) => sum + node.cpuSeconds(), 0);
  const [startMs, startCpu] = [performance.now(), cpu()];
  for (let i = 0; performance.now() - startMs < durationMs; i += 1) {
    under.push(ask(latenciesMs));
    await sleep(Math.max(0, startMs + ((i + 1) * 1_000) / PER_SECOND - performance.now()));
  }
  await Promise.all(under);
  latenciesMs.sort((a, b) => a - b);
  const [p50, p99, most] = [0.5, 0.99, 1].map((part) => latenciesMs[Math.ceil(part * latenciesMs.length) - 1]!);
  const share = (100_000 * (cpu() - startCpu)) / (performance.now() - startMs);
  const figures = [p50, p99, most].map((ms) => ms!.toFixed(1)).join(', ');
  process.stdout.write(`${phase}: p50, p99, and longest ${figures} ms; nodes used ${share.toFixed(0)}% of a core\n`);
  return p99!;
}

async function underAttack(phase: string, ports: readonly number[], durationMs: number): Promise<number> {
  const end = startStrangers(ports, { roundMs: 2_000, certificate: strangersCertificate, nice: getPriority() + 10 });
  const p99 = await load(phase, durationMs);
  process.stdout.write(`  ${await end()} connections of strangers\n`);
  return p99;
}

while (!(await rings()).join().endsWith(` ${NODES}`)) await sleep(200);
await load('warm-up', 3_000);
const changes = new Set<string>(await rings());
const looking = setInterval(() => void rings().then((seen) => seen.forEach((ring) => changes.add(ring))), 500);
const calm = await load('calm', CALM_MS);
const bare = await Promise.all(nodes.map(() => startServer(SERVER_CORE, ['-e', BARE, ...tlsFiles])));
await underAttack(
  'control',
  bare.map(({ port }) => port),
  CALM_MS,
);
await Promise.all(bare.map((server) => server.stop()));
const attacked = await underAttack('attack', peerPorts, attackMs);
clearInterval(looking);
const over = [...admitted.values()].filter((count) => count > LIMIT).length;
const holds = over + failed === 0 && changes.size === 1 && attacked <= 2 * calm;
process.stdout.write(
  `${asked} requests, ${failed} failed, ${over} clients over their limit; rings seen: ${[...changes].join(', ')}\n` +
    `p99 before ${calm.toFixed(1)} ms, during the attack ${attacked.toFixed(1)} ms\n${holds ? 'holds' : 'DOES NOT HOLD'}\n`,
);
await Promise.all(nodes.map((node) => node.stop()));
process.exit(holds ? 0 : 1);
