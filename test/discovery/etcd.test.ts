import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { Change, Registration, Registry } from '../../src/membership/registry.js';
import { EtcdRegistry, type EtcdRegistryOptions } from '../../src/membership/discovery/etcd.js';
import { createAuthority } from '../peer/certificates.js';
import { startEtcd, type EtcdCluster } from './etcd-process.js';
import { eventually } from '../support/eventually.js';
import { describeWith } from '../support/programs.js';

const TIMEOUT_MS = 2_000;
const FREE = { ownLaterThan: Number.MAX_SAFE_INTEGER - 1, anyLaterThan: undefined };
const entry = (id: string, incarnation = 1, state: Registration['state'] = 'active'): Registration => ({
  id,
  incarnation,
  state,
  version: '1.2.3',
  url: 'http://10.0.0.1:8080',
});

/** Everything that a watch reports, as lines. */
function record(registry: Registry, after: number): { lines: string[]; stop: () => void } {
  const lines: string[] = [];
  const tell = (change: Change): string => {
    switch (change.kind) {
      case 'is':
        return `${change.entry.id} ${change.entry.state}`;
      case 'gone':
        return `${change.id} gone`;
      case 'policies':
        return change.stored.kind === 'document' ? `policies ${change.stored.document.version}` : change.stored.reason;
    }
  };
  const stop = registry.watch(after, {
    changed: (revision, changes) => lines.push(`${revision - after}: ${changes.map(tell).join(', ')}`),
    ended: (reason) => lines.push(reason),
  });
  return { lines, stop };
}

async function viewOf(registry: Registry): Promise<{ name: string; revision: number; ids: readonly string[] }> {
  const view = await registry.read(TIMEOUT_MS);
  if (view.kind !== 'view') throw new Error(view.reason);
  return { name: view.registry, revision: view.revision, ids: view.entries.map(({ id }) => id) };
}

async function leaseOf(registry: Registry, ttlMs = 5_000): Promise<string> {
  const granted = await registry.grant(ttlMs, TIMEOUT_MS);
  if (granted.kind !== 'granted') throw new Error(granted.reason);
  return granted.leaseId;
}

