import { expect } from 'chai';
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freshDist } from '../support/dist.js';
import { freePort } from '../support/ports.js';

const run = promisify(execFile);
const readme = readFileSync('README.md', 'utf8');
const sdk = readFileSync('docs/sdk.md', 'utf8');

/** The fenced blocks of one language, in order. */
function blocks(language: string, text = readme): string[] {
  return [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map((match) => match[1]!);
}

/** `npm run cluster`, without the build that `npm test` has done. */
async function withCluster(use: () => Promise<void>): Promise<void> {
  const child = spawn(process.execPath, [join(freshDist(), 'cli.js'), 'cluster'], {
    // Nothing is kept in the checkout.
    env: { ...process.env, TOKENRING_POLICIES_STATE: 'none' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise<number | null>((resolve) => child.on('exit', resolve));
  try {
    let output = '';
    await new Promise<void>((resolve, reject) => {
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('"cluster ready"')) resolve();
      });
      void exited.then((code) => reject(new Error(`the cluster ended with ${code}: ${output}`)));
    });
    await use();
  } finally {
    child.kill('SIGINT');
    expect(await exited).to.equal(0);
  }
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

describe('the README', () => {
  it('shows a curl, its answer and commands as they are', async function () {
    this.timeout(60_000);
    const curl = blocks('sh').find((block) => block.startsWith('curl'))!;
    const shown = JSON.parse(blocks('json')[0]!) as Record<string, unknown>;
    await withCluster(async () => {
      const { stdout } = await run('sh', ['-c', curl]);
      const answer = JSON.parse(stdout) as Record<string, unknown>;
      expect(Object.keys(answer)).to.deep.equal(Object.keys(shown));
      const { allowed, limit, remaining, retryAfterMs, resetMs, degraded } = shown;
      expect(answer).to.include({ allowed, limit, remaining, retryAfterMs, resetMs, degraded });
      const commands = blocks('sh').flatMap((block) => block.match(/^node dist[^#\n]*/gm) ?? []);
      expect(commands).to.have.lengthOf(2);
      for (const command of commands) await run('sh', ['-c', command]);
    });
  });

  it('shows code that runs as it is, and as CommonJS', async function () {
    this.timeout(30_000);
    const [code] = blocks('ts') as [string];
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code]);
    expect(stdout.trim()).to.equal('true 9');
    const commonJs = code.replace(/import (.*) from ('.*');/, 'const $1 = require($2);');
    const wrapped = `(async () => { ${commonJs} })()`;
    expect((await run(process.execPath, ['-e', wrapped])).stdout.trim()).to.equal('true 9');
  });

  it('and docs/sdk.md show clients and Express apps that run as they are', async function () {
    this.timeout(60_000);
    const [client, reporting] = blocks('ts', sdk) as [string, string];
    const [, app] = blocks('ts') as [string, string];
    await withCluster(async () => {
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', client]);
      expect(stdout).to.equal('true 9\ninvalid_request limit\n');
      for (const [code, path, expected] of [
        [app, '/', 'hello'],
        [reporting, '/report', '{"left":99}'],
      ] as const) {
        const port = await freePort();
        const child = spawn(process.execPath, ['--input-type=module', '-e', code.replace('3000', String(port))]);
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
