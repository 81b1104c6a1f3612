import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Returns the built files with this ending that some entries are and import. Entries have no ending. */
export function reachable(entries, ending) {
  const files = new Set();
  const add = (path) => {
    const file = path + ending;
    if (files.has(file) || !existsSync(file)) return;
    files.add(file);
    const imports = readFileSync(file, 'utf8').matchAll(/(?:from |import\(|require\()["'](\.[^"']+)\.js["']/g);
    for (const [, name] of imports) add(join(dirname(path), name));
  };
  for (const entry of entries) add(entry);
  return files;
}
