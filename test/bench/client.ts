/** `npx tsx test/bench/client.ts`, after `npm run build`: what the client is worth against three nodes on one core, beside plain requests to them in turn. */
import { performance } from 'node:perf_hooks';
import { resolve } from 'node:path';
import { Pool } from 'undici';
import type { createClient as CreateClient, Decision } from '../../src/client/index.js';
import { freePorts } from '../support/ports.js';
import { count } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { spread } from './median.js';
import { startNode } from './processes.js';

const CLIENTS = 20_000;
const TURN_MS = 1_500;
const TURNS = 5;
const GENEROUS = { limit: 1_000_000_000, window: '1m' } as const;

const dist = resolve('dist/esm');
const peerPorts = (await freePorts(3)).map(String);
const peers = peerPorts.map((port) => `127.0.0.1:${port}`).join(',');
const nodes = await Promise.all(
  peerPorts.map((port) => startNode(SERVER_CORE, dist, ['--peer-port', port, '--peers', peers])),
);
const urls = nodes.map(({ port }) => `http://127.0.0.1:${port}`);
// As it is built: this file itself is compiled while it runs.
const { createClient } = (await import(`${dist}/client/index.js`)) as { createClient: typeof CreateClient };
const client = createClient({ nodes: urls });
const pools = urls.map((url) => new Pool(url, { connections: 16 }));

type Ask = (i: number) => Promise<Pick<Decision, 'source'>>;
const request = (i: number): { clientId: string; limit: number; window: string } => {
  return { clientId: `client ${(i * 7_919) % CLIENTS}`, ...GENEROUS };
};
const byClient: Ask = (i) => client.check(request(i));
const plainly: Ask = async (i) => {
  const { body } = await pools[i % pools.length]!.request({
    method: 'POST',
    path: '/v1/allow',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request(i)),
  });
  return (await body.json()) as Decision;
};

/** So many at a time, for one turn. @returns decisions a second, and the part of them that was forwarded */
async function run(ask: Ask, atOnce: number): Promise<{ perSecond: number; forwarded: number }> {
  let asked = 0;
  let forwarded = 0;
  const startMs = performance.now();
  const loops = Array.from({ length: atOnce }, async () => {
    while (performance.now() - startMs < TURN_MS) if ((await ask(asked++)).source === 'forwarded') forwarded += 1;
  });
  await Promise.all(loops);
  return { perSecond: (asked * 1_000) / (performance.now() - startMs), forwarded: forwarded / asked };
}

await run(byClient, 64);
const percent = (value: number): string => `${(100 * value).toFixed(1)}%`;
for (const atOnce of [1, 64, 512]) {
  const pairs: { ours: Awaited<ReturnType<typeof run>>; plain: Awaited<ReturnType<typeof run>> }[] = [];
  for (let turn = 0; turn < TURNS; turn += 1)
    pairs.push({ ours: await run(byClient, atOnce), plain: await run(plainly, atOnce) });
  const rates = pairs.map(({ ours, plain }) => ours.perSecond / plain.perSecond);
  const of = (side: 'ours' | 'plain'): string => {
    const sides = pairs.map((pair) => pair[side]);
    return `${spread(
      sides.map(({ perSecond }) => perSecond),
      count,
    )} a second, ${spread(
      sides.map((one) => one.forwarded),
      percent,
    )} forwarded`;
  };
  process.stdout.write(`${atOnce} at once: ${spread(rates)} times; client ${of('ours')}; plain ${of('plain')}\n`);
}
await client.close();
await Promise.all([...pools.map((pool) => pool.close()), ...nodes.map((node) => node.stop())]);
