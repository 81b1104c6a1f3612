import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openSocketDirectory } from '../../src/app/group/socket-directory.js';

describe('the directory of the workers’ Unix sockets', () => {
  let parent = '';
  beforeEach(() => (parent = mkdtempSync(join(tmpdir(), 'sockets-'))));
  afterEach(() => rmSync(parent, { recursive: true }));

  it('lets only this user enter, and is gone in the end', async () => {
    const directory = await openSocketDirectory(parent);
    const path = dirname(directory.pathOf(0));
    expect(dirname(path)).to.equal(parent);
    expect(statSync(path).mode & 0o777).to.equal(0o700);
    const server = createServer().listen(directory.pathOf(255));
    await once(server, 'listening');
    server.close();
    directory.remove();
    expect(readdirSync(parent)).to.deep.equal([]);
  });

  it('removes those of groups that were killed, and no other', async () => {
    const abandoned = join(parent, 'tokenring-workers-killed');
    const others = ['other', 'tokenring-data', 'tokenring-workers-data'];
    for (const name of others) mkdirSync(join(parent, name));
    mkdirSync(abandoned);
    // A killed process leaves the file of its socket behind.
    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script, join(abandoned, 'group')]);
    expect(existsSync(join(abandoned, 'group'))).to.equal(true);
    const first = await openSocketDirectory(parent);
    const second = await openSocketDirectory(parent);
    expect(existsSync(abandoned)).to.equal(false);
    expect(existsSync(dirname(first.pathOf(0)))).to.equal(true);
    first.remove();
    second.remove();
    expect(readdirSync(parent)).to.have.members(others);
  });

  it('names the limit where the path of a socket would be too long', async () => {
    const long = join(parent, 'x'.repeat(100));
    mkdirSync(long);
    const error = await openSocketDirectory(long).catch((reason: unknown) => reason as Error);
    expect((error as Error).message).to.match(/^the path of a socket in .* bytes, expected at most 10[37]; set TMPDIR/);
  });
});
