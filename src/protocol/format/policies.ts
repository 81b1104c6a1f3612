import type { ChangeList, Factors, PolicyEntries, RingWritten } from '../messages.js';
import { isPolicyName, MAX_POLICIES } from '../../policy/check-policy.js';
import { isEntry, MAX_ENTRIES } from '../../policy/policy-document.js';
import type { Entry, EntryValue, Part } from '../../policy/policy-entry.js';
import { malformed } from '../../lib/byte-reader.js';
import { mapList, readFlag, readList, readNodeId, readText, readWhole } from './wire.js';
import { readWord } from './members.js';

/** Bound of the entries and deletions in one message. */
const MAX_WIRE_ENTRIES = 2 * MAX_ENTRIES;
export const MAX_VERSION = 2 ** 52;
const MAX_TAGS = 16;
export const MAX_WRITE_ID_BYTES = 512;

export function encodePolicies({ version, digest, entries, whole }: PolicyEntries): unknown[] {
  return [version, digest, Number(whole), encodeEntries(entries)];
}

/**
 * Encodes entries as `[key, value, version, writer]`. They are seldom sent, so their values stay as they are stored.
 */
export function encodeEntries(entries: Part): unknown[] {
  return entries.map(([key, { value, version, writer }]) => [key, value, version, writer]);
}

/** @throws MalformedMessage also for entries that no document may hold */
export function readPolicies(wire: readonly unknown[], at: number): PolicyEntries {
  return {
    kind: 'policies',
    version: readWhole(wire[at], 0, MAX_VERSION, 'version of policies'),
    digest: readWord(wire[at + 1], 'digest of policies'),
    whole: readFlag(wire[at + 2], 'whole'),
    entries: readEntries(wire[at + 3]),
  };
}

/** @throws MalformedMessage also for entries that no document may hold */
export function readEntries(value: unknown): Part {
  return mapList(value, MAX_WIRE_ENTRIES, 'entries', (item): [string, Entry] => {
    const [key, value, version, writer] = readList(item, 4, 4, 'entry');
    return [
      readEntry(key, value),
      {
        value: value as EntryValue | null,
        version: readWhole(version, 1, MAX_VERSION, 'version of an entry'),
        writer: readNodeId(writer, 'writer'),
      },
    ];
  });
}

export function readChanges(value: unknown): ChangeList {
  return mapList(value, MAX_WIRE_ENTRIES, 'changes', (item): [string, EntryValue | null] => {
    const [key, changed] = readList(item, 2, 2, 'change');
    return [readEntry(key, changed), changed as EntryValue | null];
  });
}

function readEntry(key: unknown, value: unknown): string {
  if (!isEntry(key, value))
    throw malformed('entry', 'a policy, a tier, a list, limits, rules or a default that is valid');
  return key as string;
}

/** Versions that the writer accepts; `null` accepts every version. */
export function readTags(value: unknown): readonly string[] | undefined {
  return value === null ? undefined : mapList(value, MAX_TAGS, 'tags', (tag) => readText(tag, 0, 128, 'tag'));
}

const OUTCOMES = ['written', 'conflict', 'full', 'unavailable'] as const;

export function encodeWritten(written: RingWritten | null): unknown[] | null {
  if (written === null) return null;
  const place = OUTCOMES.indexOf(written.kind);
  return 'version' in written ? [place, written.version, written.digest] : [place];
}

export function readWritten(value: unknown): RingWritten | null {
  if (value === null) return null;
  const wire = readList(value, 1, 3, 'outcome');
  const kind = typeof wire[0] === 'number' ? OUTCOMES[wire[0]] : undefined;
  if (kind === undefined) throw malformed('outcome', '0 to 3');
  if (kind === 'full' || kind === 'unavailable') return { kind };
  return {
    kind,
    version: readWhole(wire[1], 0, MAX_VERSION, 'version of policies'),
    digest: readWord(wire[2], 'digest of policies'),
  };
}

/** Reads factors, each as `[name, factor]`. */
export function readFactors(value: unknown): Factors {
  return mapList(value, MAX_POLICIES, 'factors', (item) => {
    const [name, factor] = readList(item, 2, 2, 'factor');
    return [readPolicyName(name), readPart(factor, 'factor')] as const;
  });
}

export function readPolicyName(value: unknown): string {
  if (!isPolicyName(value)) throw malformed('name of a policy', 'letters, digits and a few signs');
  return value as string;
}

/** Reads a number from 0 to 1. */
export function readPart(value: unknown, what: string): number {
  if (typeof value === 'number' && value >= 0 && value <= 1) return value;
  throw malformed(what, '0 to 1');
}
