import { expect } from 'chai';
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { VERSION } from '../../src/lib/version.js';
import { install, type Installed } from '../support/installed.js';
import { freePort } from '../support/ports.js';
import { pending } from '../support/programs.js';

const run = promisify(execFile);
/** In the installed package; docs/sdk.md uses its policy `api`. */
const POLICIES = 'node_modules/tokenring/config/policies.json';
const readme = readFileSync('README.md', 'utf8');
const sdk = readFileSync('docs/sdk.md', 'utf8');

/** The fenced blocks of one language, in order. */
function blocks(language: string, text = readme): string[] {
  return [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map((match) => match[1]!);
}

/** Starts the command of an installed package. `npx` would start the same, but passes on no signal. */
async function withTokenring(
  folder: string,
  args: readonly string[],
  ready: string,
  use: () => Promise<void>,
): Promise<void> {
  const child = spawn(join(folder, 'node_modules/.bin/tokenring'), args, {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise<number | null>((resolve) => child.on('exit', resolve));
  try {
    let output = '';
    await new Promise<void>((resolve, reject) => {
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes(ready)) resolve();
      });
      void exited.then((code) => reject(new Error(`tokenring ended with ${code}: ${output}`)));
    });
    await use();
  } finally {
    child.kill('SIGINT');
    expect(await exited).to.equal(0);
  }
}

/** The same code with `require`, in a function, as CommonJS has no `await` outside one. */
function asCommonJs(code: string): string {
  return `(async () => { ${code.replaceAll(/import (.*) from ('.*');/g, 'const $1 = require($2);')} })()`;
}

async function fetchWhenUp(url: string): Promise<Response> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await fetch(url);
    } catch (error) {
      if (tries === 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

describe('the README, in an empty folder with the packed package', function () {
  this.timeout(300_000);
  let installed: Installed | { why: string } = { why: 'it is not installed' };
  before(async () => {
    installed = await install('tokenring');
  });
  after(() => {
    if ('folder' in installed) installed.remove();
  });
  const node = (folder: string, ...args: string[]): Promise<{ stdout: string }> =>
    run(process.execPath, args, { cwd: folder });
  const withCluster = (folder: string, use: () => Promise<void>): Promise<void> =>
    withTokenring(folder, ['cluster', '--policies', POLICIES], '"cluster ready"', use);

  it('shows a curl, its answer and commands as they are', async function () {
    if ('why' in installed) pending(this, installed.why);
    const { folder } = installed;
    const curl = blocks('sh').find((block) => block.startsWith('curl'))!;
    const shown = JSON.parse(blocks('json')[0]!) as Record<string, unknown>;
    await withCluster(folder, async () => {
      const { stdout } = await run('sh', ['-c', curl]);
      const answer = JSON.parse(stdout) as Record<string, unknown>;
      expect(Object.keys(answer)).to.deep.equal(Object.keys(shown));
      const { allowed, limit, remaining, retryAfterMs, resetMs, degraded } = shown;
      expect(answer).to.include({ allowed, limit, remaining, retryAfterMs, resetMs, degraded });
      const commands = blocks('sh').flatMap((block) => block.match(/^npx tokenring (?!cluster|top)[^#\n]*/gm) ?? []);
      expect(commands).to.have.lengthOf(3);
      for (const command of commands)
        await run('sh', ['-c', command.replace('--seconds 10', '--seconds 1')], { cwd: folder });
    });
  });

  it('starts a node by `npx tokenring serve`, which Ctrl-C stops', async function () {
    if ('why' in installed) pending(this, installed.why);
    const { folder } = installed;
    const { stdout } = await run('npx', ['--no-install', 'tokenring', '--version'], { cwd: folder });
    expect(stdout.trim()).to.equal(VERSION);
    const port = await freePort();
    const ports = ['--port', `${port}`, '--peer-port', '0'];
    await withTokenring(folder, ['serve', ...ports], '"tokenring ready"', async () => {
      expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).to.equal(200);
    });
  });

  it('shows code that runs as it is, and as CommonJS', async function () {
    if ('why' in installed) pending(this, installed.why);
    const { folder } = installed;
    const [code] = blocks('ts') as [string];
    const { stdout } = await node(folder, '--input-type=module', '-e', code);
    expect(stdout.trim()).to.equal('true 9');
    const wrapped = asCommonJs(code);
    expect((await node(folder, '-e', wrapped)).stdout.trim()).to.equal('true 9');
  });

  it('and docs/sdk.md show clients and Express apps that run as they are, and as CommonJS', async function () {
    if ('why' in installed) pending(this, installed.why);
    const { folder } = installed;
    const [client, reporting] = blocks('ts', sdk) as [string, string];
    const [, app] = blocks('ts') as [string, string];
    await withCluster(folder, async () => {
      const { stdout } = await node(folder, '--input-type=module', '-e', client);
      expect(stdout).to.equal('true 9\ninvalid_request limit\n');
      for (const [code, path, expected] of [
        [app, '/', 'hello'],
        [asCommonJs(app), '/', 'hello'],
        [reporting, '/report', '{"left":99}'],
      ] as const) {
        const port = await freePort();
        const type = code.includes('require(') ? 'commonjs' : 'module';
        const args = [`--input-type=${type}`, '-e', code.replace('3000', String(port))];
        const child = spawn(process.execPath, args, { cwd: folder, stdio: 'ignore' });
        const answer = await fetchWhenUp(`http://127.0.0.1:${port}${path}`);
        child.kill();
        expect(await answer.text()).to.equal(expected);
        expect(answer.headers.get('ratelimit')).to.match(/;r=\d+;t=\d+$/);
      }
    });
  });

  it('names every dependency', () => {
    const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: object };
    for (const name of Object.keys(dependencies)) expect(readme).to.include(`| ${name} `);
  });
});
