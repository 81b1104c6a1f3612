// Copies the built client into packages/client: its entries, what they import, and the declarations of all of it.
import { copyFileSync, cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CLIENT_ENTRIES } from './entries.js';
import { reachable } from './reachable.js';

const CLIENT = 'packages/client';

export function copyClient() {
  rmSync(join(CLIENT, 'dist'), { recursive: true, force: true });
  const entries = ['esm', 'cjs'].flatMap((build) => CLIENT_ENTRIES.map((entry) => `dist/${build}/${entry}`));
  for (const ending of ['.js', '.d.ts'])
    for (const file of reachable(entries, ending)) cpSync(file, join(CLIENT, file));
  copyFileSync('dist/cjs/package.json', join(CLIENT, 'dist/cjs/package.json'));
  copyFileSync('LICENSE', join(CLIENT, 'LICENSE'));
}
