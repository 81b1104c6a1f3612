/**
 * `npx tsx test/docker/memory.ts [--seconds 60] [--no-build] [MiB…]`: runs a ring of three in containers of so much
 * memory each, and fills everything at once. Halfway, one node is frozen for 3 s. Prints what the containers took, and
 * how decisions went on. Ends with 1 if one was killed.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { memoryBounds } from '../../src/app/settings/memory-budget.js';
import { findEngine, succeed, type Engine } from './engine.js';
import type { Filled } from './fill-process.js';

const IMAGE = 'tokenring';
const NODES = 3;
const PORT = 18_180;
const PEER_PORT = 19_180;
/** About how long a ring takes to start. */
const START_MS = 5_000;
/** How long a node is frozen: less than the suspicion time, so that checks wait for it. */
const FROZEN_MS = 3_000;

interface FilledNodes extends Filled {
  /** Most memory that each process had resident, in MiB. */
  readonly peakMb: readonly number[];
  /** Most memory that the kernel charged to each container, with caches of files and sockets, in MiB. */
  readonly chargedMb: readonly number[];
  /** Containers that no longer run, or that were killed for their memory. */
  readonly dead: readonly string[];
}

/** Reads from inside a container: the process 1 of it, and its control group of version 2 or 1. */
const READ = `
  const { readFileSync } = require('node:fs');
  const peak = Number(/VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/1/status', 'utf8'))[1]) / 1024;
  let charged = 0;
  for (const path of ['/sys/fs/cgroup/memory.peak', '/sys/fs/cgroup/memory/memory.max_usage_in_bytes'])
    try { charged = Number(readFileSync(path, 'utf8')) / 2 ** 20; break; } catch {}
  console.log(JSON.stringify([Math.round(peak), Math.round(charged)]));`;

/** Nearly as many policies as nodes of this memory accept. */
function policyFile(memoryMb: number): string {
  const limits = Array.from({ length: 8 }, (_, i) => ({ limit: 1_000_000 + i, window: 30 * 86_400_000 + i }));
  const tiers = Object.fromEntries(
    Array.from({ length: 32 }, (_, i) => [`tier-${i}-${'x'.repeat(100)}`, { limits }] as const),
  );
  const policy = { tiers, defaultTier: Object.keys(tiers)[0]! };
  const bytes = 0.95 * memoryBounds(memoryMb, memoryMb / 2).state.maxPolicyBytes;
  const count = Math.floor(bytes / (JSON.stringify(policy).length + 100));
  const policies = Object.fromEntries(Array.from({ length: count }, (_, i) => [`policy-${i}`, policy]));
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-memory-'));
  // The program runs as another user.
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'policies.json'), JSON.stringify({ policies }), { mode: 0o644 });
  return join(folder, 'policies.json');
}

/** Runs a ring of three with `memoryMb` each, and fills everything for so long. The image is built, the engine runs. */
async function fillContainers(engine: Engine, memoryMb: number, seconds: number): Promise<FilledNodes> {
  const docker = (...args: string[]): Promise<string> => succeed(engine.docker(args)).then((text) => text.trim());
  const names = Array.from({ length: NODES }, (_, i) => `tokenring-memory-${i}`);
  const peers = names.map((_, i) => `127.0.0.1:${PEER_PORT + i}`).join(',');
  const secret = randomBytes(16).toString('hex');
  const policies = policyFile(memoryMb);
  await engine.docker(['rm', '-f', ...names]);
  try {
    for (const [i, name] of names.entries()) {
      const settings = [
        ...['--host', '127.0.0.1', '--port', String(PORT + i)],
        ...['--peer-host', '127.0.0.1', '--peer-port', String(PEER_PORT + i)],
        ...['--peers', peers, '--peer-secret', secret],
        // Under this load on few cores, silence is no sign of death.
        ...['--suspect-after-ms', '5000'],
        ...['--policies', '/policies.json', '--policies-state', 'none'],
      ];
      const limits = ['--memory', `${memoryMb}m`, '--memory-swap', `${memoryMb}m`, '--network', 'host'];
      const mount = ['-v', `${policies}:/policies.json:ro`];
      await docker('run', '-d', '--name', name, ...limits, ...mount, '--no-healthcheck', IMAGE, 'serve', ...settings);
    }
    const script = join(import.meta.dirname, 'fill-process.ts');
    const ports = names.map((_, i) => String(PORT + i));
    const program = [process.execPath, '--import', 'tsx', script, String(seconds), ...ports];
    const [command, ...args] = [...engine.inside, ...program];
    const filling = succeed(engine.run(command!, args));
    const freezing = sleep(500 * seconds + START_MS).then(async () => {
      await docker('pause', names[0]!);
      await sleep(FROZEN_MS);
      await docker('unpause', names[0]!);
    });
    const [text] = await Promise.all([filling, freezing]);
    const filled = JSON.parse(text) as Filled;
    const dead: string[] = [];
    const read: [number, number][] = [];
    for (const name of names) {
      const state = await docker('inspect', '-f', '{{.State.Running}} {{.State.OOMKilled}} {{.State.ExitCode}}', name);
      if (state.startsWith('true false'))
        read.push(JSON.parse(await docker('exec', name, 'node', '-e', READ)) as [number, number]);
      else
        dead.push(
          `${name} (running, killed, code: ${state}): ${(await docker('logs', '--tail', '5', name)).slice(-2_000)}`,
        );
    }
    return { ...filled, peakMb: read.map(([peak]) => peak), chargedMb: read.map(([, charged]) => charged), dead };
  } finally {
    await engine.docker(['rm', '-f', ...names]);
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { seconds: { type: 'string', default: '60' }, 'no-build': { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  const engine = findEngine();
  if ('missing' in engine) throw new Error(engine.missing);
  if (!values['no-build']) await engine.build(IMAGE);
  await engine.start();
  let dead = 0;
  try {
    for (const memoryMb of positionals.length === 0 ? [512, 1_024] : positionals.map(Number)) {
      const filled = await fillContainers(engine, memoryMb, Number(values.seconds));
      process.stdout.write(`${memoryMb} MiB: ${JSON.stringify(filled)}\n`);
      dead += filled.dead.length;
    }
  } finally {
    await engine.stop();
  }
  return dead === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exit(await main());
