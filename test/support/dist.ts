import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const DIST = join(ROOT, 'dist/esm');
let isFresh = false;

/**
 * The folder of the built program that tests start.
 * @throws Error when the build is missing or older than a source file: a test of it would say nothing about the sources
 */
export function freshDist(): string {
  if (isFresh) return DIST;
  if (!existsSync(join(DIST, 'cli.js'))) throw new Error('dist is missing; run: npm run build');
  // The last step of a build writes this file, whether or not the compiler found anything to emit.
  const builtMs = statSync(join(ROOT, 'dist/cjs/package.json')).mtimeMs;
  const src = join(ROOT, 'src');
  const newer = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .find((path) => statSync(join(src, path)).mtimeMs > builtMs);
  if (newer !== undefined) throw new Error(`dist is older than src/${newer}; run: npm run build`);
  isFresh = true;
  return DIST;
}
