// Writes dist/pages: the files of src/pages, of Swagger UI, and of uPlot, as brotli. A file that is there already
// stays, because compressing Swagger UI takes seconds.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, brotliDecompressSync, constants } from 'node:zlib';

const PAGES = 'src/pages';
const VIEWER = 'node_modules/swagger-ui-dist';
const PLOTTER = 'node_modules/uplot';
const SOURCES = {
  ...Object.fromEntries(
    readdirSync(PAGES, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\/[\w-]+\.(html|css|js)$/.test(name))
      .map((name) => [name, `${PAGES}/${name}`]),
  ),
  'dashboard/uplot.css': `${PLOTTER}/dist/uPlot.min.css`,
  'dashboard/uplot.js': `${PLOTTER}/dist/uPlot.iife.min.js`,
  'docs/swagger-ui.css': `${VIEWER}/swagger-ui.css`,
  'docs/swagger-ui.js': `${VIEWER}/swagger-ui-bundle.js`,
};
// The licences demand to go with the files.
const LICENCES = {
  'dashboard/uplot.LICENSE.txt': [`${PLOTTER}/LICENSE`],
  'docs/swagger-ui.LICENSE.txt': ['LICENSE', 'NOTICE', 'swagger-ui-bundle.js.LICENSE.txt'].map(
    (name) => `${VIEWER}/${name}`,
  ),
};

/** Present while the files are those of a quick build, which the package is not to have. */
const QUICK = 'dist/quick-pages';
const QUICK_QUALITY = 5;

function isCurrent(target, source) {
  return existsSync(target) && brotliDecompressSync(readFileSync(target)).equals(source);
}

/** With `isQuick`, compresses in a tenth of the time, to 1.1 times the size. */
export async function buildPages({ isQuick = false } = {}) {
  const quality = isQuick ? QUICK_QUALITY : constants.BROTLI_MAX_QUALITY;
  const isTooLarge = existsSync(QUICK) && !isQuick;
  await Promise.all(
    Object.entries(SOURCES).map(async ([name, path]) => {
      const target = `dist/pages/${name}.br`;
      const source = readFileSync(path);
      if (isCurrent(target, source) && !isTooLarge) return;
      mkdirSync(dirname(target), { recursive: true });
      if (isQuick) writeFileSync(QUICK, '');
      const params = { [constants.BROTLI_PARAM_QUALITY]: quality };
      writeFileSync(target, await promisify(brotliCompress)(source, { params }));
    }),
  );
  for (const [name, paths] of Object.entries(LICENCES))
    writeFileSync(`dist/pages/${name}`, paths.map((path) => readFileSync(path, 'utf8')).join('\n'));
  if (!isQuick) rmSync(QUICK, { force: true });
}

if (process.argv[1] === import.meta.filename) await buildPages();
