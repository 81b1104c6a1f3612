import { hash } from 'node:crypto';
import { checkLimits, checkPolicy, isPolicyName, MAX_POLICIES } from './check-policy.js';
import { isClientId } from '../client-id.js';
import { checkEnvoyRules, isEnvoyDomainName } from './check-envoy.js';
import { envoyDomainOf } from './envoy-table.js';
import type { EnvoyDomain, EnvoyRuleText } from './envoy-table.js';
import { NO_POLICIES, policyOf, rulesOf } from './policy.js';
import type { LimitsText, Policy, PolicySet, PolicyText } from './policy.js';
import type { Rule } from '../bucket/rule.js';

/**
 * All policies, tiers, lists, overrides, and domains of Envoy's, in one document that every node holds. Each entry has
 * the version at which it was last written, and the node that wrote it. A deleted entry stays in the document without a value, so that an
 * older copy cannot bring it back.
 *
 * Two documents merge entry by entry. The later write of an entry wins: by version, and if both sides of a partition
 * wrote the same version, by writer and value. The merge is commutative, associative, and idempotent, so nodes that
 * receive the same writes in any order hold the same document.
 */
export interface PolicyDocument {
  /** Number of changes; 0: none. */
  readonly version: number;
  /** Hash of version and entries. It is equal on two nodes exactly if their documents are equal. */
  readonly digest: string;
  /** Size of all entries as JSON. */
  readonly bytes: number;
  readonly entries: ReadonlyMap<string, Entry>;
}

export interface Entry {
  /** `null` for a deleted entry. */
  readonly value: EntryValue | null;
  readonly version: number;
  /** Id of the node that wrote it. */
  readonly writer: string;
}

/** A policy, an override, a name of a policy or tier, a list, or the rules of a domain of Envoy's. */
export type EntryValue = PolicyText | LimitsText | readonly EnvoyRuleText[] | string;

/** Keys with their new values; `null` deletes an entry. */
export type Changes = ReadonlyMap<string, EntryValue | null>;

/** Bound of the entries of a document. A change that would exceed it is refused. */
export const MAX_ENTRIES = 20_000;
/**
 * Bound of the size of a document as JSON. A change that would exceed it is refused. Peers accept messages of 8 MiB, so
 * no node could join a ring with a larger document.
 */
export const MAX_DOCUMENT_BYTES = 7 * 1024 * 1024;
/**
 * Number of deletions that are remembered. A node that was disconnected could bring back entries that were deleted
 * before these.
 */
const MAX_DELETED = 5_000;

export const policyKey = (name: string): string => `policy ${name}`;
export const defaultKey = (): string => 'default';
export const tierKey = (clientId: string): string => `tier ${clientId}`;
export const listKey = (clientId: string): string => `list ${clientId}`;
/** A domain of Envoy's may contain spaces. It is the rest of the key. */
export const envoyKey = (domain: string): string => `envoy ${domain}`;
/** Key of the digest of the policy file that was applied last. */
export const fileKey = (): string => 'file';
/** The names of policies have no spaces, so the key is unambiguous. */
export const overrideKey = (policy: string, clientId: string): string => `override ${policy} ${clientId}`;

export const NO_DOCUMENT: PolicyDocument = documentOf(0, new Map());

/**
 * The digest is that of the sum of the digests of all entries (AdHash; Bellare and Micciancio, 1997). An entry never
 * changes, so a change of one of 20,000 entries computes one digest.
 * @param entries must not change afterwards
 */
export function documentOf(version: number, entries: ReadonlyMap<string, Entry>): PolicyDocument {
  const sums = [0, 0, 0, 0];
  let bytes = Math.max(0, entries.size - 1);
  for (const [key, entry] of entries) {
    const line = lineOf(key, entry);
    bytes += line.bytes;
    for (let i = 0; i < sums.length; i += 1) sums[i]! += line.words[i]!;
  }
  const digest = hash('sha256', `${version} ${entries.size} ${sums.join(' ')}`).slice(0, 16);
  return { version, digest, bytes, entries };
}

/** Size and digest of an entry as JSON. */
interface Line {
  readonly key: string;
  readonly bytes: number;
  /** Four words of 30 bits. The sum of those of all entries is exact. */
  readonly words: readonly number[];
}

const knownLines = new WeakMap<Entry, Line>();

function lineOf(key: string, entry: Entry): Line {
  const known = knownLines.get(entry);
  if (known?.key === key) return known;
  const text = JSON.stringify([key, entry.value, entry.version, entry.writer]);
  const digest = hash('sha256', text, 'buffer');
  const words = [0, 4, 8, 12].map((at) => digest.readUInt32LE(at) >>> 2);
  const line = { key, bytes: Buffer.byteLength(text), words };
  knownLines.set(entry, line);
  return line;
}

