// Builds dist/esm without checking types if a source is newer than the last build. `npm run cluster` needs this in
// seconds.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildPages } from './build-pages.js';

const STAMP = 'dist/esm.stamp';
const newestMs = Math.max(
  ...readdirSync('src', { recursive: true, encoding: 'utf8' }).map((path) => statSync(join('src', path)).mtimeMs),
);
if (existsSync('dist/esm/cli.js') && existsSync(STAMP) && statSync(STAMP).mtimeMs >= newestMs) process.exit(0);
console.error('Building Tokenring: this takes a few seconds …');
const pages = buildPages();
const options = ['--noCheck', '--incremental', 'false', '--tsBuildInfoFile', 'null'];
const { status } = spawnSync(
  process.execPath,
  ['node_modules/typescript/bin/tsc', '-p', 'config/tsconfig.esm.json', ...options],
  {
    stdio: 'inherit',
  },
);
if (status !== 0) process.exit(status ?? 1);
await pages;
writeFileSync(STAMP, '');
