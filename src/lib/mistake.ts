/** One mistake in a request, a policy, or a file. */
export interface Mistake {
  /** Path of the bad field, as in `policies.api.limits[1].window`. */
  readonly field: string;
  /** Valid values of the field. */
  readonly expected: string;
  /** One sentence: where, what is wrong, what to do. */
  readonly detail: string;
}

/** Largest number of characters of a value or a name that a message quotes. */
const MAX_QUOTED = 40;
/** Largest number of characters of a name that are compared with known names. */
const MAX_COMPARED = 32;
/** Largest number of edits between a mistyped name and a suggested one. */
const MAX_EDITS = 2;

/**
 * The mistake of a field that is missing or has a wrong value.
 * @param noun a word for valid values, as in `"banana" is not a duration`
 */
export function badValue(field: string, value: unknown, expected: string, noun = 'valid'): Mistake {
  const wrong = value === undefined ? `${field} is missing` : `${field}: ${quoted(value)} is not ${noun}`;
  return { field, expected, detail: `${wrong}; use ${expected}` };
}

/** The mistake of a wrong value that a message may not show. */
export function badField(field: string, expected: string): Mistake {
  return { field, expected, detail: `${field} is not valid; use ${expected}` };
}

/**
 * The mistake of a field that is not allowed in this place.
 * @param where end of the sentence, as in `beside window`
 */
export function misplaced(field: string, where: string): Mistake {
  return { field, expected: `none ${where}`, detail: `${field} is not allowed ${where}; remove it` };
}

/**
 * The mistake of an unknown field. The message suggests the nearest known name.
 * @param path path of the object with the field; empty for the outermost object
 */
export function unknownField(path: string, name: string, known: readonly string[]): Mistake {
  const field = path === '' ? name : `${path}.${name}`;
  const wrong = `${path === '' ? '' : `${path}: `}unknown field ${quoted(name)}`;
  const nearest = nearestName(name, known);
  if (nearest !== undefined) return { field, expected: `"${nearest}"`, detail: `${wrong}; did you mean "${nearest}"?` };
  const expected = `one of ${known.join(', ')}`;
  return { field, expected, detail: `${wrong}; use ${expected}` };
}

/** Says that an option does not exist, and suggests the nearest one. */
export function noSuchOption(name: string, known: readonly string[]): string {
  const nearest = nearestName(name, known);
  const hint = nearest === undefined ? `expected one of ${known.join(', ')}` : `did you mean \`${nearest}\`?`;
  return `${name}: there is no such option; ${hint}`;
}

/** Formats a value for a message. The text is short, and nested values are not read. */
function quoted(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > MAX_QUOTED ? `${value.slice(0, MAX_QUOTED)}…` : value);
}

/** @returns the known name that is nearest to a mistyped one; `undefined` if none is close */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  const plain = plainName(name.slice(0, MAX_COMPARED));
  let best: string | undefined;
  let fewest = MAX_EDITS + 1;
  for (const candidate of known) {
    const edits = editsBetween(plain, plainName(candidate));
    // A short name is near to many names, so at least half of it must be right.
    if (edits < fewest && edits * 2 <= plain.length) {
      best = candidate;
      fewest = edits;
    }
  }
  return best;
}

function plainName(name: string): string {
  return name.replaceAll(/[-_ ]/g, '').toLowerCase();
}

/** The Levenshtein distance: the fewest insertions, deletions, and replacements that turn one text into the other. */
function editsBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/** Whether a value is an integer from `min` to `max`. */
export function isWhole(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
}