/** @returns the document with all changes under one new version; the same object if the changes have no effect */
export function change(document: PolicyDocument, changes: Changes, writer: string): PolicyDocument {
  const version = document.version + 1;
  const entries = new Map(document.entries);
  let changed = false;
  for (const [key, value] of changes) {
    const before = entries.get(key)?.value ?? null;
    if (JSON.stringify(before) === JSON.stringify(value)) continue;
    entries.set(key, { value, version, writer });
    changed = true;
  }
  return changed ? documentOf(version, withoutOldest(entries)) : document;
}

/** Matches a document that has none of the changed entries. `If-Match` cannot contain this tag. */
export const NOTHING_YET = 'none';

/**
 * Whether one of the tags of `If-Match` (RFC 9110) matches the document. A tag is a version, or a version and a digest
 * as in `12-0123456789abcdef`. `*` matches if the document has every changed entry, and `NOTHING_YET` if it has none of
 * them. Without tags, every document matches.
 */
export function isTagged(document: PolicyDocument, changes: Changes, tags: readonly string[] | undefined): boolean {
  const { version, digest, entries } = document;
  const has = (key: string): boolean => (entries.get(key)?.value ?? null) !== null;
  return (
    tags === undefined ||
    tags.some((tag) => {
      if (tag === '*') return [...changes.keys()].every(has);
      if (tag === NOTHING_YET) return ![...changes.keys()].some(has);
      return tag === String(version) || tag === `${version}-${digest}`;
    })
  );
}

/**
 * Whether the document stays within its bounds after these changes.
 * @param maxBytes bound of its size as JSON, at most `MAX_DOCUMENT_BYTES`
 */
export function hasRoomFor(document: PolicyDocument, changes: Changes, maxBytes = MAX_DOCUMENT_BYTES): boolean {
  const values = new Map([...document.entries].map(([key, { value }]) => [key, value]));
  for (const [key, value] of changes) values.set(key, value);
  let all = 0;
  let policies = 0;
  for (const [key, value] of values) {
    if (value === null) continue;
    all += 1;
    if (key.startsWith('policy ')) policies += 1;
  }
  return all <= MAX_ENTRIES && policies <= MAX_POLICIES && hasBytesFor(document, changes, maxBytes);
}

function hasBytesFor({ entries, bytes, version }: PolicyDocument, changes: Changes, maxBytes: number): boolean {
  let more = 0;
  for (const [key, value] of changes) {
    const before = entries.get(key);
    const writer = before?.writer ?? '';
    more += lineOf(key, { value, version, writer }).bytes;
    if (before !== undefined) more -= lineOf(key, { ...before, version }).bytes;
  }
  // A change that makes the document smaller is always accepted.
  return more <= 0 || bytes + more <= maxBytes;
}

/** @returns a document with the later write of each entry; `a` or `b` itself if it equals the result */
export function merge(a: PolicyDocument, b: PolicyDocument): PolicyDocument {
  if (a.digest === b.digest) return a;
  const entries = new Map(a.entries);
  let news = 0;
  for (const [key, theirs] of b.entries) {
    const ours = entries.get(key);
    if (ours !== undefined && compare(theirs, ours) <= 0) continue;
    entries.set(key, theirs);
    news += 1;
  }
  const merged = withoutOldest(entries);
  const isA = sameEntries(merged, a.entries);
  const isB = sameEntries(merged, b.entries);
  // A merged document that differs from both needs a version of its own.
  let version = Math.max(a.version, b.version);
  if (!(isA && a.version === version) && !(isB && b.version === version)) version += 1;
  else if (a.version === b.version && !(isA && isB)) version += 1;
  if (isA && version === a.version) return a;
  return isB && version === b.version ? b : documentOf(version, news === 0 ? a.entries : merged);
}

/** @returns the keys of entries that have a value in `before` and another value, or none, in `after` */
export function overwrittenKeys(before: PolicyDocument, after: PolicyDocument): string[] {
  const keys: string[] = [];
  for (const [key, { value }] of before.entries) {
    const now = after.entries.get(key)?.value ?? null;
    if (value !== null && key !== fileKey() && JSON.stringify(value) !== JSON.stringify(now)) keys.push(key);
  }
  return keys;
}

/**
 * Whether `later` continues the history of `earlier`: every change that `earlier` may have seen is the same in both.
 * Otherwise both sides have made changes of the same version, as in a partition or in two clusters.
 */
