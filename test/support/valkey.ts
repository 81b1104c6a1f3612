import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.js';

/** A real Valkey server on loopback, in a folder of its own. */
export interface Valkey {
  readonly port: number;
  readonly url: string;
  readonly pid: number;
  /** Sends it a signal: STOP freezes it, KILL ends it. */
  signal(signal: NodeJS.Signals): void;
  /** Ends it, by KILL, and waits until it has. */
  kill(): Promise<void>;
  /** Starts it again on the same port, with what it had saved. */
  start(): Promise<void>;
  /** Kills it and removes its folder. */
  remove(): Promise<void>;
}

export const VALKEY = 'valkey-server';

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** @param options as in its configuration file, each with two dashes */
export async function startValkey(...options: string[]): Promise<Valkey> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-valkey-'));
  let child: ChildProcess | undefined;

  const valkey: Valkey = {
    port,
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return child!.pid!;
    },
    signal: (signal) => void child?.kill(signal),
    async kill() {
      if (child === undefined) return;
      const ended = new Promise((resolve) => child!.once('close', resolve));
      child.kill('SIGKILL');
      await ended;
      running.delete(child);
      child = undefined;
    },
    async start() {
      const fixed = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''];
      const one = spawn(VALKEY, [...fixed, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
      child = one;
      running.add(one);
      await new Promise<void>((resolve, reject) => {
        let said = '';
        one.stdout.on('data', (chunk: Buffer) => {
          said += chunk.toString();
          if (said.includes('Ready to accept connections')) resolve();
        });
        one.once('close', () => reject(new Error(`${VALKEY} ended: ${said}`)));
      });
    },
    async remove() {
      await valkey.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await valkey.start();
  return valkey;
}
