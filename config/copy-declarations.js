// Copies the declarations that the entries of the package need from dist/types to both builds, as both have the same.
import { copyFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ENTRIES } from './entries.js';
import { reachable } from './reachable.js';

export function copyDeclarations() {
  for (const build of ['esm', 'cjs']) {
    const code = `dist/${build}`;
    for (const path of readdirSync(code, { recursive: true, encoding: 'utf8' }))
      if (/\.d\.c?ts$/.test(path)) rmSync(join(code, path));
    const entries = ENTRIES.map((entry) => `dist/types/${entry}`);
    for (const file of reachable(entries, '.d.ts')) copyFileSync(file, file.replace('dist/types', code));
  }
}
