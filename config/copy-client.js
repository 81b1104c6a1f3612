// Copies the built client into packages/client: its entries, what they import, and the declarations of all of it.
import { copyFileSync, cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

const CLIENT = 'packages/client';
const ENTRIES = ['client/index', 'client/web', 'client/middleware/express'];

export function copyClient() {
  rmSync(join(CLIENT, 'dist'), { recursive: true, force: true });
  for (const file of reachable(['esm', 'cjs'].flatMap((build) => ENTRIES.map((entry) => `dist/${build}/${entry}`))))
    cpSync(file, join(CLIENT, file));
  copyFileSync('dist/cjs/package.json', join(CLIENT, 'dist/cjs/package.json'));
  copyFileSync('LICENSE', join(CLIENT, 'LICENSE'));
}

function reachable(entries) {
  const files = new Set();
  const add = (path, ending) => {
    const file = path + ending;
    if (files.has(file) || !existsSync(file)) return;
    files.add(file);
    const imports = readFileSync(file, 'utf8').matchAll(/(?:from |import\(|require\()["'](\.[^"']+)\.js["']/g);
    for (const [, name] of imports) add(join(dirname(path), name), ending);
  };
  for (const ending of ['.js', '.d.ts']) for (const entry of entries) add(entry, ending);
  return files;
}
