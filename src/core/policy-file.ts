import {
  checkOverride,
  checkPolicy,
  EXPECTED_NAME,
  isClientId,
  isObject,
  isPolicyName,
  MAX_POLICIES,
} from './check-policy.js';
import type { Mistake } from './check-policy.js';
import type { LimitsText, PolicyText } from './policy.js';
import {
  defaultKey,
  hasRoomFor,
  listKey,
  MAX_DOCUMENT_BYTES,
  MAX_ENTRIES,
  NO_DOCUMENT,
  overrideKey,
  policyKey,
  tierKey,
} from './policy-document.js';
import type { EntryValue } from './policy-document.js';

/** `config/policies.json`, as people write it. */
export interface PolicyFileText {
  readonly policies?: Readonly<Record<string, PolicyText>>;
  readonly default?: string;
  readonly clients?: Readonly<Record<string, ClientText>>;
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

interface ClientText {
  readonly tier?: string;
  readonly overrides?: Readonly<Record<string, LimitsText>>;
}

const FIELDS = ['policies', 'default', 'clients', 'allow', 'deny'];
const EXPECTED_CLIENT_ID = 'client ids, 1 to 256 bytes of well-formed Unicode each';

/** Every mistake in the value of a policy file; none: it is a `PolicyFileText`. */
export function checkPolicyFile(value: unknown): Mistake[] {
  if (!isObject(value)) return [{ field: 'file', expected: 'an object with policies' }];
  const mistakes: Mistake[] = [];
  for (const name of Object.keys(value)) {
    if (!FIELDS.includes(name)) mistakes.push({ field: name, expected: 'no such field' });
  }
  const { policies = {}, default: standard, clients = {}, allow = [], deny = [] } = value;
  if (!isObject(policies)) return [...mistakes, { field: 'policies', expected: 'an object of policies by name' }];
  for (const [name, policy] of Object.entries(policies)) {
    if (!isPolicyName(name)) mistakes.push({ field: `policies.${name}`, expected: `a name of ${EXPECTED_NAME}` });
    mistakes.push(...checkPolicy(policy, `policies.${name}`));
  }
  const has = (name: unknown): name is string => typeof name === 'string' && Object.hasOwn(policies, name);
  if (standard !== undefined && !has(standard)) {
    mistakes.push({ field: 'default', expected: 'the name of a policy of this file' });
  }
  // What is said of clients refers to policies: with mistakes in these it says little.
  if (mistakes.length === 0) {
    mistakes.push(...checkClients(clients, policies as Readonly<Record<string, PolicyText>>));
  }
  if (Object.keys(policies).length > MAX_POLICIES) {
    mistakes.push({ field: 'policies', expected: `at most ${MAX_POLICIES}` });
  }
  mistakes.push(...checkList(allow, 'allow', []), ...checkList(deny, 'deny', Array.isArray(allow) ? allow : []));
  if (mistakes.length === 0 && entriesOf(value).size >= MAX_ENTRIES) {
    mistakes.push({
      field: 'file',
      expected: `fewer than ${MAX_ENTRIES} policies, tiers, overrides and listed clients`,
    });
  } else if (mistakes.length === 0 && !hasRoomFor(NO_DOCUMENT, entriesOf(value))) {
    mistakes.push({ field: 'file', expected: `at most ${MAX_DOCUMENT_BYTES} bytes of all, as JSON` });
  }
  return mistakes;
}

function checkClients(clients: unknown, policies: Readonly<Record<string, PolicyText>>): Mistake[] {
  if (!isObject(clients)) return [{ field: 'clients', expected: 'an object by client id' }];
  const mistakes: Mistake[] = [];
  for (const [clientId, client] of Object.entries(clients)) {
    const path = `clients.${clientId}`;
    if (!isClientId(clientId)) mistakes.push({ field: path, expected: EXPECTED_CLIENT_ID });
    if (!isObject(client)) {
      mistakes.push({ field: path, expected: 'an object with tier or overrides' });
      continue;
    }
    const { tier, overrides = {}, ...others } = client;
    for (const name of Object.keys(others)) mistakes.push({ field: `${path}.${name}`, expected: 'no such field' });
    if (tier !== undefined && !isPolicyName(tier)) {
      mistakes.push({ field: `${path}.tier`, expected: `a name of ${EXPECTED_NAME}` });
    }
    if (!isObject(overrides)) {
      mistakes.push({ field: `${path}.overrides`, expected: 'an object of limits by policy' });
      continue;
    }
    for (const [policy, limits] of Object.entries(overrides)) {
      const field = `${path}.overrides.${policy}`;
      if (!Object.hasOwn(policies, policy)) mistakes.push({ field, expected: 'the name of a policy of this file' });
      else mistakes.push(...checkOverride(limits, policies[policy], field));
    }
  }
  return mistakes;
}

function checkList(value: unknown, field: string, others: readonly unknown[]): Mistake[] {
  if (!Array.isArray(value)) return [{ field, expected: `a list of ${EXPECTED_CLIENT_ID}` }];
  const known = new Set(others);
  return value.flatMap((clientId: unknown, i) => {
    if (!isClientId(clientId)) return [{ field: `${field}[${i}]`, expected: EXPECTED_CLIENT_ID }];
    return known.has(clientId) ? [{ field: `${field}[${i}]`, expected: 'no client that is also in allow' }] : [];
  });
}

/** What a valid file says, entry by entry. */
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
  return entries;
}
