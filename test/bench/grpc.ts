import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clientId } from '../load/clients.js';
import { freePort } from '../support/ports.js';
import { requestSerialize } from '../support/grpc.js';
import { atLeast, atMost, count, type Bench, type Goal } from './goal.js';
import { GENERATOR_CORE, hasH2load, hasProc, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { start, startNode, startServer, type ServerProcess } from './processes.js';
import { measureQuietly } from './quiet.js';

const CONNECTIONS = 8;
/** Calls of a connection at once: a proxy has few connections, and many calls on each. */
const STREAMS = 16;
const LEAST = 0.85;
const PATH = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
const POLICIES = {
  policies: { many: { limit: 1_000_000_000, window: '1m' } },
  envoy: { edge: [{ entries: ['user'], policy: 'many' }] },
};

/** Unary calls of Envoy's rate limit service against a bare node:http2 server that reads and answers as much. */
export const grpc: Bench = async ({ dist, quick, progress }) => {
  const what = `ShouldRateLimit, ${CONNECTIONS} connections of ${STREAMS} calls: requests/s to those of bare node:http2`;
  if (!hasH2load) return [goal('grpc', what, `>= ${LEAST}`, 'not measured: h2load is not installed', undefined)];
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-bench-'));
  const [policies, message] = [join(folder, 'policies.json'), join(folder, 'message')];
  writeFileSync(policies, JSON.stringify(POLICIES));
  const entries = [{ key: 'user', value: clientId(0) }];
  const asked = requestSerialize({ domain: 'edge', descriptors: [{ entries }] });
  writeFileSync(message, Buffer.concat([Buffer.from([0, 0, 0, 0, asked.length]), asked]));
  const grpcPort = await freePort();
  const settings = ['--grpc-port', `${grpcPort}`, '--policies', policies, '--policies-state', 'none'];
  const node = await startNode(SERVER_CORE, dist, settings);
  const bare = await startServer(SERVER_CORE, [join(import.meta.dirname, 'grpc-bare.js'), 'http2', '0']);
  const seconds = quick ? 1 : 2;
  const sides = [
    { server: node, port: grpcPort },
    { server: bare, port: bare.port },
  ];
  progress('grpc: warm-up');
  for (const side of sides) await ask(side, message, 3);
  const pairs = await measureQuietly(quick ? 5 : 9, async (turn) => {
    progress(`grpc: pair ${turn + 1}`);
    const [first, second] = turn % 2 === 0 ? sides : sides.toReversed();
    const slices = [await ask(first!, message, seconds), await ask(second!, message, seconds)];
    const [ours, bares] = turn % 2 === 0 ? slices : slices.toReversed();
    return { ours: ours!, bares: bares! };
  });
  // h2load sees only the status of HTTP, which is 200 also for a call that fails.
  const decided = await decisionsOf(node);
  const calls = pairs.reduce((sum, { ours }) => sum + ours.calls, 0);
  if (decided < calls) throw new Error(`the node decided ${decided} of ${calls} calls`);
  await Promise.all([node.stop(), bare.stop()]);
  rmSync(folder, { recursive: true });

  const speeds = pairs.map(({ ours, bares }) => ours.perSecond / bares.perSecond);
  const costs = pairs.map(({ ours, bares }) => ours.cpuMicros / bares.cpuMicros);
  const middle = (side: 'ours' | 'bares', of: keyof Slice) => median(pairs.map((pair) => pair[side][of]));
  const rates = `${count(middle('ours', 'perSecond'))} to ${count(middle('bares', 'perSecond'))}`;
  const micros = `${middle('ours', 'cpuMicros').toFixed(1)} µs to ${middle('bares', 'cpuMicros').toFixed(1)} µs`;
  return [
    goal('grpc', what, `>= ${LEAST}`, `${spread(speeds)}; ${rates}`, atLeast(LEAST, median(speeds))),
    goal(
      'grpc-cpu',
      'CPU of it to that of bare node:http2',
      `<= ${MOST}`,
      hasProc ? `${spread(costs)}; ${micros}` : 'not measured',
      hasProc ? atMost(MOST, median(costs)) : undefined,
    ),
  ];
};

/** The same goal in CPU. */
const MOST = Number((1 / LEAST).toFixed(2));

function goal(name: string, what: string, mustReach: string, measured: string, reached: number | undefined): Goal {
  return { name, what, mustReach, measured, reached };
}

interface Slice {
  readonly calls: number;
  readonly perSecond: number;
  readonly cpuMicros: number;
}

async function ask(
  { server, port }: { readonly server: ServerProcess; readonly port: number },
  message: string,
  seconds: number,
): Promise<Slice> {
  const headers = ['content-type: application/grpc', 'te: trailers'].flatMap((header) => ['-H', header]);
  const args = ['-t1', `-c${CONNECTIONS}`, `-m${STREAMS}`, '-D', String(seconds), '-d', message, ...headers];
  const cpuBefore = server.cpuSeconds();
  const program = start(GENERATOR_CORE, 'h2load', [...args, `http://127.0.0.1:${port}${PATH}`]);
  const report = (await program.ended).join('\n');
  const cpuSeconds = server.cpuSeconds() - cpuBefore;
  const number = (pattern: RegExp): number => Number(pattern.exec(report)?.[1] ?? NaN);
  const calls = number(/(\d+) succeeded/);
  if (!(calls > 0) || number(/(\d+) failed/) > 0) throw new Error(report);
  return { calls, perSecond: calls / seconds, cpuMicros: (cpuSeconds * 1e6) / calls };
}

async function decisionsOf({ port }: ServerProcess): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const samples = text.matchAll(/^tokenring_decisions_total\{.*outcome="allowed".*\} (\d+)$/gm);
  return [...samples].reduce((sum, [, value]) => sum + Number(value), 0);
}
