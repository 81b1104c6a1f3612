import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { freePort, freePorts } from '../support/ports.js';
import { VALKEY } from '../support/valkey.js';
import { BOTH_CORES, childrenOf, cpuSeconds, hasTaskset } from './machine.js';

export interface Program {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  /** Resolves to the first line, of either output, that has this in it; rejects when there was none. */
  said(part: string): Promise<string>;
  /** Resolves to what it printed, line by line; rejects when it failed. */
  readonly ended: Promise<readonly string[]>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** CPU seconds of this program and all that it started. */
export function ownCpuSeconds(): number {
  return [...running].reduce((sum, { pid }) => sum + withChildren(pid!), cpuSeconds('self'));
}

/** A group has workers of its own. */
function withChildren(pid: number): number {
  return childrenOf(pid).reduce((sum, child) => sum + cpuSeconds(child), cpuSeconds(pid));
}

/** Starts a program on a core, or on several as `0,1`. */
export function start(core: number | string, command: string, args: readonly string[]): Program {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TOKENRING_')));
  // taskset becomes the command: the pid is the program's own.
  const pinned = hasTaskset ? ['taskset', '-c', String(core), command, ...args] : [command, ...args];
  const child = spawn(pinned[0]!, pinned.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const printed: string[] = [];
  const complaints: string[] = [];
  const listeners = new Set<(line: string) => void>();
  for (const [stream, lines] of [
    [child.stdout, printed],
    [child.stderr, complaints],
  ] as const) {
    createInterface(stream).on('line', (line) => {
      lines.push(line);
      listeners.forEach((listener) => listener(line));
    });
  }
  const ended = once(child, 'close').then(([code]: unknown[]) => {
    running.delete(child);
    if (code === 0) return printed.filter((line) => line !== '');
    throw new Error(`${command} ${args[0] ?? ''} ended with ${String(code)}: ${complaints.join('\n')}`);
  });
  // Later callers get the failure then.
  ended.catch(() => undefined);
  return {
    pid: child.pid!,
    kill: (signal) => void child.kill(signal),
    said(part) {
      const heard = new Promise<string>((resolve) => {
        listeners.add((line) => {
          if (line.includes(part)) resolve(line);
        });
      });
      return Promise.race([heard, ended.then(() => Promise.reject(new Error(`${command} never said ${part}`)))]);
    },
    ended,
  };
}

/** Runs a Node script on a core to its end. @returns its last line, which is JSON */
export async function runScript<T>(core: number, args: readonly string[]): Promise<T> {
  return JSON.parse((await start(core, process.execPath, args).ended).at(-1)!) as T;
}

/** A server, or several with one entrance. */
export interface ServerProcess {
  readonly port: number;
  /** CPU seconds, user and system, that it has used; NaN where they cannot be measured. */
  cpuSeconds(): number;
  kill(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** A server of one process. */
export interface NodeProcess extends ServerProcess {
  readonly pid: number;
}

/** Starts a Node server that prints a line of JSON with its port when it is ready. */
export async function startServer(core: number, args: readonly string[]): Promise<NodeProcess> {
  const server = start(core, process.execPath, args);
  const { port } = JSON.parse(await server.said('ready"')) as { port: number };
  return {
    port,
    pid: server.pid,
    cpuSeconds: () => cpuSeconds(server.pid),
    kill: (signal) => server.kill(signal),
    async stop() {
      server.kill('SIGKILL');
      await server.ended.catch(() => undefined);
    },
  };
}

/** A node of its own, as `tokenring serve` starts it, with the settings given. */
export async function startNode(core: number, dist: string, settings: readonly string[] = []): Promise<NodeProcess> {
  const ports = ['--port', String(await freePort())];
  if (!settings.includes('--peer-port')) ports.push('--peer-port', String(await freePort()));
  return startServer(core, [join(dist, 'cli.js'), 'serve', ...ports, ...settings]);
}

/** A server of several processes. */
export interface ServerGroup extends ServerProcess {
  /** CPU seconds of each of its workers. */
  workerCpuSeconds(): readonly number[];
  /** The workers, each with its id and its own port. */
  readonly workers: readonly { readonly id: string; readonly port: number }[];
}

/** Workers behind one port, as `tokenring serve` starts them, free to use both cores. */
export async function startWorkers(dist: string, workers: number): Promise<ServerGroup> {
  const settings = ['--workers', String(workers), '--port', '0', '--peer-port', '0'];
  const supervisor = start(BOTH_CORES, process.execPath, [join(dist, 'cli.js'), 'serve', ...settings]);
  const { port } = JSON.parse(await supervisor.said('tokenring ready"')) as { port: number };
  const pids = childrenOf(supervisor.pid);
  const answer = await fetch(`http://127.0.0.1:${port}/v1/cluster`);
  const { members } = (await answer.json()) as { members: readonly { id: string; url: string }[] };
  const workerCpuSeconds = (): readonly number[] => pids.map(cpuSeconds);
  return {
    port,
    workers: members.map(({ id, url }) => ({ id, port: Number(new URL(url).port) })),
    workerCpuSeconds,
    cpuSeconds: () => workerCpuSeconds().reduce((sum, seconds) => sum + seconds, cpuSeconds(supervisor.pid)),
    kill: (signal) => supervisor.kill(signal),
    async stop() {
      // With it end its workers.
      supervisor.kill('SIGKILL');
      await supervisor.ended.catch(() => undefined);
    },
  };
}

/** A ring of several processes; `port` is that of the first. */
export interface RingProcess extends ServerProcess {
  readonly urls: readonly string[];
  readonly pids: readonly number[];
}

/** Several nodes of one ring on one core, each of which has joined; the first is the entry node. */
export async function startRing(core: number, dist: string, count: number): Promise<RingProcess> {
  const peerPorts = await freePorts(count);
  const peers = peerPorts.map((port) => `127.0.0.1:${port}`).join(',');
  const nodes: NodeProcess[] = [];
  for (const port of peerPorts)
    nodes.push(await startNode(core, dist, ['--peer-port', String(port), '--peers', peers]));
  return {
    port: nodes[0]!.port,
    urls: nodes.map(({ port }) => `http://127.0.0.1:${port}`),
    pids: nodes.map(({ pid }) => pid),
    cpuSeconds: () => nodes.reduce((sum, node) => sum + node.cpuSeconds(), 0),
    kill: (signal) => nodes.forEach((node) => node.kill(signal)),
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

/** A Valkey that saves nothing. */
export async function startValkeyServer(core: number): Promise<NodeProcess> {
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const valkey = start(core, VALKEY, args);
  await valkey.said('Ready to accept connections');
  return {
    port,
    pid: valkey.pid,
    cpuSeconds: () => cpuSeconds(valkey.pid),
    kill: (signal) => valkey.kill(signal),
    async stop() {
      valkey.kill('SIGKILL');
      await valkey.ended.catch(() => undefined);
    },
  };
}

/** node:http with rate-limiter-flexible on a Valkey of its own, both on one core. */
export async function startRedisServer(core: number): Promise<ServerProcess> {
  const valkey = await startValkeyServer(core);
  const server = await startServer(core, [join(import.meta.dirname, 'redis-server.js'), String(valkey.port)]);
  return {
    port: server.port,
    cpuSeconds: () => server.cpuSeconds() + valkey.cpuSeconds(),
    kill(signal) {
      server.kill(signal);
      valkey.kill(signal);
    },
    async stop() {
      await server.stop();
      await valkey.stop();
    },
  };
}

/** A bare node:http server that answers just what `node` answers to a first question. */
export async function startBareServer(core: number, node: ServerProcess): Promise<ServerProcess> {
  const question = request({
    port: node.port,
    method: 'POST',
    path: '/v1/allow',
    headers: { 'Content-Type': 'application/json' },
  }).end('{"clientId":"client-0000000000000","limit":100,"window":"1m"}');
  const [answer] = (await once(question, 'response')) as [IncomingMessage];
  const { rawHeaders } = answer;
  // Names and values in turn, without those that come from node:http itself.
  const own = new Set(['Date', 'Connection', 'Keep-Alive']);
  const headers = rawHeaders.filter((_, i) => !own.has(rawHeaders[i - (i % 2)]!));
  const template = JSON.stringify({ headers, body: await text(answer) });
  return startServer(core, [join(import.meta.dirname, 'bare-server.js'), template]);
}
