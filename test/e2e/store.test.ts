import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { createAuthority } from '../peer/certificates.js';
import { freePort } from '../support/ports.js';
import { startValkey, type Valkey } from '../support/valkey.js';
import { killAll, tokenring, type Program } from './processes.js';
import { describeWith } from '../support/programs.js';

describe('tokenring serve with a store', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-store-'));
  afterEach(killAll);
  after(() => rmSync(folder, { recursive: true, force: true }));

  async function serve(
    path: string,
    peerPort: number,
    ...flags: string[]
  ): Promise<Program & { readonly port: number }> {
    const fixed = ['--port', '0', '--peer-port', String(peerPort), '--store', `lmdb:${path}`, '--policies', 'none'];
    const program = tokenring(['serve', ...fixed, ...flags]);
    const { port } = await program.line('tokenring ready');
    return { ...program, port: port as number };
  }

  function listens(port: number): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
      socket.unref().once('connect', () => socket.destroy());
    });
  }

  async function allowed(port: number, clientId: string): Promise<boolean> {
    const response = await fetch(`http://127.0.0.1:${port}/v1/allow`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ clientId, limit: 5, window: '1d' }),
    });
    return ((await response.json()) as { allowed: boolean }).allowed;
  }

  for (const workers of [1, 2]) {
    it(`goes on where it was after a -KILL, with ${workers === 1 ? 'one worker' : 'two workers that share the file'}`, async () => {
      const path = join(folder, `killed-${workers}`);
      const peerPort = await freePort();
      const clients = Array.from({ length: 20 }, (_, i) => `client ${i}`);
      const first = await serve(path, peerPort, '--workers', String(workers));
      for (const client of clients)
        for (let i = 0; i < 5; i += 1) expect(await allowed(first.port, client)).to.equal(true);
      await sleep(1_500);
      first.child.kill('SIGKILL');
      await first.ended;
      // Workers end when they find their supervisor gone: a moment later.
      for (let i = 0; i < workers; i += 1) while (await listens(peerPort + i)) await sleep(20);
      const second = await serve(path, peerPort, '--workers', String(workers));
      for (const client of clients) expect(await allowed(second.port, client), client).to.equal(false);
      expect(await allowed(second.port, 'another')).to.equal(true);
      second.child.kill('SIGTERM');
      expect((await second.ended).code).to.equal(0);
    });
  }

  it('writes its last when it is stopped', async () => {
    const path = join(folder, 'stopped');
    const first = await serve(path, 0, '--store-interval-ms', '60000');
    for (let i = 0; i < 5; i += 1) expect(await allowed(first.port, 'alice')).to.equal(true);
    first.child.kill('SIGTERM');
    expect((await first.ended).code).to.equal(0);
    const second = await serve(path, 0);
    expect(await allowed(second.port, 'alice')).to.equal(false);
  });

  it('of another version ends with 2, and one line that says so', async () => {
    const path = join(folder, 'other');
    const script = `
      import { open } from 'lmdb';
      const db = open({ path: ${JSON.stringify(path)}, noSubdir: true, encoding: 'binary', keyEncoding: 'binary' });
      db.putSync(Buffer.from([0]), Buffer.from('{"tokenring":4}'));
      await db.close();`;
    expect(spawnSync(process.execPath, ['--input-type=module', '-e', script]).status).to.equal(0);
    const { code, stderr } = await tokenring(['serve', '--port', '0', '--peer-port', '0', '--store', `lmdb:${path}`])
      .ended;
    expect(code).to.equal(2);
    expect(stderr).to.equal(
      `tokenring: TOKENRING_STORE: ${path} has format 4, and this version reads 3; move it away to begin a new one\n`,
    );
  });

  it('does not show the password of an address that is not valid', async () => {
    const { code, stderr } = await tokenring(['serve', '--store', 'redis://me:hunter2@/']).ended;
    expect(code).to.equal(2);
    expect(stderr).to.include('--store').and.to.include('redis://HOST').and.not.to.include('hunter2');
  });

  it('starts, and decides, though nobody listens at its address', async () => {
    const port = await freePort();
    const program = tokenring(['serve', '--port', '0', '--peer-port', '0', '--store', `redis://127.0.0.1:${port}`]);
    const ready = await program.line('tokenring ready');
    expect(await allowed(ready['port'] as number, 'alice')).to.equal(true);
    const failed = await program.line('the store failed; deciding without it, changes wait');
    expect(failed['level']).to.equal(40);
    program.child.kill('SIGTERM');
    expect((await program.ended).code).to.equal(0);
  });
});

