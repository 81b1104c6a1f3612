import { fork } from 'node:child_process';
import here from './here.cjs';
import type { Reply, Request } from './lmdb-protocol.js';

/** Signals that end a process that reads a damaged file. */
const CRASHES: ReadonlySet<string | null> = new Set(['SIGBUS', 'SIGSEGV', 'SIGABRT', 'SIGILL']);

export type Answer = Reply | { readonly kind: 'ended'; readonly signal: string | null } | { readonly kind: 'timeout' };

/** One run of the child process that has the LMDB file open. Takes one request at a time. */
export interface LmdbProcess {
  ask(request: Request, timeoutMs: number): Promise<Answer>;
  /** Resolves when the process has ended by itself. */
  stop(): Promise<void>;
  kill(): void;
}

export function startLmdbProcess(): LmdbProcess {
  const script = here.replace(/here\.c([jt]s)$/, 'lmdb-child.$1');
  const child = fork(script, { serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  // The servers keep the program running, not this process.
  child.unref();
  child.channel?.unref();
  let resolveAnswer: ((answer: Answer) => void) | undefined;
  let ended: Answer | undefined;
  const end = (signal: string | null): void => {
    ended ??= { kind: 'ended', signal };
    resolveAnswer?.(ended);
  };
  child.on('message', (reply: Reply) => resolveAnswer?.(reply));
  child.on('exit', (_, signal) => end(signal));
  child.on('error', () => end(null));
  return {
    async ask(request, timeoutMs) {
      if (ended !== undefined) return ended;
      let timer: NodeJS.Timeout | undefined;
      const answer = await new Promise<Answer>((resolve) => {
        resolveAnswer = resolve;
        timer = setTimeout(() => resolve({ kind: 'timeout' }), timeoutMs);
        child.send(request, (error) => error !== null && end(child.signalCode));
      });
      resolveAnswer = undefined;
      clearTimeout(timer);
      return answer;
    },
    async stop() {
      if (ended !== undefined || child.exitCode !== null || child.signalCode !== null) return;
      const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.disconnect();
      await exited;
    },
    // A process that hangs in a read of a dead disk ends when that read does.
    kill: () => void child.kill('SIGKILL'),
  };
}

/** Explains why the process cannot be used any more, and the state of its file; `undefined` if it can continue. */
export function brokenBy(
  answer: Answer,
): { readonly file: 'unharmed' | 'damaged' | 'gone'; readonly reason: string } | undefined {
  switch (answer.kind) {
    case 'timeout':
      return { file: 'unharmed', reason: 'the file does not answer in time' };
    case 'ended': {
      const file = CRASHES.has(answer.signal) ? 'damaged' : 'unharmed';
      return { file, reason: `its process ended by ${answer.signal ?? 'itself'}` };
    }
    case 'failed':
      if (answer.failure === 'gone') return { file: 'gone', reason: answer.reason };
      return answer.failure === 'corrupt' ? { file: 'damaged', reason: answer.reason } : undefined;
    default:
      return undefined;
  }
}
