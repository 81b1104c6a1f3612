/** Longer texts are compared as a whole: the table of all pairs of lines would take too much memory. */
const MAX_LINES = 2_000;

/**
 * The shortest list of lines to remove and to add, by the longest common subsequence.
 * @param {string} before
 * @param {string} after
 * @returns {{ kind: 'same' | 'removed' | 'added', line: string }[]}
 */
export function diffLines(before, after) {
  const [a, b] = [linesOf(before), linesOf(after)];
  if (a.length > MAX_LINES || b.length > MAX_LINES) return [...marked('removed', a), ...marked('added', b)];
  const width = b.length + 1;
  /** Length of the longest common subsequence of the lines from i of `a` and from j of `b`. */
  const common = new Uint16Array((a.length + 1) * width);
  const at = (/** @type {number} */ i, /** @type {number} */ j) => common[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      common[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  /** @type {ReturnType<typeof diffLines>} */
  const lines = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    const [line, other] = [a[i] ?? '', b[j] ?? ''];
    if (line === other) {
      lines.push({ kind: 'same', line });
      i += 1;
      j += 1;
    } else if (at(i + 1, j) >= at(i, j + 1)) {
      lines.push({ kind: 'removed', line });
      i += 1;
    } else {
      lines.push({ kind: 'added', line: other });
      j += 1;
    }
  }
  return [...lines, ...marked('removed', a.slice(i)), ...marked('added', b.slice(j))];
}

/** @param {string} text */
function linesOf(text) {
  return text === '' ? [] : text.split('\n');
}

/**
 * @template {'removed' | 'added'} Kind
 * @param {Kind} kind
 * @param {readonly string[]} lines
 */
function marked(kind, lines) {
  return lines.map((line) => ({ kind, line }));
}
