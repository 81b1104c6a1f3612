import { statSync } from 'node:fs';
import { open } from 'lmdb';
import type { RootDatabase } from 'lmdb';
import type { ClientSnapshot } from '../cluster/messages.js';
import { encodeClients, readClients } from '../wire/clients.js';
import type { Failure, Reply, Request } from './lmdb-protocol.js';
import { FORMAT, nextRecord, recall, tryRecord } from './record.js';

/** Clients in one chunk of a load. */
const CHUNK = 500;
/** Bound of the records that one chunk reads. It skips expired ones. */
const MAX_READ = 5_000;
/** Records that one sweep reads. */
const SWEEP = 1_000;

/** Longest time that a request waits for earlier ones. */
const MAX_WAIT_MS = 60_000;

/** Key of the head: JSON with the format of the records and the members of the ring. Client ids sort after it. */
const HEAD = Buffer.from([0]);
const FIRST_CLIENT = Buffer.from([1]);

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

/**
 * One LMDB file. All operations block, since lmdb's asynchronous transactions never end here (3.5.6 on Node 20 and 24),
 * so it needs a process of its own. Other processes of this machine may have the same file open.
 */
export interface LmdbFile {
  /** Members of the ring at the last write. */
  members(): readonly string[];
  /** @throws FileFailure */
  load(after: string | undefined, nowMs: number): Extract<Reply, { kind: 'loaded' }>;
  /** Merges all clients or none. @throws FileFailure */
  write(request: Extract<Request, { op: 'write' }>): Extract<Reply, { kind: 'written' }>;
  /**
   * Removes expired records among the next 1,000. After the last record, it starts again at the first.
   * @throws FileFailure
   */
  sweep(nowMs: number): Extract<Reply, { kind: 'swept' }>;
  close(): Promise<void>;
}

/** @throws FileFailure */
export function openLmdbFile(path: string): LmdbFile {
  let members: readonly string[] = [];
  const db = guarded(() => {
    // `path` names the file itself, not a folder, whatever its extension.
    const opened = open<Buffer, Buffer>({
      path,
      noSubdir: true,
      encoding: 'binary',
      keyEncoding: 'binary',
      maxReaders: 256,
    });
    members = readHead(opened, path);
    return opened;
  });
  const opened = fileAt(path);
  let unreadable = 0;
  let swept: Buffer = FIRST_CLIENT;

  return {
    members: () => members,
    load: (after, nowMs) =>
      guarded(() => {
        const clients: ClientSnapshot[] = [];
        const start = after === undefined ? FIRST_CLIENT : Buffer.concat([Buffer.from(after), Buffer.of(0)]);
        let last: string | undefined;
        let read = 0;
        for (const { key, value } of db.getRange({ start, limit: MAX_READ })) {
          read += 1;
          last = keyOf(key).toString();
          const record = tryRecord(value);
          if (record === undefined) unreadable += 1;
          else if (record.restAtMs > nowMs) {
            const client = recall(record, nowMs);
            if (client[1].length > 0) clients.push(client);
          }
          if (clients.length === CHUNK) break;
        }
        const more = clients.length === CHUNK || read === MAX_READ;
        const [rules, wire] = encodeClients(clients);
        return { kind: 'loaded', rules, clients: wire, after: more ? last : undefined, unreadable };
      }),
    write: ({ time: { earliestMs, latestMs }, rules, clients, forgotten, members: next = members }) =>
      guarded(() => {
        // A removed file stays open in this process. Data written to it is lost when the process ends.
        if (fileAt(path) !== opened) throw new FileFailure('gone', `${path} was removed`);
        db.transactionSync(() => {
          if (next.join() !== members.join()) db.putSync(HEAD, encodeHead(next));
          for (const clientId of forgotten) {
            const key = Buffer.from(clientId);
            const before = db.get(key);
            if (before !== undefined && !isLater(tryRecord(before)?.atMs ?? 0, latestMs)) db.removeSync(key);
          }
          for (const [clientId, buckets] of readClients(rules, clients)) {
            const key = Buffer.from(clientId);
            const before = db.get(key);
            const stored = before && tryRecord(before);
            if (before !== undefined && stored === undefined) unreadable += 1;
            const merged = nextRecord(stored, [clientId, buckets], earliestMs, latestMs);
            if (merged !== undefined) db.putSync(key, Buffer.from(merged.text));
          }
        });
        members = next;
        return { kind: 'written', unreadable };
      }),
    sweep: (nowMs) =>
      guarded(() => {
        const expired: Buffer[] = [];
        let read = 0;
        for (const { key, value } of db.getRange({ start: swept, limit: SWEEP })) {
          read += 1;
          swept = Buffer.concat([keyOf(key), Buffer.of(0)]);
          const restAtMs = tryRecord(value)?.restAtMs;
          if (restAtMs !== undefined && restAtMs <= nowMs) expired.push(Buffer.from(keyOf(key)));
        }
        if (read < SWEEP) swept = FIRST_CLIENT;
        if (expired.length === 0) return { kind: 'swept' };
        db.transactionSync(() => {
          for (const key of expired) {
            // Another process may have written it meanwhile.
            const value = db.get(key);
            if (value !== undefined && (tryRecord(value)?.restAtMs ?? 0) <= nowMs) db.removeSync(key);
          }
        });
        return { kind: 'swept' };
      }),
    close: () => db.close(),
  };
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

function keyOf(key: Buffer): Buffer {
  return Buffer.isBuffer(key) ? key : Buffer.from(key);
}

/** @returns the members of the ring at the last write */
function readHead(db: RootDatabase<Buffer, Buffer>, path: string): readonly string[] {
  const text = db.get(HEAD);
  if (text === undefined) {
    db.putSync(HEAD, encodeHead([]));
    return [];
  }
  let head: { tokenring?: unknown; members?: unknown };
  try {
    head = JSON.parse(text.toString()) as typeof head;
  } catch {
    throw new FileFailure('corrupt', `${path} has no head`);
  }
  if (head.tokenring !== FORMAT) {
    const found = JSON.stringify(head.tokenring);
    throw new FileFailure('format', `${path} holds records of format ${found}, and this version reads ${FORMAT}`);
  }
  return Array.isArray(head.members) ? head.members.filter((id): id is string => typeof id === 'string') : [];
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
