import { hash } from 'node:crypto';
import { checkLimits, checkPolicy, isPolicyName, MAX_POLICIES } from './check-policy.js';
import { isClientId } from '../limits/client-id.js';
import { checkEnvoyRules, isEnvoyDomainName } from './check-envoy.js';
import { envoyDomainOf, type EnvoyDomain, type EnvoyRuleText } from './envoy-table.js';
import { NO_POLICIES, policyOf, type LimitsText, type Policy, type PolicySet, type PolicyText } from './policy.js';
import {
  compare,
  compareText,
  Pace,
  Tally,
  isPolicyKey,
  LOOKUP_BYTES,
  MAX_PART_BYTES,
  sizeOf,
  type Entry,
  type EntryValue,
  type Part,
  type Totals,
} from './policy-entry.js';
import { finish, type Steps } from '../lib/turns.js';

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
  readonly totals: Totals;
  readonly entries: ReadonlyMap<string, Entry>;
}

/** Keys with their new values; `null` deletes an entry. */
export type Changes = ReadonlyMap<string, EntryValue | null>;

/** Bound of the entries of a document. A change that would exceed it is refused. */
export const MAX_ENTRIES = 20_000;
/** Bound of the size of a document as JSON. A change that would exceed it is refused. Each node holds all of it. */
export const MAX_DOCUMENT_BYTES = 7 * 1024 * 1024;
/**
 * Number of deletions that are remembered. A node that was disconnected could bring back entries that were deleted
 * before these.
 */
const MAX_DELETED = 5_000;

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

/** @param entries must not change afterwards */
export function documentOf(version: number, entries: ReadonlyMap<string, Entry>): PolicyDocument {
  return finish(assembling(version, entries));
}

export function* assembling(version: number, entries: ReadonlyMap<string, Entry>): Steps<PolicyDocument> {
  const tally = new Tally();
  const pace = new Pace(MAX_PART_BYTES);
  for (const [key, entry] of entries) {
    if (pace.endsBefore(key, entry)) yield;
    tally.add(key, entry);
  }
  return documentWith(version, entries, tally.totals());
}

/** The digest is that of the sum of the digests of all entries (AdHash; Bellare and Micciancio, 1997). */
function documentWith(version: number, entries: ReadonlyMap<string, Entry>, totals: Totals): PolicyDocument {
  const digest = hash('sha256', `${version} ${entries.size} ${totals.words.join(' ')}`).slice(0, 16);
  return { version, digest, bytes: totals.bytes + Math.max(0, entries.size - 1), totals, entries };
}

/** @returns the document with all changes under one new version; the same object if the changes have no effect */
export function change(document: PolicyDocument, changes: Changes, writer: string): PolicyDocument {
  return finish(changing(document, changes, writer));
}

export function* changing(document: PolicyDocument, changes: Changes, writer: string): Steps<PolicyDocument> {
  const version = document.version + 1;
  const news: [string, Entry][] = [];
  const pace = new Pace(MAX_PART_BYTES);
  for (const [key, value] of changes) {
    const entry = { value, version, writer };
    if (pace.endsBefore(key, entry)) yield;
    const before = document.entries.get(key)?.value ?? null;
    if (JSON.stringify(before) !== JSON.stringify(value)) news.push([key, entry]);
  }
  return news.length === 0 ? document : yield* withEntries(document, version, news);
}

/** @returns the document with these entries in place of those of the same keys, as this version */
export function* withEntries(
  { entries: before, totals }: PolicyDocument,
  version: number,
  news: Part,
): Steps<PolicyDocument> {
  const entries = new Map(before);
  if (totals.bytes > LOOKUP_BYTES) yield;
  const tally = new Tally(totals);
  const pace = new Pace(MAX_PART_BYTES);
  for (const [key, entry] of news) {
    if (pace.endsBefore(key, entry)) yield;
    const replaced = entries.get(key);
    if (replaced !== undefined) tally.remove(key, replaced);
    entries.set(key, entry);
    tally.add(key, entry);
  }
  return withoutOldest(documentWith(version, entries, tally.totals()));
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
  return finish(fitting(document, changes, maxBytes));
}

export function* fitting(document: PolicyDocument, changes: Changes, maxBytes: number): Steps<boolean> {
  let { values, policies } = document.totals;
  for (const [key, value] of changes) {
    const before = document.entries.get(key)?.value ?? null;
    const more = Number(value !== null) - Number(before !== null);
    values += more;
    if (isPolicyKey(key)) policies += more;
  }
  return values <= MAX_ENTRIES && policies <= MAX_POLICIES && (yield* hasBytesFor(document, changes, maxBytes));
}

