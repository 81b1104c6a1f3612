import { hash } from 'node:crypto';
import { isClientId } from '../limits/client-id.js';

/** One rule of a domain as people write it. `check-envoy.ts` checks it. */
export interface EnvoyRuleText {
  /** The entries of a descriptor, in order: `key`, `key=value`, or `key=pattern` with `*` for any characters. */
  readonly entries: readonly string[];
  readonly policy?: string;
  /** Instead of `policy`: matching descriptors have no limit. */
  readonly unlimited?: true;
  /** The client's id; `{key}` stands for the value of an entry. Default: the domain and all entries. */
  readonly client?: string;
  /** Default: the name of the policy. */
  readonly name?: string;
  /** Names of rules that do not apply to a request of which a descriptor meets this rule. */
  readonly replaces?: readonly string[];
  readonly shadow?: boolean;
  /** Whether Envoy is to add the headers `RateLimit-Policy` and `RateLimit` to the response. */
  readonly headers?: boolean;
}

/** One entry of a descriptor of Envoy's. */
export interface DescriptorEntry {
  readonly key: string;
  readonly value: string;
}

/** A rule in force. */
export interface EnvoyRule {
  /** `undefined`: no limit. */
  readonly policy: string | undefined;
  readonly name: string;
  readonly replaces: readonly string[];
  readonly shadow: boolean;
  readonly headers: boolean;
  readonly matches: (entries: readonly DescriptorEntry[]) => boolean;
  readonly clientId: (entries: readonly DescriptorEntry[]) => string;
}

/** The rules of one domain, by the keys of their entries. Rules of the same keys keep their order. */
export type EnvoyDomain = ReadonlyMap<string, readonly EnvoyRule[]>;

/** An entry of a rule, split. `value` is `undefined` if any value matches. */
interface EntryPattern {
  readonly key: string;
  readonly value: string | undefined;
}

export function entryPatternOf(entry: string): EntryPattern {
  const at = entry.indexOf('=');
  return at < 0 ? { key: entry, value: undefined } : { key: entry.slice(0, at), value: entry.slice(at + 1) };
}

/** A placeholder in the client's id. */
export const PLACEHOLDER = /\{([^{}]*)\}/g;

export function envoyDomainOf(domain: string, texts: readonly EnvoyRuleText[]): EnvoyDomain {
  const rules = new Map<string, EnvoyRule[]>();
  for (const text of texts) {
    const patterns = text.entries.map(entryPatternOf);
    const keys = keysOf(patterns);
    const ofKeys = rules.get(keys);
    const rule = ruleOf(domain, text, patterns);
    if (ofKeys === undefined) rules.set(keys, [rule]);
    else ofKeys.push(rule);
  }
  return rules;
}

/** @returns the first rule that a descriptor meets; `undefined` if it meets none */
export function findRule(domain: EnvoyDomain, entries: readonly DescriptorEntry[]): EnvoyRule | undefined {
  const ofKeys = domain.get(keysOf(entries));
  if (ofKeys !== undefined) for (const rule of ofKeys) if (rule.matches(entries)) return rule;
  return undefined;
}

function keysOf(entries: readonly { readonly key: string }[]): string {
  // Most descriptors have one entry.
  return entries.length === 1 ? entries[0]!.key : entries.map(({ key }) => key).join('\0');
}

function ruleOf(domain: string, text: EnvoyRuleText, patterns: readonly EntryPattern[]): EnvoyRule {
  const { policy, client, name = policy ?? '', replaces = [], shadow = false, headers = false } = text;
  const tests = patterns.map(({ value }) => (value === undefined ? undefined : matcherOf(value)));
  return {
    policy,
    name,
    replaces,
    shadow,
    headers,
    // A key of a descriptor may contain the separator of `keysOf`, but no key of a rule does.
    matches: (entries) =>
      entries.length === tests.length && tests.every((test, i) => test === undefined || test(entries[i]!.value)),
    clientId: client === undefined ? namerOf(domain, patterns) : templateOf(client, patterns),
  };
}

/** Each `*` stands for any characters, or for none. */
function matcherOf(pattern: string): (value: string) => boolean {
  if (!pattern.includes('*')) return (value) => value === pattern;
  const parts = pattern.split('*');
  const first = parts[0]!;
  const last = parts.at(-1)!;
  const between = parts.slice(1, -1);
  return (value) => {
    if (value.length < first.length + last.length || !value.startsWith(first) || !value.endsWith(last)) return false;
    const end = value.length - last.length;
    let at = first.length;
    for (const part of between) {
      // The leftmost place of each part leaves the most room for the parts after it.
      const found = value.indexOf(part, at);
      if (found < 0 || found + part.length > end) return false;
      at = found + part.length;
    }
    return true;
  };
}

/**
 * Names a client by its domain and all its entries, so that no two descriptors of any domain share a bucket. For the
 * policy `login` and the domain `edge`, `edge|generic_key=login|remote_address=10.0.0.1`.
 */
export function defaultClientId(domain: string, entries: readonly DescriptorEntry[]): string {
  return namerOf(domain, entries)(entries);
}

/** @returns `defaultClientId` for entries with these keys, which are escaped once */
function namerOf(domain: string, keys: readonly { readonly key: string }[]): EnvoyRule['clientId'] {
  const parts = keys.map(({ key }, i) => `${i === 0 ? escaped(domain) : ''}|${escaped(key)}=`);
  return (entries) => {
    let id = '';
    for (let i = 0; i < parts.length; i += 1) id += parts[i]! + escaped(entries[i]!.value);
    return fitting(id);
  };
}

/** Several values are escaped: otherwise one long value could pose as two. One value alone stays as it is. */
function templateOf(template: string, patterns: readonly EntryPattern[]): EnvoyRule['clientId'] {
  const parts = template.split(PLACEHOLDER);
  // `split` puts the texts at even places, and the keys between them at odd places.
  const places = parts.map((part, i) => (i % 2 === 0 ? -1 : patterns.findIndex(({ key }) => key === part)));
  const escape = parts.length > 3 ? escaped : (value: string): string => value;
  return (entries) => {
    let id = '';
    for (let i = 0; i < parts.length; i += 1) {
      const place = places[i]!;
      id += place < 0 ? parts[i]! : escape(entries[place]!.value);
    }
    return fitting(id);
  };
}

const SEPARATORS = /[\\|=]/g;

function escaped(text: string): string {
  // Most texts have none. Three searches cost a quarter of a replacement.
  if (!text.includes('|') && !text.includes('=') && !text.includes('\\')) return text;
  return text.replace(SEPARATORS, '\\$&');
}

/**
 * Makes a client id of any text. A caller of Envoy may choose the value of an entry, such as a path. An error for a
 * text that is too long would let such a caller pass an Envoy that lets requests pass after errors.
 */
function fitting(id: string): string {
  return isClientId(id) ? id : `sha256:${hash('sha256', id)}`;
}
