// Marks dist/cjs as CommonJS (the package as a whole is ESM) and makes the command executable.
import { chmodSync, writeFileSync } from 'node:fs';

writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');
chmodSync('dist/esm/cli.js', 0o755);
