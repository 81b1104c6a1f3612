import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freshDist } from '../support/dist.js';
import { install, pack } from '../support/installed.js';
import { pending } from '../support/programs.js';

const run = promisify(execFile);
const MB = 1_000_000;

const read = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;

describe('the published packages', function () {
  this.timeout(180_000);
  const PAGE = /^(?:docs\/[\w-]+\.(?:md|svg)|dist\/pages\/[\w-]+\/[\w.-]+\.(?:br|txt))$/;
  const BUILT = /^dist\/(?:esm|cjs)\/(?:[\w-]+\/)*[\w-]+\.(?:d\.ts|js)$/;

  it('hold the program, its types, its docs, and nothing else, in less than 1 MB', async () => {
    const { files, size } = await pack('tokenring');
    const others = files.map(({ path }) => path).filter((path) => !BUILT.test(path));
    expect(others.filter((path) => !PAGE.test(path)).toSorted()).to.deep.equal([
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'SECURITY.md',
      'config/gateways/envoy-ratelimit.yaml',
      'config/gateways/haproxy.cfg',
      'config/gateways/istio-ratelimit.yaml',
      'config/gateways/kong.yaml',
      'config/policies.json',
      'config/tokenring.lua',
      'dist/cjs/package.json',
      'dist/cjs/store/here.cjs',
      'dist/esm/store/here.cjs',
      'package.json',
    ]);
    expect(size).to.be.below(MB);
  });

  it('declare only what their entries lead to', async () => {
    const { files } = await pack('tokenring');
    const declarations = files.map(({ path }) => path).filter((path) => /\.d\.c?ts$/.test(path));
    const { exports } = read('package.json') as { exports: object };
    const entries = [...JSON.stringify(exports).matchAll(/\.\/dist\/esm\/([\w/]+)\.d\.ts/g)].map((match) => match[1]!);
    expect(entries).to.include.members(['index', 'client/index', 'client/web', 'client/frameworks/nestjs']);
    for (const entry of entries)
      for (const build of ['esm', 'cjs']) expect(declarations).to.include(`dist/${build}/${entry}.d.ts`);
    for (const path of declarations)
      expect(path).to.match(/^dist\/\w+\/(?:index\.d\.ts$|app\/create-node\.d\.ts$|client\/|policy\/|limits\/|lib\/)/);
  });

  it('need for the types of a framework no package but that framework', async () => {
    freshDist();
    const { reachable } = (await import(new URL('../../config/reachable.js', import.meta.url).href)) as {
      reachable: (entries: readonly string[], ending: string) => Set<string>;
    };
    const own = { express: 'express', fastify: 'fastify', hono: 'hono', koa: 'koa', nestjs: '@nestjs/common' };
    for (const [name, framework] of Object.entries({ ...own, store: undefined })) {
      const entry = name === 'store' ? 'stores/store' : `frameworks/${name}`;
      const packages = [...reachable([`dist/esm/client/${entry}`], '.d.ts')].flatMap((file) =>
        [...readFileSync(file, 'utf8').matchAll(/(?:from |import\()["']([^."'][^"']*)["']/g)].map((match) => match[1]),
      );
      expect([...new Set(packages)], name).to.deep.equal(framework === undefined ? [] : [framework]);
    }
  });

  it('hold of the client what it imports, and nothing else', async () => {
    const { files } = await pack('@tokenring/client');
    const paths = files.map(({ path }) => path);
    expect(paths.filter((path) => !BUILT.test(path)).toSorted()).to.deep.equal([
      'LICENSE',
      'README.md',
      'dist/cjs/package.json',
      'package.json',
    ]);
    for (const path of paths.filter((one) => BUILT.test(one)))
      expect(path).to.match(/^dist\/\w+\/(?:client|limits|lib)\//);
  });

  it('name no source map, as there is none', async () => {
    const { files } = await pack('tokenring');
    for (const { path } of files.filter((one) => /\.[cm]?[jt]s$/.test(one.path)))
      expect(readFileSync(path, 'utf8'), path).not.to.match(/^\/\/# sourceMappingURL/m);
  });

  it('have one version, the same dependencies, and say where they come from', () => {
    const [whole, client] = [read('package.json'), read('packages/client/package.json')];
    for (const field of ['version', 'license', 'type', 'engines', 'homepage', 'bugs'])
      expect(client[field], field).to.deep.equal(whole[field]);
    for (const { repository } of [whole, client])
      expect(repository).to.include({ type: 'git', url: 'git+https://github.com/tokenring/tokenring.git' });
    const { 'ipaddr.js': version } = whole['dependencies'] as Record<string, string>;
    expect(client['dependencies']).to.deep.equal({ 'ipaddr.js': version });
  });

  it('install as a client in at most 5 packages and 1 MB, which knows its types without Node.js’s', async function () {
    const installed = await install('@tokenring/client');
    if ('why' in installed) pending(this, installed.why);
    const { folder } = installed;
    try {
      const { packages } = read(join(folder, 'node_modules/.package-lock.json')) as { packages: object };
      expect(Object.keys(packages)).to.deep.equal(['node_modules/@tokenring/client', 'node_modules/ipaddr.js']);
      const modules = join(folder, 'node_modules');
      const files = readdirSync(modules, { recursive: true, encoding: 'utf8' }).map((path) =>
        statSync(join(modules, path)),
      );
      const bytes = files.reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0);
      expect(bytes).to.be.below(MB);
      const tsc = join(import.meta.dirname, '../../node_modules/typescript/bin/tsc');
      const entry = join(modules, '@tokenring/client/dist/esm/client/web.d.ts');
      const flags = ['--noEmit', '--strict', '--typeRoots', folder, '--lib', 'es2023,dom', '--module', 'nodenext'];
      await run(process.execPath, [tsc, ...flags, '--ignoreConfig', entry], { cwd: folder });
    } finally {
      installed.remove();
    }
  });
});