function* hasBytesFor({ entries, bytes, version }: PolicyDocument, changes: Changes, maxBytes: number): Steps<boolean> {
  let more = 0;
  const pace = new Pace(MAX_PART_BYTES);
  for (const [key, value] of changes) {
    const before = entries.get(key);
    const entry = { value, version, writer: before?.writer ?? '' };
    if (pace.endsBefore(key, entry)) yield;
    more += sizeOf(key, entry);
    if (before !== undefined) more -= sizeOf(key, { ...before, version });
  }
  // A change that makes the document smaller is always accepted.
  return more <= 0 || bytes + more <= maxBytes;
}

/** @returns a document with the later write of each entry; `a` or `b` itself if it equals the result */
export function merge(a: PolicyDocument, b: PolicyDocument): PolicyDocument {
  return finish(merging(a, b));
}

export function* merging(a: PolicyDocument, b: PolicyDocument): Steps<PolicyDocument> {
  if (a.digest === b.digest) return a;
  const news: [string, Entry][] = [];
  const pace = new Pace(LOOKUP_BYTES);
  for (const [key, theirs] of b.entries) {
    if (pace.endsBefore(key, theirs)) yield;
    const ours = a.entries.get(key);
    if (ours === undefined || compare(key, theirs, ours) > 0) news.push([key, theirs]);
  }
  const later = Math.max(a.version, b.version);
  const merged = news.length === 0 ? a : yield* withEntries(a, later, news);
  const isA = merged === a || (yield* sameEntries(merged.entries, a.entries));
  const isB = yield* sameEntries(merged.entries, b.entries);
  // A merged document that differs from both needs a version of its own.
  let version = later;
  if (!(isA && a.version === version) && !(isB && b.version === version)) version += 1;
  else if (a.version === b.version && !(isA && isB)) version += 1;
  if (isA && version === a.version) return a;
  return isB && version === b.version ? b : documentWith(version, merged.entries, merged.totals);
}

/** @returns the keys of entries that have a value in `before` and another value, or none, in `after` */
export function* overwrittenKeys(before: PolicyDocument, after: PolicyDocument): Steps<string[]> {
  const keys: string[] = [];
  const pace = new Pace(MAX_PART_BYTES);
  for (const [key, entry] of before.entries) {
    if (pace.endsBefore(key, entry)) yield;
    const now = after.entries.get(key);
    if (entry === now || entry.value === null || key === fileKey()) continue;
    if (JSON.stringify(entry.value) !== JSON.stringify(now?.value ?? null)) keys.push(key);
  }
  return keys;
}

/**
 * Whether `later` continues the history of `earlier`: every change that `earlier` may have seen is the same in both.
 * Otherwise both sides have made changes of the same version, as in a partition or in two clusters.
 */
export function* isSuccessor(later: PolicyDocument, earlier: PolicyDocument): Steps<boolean> {
  const pace = new Pace(LOOKUP_BYTES);
  for (const [key, entry] of later.entries) {
    if (pace.endsBefore(key, entry)) yield;
    if (entry.version > earlier.version) continue;
    const before = earlier.entries.get(key);
    if (before === undefined || compare(key, before, entry) !== 0) return false;
  }
  for (const [key, { value }] of earlier.entries)
    if (value !== null && key !== fileKey() && !later.entries.has(key)) return false;
  return true;
}

function* sameEntries(a: ReadonlyMap<string, Entry>, b: ReadonlyMap<string, Entry>): Steps<boolean> {
  if (a.size !== b.size) return false;
  const pace = new Pace(LOOKUP_BYTES);
  for (const [key, entry] of a) {
    if (pace.endsBefore(key, entry)) yield;
    const other = b.get(key);
    if (other === undefined || compare(key, other, entry) !== 0) return false;
  }
  return true;
}

/** Removes the oldest deletions above the bound. Nodes with the same entries remove the same ones. */
function withoutOldest(document: PolicyDocument): PolicyDocument {
  const more = document.totals.deleted - MAX_DELETED;
  if (more <= 0) return document;
  const deleted = [...document.entries].filter(([, { value }]) => value === null);
  deleted.sort(([keyA, a], [keyB, b]) => compareDeleted(a, b) || compareText(keyA, keyB));
  const entries = new Map(document.entries);
  const tally = new Tally(document.totals);
  for (const [key, entry] of deleted.slice(0, more)) {
    entries.delete(key);
    tally.remove(key, entry);
  }
  return documentWith(document.version, entries, tally.totals());
}

