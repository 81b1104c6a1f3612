// Marks dist/cjs as CommonJS (the package as a whole is ESM), makes the command executable, adds the pages, and copies
// the client into packages/client.
import { chmodSync, writeFileSync } from 'node:fs';
import { copyClient } from './copy-client.js';
import { buildPages } from './build-pages.js';

writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');
chmodSync('dist/esm/cli.js', 0o755);
await buildPages();
copyClient();
