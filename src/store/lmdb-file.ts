import { statSync } from 'node:fs';
import { open } from 'lmdb';
import type { RootDatabase } from 'lmdb';
import type { ClientSnapshot } from '../cluster/messages.js';
import { encodeClients, readClients } from '../wire/clients.js';
import type { Ask, Failure, Told } from './lmdb-protocol.js';
import { FORMAT, nextRecord, recall, tryRecord } from './record.js';

/** Records in one chunk of a load, and looked at for it. */
const CHUNK = 500;
const LOOK = 5_000;
/** Records looked at for expired ones in one go. */
const SWEEP = 1_000;

/** Of the file, before all clients, whose ids have at least one byte above 0: JSON with the format of the records. */
const HEAD = Buffer.from([0]);
const FIRST_CLIENT = Buffer.from([1]);

/** LMDB's own words for a file that is not, or no longer, one of its. */
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
 * Keeps one LMDB file. Blocks, as lmdb's asynchronous transactions never end here (3.5.6 on Node 20 and 24) and nothing else is to do: it
 * lives in a process of its own. Other processes of this machine may have the same file open.
 */
export interface LmdbFile {
  /** Of the ring when it was last written. */
  readonly members: readonly string[];
  /** @throws FileFailure */
  load(after: string | undefined, nowMs: number): Extract<Told, { kind: 'loaded' }>;
  /** Joins all or nothing. @throws FileFailure */
  write(ask: Extract<Ask, { op: 'write' }>): Extract<Told, { kind: 'written' }>;
  /** Removes expired records among the next ones, round and round. @throws FileFailure */
  sweep(nowMs: number): void;
  close(): Promise<void>;
}

/** @throws FileFailure */
export function openLmdbFile(path: string): LmdbFile {
  let members: readonly string[] = [];
  const db = guarded(() => {
    // The file itself, not a folder with one, whatever its name.
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
    get members() {
      return members;
    },
    load: (after, nowMs) =>
      guarded(() => {
        const clients: ClientSnapshot[] = [];
        const start = after === undefined ? FIRST_CLIENT : Buffer.concat([Buffer.from(after), Buffer.of(0)]);
        let last: string | undefined;
        let looked = 0;
        for (const { key, value } of db.getRange({ start, limit: LOOK })) {
          looked += 1;
          last = keyOf(key).toString();
          const record = tryRecord(value);
          if (record === undefined) unreadable += 1;
          else if (record.restAtMs > nowMs) {
            const client = recall(record, nowMs);
            if (client[1].length > 0) clients.push(client);
          }
          if (clients.length === CHUNK) break;
        }
        const more = clients.length === CHUNK || looked === LOOK;
        const [rules, wire] = encodeClients(clients);
        return { kind: 'loaded', rules, clients: wire, after: more ? last : undefined, unreadable };
      }),
    write: ({ atMs, rules, clients, forgotten, members: present = members }) =>
      guarded(() => {
        // What is written to a file that was removed ends with this process.
        if (fileAt(path) !== opened) throw new FileFailure('gone', `${path} was removed`);
        db.transactionSync(() => {
          if (present.join() !== members.join()) db.putSync(HEAD, encodeHead(present));
          for (const clientId of forgotten) {
            const key = Buffer.from(clientId);
            const before = db.get(key);
            if (before !== undefined && (tryRecord(before)?.atMs ?? 0) <= atMs) db.removeSync(key);
          }
          for (const [clientId, buckets] of readClients(rules, clients)) {
            const key = Buffer.from(clientId);
            const before = db.get(key);
            const stored = before && tryRecord(before);
            if (before !== undefined && stored === undefined) unreadable += 1;
            const next = nextRecord(stored, [clientId, buckets], atMs);
            if (next !== undefined) db.putSync(key, Buffer.from(next.text));
          }
        });
        members = present;
        return { kind: 'written', unreadable };
      }),
    sweep: (nowMs) =>
      guarded(() => {
        const expired: Buffer[] = [];
        let looked = 0;
        for (const { key, value } of db.getRange({ start: swept, limit: SWEEP })) {
          looked += 1;
          swept = Buffer.concat([keyOf(key), Buffer.of(0)]);
          const restAtMs = tryRecord(value)?.restAtMs;
          if (restAtMs !== undefined && restAtMs <= nowMs) expired.push(Buffer.from(keyOf(key)));
        }
        if (looked < SWEEP) swept = FIRST_CLIENT;
        if (expired.length === 0) return;
        db.transactionSync(() => {
          for (const key of expired) {
            // Another process may have written it meanwhile.
            const value = db.get(key);
            if (value !== undefined && (tryRecord(value)?.restAtMs ?? 0) <= nowMs) db.removeSync(key);
          }
        });
      }),
    close: () => db.close(),
  };
}

/** What tells the file from any other that may come in its place; `undefined` where there is none. */
function fileAt(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found && `${found.dev} ${found.ino}`;
}

function keyOf(key: Buffer): Buffer {
  return Buffer.isBuffer(key) ? key : Buffer.from(key);
}

/** @returns the members of the ring when it was last written */
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
