import {
  checkOverride,
  checkPolicy,
  EXPECTED_NAME,
  isObject,
  isPolicyName,
  MAX_POLICIES,
  warningsOn,
} from './check-policy.js';
import { EXPECTED_CLIENT_ID, isClientId } from '../limits/client-id.js';
import { badValue, unknownField, type Mistake, isWhole } from '../lib/mistake.js';
import { checkEnvoy } from './check-envoy.js';
import type { EnvoyRuleText } from './envoy-table.js';
import type { LimitsText, PolicyText } from './policy.js';
import {
  defaultKey,
  envoyKey,
  hasRoomFor,
  listKey,
  MAX_DOCUMENT_BYTES,
  MAX_ENTRIES,
  NO_DOCUMENT,
  overrideKey,
  tierKey,
  documentOf,
  isEntry,
  type PolicyDocument,
} from './policy-document.js';
import { policyKey, type EntryValue, type Entry } from './policy-entry.js';

/** The value of a policy file, such as `config/policies.json`. */
export interface PolicyFileText {
  readonly policies?: Readonly<Record<string, PolicyText>>;
  readonly default?: string;
  readonly clients?: Readonly<Record<string, ClientText>>;
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly envoy?: Readonly<Record<string, readonly EnvoyRuleText[]>>;
}

interface ClientText {
  readonly tier?: string;
  readonly overrides?: Readonly<Record<string, LimitsText>>;
}

const FIELDS = ['policies', 'default', 'clients', 'allow', 'deny', 'envoy'];
const CLIENT_FIELDS = ['tier', 'overrides'];
const POLICY_OF_FILE = 'the name of a policy of this file';

/**
 * @param maxBytes bound of the policies as JSON
 * @returns every mistake in the value of a policy file; without any it is a `PolicyFileText`
 */
export function checkPolicyFile(value: unknown, maxBytes = MAX_DOCUMENT_BYTES): Mistake[] {
  if (!isObject(value)) return [badValue('file', value, 'an object with policies')];
  const mistakes: Mistake[] = [];
  for (const name of Object.keys(value)) {
    if (!FIELDS.includes(name)) mistakes.push(unknownField('', name, FIELDS));
  }
  const { policies = {}, default: standard, clients = {}, allow = [], deny = [], envoy = {} } = value;
  if (!isObject(policies)) return [...mistakes, badValue('policies', policies, 'an object of policies by name')];
  for (const [name, policy] of Object.entries(policies)) {
    if (!isPolicyName(name)) mistakes.push(badValue(`policies.${name}`, name, EXPECTED_NAME, 'a name'));
    mistakes.push(...checkPolicy(policy, `policies.${name}`));
  }
  const has = (name: unknown): name is string => typeof name === 'string' && Object.hasOwn(policies, name);
  if (standard !== undefined && !has(standard)) {
    mistakes.push(badValue('default', standard, POLICY_OF_FILE, 'a policy'));
  }
  // Clients and rules of Envoy's refer to policies, so mistakes in policies would appear again there.
  if (mistakes.length === 0) {
    mistakes.push(...checkClients(clients, policies as Readonly<Record<string, PolicyText>>));
    mistakes.push(...checkEnvoy(envoy, 'envoy', has));
  }
  if (Object.keys(policies).length > MAX_POLICIES) {
    mistakes.push(badValue('policies', policies, `at most ${MAX_POLICIES} policies`));
  }
  mistakes.push(...checkList(allow, 'allow', []), ...checkList(deny, 'deny', Array.isArray(allow) ? allow : []));
  if (mistakes.length === 0 && entriesOf(value).size >= MAX_ENTRIES) {
    mistakes.push(tooMuch(`fewer than ${MAX_ENTRIES} policies, tiers, overrides, listed clients and domains`));
  } else if (mistakes.length === 0 && !hasRoomFor(NO_DOCUMENT, entriesOf(value), maxBytes)) {
    const advice = maxBytes < MAX_DOCUMENT_BYTES ? ', or give the node more memory' : '';
    mistakes.push(tooMuch(`at most ${maxBytes} bytes of all, as JSON${advice}`));
  }
  return mistakes;
}

function tooMuch(expected: string): Mistake {
  return { field: 'file', expected, detail: `file: too much for all policies together; use ${expected}` };
}

