import { malformed } from '../../lib/byte-reader.js';
import { isPolicyName, MAX_POLICIES } from '../../policy/check-policy.js';
import { isEntry, MAX_ENTRIES } from '../../policy/policy-document.js';
import { MAX_ENTRY_BYTES, type Entry, type EntryValue } from '../../policy/policy-entry.js';
import type { RingWritten } from '../messages.js';
import { list, mapped, object, oneOf, real, text, whole, type Codec } from './codec.js';
import { word } from './members.js';
import { nodeId } from './node-id.js';

/** Bound of the entries and deletions in one message. */
const MAX_WIRE_ENTRIES = 2 * MAX_ENTRIES;
const MAX_VERSION = 2 ** 52;
const MAX_TAGS = 16;

export const version = whole(0, MAX_VERSION, 'version of policies');
export const digest = word('digest of policies');

export const policyName = mapped<string, string>(
  text(1, 512, 'name of a policy'),
  (name) => name,
  (name) => {
    if (!isPolicyName(name)) throw malformed('name of a policy', 'letters, digits and a few signs');
    return name;
  },
);

/** A part of the whole, from 0 to 1. */
export function part(what: string): Codec<number> {
  return real(0, 1, what);
}

type Change = readonly [key: string, value: EntryValue | null];

/** A key, and its value as JSON: documents of policies are JSON, and seldom sent. */
const change: Codec<Change> = {
  write(out, [key, value]) {
    out.text(key);
    out.text(JSON.stringify(value));
  },
  read(from) {
    const key = from.text(1, MAX_ENTRY_BYTES, 'key of an entry');
    const value = wellFormedJson(from.text(1, MAX_ENTRY_BYTES, 'value of an entry'));
    if (!isEntry(key, value))
      throw malformed('entry', 'a policy, a tier, a list, limits, rules or a default that is valid');
    return [key, value as EntryValue | null];
  },
};

/** All its strings are well-formed Unicode, so ids that differ here also differ elsewhere. */
function wellFormedJson(json: string): unknown {
  try {
    // A lone surrogate can only arrive as an escape. JSON.stringify makes no such escape from a well-formed string.
    return /\\ud/i.test(json) ? JSON.parse(json, refuseIllFormed) : JSON.parse(json);
  } catch {
    throw malformed('value of an entry', 'JSON of well-formed Unicode');
  }
}

function refuseIllFormed(_key: string, value: unknown): unknown {
  if (typeof value === 'string' && !value.isWellFormed()) throw malformed('text', 'well-formed Unicode');
  return value;
}

const stamp = object<Pick<Entry, 'version' | 'writer'>>({
  version: whole(1, MAX_VERSION, 'version of an entry'),
  writer: nodeId('writer'),
});

const entry: Codec<readonly [string, Entry]> = {
  write(out, [key, value]) {
    change.write(out, [key, value.value]);
    stamp.write(out, value);
  },
  read(from) {
    const [key, value] = change.read(from);
    return [key, { value, ...stamp.read(from) }];
  },
};

export const entries = list(entry, MAX_WIRE_ENTRIES, 'entries');
export const changes = list(change, MAX_WIRE_ENTRIES, 'changes');
/** Versions that a writer accepts. */
export const tags = list(text(0, 128, 'tag'), MAX_TAGS, 'tags');

const factor: Codec<readonly [string, number]> = {
  write(out, [name, value]) {
    out.text(name);
    out.double(value);
  },
  read: (from) => [policyName.read(from), from.double(0, 1, 'factor')],
};
export const factors = list(factor, MAX_POLICIES, 'factors');

const OUTCOMES = ['written', 'conflict', 'full', 'unavailable'] as const;
const outcome = oneOf(OUTCOMES, 'outcome');

export const ringWritten: Codec<RingWritten> = {
  write(out, written) {
    outcome.write(out, written.kind);
    if (!('version' in written)) return;
    version.write(out, written.version);
    digest.write(out, written.digest);
  },
  read(from) {
    const kind = outcome.read(from);
    if (kind === 'full' || kind === 'unavailable') return { kind };
    return { kind, version: version.read(from), digest: digest.read(from) };
  },
};
