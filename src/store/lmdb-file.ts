import { statSync } from 'node:fs';
import { open, type RootDatabase } from 'lmdb';
import type { ClientSnapshot } from '../state/client.js';
import { decodeClients, encodeClients } from '../state/client-format.js';
import type { Failure, Reply, Request } from './lmdb-protocol.js';
import { makePrivate } from '../lib/files.js';
import { nextRecord, recall, tryRecord } from './record.js';

/** Clients in one chunk of a load. */
const CHUNK = 500;
/** Bound of the records that one chunk reads. It skips expired ones. */
const MAX_READ = 5_000;
/** Records that one sweep reads. */
const SWEEP = 1_000;

/** Longest time that a request waits for earlier ones. */
const MAX_WAIT_MS = 60_000;

/** Version of the file: its keys, its head, and its records. A program that finds another one does not start. */
const FORMAT = 3;
/** Key of the head: JSON with the version of the file and the members of the ring. All versions have it here. */
const HEAD = Buffer.of(0);
/** First byte of the key of each client. No client id reaches a key outside it. */
const CLIENTS = 1;
const FIRST_CLIENT = Buffer.of(CLIENTS);
const AFTER_CLIENTS = Buffer.of(CLIENTS + 1);
/** Keys by which a file without a head is judged. */
const SAMPLE = 1_000;

/** LMDB's messages for a file that is damaged or is not an LMDB file. */
const CORRUPT =
  /MDB_CORRUPTED|MDB_INVALID|MDB_PAGE_NOTFOUND|MDB_PANIC|MDB_VERSION_MISMATCH|MDB_BAD_TXN|not an LMDB file|file is not|corrupt/i;

export class FileFailure extends Error {
  override readonly name = 'FileFailure';
  constructor(
    readonly failure: Failure,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

const OPTIONS = {
  // The path names the file itself, not a folder, whatever its extension.
  noSubdir: true,
  encoding: 'binary',
  keyEncoding: 'binary',
  maxReaders: 256,
  permissionsMode: 0o600,
  // A commit returns once it is on the disk.
  overlappingSync: false,
} as const;

/**
 * One LMDB file. All operations block, since lmdb's asynchronous transactions never end here (3.5.6 on Node 20 and 24),
 * so it needs a process of its own. Other processes of this machine may have the same file open.
 */
export class LmdbFile {
  /** Sentences for the operator about the file as it was found. */
  readonly warnings: readonly string[];
  private readonly db: RootDatabase<Buffer, Buffer>;
  /** Identity of the file that is open. */
  private readonly opened: string | undefined;
  private ringMembers: readonly string[];
  private unreadable = 0;
  private swept: Buffer = FIRST_CLIENT;

  /** Opens the file, or creates it. @throws FileFailure */
  constructor(private readonly path: string) {
    const problems = [path, `${path}-lock`].map(makePrivate);
    const { db, head } = guarded(() => {
      const opened = open<Buffer, Buffer>({ ...OPTIONS, path });
      return { db: opened, head: readHead(opened, path) };
    });
    if (head.rebuilt) problems.push(`${path} had no valid head; rebuilt it, without the members of the last ring`);
    this.warnings = problems.filter((problem) => problem !== undefined);
    this.db = db;
    this.ringMembers = head.members;
    this.opened = fileAt(path);
  }

  /** Members of the ring at the last write. */
  members(): readonly string[] {
    return this.ringMembers;
  }

  /** @throws FileFailure */
  load(after: string | undefined, nowMs: number): Extract<Reply, { kind: 'loaded' }> {
    return guarded(() => {
      const clients: ClientSnapshot[] = [];
      const start = after === undefined ? FIRST_CLIENT : next(Buffer.from(after, 'latin1'));
      let last: string | undefined;
      let read = 0;
      for (const { key, value } of this.db.getRange({ start, end: AFTER_CLIENTS, limit: MAX_READ })) {
        read += 1;
        last = bufferOf(key).toString('latin1');
        const record = tryRecord(value);
        if (record === undefined) this.unreadable += 1;
        else if (record.restAtMs > nowMs) {
          const client = recall(record, nowMs);
          if (client[1].length > 0) clients.push(client);
        }
        if (clients.length === CHUNK) break;
      }
      const more = clients.length === CHUNK || read === MAX_READ;
      const { unreadable } = this;
      return { kind: 'loaded', clients: encodeClients(clients), after: more ? last : undefined, unreadable };
    });
  }

  /** Merges all clients or none. @throws FileFailure */
  write(request: Extract<Request, { op: 'write' }>): Extract<Reply, { kind: 'written' }> {
    const { time, clients, forgotten, members = this.ringMembers } = request;
    const { earliestMs, latestMs } = time;
    const { db, path } = this;
    return guarded(() => {
      // A removed file stays open in this process. Data written to it is lost when the process ends.
      if (fileAt(path) !== this.opened) throw new FileFailure('gone', `${path} was removed`);
      db.transactionSync(() => {
        if (members.join() !== this.ringMembers.join()) db.putSync(HEAD, encodeHead(members));
        for (const clientId of forgotten) {
          const key = keyOf(clientId);
          const before = db.get(key);
          if (before !== undefined && !isLater(tryRecord(before)?.atMs ?? 0, latestMs)) db.removeSync(key);
        }
        for (const [clientId, buckets] of decodeClients(clients)) {
          const key = keyOf(clientId);
          const before = db.get(key);
          const stored = before && tryRecord(before);
          if (before !== undefined && stored === undefined) this.unreadable += 1;
          const merged = nextRecord(stored, [clientId, buckets], earliestMs, latestMs);
          if (merged !== undefined) db.putSync(key, merged.bytes);
        }
      });
      this.ringMembers = members;
      return { kind: 'written', unreadable: this.unreadable };
    });
  }

  /**
   * Removes expired records among the next 1,000. After the last record, it starts again at the first.
   * @throws FileFailure
   */
  sweep(nowMs: number): Extract<Reply, { kind: 'swept' }> {
    const { db } = this;
    return guarded(() => {
      const expired: Buffer[] = [];
      let read = 0;
      for (const { key, value } of db.getRange({ start: this.swept, end: AFTER_CLIENTS, limit: SWEEP })) {
        read += 1;
        this.swept = next(bufferOf(key));
        const restAtMs = tryRecord(value)?.restAtMs;
        if (restAtMs !== undefined && restAtMs <= nowMs) expired.push(bufferOf(key));
      }
      if (read < SWEEP) this.swept = FIRST_CLIENT;
      if (expired.length === 0) return { kind: 'swept' };
      db.transactionSync(() => {
        for (const key of expired) {
          // Another process may have written it meanwhile.
          const value = db.get(key);
          if (value !== undefined && (tryRecord(value)?.restAtMs ?? 0) <= nowMs) db.removeSync(key);
        }
      });
      return { kind: 'swept' };
    });
  }

  close(): Promise<void> {
    return this.db.close();
  }
}

/**
 * Tells whether a record was written later than `nowMs`. A stamp far in the future comes from a clock that was wrong.
 */
function isLater(atMs: number, nowMs: number): boolean {
  return atMs > nowMs && atMs <= nowMs + MAX_WAIT_MS;
}

/** @returns the identity of the file at `path`; `undefined` if there is none */
function fileAt(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found && `${found.dev} ${found.ino}`;
}

function keyOf(clientId: string): Buffer {
  return Buffer.concat([FIRST_CLIENT, Buffer.from(clientId)]);
}

/** @returns the least key after this one */
function next(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)]);
}