/** Speaks TLS in front of a server on loopback that does not. */
async function terminateTls(
  certificate: { readonly cert: string; readonly key: string },
  to: number,
): Promise<{ readonly port: number; close(): void }> {
  const open = new Set<TLSSocket>();
  const server = createTlsServer(certificate, (near) => {
    const far = connect(to, '127.0.0.1');
    open.add(near);
    near.on('error', () => far.destroy()).on('close', () => open.delete(near));
    far.on('error', () => near.destroy());
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

describeWith('tokenring serve with a Valkey', 'valkey-server', function () {
  let valkey: Valkey | undefined;
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-valkey-store-'));
  afterEach(async () => {
    killAll();
    await valkey?.remove();
    valkey = undefined;
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  async function serve(store: string, env: Record<string, string> = {}): Promise<Program & { readonly port: number }> {
    const program = tokenring(
      ['serve', '--port', '0', '--peer-port', '0', '--policies', 'none', '--store', store],
      env,
    );
    const { port } = await program.line('tokenring ready');
    return { ...program, port: port as number };
  }

  async function allowed(port: number, clientId: string): Promise<boolean> {
    const response = await fetch(`http://127.0.0.1:${port}/v1/allow`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ clientId, limit: 5, window: '1d' }),
    });
    return ((await response.json()) as { allowed: boolean }).allowed;
  }

  async function metric(port: number, name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)![1]);
  }

  async function until(port: number, name: string, value: number): Promise<void> {
    for (let tries = 0; tries < 400; tries += 1) {
      if ((await metric(port, name)) === value) return;
      await sleep(25);
    }
    throw new Error(`${name} does not become ${value}`);
  }

  it('decides while that hangs, and writes what changed meanwhile once it goes on', async function () {
    this.timeout(40_000);
    valkey = await startValkey();
    const node = await serve(valkey.url);
    expect(await allowed(node.port, 'before')).to.equal(true);
    await until(node.port, 'tokenring_store_written_clients_total', 1);
    valkey.signal('SIGSTOP');
    const tookMs: number[] = [];
    for (let i = 0; i < 60; i += 1) {
      const sentMs = performance.now();
      expect(await allowed(node.port, `client ${i % 12}`)).to.equal(true);
      tookMs.push(performance.now() - sentMs);
      await sleep(50);
    }
    // Far below the second that a command may take.
    expect(tookMs.sort((a, b) => a - b)[54]).to.be.below(300);
    await until(node.port, 'tokenring_store_up', 0);
    valkey.signal('SIGCONT');
    await until(node.port, 'tokenring_store_up', 1);
    await until(node.port, 'tokenring_store_waiting_clients', 0);
    node.child.kill('SIGKILL');
    await node.ended;
    const again = await serve(valkey.url);
    for (let i = 0; i < 12; i += 1) expect(await allowed(again.port, `client ${i}`), `client ${i}`).to.equal(false);
    expect(await allowed(again.port, 'before')).to.equal(true);
  });

  it('reaches it over TLS, where it knows who vouches for it', async function () {
    this.timeout(40_000);
    const authority = createAuthority('tokenring test');
    const { cert, key } = authority.issue('IP:127.0.0.1,DNS:localhost');
    const ca = join(folder, 'ca.pem');
    writeFileSync(ca, authority.ca);
    valkey = await startValkey();
    // Whether or not a server was built with it.
    const terminator = await terminateTls({ cert, key }, valkey.port);
    const { port } = terminator;
    const node = await serve(`rediss://127.0.0.1:${port}`, { NODE_EXTRA_CA_CERTS: ca });
    expect(await allowed(node.port, 'alice')).to.equal(true);
    await until(node.port, 'tokenring_store_written_clients_total', 1);
    expect(await metric(node.port, 'tokenring_store_up')).to.equal(1);
    const stranger = await serve(`rediss://127.0.0.1:${port}`);
    expect(await allowed(stranger.port, 'alice')).to.equal(true);
    await until(stranger.port, 'tokenring_store_up', 0);
    expect(await metric(stranger.port, 'tokenring_store_written_clients_total')).to.equal(0);
    const { reason } = await stranger.line('the store failed; deciding without it, changes wait');
    expect(reason).to.match(/certificate/);
    terminator.close();
  });
});
