// Builds dist/esm without checking types if a source is newer than the last build. `npm run cluster` needs this in
// seconds.
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { buildPages } from './build-pages.js';
import { newestMs } from './newest.js';

const STAMP = 'dist/esm.stamp';
const SLOW_AFTER_MS = 2_000;

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).map((path) => join('src', path));
if (existsSync('dist/esm/cli.js') && existsSync(STAMP) && statSync(STAMP).mtimeMs >= newestMs(['src'])) process.exit(0);
const startMs = performance.now();
console.error('Building Tokenring …');
const progress = setInterval(() => {
  console.error(`  still building, for ${Math.round((performance.now() - startMs) / 1_000)} s`);
}, SLOW_AFTER_MS);
// The compiler would keep what it wrote last.
rmSync('dist/esm.tsbuildinfo', { force: true });
const options = { outdir: 'dist/esm', outbase: 'src', platform: 'node', target: 'es2023' };
const entries = (ending) => sources.filter((path) => path.endsWith(ending) && !path.endsWith('.d.ts'));
await Promise.all([
  build({ ...options, entryPoints: entries('.ts'), format: 'esm' }),
  build({ ...options, entryPoints: entries('.cts'), format: 'cjs', outExtension: { '.js': '.cjs' } }),
  buildPages({ isQuick: true }),
]);
clearInterval(progress);
writeFileSync(STAMP, '');
