// Ends with 0 if the last full build is newer than all that it is made of, so that tests need no other build.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const SOURCES = ['src', 'config', 'tsconfig.json', 'package.json', 'package-lock.json'];
/** The last step writes the first, and a quick build for `npm run cluster` removes the second. */
const BUILT = ['dist/cjs/package.json', 'dist/esm.tsbuildinfo', 'dist/esm/cli.js', 'packages/client/dist'];

/** The folder itself counts too: its time changes when a file is deleted. */
function filesOf(path) {
  if (!statSync(path).isDirectory()) return [path];
  return [path, ...readdirSync(path, { recursive: true, encoding: 'utf8' }).map((name) => join(path, name))];
}

const isBuilt =
  BUILT.every((path) => existsSync(path)) &&
  SOURCES.flatMap(filesOf).every((path) => statSync(path).mtimeMs <= statSync(BUILT[0]).mtimeMs);
process.exit(isBuilt ? 0 : 1);
