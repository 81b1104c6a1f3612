// Ends with 0 if the last full build is newer than all that it is made of, so that tests need no other build.
import { existsSync, statSync } from 'node:fs';
import { newestMs } from './newest.js';

const SOURCES = ['src', 'config', 'tsconfig.json', 'package.json', 'package-lock.json'];
/** The last step writes the first, and a quick build for `npm run cluster` removes the second. */
const BUILT = ['dist/cjs/package.json', 'dist/esm.tsbuildinfo', 'dist/esm/cli.js', 'packages/client/dist'];

const isBuilt = BUILT.every((path) => existsSync(path)) && newestMs(SOURCES) <= statSync(BUILT[0]).mtimeMs;
process.exit(isBuilt ? 0 : 1);
