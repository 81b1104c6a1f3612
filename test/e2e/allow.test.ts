import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { liveNode, newClient } from '../support/http.js';
import { killAll, tokenring, type Ended } from './processes.js';

describe('tokenring allow', function () {
  this.timeout(60_000);
  let url: string;
  before(async () => {
    url = `http://127.0.0.1:${(await liveNode()).port}`;
  });
  after(killAll);
  const allow = (...args: string[]): Promise<Ended> => tokenring(['allow', ...args]).ended;

  it('ends with 0 when allowed and with 1 when denied, and prints the decision', async () => {
    const args = [newClient(), '--limit', '1', '--window', '1d', '--url', url];
    const first = await allow(...args);
    expect(first).to.include({ code: 0, stderr: '' });
    expect(JSON.parse(first.stdout)).to.include({ allowed: true, limit: 1, remaining: 0 });
    const second = await allow(...args);
    expect(second).to.include({ code: 1, stderr: '' });
    expect(JSON.parse(second.stdout)).to.include({ allowed: false, limit: 1, remaining: 0 });
  });

  it('passes on what it is asked', async () => {
    const more = ['--window', '86400000', '--burst', '20', '--algorithm', 'token-bucket', '--cost', '15'];
    const { code, stdout } = await allow('--limit', '10', ...more, '--url', url, '--', '-odd client');
    expect(code).to.equal(0);
    expect(JSON.parse(stdout)).to.include({ limit: 10, remaining: 5 });
  });

  it('ends with 1 where the node denies with status 200', async () => {
    const lenient = `http://127.0.0.1:${(await liveNode('--denied-status', '200')).port}`;
    expect(await allow(newClient(), '--limit', '0', '--window', '1d', '--url', lenient)).to.include({ code: 1 });
  });

  it('ends with 2 and one line that says why, for anything that is no decision', async () => {
    const html = await answering('<!doctype html>\n<title>not\na decision</title>', 'text/html');
    const other = await answering('null', 'application/json');
    const question = [newClient(), '--limit', '1', '--window', '1m'];
    const wrong: [args: string[], stderr: string][] = [
      [[...question, '--url', 'http://127.0.0.1:1'], 'does not answer'],
      [[...question, '--url', html.url], html.url],
      [[...question, '--url', other.url], 'null'],
      [[newClient(), '--limit', 'ten', '--window', '1m', '--url', url], '"field":"limit"'],
      [[newClient(), '--limit', '', '--window', '1m', '--url', url], '"field":"limit"'],
      [[newClient(), '--limit', '-1', '--window', '1m', '--url', url], '--limit'],
      [[newClient(), '--limit', '--json', '--window', '1m', '--url', url], '--limit'],
      [['--limit', '1', '--window', '1m', '--url', url], 'CLIENT'],
    ];
    try {
      await Promise.all(
        wrong.map(async ([args, expected]) => {
          const { code, stdout, stderr } = await allow(...args);
          expect({ code, stdout }, stderr).to.deep.equal({ code: 2, stdout: '' });
          expect(stderr)
            .to.include(expected)
            .and.to.match(/^[^\n]+\n$/);
        }),
      );
    } finally {
      html.server.close();
      other.server.close();
    }
  });

  it('asks a node that is named without its scheme', async () => {
    const question = [newClient(), '--limit', '1', '--window', '1d'];
    expect(await allow(...question, '--url', url.replace('http://', ''))).to.include({ code: 0 });
    expect((await allow(...question, '--url', 'ftp://x')).stderr).to.match(
      /^tokenring: --url: "ftp:\/\/x" is not valid[^\n]*\n$/,
    );
  });

  it('shows the token of the environment, which another command has made', async () => {
    const made = await tokenring(['token', 'shop', 'decide', 'read']).ended;
    expect(made).to.include({ code: 0, stderr: '' });
    const [, token, entry] = /^token: (\S{46})\nentry: (\{.*\})\n$/.exec(made.stdout)!;
    expect(entry).not.to.include(token);
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-token-'));
    const path = join(folder, 'tokens.json');
    writeFileSync(path, `{"require":["decide","read"],"tokens":[${entry!}]}`);
    const guarded = `http://127.0.0.1:${(await liveNode('--tokens', path)).port}`;
    const question = ['allow', newClient(), '--limit', '1', '--window', '1d', '--url', guarded];
    const shown = { TOKENRING_TOKEN: token! };
    expect(await tokenring(question).ended).to.include({ code: 2 });
    expect(await tokenring(question, shown).ended).to.include({ code: 0 });
    expect(await tokenring(['status', '--url', guarded]).ended).to.include({ code: 2, stdout: '' });
    expect(await tokenring(['status', '--url', guarded], shown).ended).to.include({ code: 0 });
    const bad = await tokenring(question, { TOKENRING_TOKEN: 'hunter2 x' }).ended;
    expect(bad).to.include({ code: 2 });
    expect(bad.stderr).to.include('TOKENRING_TOKEN').and.not.to.include('hunter2');
    for (const args of [[], ['a'], ['a', 'root'], ['a b', 'read']]) {
      expect(await tokenring(['token', ...args]).ended, args.join(' ')).to.include({ code: 2, stdout: '' });
    }
    rmSync(folder, { recursive: true });
  });
});

/** A server that takes every question, and has one answer. */
async function answering(body: string, type: string): Promise<{ server: Server; url: string }> {
  const server = createServer((_req, res) =>
    res.writeHead(200, { 'content-type': type, connection: 'close' }).end(body),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}
