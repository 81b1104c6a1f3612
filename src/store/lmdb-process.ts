import { fork, type ChildProcess } from 'node:child_process';
import here from './here.cjs';
import type { Reply, Request } from './lmdb-protocol.js';

/** Signals that end a process that reads a damaged file. */
const CRASHES: ReadonlySet<string | null> = new Set(['SIGBUS', 'SIGSEGV', 'SIGABRT', 'SIGILL']);

export type Answer = Reply | { readonly kind: 'ended'; readonly signal: string | null } | { readonly kind: 'timeout' };

/** One run of the child process that has the LMDB file open. Takes one request at a time. */
export class LmdbProcess {
  private readonly child = start();
  private resolveAnswer: ((answer: Answer) => void) | undefined;
  private ended: Answer | undefined;

  constructor() {
    this.child.on('message', (reply: Reply) => this.resolveAnswer?.(reply));
    this.child.on('exit', (_, signal) => this.end(signal));
    this.child.on('error', () => this.end(null));
  }

  async ask(request: Request, timeoutMs: number): Promise<Answer> {
    if (this.ended !== undefined) return this.ended;
    let timer: NodeJS.Timeout | undefined;
    const answer = await new Promise<Answer>((resolve) => {
      this.resolveAnswer = resolve;
      timer = setTimeout(() => resolve({ kind: 'timeout' }), timeoutMs);
      this.child.send(request, (error) => error !== null && this.end(this.child.signalCode));
    });
    this.resolveAnswer = undefined;
    clearTimeout(timer);
    return answer;
  }

  /** Resolves when the process has ended by itself. */
  async stop(): Promise<void> {
    const { child } = this;
    if (this.ended !== undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.disconnect();
    await exited;
  }

  /** A process that hangs in a read of a dead disk ends when that read does. */
  kill(): void {
    this.child.kill('SIGKILL');
  }

  private end(signal: string | null): void {
    this.ended ??= { kind: 'ended', signal };
    this.resolveAnswer?.(this.ended);
  }
}

function start(): ChildProcess {
  const script = here.replace(/here\.c([jt]s)$/, 'lmdb-child.$1');
  const child = fork(script, { serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  // The servers keep the program running, not this process.
  child.unref();
  child.channel?.unref();
  return child;
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