function bufferOf(key: Uint8Array): Buffer {
  return Buffer.from(key);
}

interface Head {
  /** The members of the ring at the last write. */
  readonly members: readonly string[];
  readonly rebuilt: boolean;
}

/** Reads the head, or writes one if there is none that is valid. @throws FileFailure */
function readHead(db: RootDatabase<Buffer, Buffer>, path: string): Head {
  return db.transactionSync(() => {
    const text = db.get(HEAD);
    const found = text && parseHead(text);
    if (found !== undefined) {
      if (found.format === FORMAT) return { members: found.members, rebuilt: false };
      const problem = `${path} has format ${found.format}, and this version reads ${FORMAT}`;
      throw new FileFailure('format', `${problem}; move it away to begin a new one`);
    }
    const entries = [...db.getRange({ limit: SAMPLE })].filter(({ key }) => !HEAD.equals(key));
    const isOurs = entries.every(({ key }) => key[0] === CLIENTS);
    const isReadable = entries.length === 0 || entries.some(({ value }) => tryRecord(value) !== undefined);
    if (!isOurs || !isReadable) throw new FileFailure('corrupt', `${path} has no valid head and no valid records`);
    db.putSync(HEAD, encodeHead([]));
    return { members: [], rebuilt: text !== undefined || entries.length > 0 };
  });
}

/** @returns `undefined` for anything but a head of some version */
function parseHead(text: Buffer): { readonly format: number; readonly members: readonly string[] } | undefined {
  let head: { readonly tokenring?: unknown; readonly members?: unknown } | null;
  try {
    head = JSON.parse(text.toString()) as typeof head;
  } catch {
    return undefined;
  }
  const format = head?.tokenring;
  if (typeof format !== 'number' || !Number.isInteger(format) || format < 1) return undefined;
  const members = Array.isArray(head?.members) ? head.members.filter((id) => typeof id === 'string') : [];
  return { format, members };
}

function encodeHead(members: readonly string[]): Buffer {
  return Buffer.from(JSON.stringify({ tokenring: FORMAT, members }));
}

function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof FileFailure) throw cause;
    const reason = (cause as Error).message;
    throw new FileFailure(CORRUPT.test(reason) ? 'corrupt' : 'other', reason, { cause });
  }
}
