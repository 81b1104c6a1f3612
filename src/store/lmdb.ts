import { rename } from 'node:fs/promises';
import type { Clock, Timers } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import type { Store, StoreResult } from './store.js';
import { decodeClients, encodeClients } from '../state/client-format.js';
import { brokenBy, startLmdbProcess, type Answer, type LmdbProcess } from './lmdb-process.js';
import type { Reply, Request } from './lmdb-protocol.js';
import { StoreError } from './store-error.js';
import { createWallTime } from './wall-time.js';

/** Longest time that one request may take. A slower disk counts as failed. */
const TIMEOUT_MS = 5_000;
/** Time between two sweeps, each of 1,000 records. */
const SWEEP_EVERY_MS = 1_000;

interface LmdbStoreDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Pick<Timers, 'every'>;
  /** Wall ms, which may step. */
  readonly wallMs: () => number;
}

interface LmdbStoreOptions {
  readonly path: string;
  readonly timeoutMs?: number;
}

type Failed = Extract<Reply, { kind: 'failed' }>;

/**
 * Keeps clients in an LMDB file of this machine, which a child process has open. If LMDB cannot read the file, it is
 * renamed to `PATH.damaged-…` and a new file is begun.
 * @throws StoreError when another version of this program wrote the file
 */
export async function openLmdbStore(
  { log, clock, timers, wallMs }: LmdbStoreDeps,
  { path, timeoutMs = TIMEOUT_MS }: LmdbStoreOptions,
): Promise<Store> {
  const wallTime = createWallTime({ clock, wallMs });
  const file = createFileAccess({ log, wallMs }, { path, timeoutMs });
  let unreadable = 0;

  const first = await file.ask({ op: 'load', after: undefined, nowMs: 0 });
  if (first.kind === 'failed' && first.failure === 'format') {
    await file.close();
    throw new StoreError(`TOKENRING_STORE: ${first.reason}`);
  }

  // Each sweep also compares the clocks, once a second even while nothing is written.
  const stopSweeping = timers.every(SWEEP_EVERY_MS, () => file.sweep(wallTime().earliestMs));

  const done = (): StoreResult => ({ kind: 'done', left: [], lost: file.takeLost() });

  return {
    shared: false,
    members: () => file.members(),
    async load(keep) {
      for (let after: string | undefined; ;) {
        const reply = await file.ask({ op: 'load', after, nowMs: wallTime().earliestMs });
        if (reply.kind !== 'loaded') return { kind: 'failed', reason: reasonOf(reply) };
        ({ after, unreadable } = reply);
        if (!keep(decodeClients(reply.clients)) || after === undefined) break;
      }
      if (unreadable > 0) log.warn({ records: unreadable }, 'ignoring records of the store that cannot be read');
      return done();
    },
    async write(clients, forgotten, members) {
      // The time is read now, as the states are of this moment. The request itself may wait for earlier ones.
      const time = wallTime();
      const reply = await file.ask({ op: 'write', time, clients: encodeClients(clients), forgotten, members });
      if (reply.kind !== 'written') return { kind: 'failed', reason: reasonOf(reply) };
      ({ unreadable } = reply);
      return done();
    },
    unreadable: () => unreadable,
    close() {
      stopSweeping();
      return file.close();
    },
  };
}

interface FileAccess {
  /** Sends requests one after the other. Starts the child process if it does not run. */
  ask(request: Request): Promise<Reply>;
  /** Removes expired records, unless the child process has ended or is still sweeping. */
  sweep(nowMs: number): void;
  /** The members in the file when it was first opened. */
  members(): readonly string[];
  /** @returns whether the data of the file was lost since the last call */
  takeLost(): boolean;
  close(): Promise<void>;
}

function createFileAccess(
  { log, wallMs }: Pick<LmdbStoreDeps, 'log' | 'wallMs'>,
  { path, timeoutMs }: Required<LmdbStoreOptions>,
): FileAccess {
  let child: LmdbProcess | undefined;
  let members: readonly string[] | undefined;
  let lost = false;
  let closed = false;
  let isSweeping = false;
  let last: Promise<unknown> = Promise.resolve();

  async function askNow(request: Request): Promise<Reply> {
    if (closed) return failed('the store is closed');
    // A second attempt, since a damaged file can be replaced once.
    for (let tries = 1; ; tries += 1) {
      const answer = (await start()) ?? (await child!.ask(request, timeoutMs));
      const broken = brokenBy(answer);
      if (broken === undefined) return answer as Reply;
      kill();
      const isNew = tries === 1 && broken.file !== 'unharmed' && (await beginAnew(broken.file, broken.reason));
      if (!isNew) return failed(broken.reason);
    }
  }

  /** @returns the answer of a process that could not open the file */
  async function start(): Promise<Answer | undefined> {
    if (child !== undefined) return undefined;
    child = startLmdbProcess();
    const opened = await child.ask({ op: 'open', path }, timeoutMs);
    if (opened.kind === 'opened') {
      members ??= opened.members;
      for (const warning of opened.warnings) log.warn({ path }, warning);
      return undefined;
    }
    kill();
    return opened;
  }

  function kill(): void {
    child?.kill();
    child = undefined;
  }

  /** @returns whether a new file can be begun */
  async function beginAnew(file: 'damaged' | 'gone', reason: string): Promise<boolean> {
    if (file === 'gone') log.warn({ path }, 'the store file was removed; beginning a new one');
    else {
      const to = `${path}.damaged-${wallMs()}`;
      try {
        await rename(path, to);
      } catch {
        return false;
      }
      log.warn({ path, to, reason }, 'the store file is damaged; renamed it, beginning a new one');
    }
    lost = true;
    return true;
  }

  function ask(request: Request): Promise<Reply> {
    const next = last.then(() => askNow(request));
    last = next.catch(() => undefined);
    return next;
  }

  return {
    ask,
    sweep(nowMs) {
      if (child === undefined || isSweeping) return;
      isSweeping = true;
      void ask({ op: 'sweep', nowMs }).then(() => (isSweeping = false));
    },
    members: () => members ?? [],
    takeLost() {
      const was = lost;
      lost = false;
      return was;
    },
    async close() {
      closed = true;
      await child?.stop();
      child = undefined;
    },
  };
}

function failed(reason: string): Failed {
  return { kind: 'failed', failure: 'other', reason };
}

function reasonOf(reply: Reply): string {
  return reply.kind === 'failed' ? reply.reason : `unexpected answer ${reply.kind}`;
}
