// Writes dist/pages: the files of src/http/pages and of Swagger UI, as brotli. A file that is there already stays,
// because compressing Swagger UI takes seconds.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, brotliDecompressSync } from 'node:zlib';

const VIEWER = 'node_modules/swagger-ui-dist';
const SOURCES = {
  'docs/index.html': 'src/http/pages/docs/index.html',
  'docs/start.js': 'src/http/pages/docs/start.js',
  'docs/swagger-ui.css': `${VIEWER}/swagger-ui.css`,
  'docs/swagger-ui.js': `${VIEWER}/swagger-ui-bundle.js`,
};
// Its licence demands to go with it.
const LICENCES = ['LICENSE', 'NOTICE', 'swagger-ui-bundle.js.LICENSE.txt'];

function isCurrent(target, source) {
  return existsSync(target) && brotliDecompressSync(readFileSync(target)).equals(source);
}

/** The compression runs beside the main thread, also while that waits for another process. */
export async function buildPages() {
  await Promise.all(
    Object.entries(SOURCES).map(async ([name, path]) => {
      const target = `dist/pages/${name}.br`;
      const source = readFileSync(path);
      if (isCurrent(target, source)) return;
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, await promisify(brotliCompress)(source));
    }),
  );
  const licences = LICENCES.map((name) => readFileSync(`${VIEWER}/${name}`, 'utf8'));
  writeFileSync('dist/pages/docs/swagger-ui.LICENSE.txt', licences.join('\n'));
}

if (process.argv[1] === import.meta.filename) await buildPages();
