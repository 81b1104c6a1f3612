import { isUtf8 } from 'node:buffer';
import { TokenringError } from '../core/error.js';

/**
 * Parses JSON (RFC 8259) in UTF-8 in which each name occurs once in its object. `JSON.parse` alone would take the last
 * of two equal names.
 * @param maxNames bound of the names of all objects together, which cost most: `JSON.parse` takes 1 µs for a new one
 * @throws TokenringError `invalid_json` for anything else
 */
export function parseJson(body: Buffer, maxNames = Infinity): unknown {
  if (!isUtf8(body)) throw new TokenringError('invalid_json', { expected: 'JSON in UTF-8' });
  const text = body.toString('utf8');
  if (maxNames < Infinity && countColons(text, maxNames) > maxNames && countStructuralColons(text) > maxNames)
    throw new TokenringError('invalid_json', { expected: `at most ${maxNames} names` });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TokenringError('invalid_json', { expected: 'JSON', detail: (cause as Error).message }, { cause });
  }
  // Each member of an object has one colon outside strings, so the count shows a lost duplicate name.
  const members = countMembers(value);
  if (countColons(text) !== members && countStructuralColons(text) !== members) {
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

/** Stops to count beyond `max`. */
function countColons(text: string, max = Infinity): number {
  let colons = 0;
  for (let at = text.indexOf(':'); at >= 0 && colons <= max; at = text.indexOf(':', at + 1)) colons += 1;
  return colons;
}

function countStructuralColons(text: string): number {
  let colons = 0;
  for (let at = 0; at < text.length; at += 1) {
    const char = text.charCodeAt(at);
    if (char === 0x22) at = endOfString(text, at);
    else if (char === 0x3a) colons += 1;
  }
  return colons;
}

/** Returns the index of the quote that closes the string whose opening quote is at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  // The text may end in the middle of a string.
  while (at < text.length && text.charCodeAt(at) !== 0x22) at += text.charCodeAt(at) === 0x5c ? 2 : 1;
  return at;
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
