import { expect } from 'chai';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freeRow, refuses } from '../support/ports.js';
import { killAll, tokenring } from './processes.js';

const ROOT = join(import.meta.dirname, '../..');

describe('tokenring cluster', function () {
  this.timeout(60_000);
  let folder: string;
  let port: number;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'cluster-'));
    mkdirSync(join(folder, 'config'));
    cpSync(join(ROOT, 'config/policies.json'), join(folder, 'config/policies.json'));
    port = await freeRow();
  });
  afterEach(() => {
    killAll();
    rmSync(folder, { recursive: true });
  });
  /** Files below the folder, without those whose place is `.tokenring`. */
  const files = (): string[] =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((path) => !['.tokenring', '.tokenring/policies.state'].includes(path))
      .toSorted();
  const UNCHANGED = ['config', 'config/policies.json'];
  const POLICIES = { TOKENRING_POLICIES: undefined };

  it('ends when a node cannot start, names it and the port, and leaves no process and no file', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(port + 1, '127.0.0.1', resolve));
    // A test that fails must not keep its process alive.
    taken.unref();
    const { code, stdout, stderr } = await tokenring(['cluster', '--port', `${port}`], POLICIES, { cwd: folder }).ended;
    taken.close();
    expect(code).to.equal(2);
    expect(stderr).to.match(
      new RegExp(`^tokenring: node 2 \\(127\\.0\\.0\\.1:${port + 1}\\): TOKENRING_PORT: .*EADDRINUSE.*\\n$`),
    );
    expect(stdout).not.to.include('cluster ready');
    for (const one of [port, port + 2]) expect(await refuses(one), `${one}`).to.equal(true);
    expect(files()).to.deep.equal(UNCHANGED);
  });

  it('decides although the disk is full, warns that policies are not kept, and leaves no file', async () => {
    // No file may grow beyond 0 bytes.
    const cluster = tokenring(['cluster', '--port', `${port}`], POLICIES, { cwd: folder, shell: 'ulimit -f 0' });
    await cluster.line('cluster ready');
    const saving = await cluster.line('changes of policies cannot be saved; a restart of all nodes would lose them');
    expect(saving['reason']).to.match(/EFBIG/);
    const answer = await fetch(`http://127.0.0.1:${port}/v1/allow`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"clientId":"alice","limit":5,"window":"1m"}',
    });
    expect(answer.status).to.equal(200);
    cluster.child.kill('SIGINT');
    expect(await cluster.ended).to.include({ code: 0, stderr: '' });
    expect(files()).to.deep.equal(UNCHANGED);
  });
});
