import { charCodeAt } from '../../lib/text.js';
import { isUtf8 } from 'node:buffer';
import { TokenringError } from '../../lib/error.js';

/**
 * Parses JSON (RFC 8259) in UTF-8 in which each name occurs once in its object. `JSON.parse` alone would take the last
 * of two equal names.
 * @param maxValues bound of the values in all objects and lists together. `JSON.parse` takes 1 µs for a value whose name
 * is new
 * @throws TokenringError `invalid_request` for more values, `invalid_json` for anything else
 */
export function parseJson(body: Buffer, maxValues = Infinity): unknown {
  if (!isUtf8(body)) throw new TokenringError('invalid_json', { expected: 'JSON in UTF-8' });
  const text = body.toString('utf8');
  // Each value beyond the first has a comma, a brace, or a bracket before it.
  if (maxValues < Infinity && body.length > maxValues && countStructural(text, isSeparator) > maxValues)
    throw new TokenringError('invalid_request', { field: 'body', expected: `at most ${maxValues} values` });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TokenringError('invalid_json', { expected: 'JSON', detail: (cause as Error).message }, { cause });
  }
  // Each member of an object has one colon outside strings, so the count shows a lost duplicate name.
  const members = countMembers(value);
  if (countColons(text) !== members && countStructural(text, isColon) !== members) {
    throw new TokenringError('invalid_json', { field: findDuplicateName(text), expected: 'each name once' });
  }
  return value;
}

/** Counts the names in all objects of a value. It does not recurse, as the sender chooses the depth. */
function countMembers(value: unknown): number {
  let members = 0;
  const open: unknown[] = [value];
  while (open.length > 0) {
    const next = open.pop();
    if (typeof next !== 'object' || next === null) continue;
    if (Array.isArray(next)) {
      for (const item of next) if (typeof item === 'object') open.push(item);
      continue;
    }
    for (const name in next) {
      members += 1;
      const member = (next as Record<string, unknown>)[name];
      if (typeof member === 'object') open.push(member);
    }
  }
  return members;
}

function countColons(text: string): number {
  let colons = 0;
  for (let at = text.indexOf(':'); at >= 0; at = text.indexOf(':', at + 1)) colons += 1;
  return colons;
}

/** Counts characters outside strings. */
function countStructural(text: string, counts: (char: number) => boolean): number {
  let count = 0;
  for (let at = 0; at < text.length; at += 1) {
    const char = charCodeAt(text, at);
    if (char === 0x22) at = endOfString(text, at);
    else if (counts(char)) count += 1;
  }
  return count;
}

const isColon = (char: number): boolean => char === 0x3a;
/** A comma, an opening brace, or an opening bracket. */
const isSeparator = (char: number): boolean => char === 0x2c || char === 0x7b || char === 0x5b;

/** Returns the index of the quote that closes the string whose opening quote is at `start`. */
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let first = at;
    while (charCodeAt(text, first - 1) === 0x5c) first -= 1;
    // An odd number of backslashes escapes the quote.
    if ((at - first) % 2 === 0) return at;
  }
  // The text ends in the middle of a string.
  return text.length;
}

/** Finds the first name that occurs a second time in its object. Only for a text that parses and has one. */
function findDuplicateName(text: string): string | undefined {
  const scopes: Set<string>[] = [];
  let lastString = '';
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === '"') {
      const end = endOfString(text, at);
      lastString = JSON.parse(text.slice(at, end + 1)) as string;
      at = end;
    } else if (char === '{' || char === '[') scopes.push(new Set());
    else if (char === '}' || char === ']') scopes.pop();
    else if (char === ':') {
      if (scopes.at(-1)!.has(lastString)) return lastString;
      scopes.at(-1)!.add(lastString);
    }
  }
  return undefined;
}
