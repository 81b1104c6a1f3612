import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { cpuSeconds, hasTaskset } from './machine.js';

export interface ServerProcess {
  readonly pid: number;
  readonly port: number;
  stop(): Promise<void>;
}

type PipedProcess = ChildProcess & { stdout: Readable };

const running = new Set<ChildProcess>();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** CPU seconds of this program and all that it started. */
export function ownCpuSeconds(): number {
  return [...running].reduce((sum, { pid }) => sum + cpuSeconds(pid!), cpuSeconds('self'));
}

function start(core: number, command: string, args: readonly string[]): PipedProcess {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TOKENRING_')));
  const options = { env, stdio: ['ignore', 'pipe', 'inherit'] as ['ignore', 'pipe', 'inherit'] };
  // taskset becomes the command: the pid is the server's own.
  const child: PipedProcess = hasTaskset
    ? spawn('taskset', ['-c', String(core), command, ...args], options)
    : spawn(command, args, options);
  running.add(child);
  child.on('exit', () => running.delete(child));
  return child;
}

/** Runs a program on a core to its end. @returns what it printed */
export async function runPinned(core: number, command: string, args: readonly string[]): Promise<string> {
  const child = start(core, command, args);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args[0] ?? ''} ended with ${code}: ${output}`);
  return output;
}

/** Like `runPinned`, for a Node script whose last line is JSON. */
export async function runScript<T>(core: number, args: readonly string[]): Promise<T> {
  return lastJson<T>(await runPinned(core, process.execPath, args));
}

export function lastJson<T>(output: string): T {
  return JSON.parse(output.trim().split('\n').at(-1)!) as T;
}

/** Starts a Node server that prints a line of JSON with its port when it is ready. */
export async function startServer(core: number, args: readonly string[]): Promise<ServerProcess> {
  const child = start(core, process.execPath, args);
  const exited = once(child, 'exit');
  const port = await new Promise<number>((resolve, reject) => {
    child.on('exit', (code) => reject(new Error(`${args[0] ?? ''} ended with ${code} before it was ready`)));
    createInterface(child.stdout).on('line', (line) => {
      const { msg, port } = JSON.parse(line) as { msg: string; port?: number };
      if (msg.endsWith('ready') && port !== undefined) resolve(port);
    });
  });
  return {
    pid: child.pid!,
    port,
    async stop() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** A node of its own, as `tokenring serve` starts it, with the settings given. */
export async function startNode(core: number, dist: string, settings: readonly string[] = []): Promise<ServerProcess> {
  const ports = ['--port', String(await freePort()), '--peer-port', String(await freePort())];
  return startServer(core, [join(dist, 'cli.js'), 'serve', ...ports, ...settings]);
}

/** A bare node:http server that answers just what `node` answers to a first question. */
export async function startBareServer(core: number, node: ServerProcess): Promise<ServerProcess> {
  const answer = await fetch(`http://127.0.0.1:${node.port}/v1/allow`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: '{"clientId":"client-0000000000000","limit":100,"window":"1m"}',
  });
  // These two come from node:http itself.
  const own = new Set(['date', 'connection', 'keep-alive']);
  const headers = [...answer.headers].filter(([name]) => !own.has(name)).flat();
  const template = JSON.stringify({ headers, body: await answer.text() });
  return startServer(core, [join(import.meta.dirname, 'bare-server.js'), template]);
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
