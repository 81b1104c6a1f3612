import { EXPECTED_NAME, isObject, isPolicyName } from './check-policy.js';
import { isText } from '../limits/client-id.js';
import { badValue, misplaced, unknownField, type Mistake } from '../lib/mistake.js';
import { entryPatternOf, PLACEHOLDER } from './envoy-table.js';
import { MAX_ENTRY_BYTES } from './policy-entry.js';

const MAX_DOMAIN_BYTES = 128;
const MAX_RULES = 1_000;
/** Bound of the rules of a domain as JSON. Nodes read them in one turn of the event loop. */
const MAX_RULES_BYTES = MAX_ENTRY_BYTES - 1024;
/** Largest number of entries of a descriptor. */
const MAX_ENTRIES_OF_DESCRIPTOR = 16;
const MAX_PATTERN_BYTES = 512;
/** A key, without the character that separates keys in the table. */
const KEYED = /^[^=\0]+(?:=|$)/;
const MAX_TEMPLATE_BYTES = 256;
const MAX_REPLACED = 16;

const FIELDS = ['entries', 'policy', 'unlimited', 'client', 'name', 'replaces', 'shadow', 'headers'];
/** Fields that mean nothing to a rule without a limit. */
const OF_LIMITS = ['client', 'shadow', 'headers'];

export function isEnvoyDomainName(name: string): boolean {
  return isText(name, MAX_DOMAIN_BYTES);
}

/**
 * @param hasPolicy whether the file has a policy of this name
 * @returns the mistakes in the field `envoy` of a policy file: rules by domain
 */
export function checkEnvoy(value: unknown, path: string, hasPolicy: (name: string) => boolean): Mistake[] {
  if (!isObject(value)) return [badValue(path, value, 'an object of rules by domain')];
  return Object.entries(value).flatMap(([domain, rules]) => {
    const at = `${path}.${domain}`;
    const named = isEnvoyDomainName(domain)
      ? []
      : [badValue(at, domain, `1 to ${MAX_DOMAIN_BYTES} bytes of well-formed Unicode`, 'a domain')];
    return [...named, ...checkEnvoyRules(rules, at, hasPolicy)];
  });
}

/** @returns the mistakes in the rules of one domain; without any they are a list of `EnvoyRuleText` */
export function checkEnvoyRules(
  value: unknown,
  path = '',
  hasPolicy: (name: string) => boolean = () => true,
): Mistake[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > MAX_RULES) {
    return [badValue(path, value, `a list of 1 to ${MAX_RULES} rules`)];
  }
  if (Buffer.byteLength(JSON.stringify(value)) > MAX_RULES_BYTES) {
    const expected = `at most ${MAX_RULES_BYTES} bytes as JSON`;
    return [{ field: path, expected, detail: `${path}: the rules are too long; use ${expected}` }];
  }
  const seen = new Map<string, number>();
  return value.flatMap((rule: unknown, i) => {
    const at = `${path}[${i}]`;
    const mistakes = checkRule(rule, at, hasPolicy);
    if (mistakes.length > 0) return mistakes;
    const key = JSON.stringify((rule as { entries: unknown }).entries);
    const twin = seen.get(key);
    if (twin === undefined) {
      seen.set(key, i);
      return [];
    }
    const expected = `other entries than ${path}[${twin}]`;
    return [
      { field: `${at}.entries`, expected, detail: `${at}.entries: the same as ${path}[${twin}]; remove one of them` },
    ];
  });
}

function checkRule(value: unknown, path: string, hasPolicy: (name: string) => boolean): Mistake[] {
  if (!isObject(value)) return [badValue(path, value, 'an object with entries and a policy')];
  const mistakes: Mistake[] = Object.keys(value)
    .filter((name) => !FIELDS.includes(name))
    .map((name) => unknownField(path, name, FIELDS));
  const { entries, policy, unlimited, client, name, replaces } = value;
  const bad = (field: string, expected: string, noun?: string): void => {
    mistakes.push(badValue(`${path}.${field}`, value[field], expected, noun));
  };
  mistakes.push(...checkEntries(entries, `${path}.entries`));
  if (unlimited !== undefined) {
    if (unlimited !== true) bad('unlimited', 'true, or leave it out');
    for (const field of ['policy', ...OF_LIMITS]) {
      if (value[field] !== undefined) mistakes.push(misplaced(`${path}.${field}`, 'beside unlimited'));
    }
  } else if (typeof policy !== 'string' || !isPolicyName(policy) || !hasPolicy(policy)) {
    bad('policy', policy === undefined ? 'the name of a policy, or unlimited' : 'the name of a policy of this file');
  }
  for (const field of ['shadow', 'headers']) {
    if (value[field] !== undefined && typeof value[field] !== 'boolean') bad(field, 'true or false');
  }
  if (client !== undefined) mistakes.push(...checkTemplate(client, entries, `${path}.client`));
  if (name !== undefined && !isPolicyName(name)) bad('name', EXPECTED_NAME, 'a name');
  if (
    replaces !== undefined &&
    !(Array.isArray(replaces) && replaces.length <= MAX_REPLACED && replaces.every(isPolicyName))
  )
    bad('replaces', `a list of at most ${MAX_REPLACED} names of rules`);
  return mistakes;
}

function checkEntries(value: unknown, path: string): Mistake[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > MAX_ENTRIES_OF_DESCRIPTOR) {
    return [badValue(path, value, `a list of 1 to ${MAX_ENTRIES_OF_DESCRIPTOR} entries`)];
  }
  return value.flatMap((entry: unknown, i) => {
    const valid = typeof entry === 'string' && isText(entry, MAX_PATTERN_BYTES) && KEYED.test(entry);
    return valid ? [] : [badValue(`${path}[${i}]`, entry, '"key", "key=value", or "key=prefix*"', 'an entry')];
  });
}

function checkTemplate(client: unknown, entries: unknown, path: string): Mistake[] {
  if (typeof client !== 'string' || !isText(client, MAX_TEMPLATE_BYTES)) {
    return [badValue(path, client, `a text of 1 to ${MAX_TEMPLATE_BYTES} bytes, with {key} for the value of an entry`)];
  }
  if (/[{}]/.test(client.replace(PLACEHOLDER, ''))) return [badValue(path, client, '{key} with both braces', 'valid')];
  if (!Array.isArray(entries)) return [];
  const keys = entries.map((entry) => entryPatternOf(String(entry)).key);
  const unknown = [...client.matchAll(PLACEHOLDER)].map(([, key]) => key!).find((key) => !keys.includes(key));
  if (unknown === undefined) return [];
  return [badValue(path, `{${unknown}}`, keys.map((key) => `{${key}}`).join(' or '), 'an entry of this rule')];
}
