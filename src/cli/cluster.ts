import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { readSettings, SettingsError } from '../settings.js';
import { withoutServiceLinks } from './service-links.js';

const BASE_PORT = 8080;
const BASE_PEER_PORT = 9080;
const DEFAULT_NODES = 3;
const MAX_NODES = 50;

/** `tokenring cluster`: nodes as processes of their own on 127.0.0.1, stopped together by Ctrl-C. */
export async function runCluster(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { nodes, rest } = readNodes(args);
  const { workers } = readSettings(rest, withoutServiceLinks(env).own);
  // Each worker of a node listens at a port of its own.
  const peerPorts = Array.from({ length: nodes }, (_, i) => BASE_PEER_PORT + i * workers);
  const peers = peerPorts.map((port) => `127.0.0.1:${port}`).join(',');
  const children = peerPorts.map((peerPort, i) =>
    startMember(['--port', `${BASE_PORT + i}`, '--peer-port', `${peerPort}`, '--peers', peers, ...rest], env),
  );
  const stop = (): void => children.forEach(({ child }) => child.kill('SIGTERM'));
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  await Promise.all(children.map(({ ready }) => ready));
  process.stdout.write(
    `\n${nodes === 1 ? 'The node is' : `${nodes} nodes are`} ready. Try:\n\n` +
      `  curl -s localhost:${BASE_PORT}/v1/allow -H 'content-type: application/json' -d '{"clientId":"alice","limit":5,"window":"1m"}'\n\n` +
      `All of 127.0.0.1:${BASE_PORT} to ${BASE_PORT + nodes - 1} answer alike. Ctrl-C stops.\n\n`,
  );
  const codes = await Promise.all(children.map(({ exited }) => exited));
  process.exitCode = Math.max(...codes);
}

interface Member {
  readonly child: ChildProcess;
  readonly ready: Promise<void>;
  readonly exited: Promise<number>;
}

function startMember(args: readonly string[], env: NodeJS.ProcessEnv): Member {
  const cli = fileURLToPath(new URL('../cli.js', import.meta.url));
  // A process group of its own: Ctrl-C reaches only this process, which then stops each node once.
  const child = spawn(process.execPath, [cli, 'serve', ...args], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.on('exit', () => child.kill('SIGKILL'));
  const exited = new Promise<number>((resolve) => child.on('exit', (code) => resolve(code ?? 1)));
  const ready = new Promise<void>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      process.stdout.write(`${line}\n`);
      if (line.includes('"msg":"tokenring ready"')) resolve();
    });
    void exited.then((code) => {
      resolve();
      if (code !== 0) process.exit(code);
    });
  });
  return { child, ready, exited };
}

function readNodes(args: readonly string[]): { nodes: number; rest: string[] } {
  const rest = [...args];
  const at = rest.indexOf('--nodes');
  if (at < 0) return { nodes: DEFAULT_NODES, rest };
  const [, text] = rest.splice(at, 2);
  const nodes = /^\d{1,2}$/.test(text ?? '') ? Number(text) : 0;
  if (nodes < 1 || nodes > MAX_NODES)
    throw new SettingsError(`--nodes: ${text} is not valid, expected 1 to ${MAX_NODES}`);
  return { nodes, rest };
}
