import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Log } from '../lib/system.js';
import type { PolicyDocument } from '../policy/policy-document.js';
import type { EntryValue } from '../policy/policy-entry.js';
import { readWritten, writtenOf } from '../policy/policy-file.js';
import { makePrivate } from '../lib/files.js';

/** The state of the policies that a node keeps for its restart. */
export interface PolicyState {
  readonly document: PolicyDocument;
  /** See `ActivePolicies.registry`. */
  readonly registry: string | undefined;
  /** Entries of the policy file when they were last applied. Only entries that differ from them are changes. */
  readonly file: ReadonlyMap<string, EntryValue> | undefined;
}

/**
 * @returns `undefined` if there is no file
 * @throws Error if the file cannot be read or is not valid
 */
export async function readPolicyState(path: string): Promise<PolicyState | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  if (text.trim() === '') throw new Error('it is empty');
  const value = parse(text);
  const document = readWritten(value);
  const { file, registry } = value as { file?: [string, EntryValue][] | null; registry?: unknown };
  return {
    document,
    registry: typeof registry === 'string' ? registry : undefined,
    file: file ? new Map(file) : undefined,
  };
}

export class PolicyStateFile {
  private next: PolicyState | undefined;
  private writing: Promise<void> | undefined;
  private failed = false;
  private prepared = false;
  // Nodes may share the file. Each writes its own temporary file, and then replaces the shared file as a whole. A
  // process id would not tell them apart: in a container each node is process 1.
  private readonly temporary: string;

  constructor(
    private readonly path: string,
    private readonly log: Log,
  ) {
    this.temporary = `${this.path}.${randomUUID()}.tmp`;
    const problem = makePrivate(this.path);
    if (problem !== undefined) this.log.warn({ path: this.path }, problem);
  }

  /** Saves this state, unless a later one replaces it before it is written. */
  save(state: PolicyState): void {
    this.next = state;
    this.writing ??= this.writeAll();
  }

  /** Resolves once the last state is on disk, or could not be saved, which is logged. */
  async saved(): Promise<void> {
    return this.writing;
  }

  private async write(state: PolicyState): Promise<void> {
    try {
      if (!this.prepared) await prepareFolder(this.path);
      this.prepared = true;
      const handle = await open(this.temporary, 'w', 0o600);
      try {
        for (const piece of textOf(state)) await handle.appendFile(piece);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(this.temporary, this.path);
      await syncFolder(dirname(this.path));
      this.failed = false;
    } catch (error) {
      await rm(this.temporary, { force: true }).catch(() => undefined);
      if (!this.failed) {
        this.log.warn(
          { path: this.path, reason: (error as Error).message },
          'changes of policies cannot be saved; a restart of all nodes would lose them',
        );
      }
      this.failed = true;
    }
  }

  private async writeAll(): Promise<void> {
    while (this.next !== undefined) {
      const state = this.next;
      this.next = undefined;
      await this.write(state);
    }
    this.writing = undefined;
  }
}

/** Entries in one piece of the text. */
const ENTRIES_A_PIECE = 200;

/** The state as JSON, in pieces: while one is written, other work has its turn. */
function* textOf({ document, registry, file }: PolicyState): Generator<string> {
  const { version, entries } = writtenOf(document);
  yield `{"version":${version},"entries":[`;
  yield* piecesOf(entries);
  yield `],"registry":${JSON.stringify(registry ?? null)},"file":`;
  if (file === undefined) {
    yield 'null}';
    return;
  }
  yield '[';
  yield* piecesOf([...file]);
  yield ']}';
}

function* piecesOf(items: readonly unknown[]): Generator<string> {
  for (let at = 0; at < items.length; at += ENTRIES_A_PIECE) {
    const piece = JSON.stringify(items.slice(at, at + ENTRIES_A_PIECE)).slice(1, -1);
    yield at === 0 ? piece : `,${piece}`;
  }
}

/** @throws Error for text that is not JSON */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error('it is not JSON', { cause });
  }
}

/** Waits until a renamed file in a folder has its name on the disk, too. Windows opens no folders. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Age of an abandoned temporary file. A write takes milliseconds, so a killed process left any older file. */
const ABANDONED_AFTER_MS = 60_000;

/** Makes the folder, and removes temporary files that killed processes have left in it. */
async function prepareFolder(path: string): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  const names = (await readdir(folder)).filter(
    (name) => name.startsWith(`${basename(path)}.`) && name.endsWith('.tmp'),
  );
  for (const file of names.map((name) => join(folder, name))) {
    const { mtimeMs } = await stat(file);
    if (Date.now() - mtimeMs > ABANDONED_AFTER_MS) await rm(file, { force: true });
  }
}
