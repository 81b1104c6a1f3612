import { hash } from 'node:crypto';
import type { EnvoyRuleText } from './envoy-table.js';
import type { LimitsText, PolicyText } from './policy.js';

/** One entry of the document of policies, its size, and its digest. */
export interface Entry {
  /** `null` for a deleted entry. */
  readonly value: EntryValue | null;
  readonly version: number;
  /** Id of the node that wrote it. */
  readonly writer: string;
}

/** A policy, an override, a name of a policy or tier, a list, or the rules of a domain of Envoy's. */
export type EntryValue = PolicyText | LimitsText | readonly EnvoyRuleText[] | string;

/** Sums over the entries of a document. A change of one of 20,000 entries adds and removes one. */
export interface Totals {
  /** Size of the entries as JSON, without the commas between them. */
  readonly bytes: number;
  /** Entries that are not deleted, and the policies among them. */
  readonly values: number;
  readonly policies: number;
  readonly deleted: number;
  /** The words of all entries. */
  readonly words: readonly number[];
}

const NO_ENTRIES: Totals = { bytes: 0, values: 0, policies: 0, deleted: 0, words: [0, 0, 0, 0] };

/** Sums up entries. */
export class Tally {
  private readonly sums: { -readonly [K in keyof Totals]: K extends 'words' ? number[] : Totals[K] };

  constructor(from = NO_ENTRIES) {
    this.sums = { ...from, words: [...from.words] };
  }

  add(key: string, entry: Entry): void {
    this.count(key, entry, 1);
  }

  remove(key: string, entry: Entry): void {
    this.count(key, entry, -1);
  }

  totals(): Totals {
    return { ...this.sums, words: [...this.sums.words] };
  }

  private count(key: string, entry: Entry, sign: 1 | -1): void {
    const line = lineOf(key, entry);
    const { sums } = this;
    sums.bytes += sign * line.bytes;
    for (let i = 0; i < sums.words.length; i += 1) sums.words[i]! += sign * line.words[i]!;
    if (entry.value === null) sums.deleted += sign;
    else {
      sums.values += sign;
      if (isPolicyKey(key)) sums.policies += sign;
    }
  }
}

export const policyKey = (name: string): string => `policy ${name}`;

export function isPolicyKey(key: string): boolean {
  return key.startsWith('policy ');
}

/** Size and digest of an entry as JSON. */
interface Line {
  readonly key: string;
  readonly bytes: number;
  /** Four words of 30 bits. The sum of those of all entries is exact. */
  readonly words: readonly number[];
}

const knownLines = new WeakMap<Entry, Line>();

/** Reads an entry once: an entry never changes. */
export function lineOf(key: string, entry: Entry): Line {
  const known = knownLines.get(entry);
  if (known?.key === key) return known;
  const text = textOf(key, entry);
  const digest = hash('sha256', text, 'buffer');
  const words = [0, 4, 8, 12].map((at) => digest.readUInt32LE(at) >>> 2);
  const line = { key, bytes: Buffer.byteLength(text), words };
  knownLines.set(entry, line);
  return line;
}

export function sumOfBytes(entries: Iterable<readonly [key: string, entry: Entry]>): number {
  let bytes = 0;
  for (const item of entries) bytes += lineOf(...item).bytes;
  return bytes;
}

/** @returns the size of an entry as JSON, which is not kept */
export function sizeOf(key: string, entry: Entry): number {
  return Buffer.byteLength(textOf(key, entry));
}

function textOf(key: string, { value, version, writer }: Entry): string {
  return JSON.stringify([key, value, version, writer]);
}

/** @returns a positive number if `a` is the later write of the same key */
export function compare(key: string, a: Entry, b: Entry): number {
  if (a === b) return 0;
  const order = a.version - b.version || compareText(a.writer, b.writer);
  if (order !== 0 || areEqual(lineOf(key, a).words, lineOf(key, b).words)) return order;
  return compareText(JSON.stringify(a.value), JSON.stringify(b.value));
}

function areEqual(a: readonly number[], b: readonly number[]): boolean {
  return a.every((word, i) => word === b[i]);
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Bound of the entries in one part of a document, as JSON. To check and to hash them takes a few ms. */
export const MAX_PART_BYTES = 64 * 1024;

/** Entries, as JSON, of which a step of work only looks up each. */
export const LOOKUP_BYTES = 8 * MAX_PART_BYTES;

/** Divides work on entries into steps of at most `maxBytes`, or of a single entry. */
export class Pace {
  private bytes = 0;

  constructor(private readonly maxBytes: number) {}

  /** Whether a step ends before this entry. */
  endsBefore(key: string, entry: Entry): boolean {
    const more = lineOf(key, entry).bytes;
    const ends = this.bytes > 0 && this.bytes + more > this.maxBytes;
    this.bytes = ends ? more : this.bytes + more;
    return ends;
  }
}

/** Bound of one entry as JSON. Only the rules of a domain of Envoy's can be so large. */
export const MAX_ENTRY_BYTES = 128 * 1024;

export type Part = readonly (readonly [key: string, entry: Entry])[];

/**
 * Divides entries into parts of at most `MAX_PART_BYTES`, for messages and for work that lets other requests in between.
 * @returns at least one part; a larger entry has a part of its own
 */
export function partsOf(entries: Iterable<readonly [key: string, entry: Entry]>): readonly Part[] {
  let last: (readonly [string, Entry])[] = [];
  const parts = [last];
  const pace = new Pace(MAX_PART_BYTES);
  for (const item of entries) {
    if (pace.endsBefore(...item)) parts.push((last = []));
    last.push(item);
  }
  return parts;
}
