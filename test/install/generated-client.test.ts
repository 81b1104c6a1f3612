import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { liveNode, newClient } from '../support/http.js';

const run = promisify(execFile);
const page = readFileSync('docs/clients.md', 'utf8');
const [, generator, use] = /^## A generated client\n[\s\S]*?```sh\nnpx (.*)\n```[\s\S]*?```ts\n([\s\S]*?)```/m.exec(
  page,
)!;
// The options of the runner name modules that are not in the folder of the client.
const env = { ...process.env, NODE_OPTIONS: '' };
const bin = (name: string): string => resolve('node_modules/.bin', name);

describe('a client generated from /openapi.json', function () {
  this.timeout(120_000);
  let folder: string;
  let port: number;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-generated-'));
    ({ port } = await liveNode());
    const [tool, ...args] = generator!.replace('8080', String(port)).split(' ');
    const { devDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as {
      devDependencies: Record<string, string>;
    };
    expect(tool).to.equal(`@hey-api/openapi-ts@${devDependencies['@hey-api/openapi-ts']}`);
    await run(bin('openapi-ts'), args, { cwd: folder, env });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const program = (clientId: string, window = '1m'): string =>
    use!.replace('8080', String(port)).replace('alice', clientId).replace('100', '1').replace('1m', window);

  it('compiles strictly with the documented program', async () => {
    writeFileSync(join(folder, 'use.ts'), program(newClient()));
    const compilerOptions = {
      strict: true,
      noUncheckedIndexedAccess: true,
      noEmit: true,
      module: 'esnext',
      moduleResolution: 'bundler',
      target: 'es2022',
      lib: ['es2022', 'dom', 'dom.iterable'],
      types: [],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['tokenring', 'use.ts'] }));
    const { stdout } = await run(bin('tsc'), ['-p', folder]).catch((error: unknown) => error as { stdout: string });
    expect(stdout).to.equal('');
  });

  it('is allowed, denied, and told of a mistake by a live node', async () => {
    const clientId = newClient();
    const said: string[] = [];
    const tsx = pathToFileURL(resolve('node_modules/tsx/dist/loader.mjs')).href;
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    for (const window of ['1m', '1m', 'banana']) {
      writeFileSync(join(folder, 'use.ts'), program(clientId, window));
      said.push((await run(process.execPath, ['--import', tsx, 'use.ts'], { cwd: folder, env })).stdout);
    }
    expect(said[0]).to.equal('200 allowed 0\n');
    expect(said[1]).to.match(/^429 denied [1-9]\d*\n$/);
    expect(said[2]).to.equal('400 invalid_request window\n');
  });
});
