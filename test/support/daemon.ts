import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { refuses } from './ports.js';

/** A real program that serves on loopback, in a folder of its own. */
export interface Daemon {
  /** What it has said. */
  said(): string;
  /** Kills it and removes its folder. */
  remove(): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts a program and waits until it listens at `port`.
 * @param command gets the folder of the program, and returns the command line
 * @throws Error with what the program said, when it ends before
 */
export async function startDaemon(port: number, command: (folder: string) => readonly string[]): Promise<Daemon> {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-daemon-'));
  const [program, ...args] = command(folder);
  const env = { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder };
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  running.add(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const closed = new Promise<void>((resolve) =>
    child.once('close', () => {
      running.delete(child);
      resolve();
    }),
  );
  while (await refuses(port)) {
    if (child.exitCode !== null) throw new Error(`${program} ended: ${said}`);
    await wait(20);
  }
  return {
    said: () => said,
    async remove() {
      child.kill('SIGKILL');
      await closed;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