describeWith('the registry in a real etcd', 'etcd', function () {
  this.timeout(30_000);
  let etcd: EtcdCluster;
  const open: { close(): Promise<void> }[] = [];
  let prefixes = 0;

  function registryAt(options: Partial<EtcdRegistryOptions> = {}): Registry {
    const registry = new EtcdRegistry({ endpoints: etcd.endpoints, prefix: `/t${(prefixes += 1)}/`, ...options });
    open.push(registry);
    return registry;
  }

  before(async () => {
    etcd = await startEtcd({ size: 3 });
    await etcd.ready();
  });
  afterEach(() => Promise.all(open.splice(0).map((one) => one.close())));
  after(() => etcd.close());

  it('has one name, and the written members until their lease ends', async () => {
    const registry = registryAt();
    const empty = await viewOf(registry);
    expect(empty.ids).to.deep.equal([]);
    const leaseId = await leaseOf(registry);
    expect(await registry.write(leaseId, entry('10.0.0.1:9080'), FREE, TIMEOUT_MS)).to.include({ kind: 'written' });
    expect(await registry.write(leaseId, entry('[fd00::1]:9080'), FREE, TIMEOUT_MS)).to.include({ kind: 'written' });
    const view = await viewOf(registry);
    expect(view.ids).to.have.members(['10.0.0.1:9080', '[fd00::1]:9080']);
    expect(view.name).to.equal(empty.name);
    expect(view.revision).to.be.above(empty.revision);
    await registry.revoke(leaseId, TIMEOUT_MS);
    expect((await viewOf(registry)).ids).to.deep.equal([]);
    expect(await registry.renew(leaseId, TIMEOUT_MS)).to.deep.equal({ kind: 'ended' });
    expect(await registry.write(leaseId, entry('a:1'), FREE, TIMEOUT_MS)).to.deep.equal({ kind: 'ended' });
  });

  it('keeps a lease for as long as it is renewed', async () => {
    const registry = registryAt();
    const leaseId = await leaseOf(registry, 2_000);
    await registry.write(leaseId, entry('a:1'), FREE, TIMEOUT_MS);
    for (let i = 0; i < 6; i += 1) {
      expect(await registry.renew(leaseId, TIMEOUT_MS)).to.include({ kind: 'renewed', ttlMs: 2_000 });
      await sleep(500);
    }
    expect((await viewOf(registry)).ids).to.deep.equal(['a:1']);
    const gone = await eventually(
      () => viewOf(registry),
      ({ ids }) => ids.length === 0,
    );
    expect(gone.ids).to.deep.equal([]);
  });

  it('writes nothing if another write came in between', async () => {
    const registry = registryAt();
    const leaseId = await leaseOf(registry);
    const before = await viewOf(registry);
    await registry.write(leaseId, entry('a:1'), FREE, TIMEOUT_MS);
    const stale = { ownLaterThan: before.revision, anyLaterThan: undefined };
    expect(await registry.write(leaseId, entry('a:1', 2), stale, TIMEOUT_MS)).to.deep.equal({ kind: 'overtaken' });
    expect(await registry.write(leaseId, entry('b:1'), stale, TIMEOUT_MS)).to.include({ kind: 'written' });
    const sole = { ownLaterThan: before.revision, anyLaterThan: before.revision };
    expect(await registry.write(leaseId, entry('c:1'), sole, TIMEOUT_MS)).to.deep.equal({ kind: 'overtaken' });
    const { revision, ids } = await viewOf(registry);
    expect(ids).to.have.members(['a:1', 'b:1']);
    const now = { ownLaterThan: revision, anyLaterThan: revision };
    expect(await registry.write(leaseId, entry('c:1'), now, TIMEOUT_MS)).to.include({ kind: 'written' });
  });

  it('reports every change after a revision in order, including those before the watch began', async () => {
    const registry = registryAt();
    const { revision } = await viewOf(registry);
    const leaseId = await leaseOf(registry);
    await registry.write(leaseId, entry('a:1', 1, 'joining'), FREE, TIMEOUT_MS);
    const { lines, stop } = record(registry, revision);
    await registry.write(leaseId, entry('a:1'), FREE, TIMEOUT_MS);
    await registry.revoke(leaseId, TIMEOUT_MS);
    await eventually(
      () => lines.length,
      (count) => count === 3,
    );
    stop();
    expect(lines).to.deep.equal(['1: a:1 joining', '2: a:1 active', '3: a:1 gone']);
  });

  it('ends a watch from a revision that was compacted', async () => {
    const registry = registryAt();
    const { revision } = await viewOf(registry);
    const leaseId = await leaseOf(registry);
    for (const id of ['a:1', 'b:1', 'c:1']) await registry.write(leaseId, entry(id), FREE, TIMEOUT_MS);
    const latest = await viewOf(registry);
    await etcd.post('/v3/kv/compaction', { revision: String(latest.revision) });
    const { lines } = record(registry, revision);
    await eventually(
      () => lines.length,
      (count) => count === 1,
    );
    expect(lines).to.deep.equal(['compacted']);
  });

  it('skips entries that no node has written', async () => {
    const registry = registryAt({ prefix: '/odd/' });
    const leaseId = await leaseOf(registry);
    await registry.write(leaseId, entry('a:1'), FREE, TIMEOUT_MS);
    const { revision } = await viewOf(registry);
    const { lines } = record(registry, revision);
    const put = (key: string, value: string): Promise<unknown> =>
      etcd.post('/v3/kv/put', { key: btoa(`/odd/members/${key}`), value: btoa(value) });
    await put('b:1', 'no JSON');
    await put('c:1', '{"incarnation":0,"state":"active","version":"1"}');
    await put('http://evil/x', '{"incarnation":1,"state":"active","version":"1"}');
    await eventually(
      () => lines.length,
      (count) => count >= 3,
    );
    expect(lines.join()).not.to.include('active');
    expect((await viewOf(registry)).ids).to.deep.equal(['a:1']);
  });

  it('asks and watches another member of etcd if one is dead, refuses, or is frozen', async () => {
    const registry = registryAt();
    const leaseId = await leaseOf(registry);
    const { revision } = await viewOf(registry);
    const { lines } = record(registry, revision);
    await sleep(100);
    // The registry asks the first member first. The other two elect a leader if it was the first.
    etcd.members[0]!.signal('SIGSTOP');
    const renewed = await eventually(
      () => registry.renew(leaseId, 1_000),
      ({ kind }) => kind === 'renewed',
    );
    expect(renewed.kind).to.equal('renewed');
    await eventually(
      () => lines.length,
      (count) => count === 1,
    );
    expect(lines).to.deep.equal(['broken']);
    etcd.members[0]!.signal('SIGCONT');
    await eventually(
      () => viewOf(registry).catch(() => undefined),
      (view) => view !== undefined,
    );
    await etcd.members[1]!.kill();
    await eventually(
      () => registry.renew(leaseId, 1_000),
      ({ kind }) => kind === 'renewed',
    );
    expect((await registry.write(leaseId, entry('a:1'), FREE, TIMEOUT_MS)).kind).to.equal('written');
    etcd.members[1]!.restart();
    await etcd.ready();
  });

  it('fails in time if no member of etcd answers', async () => {
    const registry = registryAt({ endpoints: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] });
    const startedMs = performance.now();
    expect((await registry.read(1_000)).kind).to.equal('failed');
    expect((await registry.renew('1', 1_000)).kind).to.equal('failed');
    expect(performance.now() - startedMs).to.be.below(1_000);
    const { lines } = record(registry, 1);
    await eventually(
      () => lines.length,
      (count) => count === 1,
    );
    expect(lines).to.deep.equal(['broken']);
  });
});

