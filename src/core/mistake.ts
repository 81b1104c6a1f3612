/** One mistake in a request, a policy, or a file. */
export interface Mistake {
  /** Path of the bad field, as in `policies.api.limits[1].window`. */
  readonly field: string;
  /** What the field may be. */
  readonly expected: string;
  /** One sentence: where, what is wrong, what to do. */
  readonly detail: string;
}

/** Characters of a value or a name that a message quotes. */
const MAX_QUOTED = 40;
/** Characters of a name that are compared with known names. */
const MAX_COMPARED = 32;
/** Edits that turn a mistyped name into the one that was meant. */
const MAX_EDITS = 2;

/**
 * A field that is missing or has a value that it may not have.
 * @param noun what the value should be, as in `"banana" is not a duration`
 */
export function badValue(field: string, value: unknown, expected: string, noun = 'valid'): Mistake {
  const wrong = value === undefined ? `${field} is missing` : `${field}: ${quoted(value)} is not ${noun}`;
  return { field, expected, detail: `${wrong}; use ${expected}` };
}

/** A field whose value a message may not show. */
export function badField(field: string, expected: string): Mistake {
  return { field, expected, detail: `${field} is not valid; use ${expected}` };
}

/**
 * A field that may not stand where it stands.
 * @param where completes the sentence, as in `beside window`
 */
export function misplaced(field: string, where: string): Mistake {
  return { field, expected: `none ${where}`, detail: `${field} is not allowed ${where}; remove it` };
}

/**
 * A field that nobody knows, with the known name that is nearest to it.
 * @param path of the object that holds it; empty for the whole
 */
export function unknownField(path: string, name: string, known: readonly string[]): Mistake {
  const field = path === '' ? name : `${path}.${name}`;
  const wrong = `${path === '' ? '' : `${path}: `}unknown field ${quoted(name)}`;
  const nearest = nearestName(name, known);
  if (nearest !== undefined) return { field, expected: `"${nearest}"`, detail: `${wrong}; did you mean "${nearest}"?` };
  const expected = `one of ${known.join(', ')}`;
  return { field, expected, detail: `${wrong}; use ${expected}` };
}

/** A value as a message shows it: short, and without walking into what may be deep. */
function quoted(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > MAX_QUOTED ? `${value.slice(0, MAX_QUOTED)}…` : value);
}

/** The known name that differs least from a mistyped one; `undefined` if none is close. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  const plain = plainName(name.slice(0, MAX_COMPARED));
  let best: string | undefined;
  let fewest = MAX_EDITS + 1;
  for (const candidate of known) {
    const edits = editsBetween(plain, plainName(candidate));
    // A short name is near to everything: at least half of it must be right.
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

/** Levenshtein distance: insertions, deletions and replacements that turn one text into the other. */
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
