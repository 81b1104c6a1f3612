import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { bundledDist } from '../support/dist.js';

export interface Ended {
  /** The exit code, or the signal that ended it. */
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** The log line with this message, as soon as it is there. Rejects when the program ends without. */
  line(msg: string): Promise<Record<string, unknown>>;
  /** The log lines with this message, once there are so many. */
  lines(msg: string, count: number): Promise<readonly Record<string, unknown>[]>;
}

const PACKAGE = join(import.meta.dirname, '../..');
/** Variables to set; `undefined` unsets one. */
type Environment = Record<string, string | undefined>;

interface Place {
  readonly cwd?: string;
  /** A command of the shell before it, such as `ulimit`. */
  readonly shell?: string;
}

const running = new Set<ChildProcess>();

/** Ends what a failed test left behind. */
export function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** The built command as a process of its own, with nothing of this one's `TOKENRING_` environment. */
export function tokenring(args: readonly string[], env: Environment = {}, place: Place = {}): Program {
  return start([join(bundledDist(), 'cli.js'), ...args], env, place);
}

/** Node, by default in this package's folder: there `tokenring` is this package for it. */
export function start(args: readonly string[], env: Environment = {}, { cwd = PACKAGE, shell }: Place = {}): Program {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(TOKENRING_|NODE_)/.test(name));
  const [program, ...all] =
    shell === undefined
      ? [process.execPath, ...args]
      : ['sh', '-c', `${shell}; exec "$0" "$@"`, process.execPath, ...args];
  const child = spawn(program, all, {
    env: { ...Object.fromEntries(inherited), TOKENRING_POLICIES: 'none', ...env },
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  let exited = false;
  let wake = new Set<() => void>();
  const changed = (): void => {
    const waiting = wake;
    wake = new Set();
    for (const call of waiting) call();
  };
  createInterface({ input: child.stdout }).on('line', (line) => {
    stdout += `${line}\n`;
    changed();
  });
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => {
      running.delete(child);
      exited = true;
      changed();
      resolve({ code: code ?? signal ?? 'SIGKILL', stdout, stderr });
    });
  });
  async function lines(msg: string, count: number): Promise<readonly Record<string, unknown>[]> {
    for (;;) {
      const found = stdout.split('\n').filter((line) => line.includes(`"msg":"${msg}"`));
      if (found.length >= count) return found.map((line) => JSON.parse(line) as Record<string, unknown>);
      if (exited) throw new Error(`ended with ${found.length} of ${count} "${msg}": ${stdout}${stderr}`);
      await new Promise<void>((resolve) => wake.add(resolve));
    }
  }

  return { child, ended, lines, line: async (msg) => (await lines(msg, 1))[0]! };
}

/** `tokenring serve` on free ports, ready. */
export async function serve(...flags: string[]): Promise<Program & { readonly port: number }> {
  const program = tokenring(['serve', '--port', '0', '--peer-port', '0', ...flags]);
  const { port } = await program.line('tokenring ready');
  return { ...program, port: port as number };
}
