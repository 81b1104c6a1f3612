import { isObject } from './check-policy.js';
import { documentOf, isEntry, type PolicyDocument } from './policy-document.js';
import type { Entry, EntryValue } from './policy-entry.js';
import { isWhole } from '../lib/whole.js';

const MAX_VERSION = 2 ** 52;

/** A policy document as JSON, for a file or etcd. */
interface WrittenDocument {
  readonly version: number;
  readonly entries: readonly (readonly [key: string, value: EntryValue | null, version: number, writer: string])[];
}

export function writtenOf({ version, entries }: PolicyDocument): WrittenDocument {
  return { version, entries: [...entries].map(([key, entry]) => [key, entry.value, entry.version, entry.writer]) };
}

/** @throws Error if any part of the document is not valid; the message names the first bad entry */
export function readWritten(value: unknown): PolicyDocument {
  if (!isObject(value) || !isWhole(value['version'], 0, MAX_VERSION) || !Array.isArray(value['entries'])) {
    throw new Error('no version and entries of policies');
  }
  const { version } = value;
  const entries = value['entries'].map((item: unknown): [string, Entry] => {
    const [key, kept, since, writer] = Array.isArray(item) ? (item as unknown[]) : [];
    if (!isEntry(key, kept) || !isWhole(since, 1, version) || typeof writer !== 'string') {
      throw new Error(`an entry that is not valid: ${JSON.stringify(key ?? null).slice(0, 100)}`);
    }
    return [key as string, { value: kept as EntryValue | null, version: since, writer }];
  });
  return documentOf(version, new Map(entries));
}
