// Marks dist/cjs as CommonJS (the package as a whole is ESM), removes what is stale, makes the command executable, adds
// the declarations and the pages, and copies the client into packages/client.
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { copyClient } from './copy-client.js';
import { copyDeclarations } from './copy-declarations.js';
import { buildPages } from './build-pages.js';
import { removeStale } from './remove-stale.js';

removeStale();
chmodSync('dist/esm/cli.js', 0o755);
copyDeclarations();
await buildPages();
// Tests take this file for the end of a build.
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');
// The image is built without the packages.
if (existsSync('packages/client/package.json')) copyClient();
