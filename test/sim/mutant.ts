import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { createClusterNode } from '../../src/cluster/node.js';

/** A change of the program's text, wherever it is in that file. It must be there. */
export interface Patch {
  /** Below src. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const LAYERS = ['core', 'cluster'];

/**
 * The program's node with faults in its code: a copy of src/core and src/cluster, changed and imported from a cache. So the
 * program needs no hooks for it.
 */
export async function mutate(patches: readonly Patch[]): Promise<typeof createClusterNode> {
  const files = new Map<string, string>();
  for (const layer of LAYERS) {
    for (const name of readdirSync(join(ROOT, 'src', layer), { recursive: true, encoding: 'utf8' })) {
      if (name.endsWith('.ts')) files.set(`${layer}/${name}`, readFileSync(join(ROOT, 'src', layer, name), 'utf8'));
    }
  }
  for (const { file, find, replace } of patches) {
    const text = files.get(file);
    if (text?.includes(find) !== true) throw new Error(`src/${file} does not hold: ${find}`);
    files.set(
      file,
      text.replaceAll(find, () => replace),
    );
  }
  const key = createHash('sha256')
    .update(JSON.stringify([...files]))
    .digest('hex')
    .slice(0, 16);
  const home = join(ROOT, 'node_modules', '.cache', 'tokenring-mutants', key);
  for (const file of files.keys()) mkdirSync(dirname(join(home, file)), { recursive: true });
  writeFileSync(join(home, 'package.json'), '{ "type": "module" }');
  for (const [file, text] of files) writeFileSync(join(home, file), text);
  const module = (await import(pathToFileURL(join(home, 'cluster', 'node.ts')).href)) as {
    createClusterNode: typeof createClusterNode;
  };
  return module.createClusterNode;
}
