import { rename } from 'node:fs/promises';
import type { Clock, Timers, Log } from '../lib/system.js';
import type { ClientSnapshot } from '../state/client.js';
import { type LastingClient, type Store, type StoreResult, StoreError } from './store.js';
import { decodeClients, encodeClients } from '../state/client-format.js';
import { brokenBy, LmdbProcess, type Answer } from './lmdb-process.js';
import type { Reply, Request } from './lmdb-protocol.js';
import { WallClock } from './wall-time.js';

/** Longest time that one request may take. A slower disk counts as failed. */
const TIMEOUT_MS = 5_000;
/** Time between two sweeps, each of 1,000 records. */
const SWEEP_EVERY_MS = 1_000;

interface LmdbStoreParts {
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Pick<Timers, 'every'>;
  /** Wall ms, which may step. */
  readonly wallMs: () => number;
}

type Failed = Extract<Reply, { kind: 'failed' }>;

/**
 * Keeps clients in an LMDB file of this machine, which a child process has open. If LMDB cannot read the file, it is
 * renamed to `PATH.damaged-…` and a new file is begun.
 */
export class LmdbStore implements Store {
  readonly shared = false;
  private readonly file: FileAccess;
  private readonly wallClock: WallClock;
  private unreadableRecords = 0;
  private stopSweeping: (() => void) | undefined;

  private constructor(
    path: string,
    private readonly parts: LmdbStoreParts,
  ) {
    this.wallClock = new WallClock(parts.clock, parts.wallMs);
    this.file = new FileAccess(path, parts.log, parts.wallMs);
  }

  /** @throws StoreError when another version of this program wrote the file */
  static async open(path: string, parts: LmdbStoreParts): Promise<Store> {
    const store = new LmdbStore(path, parts);
    await store.begin();
    return store;
  }

  members(): readonly string[] {
    return this.file.members();
  }

  async load(keep: (clients: readonly ClientSnapshot[]) => boolean): Promise<StoreResult> {
    for (let after: string | undefined; ;) {
      const reply = await this.file.ask({ op: 'load', after, nowMs: this.wallClock.now().earliestMs });
      if (reply.kind !== 'loaded') return { kind: 'failed', reason: reasonOf(reply) };
      after = reply.after;
      this.unreadableRecords = reply.unreadable;
      if (!keep(decodeClients(reply.clients)) || after === undefined) break;
    }
    if (this.unreadableRecords > 0)
      this.parts.log.warn({ records: this.unreadableRecords }, 'ignoring records of the store that cannot be read');
    return this.done();
  }

  async write(
    clients: readonly LastingClient[],
    forgotten: readonly string[],
    members?: readonly string[],
  ): Promise<StoreResult> {
    // The time is read now, as the states are of this moment. The request itself may wait for earlier ones.
    const time = this.wallClock.now();
    const reply = await this.file.ask({ op: 'write', time, clients: encodeClients(clients), forgotten, members });
    if (reply.kind !== 'written') return { kind: 'failed', reason: reasonOf(reply) };
    this.unreadableRecords = reply.unreadable;
    return this.done();
  }

  unreadable(): number {
    return this.unreadableRecords;
  }

  close(): Promise<void> {
    this.stopSweeping?.();
    return this.file.close();
  }

  private async begin(): Promise<void> {
    const first = await this.file.ask({ op: 'load', after: undefined, nowMs: 0 });
    if (first.kind === 'failed' && first.failure === 'format') {
      await this.file.close();
      throw new StoreError(`TOKENRING_STORE: ${first.reason}`);
    }
    // Each sweep also compares the clocks, once a second even while nothing is written.
    this.stopSweeping = this.parts.timers.every(SWEEP_EVERY_MS, () => this.file.sweep(this.wallClock.now().earliestMs));
  }

  private done(): StoreResult {
    return { kind: 'done', left: [], lost: this.file.takeLost() };
  }
}

/** Sends requests to the child process one after the other. Starts it if it does not run. */
class FileAccess {
  private child: LmdbProcess | undefined;
  private membersFound: readonly string[] | undefined;
  private lost = false;
  private closed = false;
  private isSweeping = false;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly path: string,
    private readonly log: Log,
    private readonly wallMs: () => number,
  ) {}

  ask(request: Request): Promise<Reply> {
    const next = this.last.then(() => this.askNow(request));
    this.last = next.catch(() => undefined);
    return next;
  }

  /** Removes expired records, unless the child process has ended or is still sweeping. */
  sweep(nowMs: number): void {
    if (this.child === undefined || this.isSweeping) return;
    this.isSweeping = true;
    void this.ask({ op: 'sweep', nowMs }).then(() => (this.isSweeping = false));
  }

  /** The members in the file when it was first opened. */
  members(): readonly string[] {
    return this.membersFound ?? [];
  }

  /** @returns whether the data of the file was lost since the last call */
  takeLost(): boolean {
    const was = this.lost;
    this.lost = false;
    return was;
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.child?.stop();
    this.child = undefined;
  }

  private async askNow(request: Request): Promise<Reply> {
    if (this.closed) return failed('the store is closed');
    // A second attempt, since a damaged file can be replaced once.
    for (let tries = 1; ; tries += 1) {
      const answer = (await this.start()) ?? (await this.child!.ask(request, TIMEOUT_MS));
      const broken = brokenBy(answer);
      if (broken === undefined) return answer as Reply;
      this.kill();
      const isNew = tries === 1 && broken.file !== 'unharmed' && (await this.beginAnew(broken.file, broken.reason));
      if (!isNew) return failed(broken.reason);
    }
  }

  /** @returns the answer of a process that could not open the file */
  private async start(): Promise<Answer | undefined> {
    if (this.child !== undefined) return undefined;
    this.child = new LmdbProcess();
    const opened = await this.child.ask({ op: 'open', path: this.path }, TIMEOUT_MS);
    if (opened.kind === 'opened') {
      this.membersFound ??= opened.members;
      for (const warning of opened.warnings) this.log.warn({ path: this.path }, warning);
      return undefined;
    }
    this.kill();
    return opened;
  }

  private kill(): void {
    this.child?.kill();
    this.child = undefined;
  }

  /** @returns whether a new file can be begun */
  private async beginAnew(file: 'damaged' | 'gone', reason: string): Promise<boolean> {
    const { path, log } = this;
    if (file === 'gone') log.warn({ path }, 'the store file was removed; beginning a new one');
    else {
      const to = `${path}.damaged-${this.wallMs()}`;
      try {
        await rename(path, to);
      } catch {
        return false;
      }
      log.warn({ path, to, reason }, 'the store file is damaged; renamed it, beginning a new one');
    }
    this.lost = true;
    return true;
  }
}

function failed(reason: string): Failed {
  return { kind: 'failed', failure: 'other', reason };
}

function reasonOf(reply: Reply): string {
  return reply.kind === 'failed' ? reply.reason : `unexpected answer ${reply.kind}`;
}
