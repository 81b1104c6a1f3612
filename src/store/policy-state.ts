import { open, readFile, rename, rm } from 'node:fs/promises';
import type { Log } from '../cluster/ports.js';
import { isObject, isWhole } from '../core/check-policy.js';
import { documentOf, isEntry } from '../core/policy-document.js';
import type { Entry, EntryValue, PolicyDocument } from '../core/policy-document.js';

/** What a node must find again after a restart. */
export interface PolicyState {
  readonly document: PolicyDocument;
  /** What the policy file said when it was last looked at: only what differs from that is a change. */
  readonly file: ReadonlyMap<string, EntryValue> | undefined;
}

/**
 * @returns `undefined` where there is none
 * @throws Error where there is one that cannot be read
 */
export async function readPolicyState(path: string): Promise<PolicyState | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const value: unknown = JSON.parse(text);
  if (!isObject(value) || !isWhole(value['version'], 0, 2 ** 52) || !Array.isArray(value['entries'])) {
    throw new Error('no state of policies');
  }
  const entries = value['entries'].map((item: unknown): [string, Entry] => {
    const [key, kept, version, writer] = Array.isArray(item) ? (item as unknown[]) : [];
    if (!isEntry(key, kept) || !isWhole(version, 1, 2 ** 52) || typeof writer !== 'string') {
      throw new Error(`an entry that is not valid: ${JSON.stringify(key)}`);
    }
    return [key as string, { value: kept as EntryValue | null, version, writer }];
  });
  const file = value['file'] as [string, EntryValue][] | null;
  return {
    document: documentOf(value['version'], new Map(entries)),
    file: file === null ? undefined : new Map(file),
  };
}

export interface PolicyStateFile {
  /** Saves this state, unless a later one comes first. */
  save(state: PolicyState): void;
  /** Resolves once what was last given to `save` is on disk, or could not be saved, which is logged. */
  saved(): Promise<void>;
}

export function createPolicyStateFile({ path, log }: { path: string; log: Log }): PolicyStateFile {
  let next: PolicyState | undefined;
  let writing: Promise<void> | undefined;
  let failed = false;

  async function write({ document, file }: PolicyState): Promise<void> {
    const entries = [...document.entries].map(([key, { value, version, writer }]) => [key, value, version, writer]);
    const text = JSON.stringify({ version: document.version, entries, file: file === undefined ? null : [...file] });
    // Nodes may share the file, so each writes aside, and all of it or nothing takes its place.
    const aside = `${path}.${process.pid}.tmp`;
    try {
      const handle = await open(aside, 'w', 0o600);
      try {
        await handle.writeFile(text);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(aside, path);
      failed = false;
    } catch (error) {
      await rm(aside, { force: true }).catch(() => undefined);
      if (!failed) {
        log.warn(
          { path, reason: (error as Error).message },
          'changes of policies cannot be saved: a restart of all nodes forgets them',
        );
      }
      failed = true;
    }
  }

  async function writeAll(): Promise<void> {
    while (next !== undefined) {
      const state = next;
      next = undefined;
      await write(state);
    }
    writing = undefined;
  }

  return {
    save(state) {
      next = state;
      writing ??= writeAll();
    },
    saved: async () => writing,
  };
}
