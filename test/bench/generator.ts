import { join } from 'node:path';
import type { LoadResult } from '../load/generator.js';
import { cpuSeconds, GENERATOR_CORE, hasWrk } from './machine.js';
import { lastJson, runPinned, runScript } from './processes.js';
import type { ServerProcess } from './processes.js';

export const CLIENTS = 100_000;
export const CONNECTIONS = 64;

export interface Questions {
  /** Whole seconds. */
  readonly seconds: number;
  /** Per minute. */
  readonly limit: number;
  /** Decisions in a request; 1 asks one by one. */
  readonly batch: number;
}

export interface Slice {
  readonly requestsPerSecond: number;
  /** CPU time, user and system, that the server used for a request; NaN where it cannot be measured. */
  readonly cpuMicros: number;
}

let seed = 1;

/** Asks a server as fast as it answers, over 64 connections with one request in flight each, for clients drawn evenly. */
export async function askAsFastAsItGoes(server: ServerProcess, questions: Questions): Promise<Slice> {
  const cpuBefore = cpuSeconds(server.pid);
  const { requests, seconds, errors } = await (hasWrk ? wrk : autocannon)(server, questions);
  const cpuMicros = ((cpuSeconds(server.pid) - cpuBefore) / requests) * 1e6;
  if (errors > 0) throw new Error(`${errors} of ${requests} requests failed`);
  return { requestsPerSecond: requests / seconds, cpuMicros };
}

interface Asked {
  readonly requests: number;
  readonly seconds: number;
  readonly errors: number;
}

async function wrk({ port }: ServerProcess, { seconds, limit, batch }: Questions): Promise<Asked> {
  const script = join(import.meta.dirname, 'allow.lua');
  const args = ['-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '-s', script, `http://127.0.0.1:${port}`, '--'];
  return lastJson(await runPinned(GENERATOR_CORE, 'wrk', [...args, ...[CLIENTS, limit, batch, seed++].map(String)]));
}

async function autocannon({ port }: ServerProcess, { seconds, limit, batch }: Questions): Promise<Asked> {
  const options = { connections: CONNECTIONS, duration: seconds, clients: CLIENTS, limit };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  if (batch > 1) args.push('--batch', String(batch));
  const load = join(import.meta.dirname, '../load/load.ts');
  const {
    requests,
    seconds: taken,
    errors,
    unexpected,
  } = await runScript<LoadResult>(GENERATOR_CORE, [
    ...['--import', 'tsx', load, '--json', '--even', '--url', `http://127.0.0.1:${port}`],
    ...args,
  ]);
  return { requests, seconds: taken, errors: errors + unexpected };
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
