import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { clientId } from '../load/clients.js';
import type { LoadResult } from '../load/generator.js';
import { GENERATOR_CORE, hasWrk } from './machine.js';
import { runScript, start, type ServerProcess } from './processes.js';

export const CLIENTS = 100_000;
export const CONNECTIONS = 64;

/** What a server is asked, as fast as it answers, over 64 connections, for clients drawn evenly. */
export interface Questions {
  readonly server: ServerProcess;
  /** Two or more numbers of clients to ask for. Default: 0 to 99,999. */
  readonly clients?: readonly number[];
  /** Per minute. */
  readonly limit: number;
  /** Decisions in a request; 1 asks one by one. */
  readonly batch: number;
}

/** Asks a node once for each client, so that what is measured afterwards is not the meeting of new ones. */
export async function meetAllClients({ port }: ServerProcess): Promise<void> {
  const size = 1_000;
  for (let from = 0; from < CLIENTS; from += size) {
    const requests = Array.from({ length: size }, (_, i) => ({
      clientId: clientId(from + i),
      limit: 100,
      window: '1m',
    }));
    const answer = await fetch(`http://127.0.0.1:${port}/v1/allow/batch`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ requests }),
    });
    await answer.arrayBuffer();
  }
}

export interface Slice {
  readonly requestsPerSecond: number;
  /** CPU time, user and system, that the server used for a request; NaN where it cannot be measured. */
  readonly cpuMicros: number;
}

/**
 * Asks in turns, for `seconds` on each side, so that what else goes on in the machine touches all sides alike.
 * @param turnMs short against the swings of a busy machine, long against what is in flight when a turn ends: that is
 * answered in the next side's time
 * @returns a slice for each side, in their order
 */
export async function askInTurns(seconds: number, sides: readonly Questions[], turnMs = 100): Promise<Slice[]> {
  if (!hasWrk) return askOneAfterTheOther(seconds, sides);
  const generators: Generator[] = [];
  for (const side of sides) generators.push(await startWrk(side));
  const cpuBefore = sides.map(({ server }) => server.cpuSeconds());
  for (let turn = 0; turn < (seconds * 1000) / turnMs; turn += 1) {
    for (const generator of turn % 2 === 0 ? generators : [...generators].reverse()) {
      generator.resume();
      await sleep(turnMs);
      generator.pause();
    }
  }
  const slices: Slice[] = [];
  for (const [i, generator] of generators.entries()) {
    const { requests, seconds: taken } = await generator.finish();
    slices.push(slice(requests, taken, sides[i]!.server.cpuSeconds() - cpuBefore[i]!));
  }
  return slices;
}

function slice(requests: number, seconds: number, cpu: number): Slice {
  return { requestsPerSecond: requests / seconds, cpuMicros: (cpu / requests) * 1e6 };
}

interface Generator {
  resume(): void;
  pause(): void;
  /** Ends it. The seconds are those in which it was not paused. */
  finish(): Promise<{ requests: number; seconds: number }>;
}

let seed = 1;

/** A command line takes no long list. */
const MAX_LISTED = 1_000;
let directory: string | undefined;
process.on('exit', () => directory !== undefined && rmSync(directory, { recursive: true }));

function listOf(clients: readonly number[]): string {
  if (clients.length <= MAX_LISTED) return clients.join();
  directory ??= mkdtempSync(join(tmpdir(), 'tokenring-bench-'));
  const path = join(directory, `${seed}`);
  writeFileSync(path, clients.join());
  return `@${path}`;
}

/** A generator that is ready and paused. */
async function startWrk({ server, limit, batch, clients }: Questions): Promise<Generator> {
  const script = join(import.meta.dirname, 'allow.lua');
  const forever = '24h';
  const args = ['-t1', `-c${CONNECTIONS}`, '-d', forever, '-s', script, `http://127.0.0.1:${server.port}`, '--'];
  args.push(...[clients === undefined ? CLIENTS : listOf(clients), limit, batch, seed++].map(String));
  const wrk = start(GENERATOR_CORE, 'wrk', args);
  await wrk.said('ready');
  let activeMs = 0;
  let sinceMs = performance.now();
  const pause = (): void => {
    wrk.kill('SIGSTOP');
    activeMs += performance.now() - sinceMs;
  };
  const resume = (): void => {
    wrk.kill('SIGCONT');
    sinceMs = performance.now();
  };
  pause();
  return {
    pause,
    resume,
    async finish() {
      // wrk's own way to end early, with its report. It takes up to 100 ms, in which it goes on asking; and more signals than
      // one, where a thread other than the sleeping main one gets the first.
      resume();
      wrk.kill('SIGINT');
      const insist = setInterval(() => wrk.kill('SIGINT'), 100);
      const report = (await wrk.ended).at(-1)!;
      clearInterval(insist);
      activeMs += performance.now() - sinceMs;
      const { requests, broken, refused } = JSON.parse(report) as Record<'requests' | 'broken' | 'refused', number>;
      if (broken + refused > 0) throw new Error(`${broken} connections broke and ${refused} requests were refused`);
      return { requests, seconds: activeMs / 1000 };
    },
  };
}

async function askOneAfterTheOther(seconds: number, sides: readonly Questions[]): Promise<Slice[]> {
  const slices: Slice[] = [];
  for (const { server, limit, batch, clients } of sides) {
    // autocannon asks for the first so many.
    const options = {
      connections: CONNECTIONS,
      duration: Math.ceil(seconds),
      clients: clients?.length ?? CLIENTS,
      limit,
    };
    const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    if (batch > 1) args.push('--batch', String(batch));
    const cpuBefore = server.cpuSeconds();
    const result = await runScript<LoadResult>(GENERATOR_CORE, [
      ...['--import', 'tsx', join(import.meta.dirname, '../load/load.ts'), '--json', '--even'],
      ...['--url', `http://127.0.0.1:${server.port}`, ...args],
    ]);
    const failed = result.errors + result.unexpected;
    if (failed > 0) throw new Error(`${failed} of ${result.requests} requests failed`);
    slices.push(slice(result.requests, result.seconds, server.cpuSeconds() - cpuBefore));
  }
  return slices;
}

export interface Latencies {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Asks a server at a rate, whatever the answers do. The same `round` asks the same clients at the same times. */
export async function askAtRate(
  server: ServerProcess,
  { rate, seconds, round }: { rate: number; seconds: number; round: number },
): Promise<Latencies> {
  const pacer = join(import.meta.dirname, 'pacer.js');
  const args = [server.port, Math.round(rate), seconds, CLIENTS, round + 1].map(String);
  const result = await runScript<Latencies & { answered: number; errors: number }>(GENERATOR_CORE, [pacer, ...args]);
  if (result.errors > 0) throw new Error(`${result.errors} of ${result.answered} requests failed`);
  return result;
}
