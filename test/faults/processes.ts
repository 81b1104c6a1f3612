import { spawn, spawnSync, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';

/** What must be undone, last first, however this program ends. */
const undos: (() => void)[] = [];
let watching = false;
function watchTheEnd(): void {
  if (watching) return;
  watching = true;
  process.on('exit', () => {
    while (undos.length > 0) undos.pop()!();
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
}

/** @returns does it now, once */
export function undoAtEnd(undo: () => void): () => void {
  watchTheEnd();
  undos.push(undo);
  return () => {
    const at = undos.indexOf(undo);
    if (at < 0) return;
    undos.splice(at, 1);
    undo();
  };
}

export function installed(command: string, args: readonly string[] = ['--version']): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).error === undefined;
}

/** With it, a process ends when this one does, even by SIGKILL. */
const hasSetpriv = process.platform === 'linux' && installed('setpriv');

export interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Resolves with the exit code, `undefined` when it was ended by a signal. */
  readonly exited: Promise<number | undefined>;
  kill(): Promise<void>;
}

export function start(command: readonly string[], options: SpawnOptions): Started {
  const [program, ...args] = hasSetpriv ? ['setpriv', '--pdeathsig', 'KILL', ...command] : command;
  const child = spawn(program!, args, options);
  const exited = once(child, 'exit').then(([code]) => (code as number | null) ?? undefined);
  let running = true;
  const kill = undoAtEnd(() => {
    if (running) child.kill('SIGKILL');
  });
  void exited.then(() => {
    running = false;
    kill();
  });
  return {
    child,
    pid: child.pid!,
    exited,
    async kill() {
      kill();
      await exited;
    },
  };
}

/** Runs a command to its end. @throws Error with what it said, when it failed */
export function run(command: string, args: readonly string[], input?: string): void {
  const { error, status, stderr } = spawnSync(command, args, { input, encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr}`);
}