export function isSuccessor(later: PolicyDocument, earlier: PolicyDocument): boolean {
  for (const [key, entry] of later.entries) {
    if (entry.version > earlier.version) continue;
    const before = earlier.entries.get(key);
    if (before === undefined || compare(before, entry) !== 0) return false;
  }
  return overwrittenKeys(earlier, later).every((key) => later.entries.has(key));
}

/** @returns a positive number if `a` is the later write */
function compare(a: Entry, b: Entry): number {
  return a.version - b.version || order(a.writer, b.writer) || order(JSON.stringify(a.value), JSON.stringify(b.value));
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sameEntries(a: ReadonlyMap<string, Entry>, b: ReadonlyMap<string, Entry>): boolean {
  if (a.size !== b.size) return false;
  for (const [key, entry] of a) {
    const other = b.get(key);
    if (other === undefined || (other !== entry && compare(other, entry) !== 0)) return false;
  }
  return true;
}

/** Removes the oldest deletions above the bound. Nodes with the same entries remove the same ones. */
function withoutOldest(entries: Map<string, Entry>): Map<string, Entry> {
  const deleted = [...entries].filter(([, { value }]) => value === null);
  if (deleted.length <= MAX_DELETED) return entries;
  deleted.sort(([keyA, a], [keyB, b]) => compare(a, b) || order(keyA, keyB));
  for (const [key] of deleted.slice(0, deleted.length - MAX_DELETED)) entries.delete(key);
  return entries;
}

/** Prepares a document for lookups. Ignores entries that refer to missing policies, which a merge may leave. */
export function policySetOf({ entries, version }: PolicyDocument): PolicySet {
  if (version === 0) return NO_POLICIES;
  const policies = new Map<string, Policy>();
  const tiers = new Map<string, string>();
  const listed = new Map<string, 'allow' | 'deny'>();
  const envoy = new Map<string, EnvoyDomain>();
  const own: [policy: string, clientId: string, text: LimitsText][] = [];
  let standard: string | undefined;
  for (const [key, { value }] of entries) {
    if (value === null) continue;
    const [kind, rest] = cut(key);
    if (kind === 'policy') policies.set(rest, knownPolicyOf(rest, value as PolicyText));
    else if (kind === 'tier') tiers.set(rest, value as string);
    else if (kind === 'list') listed.set(rest, value as 'allow' | 'deny');
    else if (kind === 'override') own.push([...cut(rest), value as LimitsText]);
    else if (kind === 'envoy') envoy.set(rest, envoyDomainOf(rest, value as readonly EnvoyRuleText[]));
    else if (kind === 'default') standard = value as string;
  }
  const overrides = new Map<string, Map<string, readonly Rule[]>>();
  for (const [name, clientId, text] of own) {
    const policy = policies.get(name);
    if (policy === undefined) continue;
    let ofPolicy = overrides.get(name);
    if (ofPolicy === undefined) overrides.set(name, (ofPolicy = new Map<string, readonly Rule[]>()));
    ofPolicy.set(clientId, rulesOf(name, text, policy.rules));
  }
  const known = standard !== undefined && policies.has(standard);
  return { policies, default: known ? standard : undefined, tiers, overrides, listed, envoy };
}

const readPolicies = new WeakMap<PolicyText, Policy>();

/** A text never changes, so a change of one of 20,000 policies reads one. */
function knownPolicyOf(name: string, text: PolicyText): Policy {
  let policy = readPolicies.get(text);
  if (policy?.name !== name) readPolicies.set(text, (policy = policyOf(name, text)));
  return policy;
}

function cut(text: string): [before: string, after: string] {
  const at = text.indexOf(' ');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

/** Whether an entry from a peer or a file is valid for this version of the program. */
export function isEntry(key: unknown, value: unknown): boolean {
  if (typeof key !== 'string') return false;
  const [kind, rest] = cut(key);
  switch (kind) {
    case 'policy':
      return isPolicyName(rest) && (value === null || checkPolicy(value).length === 0);
    case 'tier':
      return isClientId(rest) && (value === null || isPolicyName(value));
    case 'list':
      return isClientId(rest) && (value === null || value === 'allow' || value === 'deny');
    case 'override': {
      const [policy, clientId] = cut(rest);
      const valid = isPolicyName(policy) && isClientId(clientId);
      return valid && (value === null || checkLimits(value, '', { own: true }).length === 0);
    }
    case 'envoy':
      return isEnvoyDomainName(rest) && (value === null || checkEnvoyRules(value).length === 0);
    case 'default':
      return key === 'default' && (value === null || isPolicyName(value));
    case 'file':
      return key === 'file' && typeof value === 'string' && /^[\da-f]{16}$/.test(value);
    default:
      return false;
  }
}