function compareDeleted(a: Entry, b: Entry): number {
  return a.version - b.version || compareText(a.writer, b.writer);
}

const sets = new WeakMap<PolicyDocument, PolicySet>();

/** Prepares a document for lookups, once. Ignores entries that refer to missing policies, which a merge may leave. */
export function policySetOf(document: PolicyDocument): PolicySet {
  return sets.get(document) ?? finish(preparing(document));
}

/** Prepares a document for `policySetOf`. */
export function* preparing(document: PolicyDocument): Steps<PolicySet> {
  const set = sets.get(document) ?? (yield* readSet(document));
  sets.set(document, set);
  return set;
}

function* readSet({ entries, version }: PolicyDocument): Steps<PolicySet> {
  if (version === 0) return NO_POLICIES;
  const policies = new Map<string, Policy>();
  const tiers = new Map<string, string>();
  const listed = new Map<string, 'allow' | 'deny'>();
  const envoy = new Map<string, EnvoyDomain>();
  const overrides = new Map<string, Map<string, LimitsText>>();
  let standard: string | undefined;
  const pace = new Pace(MAX_PART_BYTES);
  for (const [key, entry] of entries) {
    if (pace.endsBefore(key, entry)) yield;
    const { value } = entry;
    if (value === null) continue;
    const [kind, rest] = cut(key);
    if (kind === 'policy') policies.set(rest, knownPolicyOf(rest, value as PolicyText));
    else if (kind === 'tier') tiers.set(rest, value as string);
    else if (kind === 'list') listed.set(rest, value as 'allow' | 'deny');
    else if (kind === 'override') addOverride(overrides, rest, value as LimitsText);
    else if (kind === 'envoy') envoy.set(rest, knownDomainOf(rest, value as readonly EnvoyRuleText[]));
    else if (kind === 'default') standard = value as string;
  }
  for (const name of overrides.keys()) if (!policies.has(name)) overrides.delete(name);
  const known = standard !== undefined && policies.has(standard);
  return { policies, default: known ? standard : undefined, tiers, overrides, listed, envoy };
}

function addOverride(overrides: Map<string, Map<string, LimitsText>>, about: string, text: LimitsText): void {
  const [policy, clientId] = cut(about);
  let ofPolicy = overrides.get(policy);
  if (ofPolicy === undefined) overrides.set(policy, (ofPolicy = new Map<string, LimitsText>()));
  ofPolicy.set(clientId, text);
}

const readPolicies = new WeakMap<PolicyText, Policy>();

/** A text never changes, so a change of one of 20,000 policies reads one. */
function knownPolicyOf(name: string, text: PolicyText): Policy {
  let policy = readPolicies.get(text);
  if (policy?.name !== name) readPolicies.set(text, (policy = policyOf(name, text)));
  return policy;
}

const readDomains = new WeakMap<readonly EnvoyRuleText[], { readonly name: string; readonly domain: EnvoyDomain }>();

function knownDomainOf(name: string, rules: readonly EnvoyRuleText[]): EnvoyDomain {
  let read = readDomains.get(rules);
  if (read?.name !== name) readDomains.set(rules, (read = { name, domain: envoyDomainOf(name, rules) }));
  return read.domain;
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

/** Bytes of policies and of the policy file's copy. `bytes` is their size as JSON. */
export function policyHeapBytes(bytes: number, entries: number): number {
  return POLICY_BYTE_BYTES * bytes + POLICY_ENTRY_BYTES * entries;
}

/**
 * Returns the size as JSON of the policies that fit into `heapBytes`, in as many entries as a document may have. It is
 * at least 48 KiB, which has few entries.
 */
export function policyBytesIn(heapBytes: number): number {
  return Math.max(48 * 1024, Math.floor((heapBytes - POLICY_ENTRY_BYTES * MAX_ENTRIES) / POLICY_BYTE_BYTES));
}

/** A byte of policies as JSON, and what an entry takes beyond its bytes. */
const POLICY_BYTE_BYTES = 7;

const POLICY_ENTRY_BYTES = 200;
