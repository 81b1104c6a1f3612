import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { rename } from 'node:fs/promises';
import type { Log, Store, StoreResult } from '../cluster/ports.js';
import { encodeClients, readClients } from '../wire/clients.js';
import type { Ask, Told } from './lmdb-protocol.js';
import { StoreError } from './store-error.js';

/** How long the keeper may take for one question: a disk that is slower counts as failed. */
const TIMEOUT_MS = 5_000;
/** What a damaged file does to who reads it. */
const DEADLY: ReadonlySet<string | null> = new Set(['SIGBUS', 'SIGSEGV', 'SIGABRT', 'SIGILL']);

interface LmdbStoreDeps {
  readonly log: Log;
  /** Wall ms, which may step. */
  readonly wallMs: () => number;
}

type Answer = Told | { readonly kind: 'ended'; readonly signal: string | null } | { readonly kind: 'timeout' };

/** One life of the process that keeps the file. Asked one question at a time. */
interface Keeper {
  readonly child: ChildProcess;
  ask(ask: Ask, timeoutMs: number): Promise<Answer>;
  stop(): Promise<void>;
}

function startKeeper(): Keeper {
  const { href } = new URL(import.meta.url);
  const script = new URL(href.endsWith('.ts') ? './lmdb-keeper.ts' : './lmdb-keeper.js', import.meta.url);
  const child = fork(script, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  // The program has its servers to live for.
  child.unref();
  child.channel?.unref();
  let settle: ((answer: Answer) => void) | undefined;
  let ended: Answer | undefined;
  const end = (signal: string | null): void => {
    ended ??= { kind: 'ended', signal };
    settle?.(ended);
  };
  child.on('message', (told: Told) => settle?.(told));
  child.on('exit', (_, signal) => end(signal));
  child.on('error', () => end(null));
  return {
    child,
    async ask(ask, timeoutMs) {
      if (ended !== undefined) return ended;
      let timer: NodeJS.Timeout | undefined;
      const answer = await new Promise<Answer>((resolve) => {
        settle = resolve;
        timer = setTimeout(() => resolve({ kind: 'timeout' }), timeoutMs);
        child.send(ask, (error) => error !== null && end(child.signalCode));
      });
      settle = undefined;
      clearTimeout(timer);
      return answer;
    },
    async stop() {
      if (ended !== undefined || child.exitCode !== null || child.signalCode !== null) return;
      const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.disconnect();
      await exited;
    },
  };
}

/**
 * Keeps clients in an LMDB file of this machine, by way of a process of its own. A file that LMDB cannot read is set aside, as
 * `PATH.damaged-…`, and a new one begun.
 * @throws StoreError when the file is of another version of this program
 */
export async function openLmdbStore(
  { log, wallMs }: LmdbStoreDeps,
  { path, timeoutMs = TIMEOUT_MS }: { readonly path: string; readonly timeoutMs?: number },
): Promise<Store> {
  let keeper: Keeper | undefined;
  let closed = false;
  let unreadable = 0;
  let lost = false;
  /** As the file said when it was first opened. */
  let members: readonly string[] | undefined;
  let last: Promise<unknown> = Promise.resolve();

  /** Asks the keeper, which is started anew where it has ended. */
  async function ask(question: Ask): Promise<Told | { kind: 'failed'; failure: 'other'; reason: string }> {
    // Twice, as a damaged file can be set aside once.
    for (let tries = 1; ; tries += 1) {
      const failed = await ready();
      const answer = failed ?? (await keeper!.ask(question, timeoutMs));
      const why = brokenBy(answer);
      if (why === undefined) return answer as Told;
      stopKeeper();
      const begun = tries === 1 && why.file !== 'unharmed' && (await beginAnew(why.file, why.reason));
      if (!begun) return { kind: 'failed', failure: 'other', reason: why.reason };
    }
  }

  /** @returns what the keeper said that has not opened the file */
  async function ready(): Promise<Answer | undefined> {
    if (keeper !== undefined) return undefined;
    keeper = startKeeper();
    const opened = await keeper.ask({ op: 'open', path }, timeoutMs);
    if (opened.kind === 'opened') {
      members ??= opened.members;
      return undefined;
    }
    stopKeeper();
    return opened;
  }

  function stopKeeper(): void {
    // One that hangs in a read of a dead disk ends when that does.
    keeper?.child.kill('SIGKILL');
    keeper = undefined;
  }

  /** @returns whether a new file can be begun: what was in this one is lost */
  async function beginAnew(file: 'damaged' | 'gone', reason: string): Promise<boolean> {
    if (file === 'damaged') return setAside(reason);
    lost = true;
    log.warn({ path }, 'the store file was removed: a new one is begun');
    return true;
  }

  async function setAside(reason: string): Promise<boolean> {
    const to = `${path}.damaged-${wallMs()}`;
    try {
      await rename(path, to);
    } catch {
      return false;
    }
    lost = true;
    log.warn({ path, to, reason }, 'the store file is damaged: set aside, a new one is begun');
    return true;
  }

  /** One question at a time. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = last.then(work);
    last = next.catch(() => undefined);
    return next;
  }

  const first = await inTurn(() => ask({ op: 'load', after: undefined, nowMs: 0 }));
  if (first.kind === 'failed' && first.failure === 'format') {
    await stop();
    throw new StoreError(`TOKENRING_STORE: ${first.reason}`);
  }

  async function stop(): Promise<void> {
    closed = true;
    await keeper?.stop();
    keeper = undefined;
  }

  function done(): StoreResult {
    const result = { kind: 'done', left: [], lost } as const;
    lost = false;
    return result;
  }

  return {
    shared: false,
    get members() {
      return members ?? [];
    },
    load: (keep) =>
      inTurn(async () => {
        for (let after: string | undefined; ;) {
          if (closed) return { kind: 'failed', reason: 'the store is closed' };
          const told = await ask({ op: 'load', after, nowMs: wallMs() });
          if (told.kind !== 'loaded') return { kind: 'failed', reason: reasonOf(told) };
          ({ after, unreadable } = told);
          if (!keep(readClients(told.rules, told.clients)) || after === undefined) break;
        }
        if (unreadable > 0)
          log.warn({ records: unreadable }, 'records of the store cannot be read, and count as absent');
        return done();
      }),
    write(clients, forgotten, present) {
      // Now, as it is now that they owe this.
      const atMs = wallMs();
      const [rules, wire] = encodeClients(clients);
      return inTurn(async () => {
        if (closed) return { kind: 'failed', reason: 'the store is closed' };
        const told = await ask({ op: 'write', atMs, rules, clients: wire, forgotten, members: present });
        if (told.kind !== 'written') return { kind: 'failed', reason: reasonOf(told) };
        ({ unreadable } = told);
        return done();
      });
    },
    get unreadable() {
      return unreadable;
    },
    close: stop,
  };
}

function reasonOf(told: Told): string {
  return told.kind === 'failed' ? told.reason : `unexpected answer ${told.kind}`;
}

/** Why the keeper is of no more use, and what became of its file; `undefined` when it is of use. */
function brokenBy(
  answer: Answer,
): { readonly file: 'unharmed' | 'damaged' | 'gone'; readonly reason: string } | undefined {
  switch (answer.kind) {
    case 'timeout':
      return { file: 'unharmed', reason: 'the file does not answer in time' };
    case 'ended': {
      const file = DEADLY.has(answer.signal) ? 'damaged' : 'unharmed';
      return { file, reason: `its process ended by ${answer.signal ?? 'itself'}` };
    }
    case 'failed':
      if (answer.failure === 'gone') return { file: 'gone', reason: answer.reason };
      return answer.failure === 'corrupt' ? { file: 'damaged', reason: answer.reason } : undefined;
    default:
      return undefined;
  }
}
