import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import type { ClusterNode } from '../../src/node/node.js';
import type { CreateNode } from './world.js';

/** A change of the program's text, wherever it is in that file. It must be there. */
export interface Patch {
  /** Below src. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SRC = join(ROOT, 'src');
const CACHE = join(ROOT, 'node_modules', '.cache', 'tokenring-mutants');

/**
 * The program's node with faults in its code: src/node and what it imports, changed, and imported from a cache as
 * one file. So the program needs no hooks for it.
 */
export async function mutate(patches: readonly Patch[]): Promise<CreateNode> {
  const { outputFiles } = await build({
    entryPoints: [join(SRC, 'node', 'node.ts')],
    bundle: true,
    write: false,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'es2023',
    logLevel: 'error',
    plugins: [patching(patches)],
  });
  const { contents } = outputFiles[0]!;
  const key = createHash('sha256').update(contents).digest('hex').slice(0, 16);
  mkdirSync(CACHE, { recursive: true });
  const path = join(CACHE, `${key}.mjs`);
  writeFileSync(path, contents);
  const module = (await import(pathToFileURL(path).href)) as { ClusterNode: typeof ClusterNode };
  return (deps, options) => new module.ClusterNode(deps, options);
}

function patching(patches: readonly Patch[]): Plugin {
  const texts = new Map<string, string>();
  for (const { file, find, replace } of patches) {
    const path = join(SRC, file);
    const text = texts.get(path) ?? readFileSync(path, 'utf8');
    if (!text.includes(find)) throw new Error(`src/${file} does not hold: ${find}`);
    texts.set(
      path,
      text.replaceAll(find, () => replace),
    );
  }
  return {
    name: 'patches',
    setup(bundling) {
      bundling.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const contents = texts.get(path);
        return contents === undefined ? undefined : { contents, loader: 'ts' };
      });
    },
  };
}