describeWith('the registry in a real etcd with TLS and users', ['etcd', 'openssl'], function () {
  this.timeout(30_000);
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-etcd-tls-'));
  let etcd: EtcdCluster | undefined;
  const user = { name: 'tokenring', password: 'only of this test' };

  after(async () => {
    await etcd?.close();
    rmSync(folder, { recursive: true });
  });

  it('shows its certificate, logs in, and logs in again once its token is not valid any more', async () => {
    const authority = createAuthority('etcd');
    // With users, etcd's gateway refuses certificates with a common name.
    const { cert, key } = authority.issue('IP:127.0.0.1', '/O=tokenring');
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const tls = ['--cert-file', file('cert', cert), '--key-file', file('key', key)];
    const mutual = ['--trusted-ca-file', file('ca', authority.ca), '--client-cert-auth'];
    etcd = await startEtcd({ scheme: 'https', flags: [...tls, ...mutual, '--auth-token-ttl', '2'] });
    const { endpoints } = etcd;
    const options = { endpoints, prefix: '/tokenring/', tls: { ca: authority.ca, cert, key } };
    const root = new EtcdRegistry(options);
    await eventually(
      () => root.read(500),
      ({ kind }) => kind === 'view',
    );
    const { Agent, request } = await import('undici');
    const dispatcher = new Agent({ connect: options.tls });
    const admin = async (path: string, body: object): Promise<void> => {
      const { statusCode, body: said } = await request(endpoints[0]! + path, {
        method: 'POST',
        body: JSON.stringify(body),
        dispatcher,
      });
      expect(statusCode, await said.text()).to.equal(200);
    };
    await admin('/v3/auth/user/add', { name: 'root', password: 'root' });
    await admin('/v3/auth/user/grant', { user: 'root', role: 'root' });
    await admin('/v3/auth/role/add', { name: 'members' });
    const range = { key: btoa('/tokenring/'), range_end: btoa('/tokenring0') };
    await admin('/v3/auth/role/grant', { name: 'members', perm: { permType: 'READWRITE', ...range } });
    await admin('/v3/auth/user/add', user);
    await admin('/v3/auth/user/grant', { user: user.name, role: 'members' });
    await admin('/v3/auth/enable', {});
    await dispatcher.close();

    expect(await root.read(TIMEOUT_MS)).to.include({ kind: 'failed' });
    await root.close();
    const wrong = new EtcdRegistry({ ...options, user: { ...user, password: 'wrong' } });
    expect(await wrong.read(TIMEOUT_MS)).to.include({ kind: 'failed' });
    await wrong.close();
    const named = new EtcdRegistry({ ...options, user, tls: { ca: authority.ca, ...authority.issue('DNS:x') } });
    const refused = await named.read(TIMEOUT_MS);
    expect(refused.kind === 'failed' && refused.reason).to.include('CommonName');
    await named.close();
    const registry = new EtcdRegistry({ ...options, user });
    const leaseId = await leaseOf(registry, 60_000);
    expect((await registry.write(leaseId, entry('a:1'), FREE, TIMEOUT_MS)).kind).to.equal('written');
    // Longer than the lifetime of a token.
    await sleep(4_000);
    expect((await registry.renew(leaseId, TIMEOUT_MS)).kind).to.equal('renewed');
    const { revision, ids } = await viewOf(registry);
    expect(ids).to.deep.equal(['a:1']);
    const { lines } = record(registry, revision);
    await registry.revoke(leaseId, TIMEOUT_MS);
    await eventually(
      () => lines.length,
      (count) => count === 1,
    );
    expect(lines).to.deep.equal(['1: a:1 gone']);
    const plain = new EtcdRegistry({ endpoints, prefix: '/tokenring/', user, tls: { ca: authority.ca } });
    expect(await plain.read(TIMEOUT_MS)).to.include({ kind: 'failed' });
    await Promise.all([registry.close(), plain.close()]);
  });
});
