import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { documented } from './documented.js';
import { sendFrom, startDocumentedNginx, startLimiter, startService, type Gateway, type Service } from './stage.js';
import { describeWith } from '../support/programs.js';

async function askFrom(address: string, port: number, path = '/'): Promise<number> {
  const answer = await sendFrom(address, port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  return Number(answer.slice(9, 12));
}

describeWith('nginx, as docs/gateways.md configures it', 'nginx', function () {
  let node: RunningNode;
  let service: Service;
  let gateway: Gateway;
  before(async () => {
    node = await startLimiter({ api: { limit: 3, window: '1d' }, ample: { limit: 1_000, window: '1d' } });
    service = await startService();
    gateway = await startDocumentedNginx([node, node], service);
  });
  after(async () => {
    await gateway.daemon.remove();
    await service.stop();
    await node.stop();
  });

  it('limits each address by itself, and no caller reaches the address of the check', async () => {
    const answers: number[] = [];
    for (let i = 0; i < 4; i += 1) answers.push(await askFrom('127.0.0.2', gateway.port));
    expect(answers).to.deep.equal([200, 200, 200, 429]);
    expect((await allow(node, { clientId: '127.0.0.2', policy: 'api', peek: true })).allowed).to.equal(false);
    expect(await askFrom('127.0.0.3', gateway.port)).to.equal(200);
    for (const path of ['/_tokenring', '/%5ftokenring', '//_tokenring', '/x/../_tokenring', '/_tokenring?x'])
      expect(await askFrom('127.0.0.3', gateway.port, path), path).to.equal(404);
  });

  /** Runs the documented nginx with some of it changed, for as long as it is used. */
  async function withNginx<T>(
    nodes: readonly [{ port: number }, { port: number }],
    changes: readonly [from: string, to: string][],
    use: (gateway: Gateway) => Promise<T>,
  ): Promise<T> {
    const other = await startDocumentedNginx(nodes, service, ...changes);
    try {
      return await use(other);
    } finally {
      await other.daemon.remove();
    }
  }
  const statusesOf = async (other: Gateway, count: number): Promise<number[]> => {
    const statuses: number[] = [];
    while (statuses.length < count) statuses.push((await call(other, '/')).status);
    return statuses;
  };

  it('keeps its connections to the node, as an answer to nginx has no body', async () => {
    let connections = 0;
    const tap = createServer((socket) => {
      connections += 1;
      const on = connect(node.port, '127.0.0.1');
      socket.pipe(on).pipe(socket);
      socket.on('error', () => on.destroy());
      on.on('error', () => socket.destroy());
    });
    const port = await freePort();
    await new Promise<void>((resolve) => tap.listen(port, '127.0.0.1', resolve));
    const statuses = await withNginx([{ port }, { port }], [['$remote_addr', 'tapped']], (other) =>
      statusesOf(other, 20),
    );
    tap.close();
    expect(statuses).to.deep.equal([200, 200, 200, ...Array.from({ length: 17 }, () => 429)]);
    expect(connections).to.be.at.most(2);
  });

  it('answers a denial of its own 403 all the same, and mistakes in the headers 500, with a word in its log', async () => {
    await withNginx([node, node], [['auth_request /_tokenring;', 'deny all;']], async (other) => {
      expect(await statusesOf(other, 1)).to.deep.equal([403]);
    });
    await withNginx([node, node], [['Policy api;', 'Policy no-such;']], async (other) => {
      expect(await statusesOf(other, 1)).to.deep.equal([500]);
      expect(other.daemon.said()).to.include('auth request unexpected status: 400');
    });
  });

  it('shows its token, and without one answers 500, not 401', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
    const tokens = join(folder, 'tokens.json');
    writeFileSync(tokens, JSON.stringify({ require: ['decide'], tokens: [] }));
    const guarded = await startLimiter({ api: { limit: 3, window: '1d' } }, '--tokens', tokens);
    try {
      await withNginx([guarded, guarded], [], async (other) => {
        const { status, headers } = await call(other, '/');
        expect(status).to.equal(500);
        expect(headers).not.to.have.property('www-authenticate');
      });
      const shown = 'proxy_set_header Authorization "Bearer the-admin-token";';
      await withNginx([guarded, guarded], [['# proxy_set_header Authorization "Bearer …";', shown]], async (other) => {
        expect(await statusesOf(other, 1)).to.deep.equal([200]);
      });
    } finally {
      rmSync(folder, { recursive: true });
      await guarded.stop();
    }
  });

  it('asks the next node where one is gone, and without any lets nothing pass, or all, as it is told', async () => {
    const gone = { port: await freePort() };
    await withNginx([gone, node], [['Policy api;', 'Policy ample;']], async (other) => {
      expect(await statusesOf(other, 4)).to.deep.equal([200, 200, 200, 200]);
    });
    await withNginx([gone, gone], [], async (other) => {
      expect(await statusesOf(other, 1)).to.deep.equal([500]);
    });
    const [, inCheck, inServer] = documented('nginx') as [string, string, string];
    const open: [string, string][] = [
      ['internal;', `internal;\n${inCheck}`],
      ['location @limited {', `${inServer}\nlocation @limited {`],
    ];
    await withNginx([gone, gone], open, async (other) => {
      expect(await statusesOf(other, 1)).to.deep.equal([200]);
    });
    await withNginx([node, node], [...open, ['$remote_addr', 'limited-all-the-same']], async (other) => {
      expect(await statusesOf(other, 4)).to.deep.equal([200, 200, 200, 429]);
    });
    await withNginx([node, node], [...open, ['Policy api;', 'Policy no-such;']], async (other) => {
      expect(await statusesOf(other, 1)).to.deep.equal([500]);
    });
  });
});
