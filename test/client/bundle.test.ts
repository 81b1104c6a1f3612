import { builtinModules } from 'node:module';
import { expect } from 'chai';
import { build } from 'esbuild';

/** The modules and packages outside `src` that a bundle of this entry has. */
async function importsOf(entry: string): Promise<string[]> {
  const { metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    external: ['node:*', ...builtinModules],
  });
  const outside = Object.keys(metafile.inputs)
    .filter((path) => !path.startsWith('src/'))
    .map((path) => path.replace(/^.*(?=node_modules\/)/, ''));
  const external = Object.values(metafile.inputs).flatMap(({ imports }) =>
    imports.filter((one) => one.external === true).map(({ path }) => path),
  );
  return [...outside, ...external];
}

describe('a bundle for browsers and edge runtimes', () => {
  it('of the client holds nothing but the client: no module of Node.js, and no package', async () => {
    expect(await importsOf('src/client/web.ts')).to.deep.equal([]);
  });

  it('of the middleware holds ipaddr.js besides', async () => {
    for (const framework of ['express', 'hono'])
      expect(await importsOf(`src/client/frameworks/${framework}.ts`)).to.deep.equal([
        'node_modules/ipaddr.js/lib/ipaddr.js',
      ]);
  });

  it('of the stores holds nothing but them', async () => {
    expect(await importsOf('src/client/stores/store.ts')).to.deep.equal([]);
  });
});