function checkClients(clients: unknown, policies: Readonly<Record<string, PolicyText>>): Mistake[] {
  if (!isObject(clients)) return [badValue('clients', clients, 'an object by client id')];
  const mistakes: Mistake[] = [];
  for (const [clientId, client] of Object.entries(clients)) {
    const path = `clients.${clientId}`;
    if (!isClientId(clientId)) mistakes.push(badValue(path, clientId, EXPECTED_CLIENT_ID, 'a client id'));
    if (!isObject(client)) {
      mistakes.push(badValue(path, client, 'an object with tier or overrides'));
      continue;
    }
    const { tier, overrides = {}, ...others } = client;
    for (const name of Object.keys(others)) mistakes.push(unknownField(path, name, CLIENT_FIELDS));
    if (tier !== undefined && !isPolicyName(tier)) {
      mistakes.push(badValue(`${path}.tier`, tier, EXPECTED_NAME, 'a name'));
    }
    if (!isObject(overrides)) {
      mistakes.push(badValue(`${path}.overrides`, overrides, 'an object of limits by policy'));
      continue;
    }
    for (const [policy, limits] of Object.entries(overrides)) {
      const field = `${path}.overrides.${policy}`;
      if (!Object.hasOwn(policies, policy)) mistakes.push(badValue(field, policy, POLICY_OF_FILE, 'a policy'));
      else mistakes.push(...checkOverride(limits, policies[policy], field));
    }
  }
  return mistakes;
}

function checkList(value: unknown, field: string, others: readonly unknown[]): Mistake[] {
  if (!Array.isArray(value)) return [badValue(field, value, 'a list of client ids')];
  const known = new Set(others);
  return value.flatMap((clientId: unknown, i) => {
    const at = `${field}[${i}]`;
    if (!isClientId(clientId)) return [badValue(at, clientId, EXPECTED_CLIENT_ID, 'a client id')];
    if (!known.has(clientId)) return [];
    const expected = 'a client that is not in allow';
    return [{ field: at, expected, detail: `${at}: the client is in allow too; remove it from one of the lists` }];
  });
}

/** @returns what a valid file may not mean as it says it: windows without a unit, and tiers that no policy has */
export function warningsOnFile({ policies = {}, clients = {} }: PolicyFileText): string[] {
  const warnings = Object.entries(policies).flatMap(([name, policy]) => warningsOn(policy, `policies.${name}`));
  const tiers = new Set(Object.values(policies).flatMap((one) => ('tiers' in one ? Object.keys(one.tiers) : [])));
  for (const [clientId, { tier, overrides = {} }] of Object.entries(clients)) {
    if (tier !== undefined && !tiers.has(tier))
      warnings.push(badValue(`clients.${clientId}.tier`, tier, expectedTier(tiers), 'a tier of any policy').detail);
    for (const [policy, limits] of Object.entries(overrides))
      warnings.push(...warningsOn(limits, `clients.${clientId}.overrides.${policy}`));
  }
  return warnings;
}

/** Tiers that one message lists. */
const MAX_TIERS_LISTED = 20;

/** Valid tiers of a client, for messages. */
export function expectedTier(tiers: ReadonlySet<string>): string {
  if (tiers.size === 0) return 'a tier that a policy defines; no policy has tiers yet, so write one first';
  const listed = [...tiers].sort().slice(0, MAX_TIERS_LISTED).join(', ');
  return `one of ${listed}${tiers.size > MAX_TIERS_LISTED ? `, and ${tiers.size - MAX_TIERS_LISTED} more` : ''}`;
}

/** @returns the entries of a valid file, by key */
export function entriesOf(file: PolicyFileText): Map<string, EntryValue> {
  const entries = new Map<string, EntryValue>();
  for (const [name, policy] of Object.entries(file.policies ?? {})) entries.set(policyKey(name), policy);
  if (file.default !== undefined) entries.set(defaultKey(), file.default);
  for (const [clientId, { tier, overrides = {} }] of Object.entries(file.clients ?? {})) {
    if (tier !== undefined) entries.set(tierKey(clientId), tier);
    for (const [policy, limits] of Object.entries(overrides)) entries.set(overrideKey(policy, clientId), limits);
  }
  for (const clientId of file.allow ?? []) entries.set(listKey(clientId), 'allow');
  for (const clientId of file.deny ?? []) entries.set(listKey(clientId), 'deny');
  for (const [domain, rules] of Object.entries(file.envoy ?? {})) entries.set(envoyKey(domain), rules);
  return entries;
}

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
