import { buildSync } from 'esbuild';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const ROOT = join(import.meta.dirname, '../..');
const DIST = join(ROOT, 'dist/esm');
/** The last step of a build writes this file, whether or not the compiler found anything to emit. */
const BUILT = join(ROOT, 'dist/cjs/package.json');
const BUNDLED = join(ROOT, 'dist/bundled');
/** The files that are started as processes. */
const STARTED = ['cli/run/worker.js', 'store/lmdb-child.js', 'cli.js'];
const LAST_STARTED = join(BUNDLED, STARTED.at(-1)!);
/** For packages in CommonJS. */
const REQUIRE = `import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);`;
let isFresh = false;

/**
 * The folder of the built program that tests start.
 * @throws Error when the build is missing or older than a source file: a test of it would say nothing about the sources
 */
export function freshDist(): string {
  if (isFresh) return DIST;
  if (!existsSync(join(DIST, 'cli.js'))) throw new Error('dist is missing; run: npm run build');
  const builtMs = statSync(BUILT).mtimeMs;
  const src = join(ROOT, 'src');
  const newer = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .find((path) => statSync(join(src, path)).mtimeMs > builtMs);
  if (newer !== undefined) throw new Error(`dist is older than src/${newer}; run: npm run build`);
  isFresh = true;
  return DIST;
}

/**
 * The same program, each process of it one file with its packages: it starts in a quarter of the processor time, which
 * is most of what the tests of processes take. The tests of the package, the image, and the clone start `freshDist`.
 */
export function bundledDist(): string {
  const dist = freshDist();
  if (existsSync(LAST_STARTED) && statSync(LAST_STARTED).mtimeMs > statSync(BUILT).mtimeMs) return BUNDLED;
  const { outputFiles } = buildSync({
    entryPoints: STARTED.map((path) => join(dist, path)),
    outbase: dist,
    outdir: BUNDLED,
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['lmdb'],
    keepNames: true,
    banner: { js: REQUIRE },
    // Paths between the files are those of the build.
    define: {
      'import.meta.url': JSON.stringify(pathToFileURL(join(BUNDLED, 'cli/run/bundled.js')).href),
      __filename: JSON.stringify(join(BUNDLED, 'store/here.cjs')),
      __dirname: JSON.stringify(join(BUNDLED, 'store')),
    },
    logLevel: 'error',
  });
  for (const { path, contents } of outputFiles) {
    mkdirSync(dirname(path), { recursive: true });
    // Two processes of a test run may do this at once.
    const whole = `${path}.${process.pid}`;
    writeFileSync(whole, contents);
    renameSync(whole, path);
  }
  return BUNDLED;
}
