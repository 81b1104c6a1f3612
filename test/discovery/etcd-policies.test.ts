import { randomBytes, randomUUID } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import type { StoredPolicies, PolicyWriteResult } from '../../src/membership/registry.js';
import {
  change,
  MAX_ENTRIES,
  NO_DOCUMENT,
  overrideKey,
  tierKey,
  type PolicyDocument,
} from '../../src/policy/policy-document.js';
import { policyKey, type EntryValue } from '../../src/policy/policy-entry.js';
import { EtcdRegistry } from '../../src/membership/discovery/etcd.js';
import { MAX_DOCUMENT_BYTES } from '../../src/membership/discovery/etcd-policies.js';
import { startEtcd, type EtcdCluster } from './etcd-process.js';
import { eventually } from '../support/eventually.js';
import { describeWith } from '../support/programs.js';

const TIMEOUT_MS = 5_000;
type Seen = { registry: string; revision: number; stored: StoredPolicies };

const api = (limit: number, before = NO_DOCUMENT): PolicyDocument =>
  change(before, new Map([[policyKey('api'), { limit, window: '1m' }]]), 'a:1');

async function see(registry: EtcdRegistry): Promise<Seen> {
  const view = await registry.read(TIMEOUT_MS);
  if (view.kind === 'failed') throw new Error(view.reason);
  return view;
}

async function storeAt(registry: EtcdRegistry, document: PolicyDocument, seen?: Seen): Promise<PolicyWriteResult> {
  const { registry: name, stored } = seen ?? (await see(registry));
  return registry.storePolicies(document, { registry: name, revision: stored.revision }, TIMEOUT_MS);
}

const digestOf = (stored: StoredPolicies): string =>
  stored.kind === 'document' ? stored.document.digest : stored.reason;

describeWith('policies in a real etcd', 'etcd', function () {
  this.timeout(30_000);
  let etcd: EtcdCluster;
  let prefix: string;
  let registry: EtcdRegistry;
  const open: EtcdRegistry[] = [];

  function registryAt(endpoints = etcd.endpoints): EtcdRegistry {
    const one = new EtcdRegistry({ endpoints, prefix });
    open.push(one);
    return one;
  }

  async function put(key: string, value: string | Buffer): Promise<void> {
    await etcd.post('/v3/kv/put', {
      key: Buffer.from(prefix + key).toString('base64'),
      value: Buffer.from(value).toString('base64'),
    });
  }

  async function valueOf(key: string): Promise<Buffer> {
    const { kvs } = (await etcd.post('/v3/kv/range', { key: Buffer.from(prefix + key).toString('base64') })) as {
      kvs: { value: string }[];
    };
    return Buffer.from(kvs[0]!.value, 'base64');
  }

  /** The versions that a watch reports, or the reasons why a document is not valid. */
  function watched(after: number): string[] {
    const lines: string[] = [];
    registry.watch(after, {
      changed(_revision, changes) {
        for (const one of changes) {
          if (one.kind !== 'policies') lines.push(one.kind);
          else lines.push(one.stored.kind === 'document' ? String(one.stored.document.version) : one.stored.reason);
        }
      },
      ended: (reason) => lines.push(reason),
    });
    return lines;
  }

  before(async () => {
    etcd = await startEtcd();
    await etcd.ready();
  });
  beforeEach(() => {
    prefix = `/${randomUUID()}/`;
    registry = registryAt();
  });
  afterEach(() => Promise.all(open.splice(0).map((one) => one.close())));
  after(() => etcd.close());

  it('are empty at first, and then the written document at every node', async () => {
    const first = await see(registry);
    expect(first.stored).to.deep.equal({ kind: 'document', revision: 0, document: NO_DOCUMENT });
    const document = api(1);
    const written = await storeAt(registry, document, first);
    expect(written.kind).to.equal('written');
    for (const one of [registry, registry, registryAt()]) {
      const { stored } = await see(one);
      expect(digestOf(stored)).to.equal(document.digest);
      expect(stored.revision).to.equal(written.kind === 'written' && written.revision);
    }
  });

  it('replace only the document that they were made from', async () => {
    const first = await see(registry);
    expect((await storeAt(registry, api(1), first)).kind).to.equal('written');
    expect(await storeAt(registry, api(2), first)).to.deep.equal({ kind: 'overtaken' });
    const second = await see(registry);
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) => storeAt(registryAt(), api(10 + i, api(1)), second)),
    );
    expect(results.filter(({ kind }) => kind === 'written')).to.have.lengthOf(1);
    expect(results.filter(({ kind }) => kind === 'overtaken')).to.have.lengthOf(49);
    expect(await storeAt(registry, api(3), { ...(await see(registry)), registry: 'another' })).to.deep.equal({
      kind: 'overtaken',
    });
    const { stored } = await see(registry);
    expect(stored.kind === 'document' && stored.document.version).to.equal(2);
  });

  it('come through the watch on members, in order, without those of other keys', async () => {
    await storeAt(registry, api(1));
    const { revision } = await see(registry);
    const lines = watched(revision);
    await storeAt(registry, api(2, api(1)));
    await put('nobody/a:1', '{"incarnation":1,"state":"active","version":"1"}');
    await put('policies/more', 'x');
    await put('policies', 'rubbish');
    await etcd.post('/v3/kv/deleterange', { key: Buffer.from(`${prefix}policies`).toString('base64') });
    await eventually(
      () => lines.length,
      (count) => count === 3,
    );
    expect(lines).to.deep.equal(['2', `${prefix}policies: not JSON`, '0']);
    expect((await see(registry)).stored).to.include({ revision: 0, document: NO_DOCUMENT });
  });

  it('are not sent again to a node that has read them', async () => {
    // A document that was not read again is the same object.
    await storeAt(registry, api(1));
    const { stored } = await see(registry);
    await put('members/none', '');
    expect((await see(registry)).stored).to.equal(stored);
    await storeAt(registry, api(2, api(1)));
    expect((await see(registry)).stored).not.to.equal(stored);
  });

  it('are refused as a whole if they are not valid, with the key and the reason', async () => {
    await see(registry);
    const wrong: [value: string | Buffer, reason: string][] = [
      ['', 'not JSON'],
      ['[]', 'format null, expected 1'],
      ['{"version":1,"entries":[]}', 'format null, expected 1'],
      ['{"format":2,"version":1,"entries":[]}', 'format 2, expected 1'],
      ['{"format":1,"version":-1,"entries":[]}', 'no version and entries of policies'],
      ['{"format":1,"version":1,"entries":[["policy api",{"limit":-1,"window":"1m"},1,"a:1"]]}', '"policy api"'],
      ['{"format":1,"version":1,"entries":[["policy api",{"limit":1,"window":"1m"},2,"a:1"]]}', '"policy api"'],
      ['{"format":1,"version":1,"entries":[["surprise",1,1,"a:1"]]}', '"surprise"'],
      [Buffer.from([0x1f, 0x8b, 8]), 'unexpected end'],
      [gzipSync(Buffer.alloc(70 * 1024 * 1024)), 'larger than'],
    ];
    for (const [value, reason] of wrong) {
      await put('policies', value);
      const { stored } = await see(registry);
      expect(stored.kind, reason).to.equal('unreadable');
      expect(digestOf(stored)).to.include(`${prefix}policies: `).and.to.include(reason);
    }
    const seen = await see(registry);
    expect((await storeAt(registry, api(1), seen)).kind).to.equal('written');
  });

  it('can be read with etcdctl while they are few, and are compressed up to the largest document', async () => {
    await storeAt(registry, api(1));
    expect(JSON.parse((await valueOf('policies')).toString())).to.deep.equal({
      format: 1,
      version: 1,
      entries: [['policy api', { limit: 1, window: '1m' }, 1, 'a:1']],
    });
    const { revision } = await see(registry);
    const lines = watched(revision);
    const entries: [string, EntryValue][] = Array.from({ length: MAX_ENTRIES }, (_, i) =>
      i % 2 === 0 ? [tierKey(randomUUID()), 'pro'] : [overrideKey('api', randomUUID()), { limit: i }],
    );
    const document = change(api(1), new Map(entries), '10.0.0.1:9080');
    expect((await storeAt(registry, document)).kind).to.equal('written');
    const value = await valueOf('policies');
    expect(gunzipSync(value).length).to.be.above(MAX_DOCUMENT_BYTES);
    expect(value.length).to.be.below(MAX_DOCUMENT_BYTES);
    expect(digestOf((await see(registryAt())).stored)).to.equal(document.digest);
    await eventually(
      () => lines.length,
      (count) => count === 1,
    );
    expect(lines).to.deep.equal(['2']);
  });

  it('are refused with their size if etcd does not take them, and accepted just below that', async () => {
    // Random text in base64, which gzip compresses only to its random bytes.
    const tiers = (bytes: number): PolicyDocument => {
      const ids = Array.from({ length: Math.floor(bytes / 144) }, () => randomBytes(144).toString('base64'));
      return change(NO_DOCUMENT, new Map(ids.map((id) => [tierKey(id), 'pro'])), 'a:1');
    };
    const fits = tiers(MAX_DOCUMENT_BYTES * 0.93);
    expect((await storeAt(registry, fits)).kind).to.equal('written');
    const bytes = (await valueOf('policies')).length;
    expect(bytes).to.be.within(MAX_DOCUMENT_BYTES * 0.93, MAX_DOCUMENT_BYTES);
    expect(digestOf((await see(registryAt())).stored)).to.equal(fits.digest);
    const result = await storeAt(registry, tiers(MAX_DOCUMENT_BYTES * 1.1));
    expect(result.kind === 'too-large' && result.reason).to.match(/^1[67]\d{5} bytes, at most 1556480$/);
    const small = await startEtcd({ flags: ['--max-request-bytes', '4096'] });
    await small.ready();
    const refused = await storeAt(registryAt(small.endpoints), tiers(100_000));
    await small.close();
    expect(refused.kind === 'too-large' && refused.reason).to.match(/^\d+ bytes, etcdserver: request is too large$/);
  });

  it('may have been written after a failure, unless etcd was not reached', async () => {
    const seen = await see(registry);
    const nobody = await storeAt(registryAt(['http://127.0.0.1:1', 'http://127.0.0.1:2']), api(1), seen);
    expect(nobody).to.include({ kind: 'failed', undone: true });
    expect(nobody.kind === 'failed' && nobody.reason).to.include('ECONNREFUSED');
    const at = { registry: seen.registry, revision: 0 };
    etcd.members[0]!.signal('SIGSTOP');
    const frozen = registryAt([etcd.endpoints[0]!, 'http://127.0.0.1:1']);
    expect(await frozen.storePolicies(api(1), at, 500)).to.include({ kind: 'failed', undone: false });
    etcd.members[0]!.signal('SIGCONT');
  });

  it('may have been written if etcd answers that it is full', async () => {
    const full = await startEtcd({ flags: ['--quota-backend-bytes', String(2 * 1024 * 1024)] });
    try {
      await full.ready();
      const one = registryAt(full.endpoints);
      // Random text, which gzip cannot make smaller.
      const large = (i: number): PolicyDocument => {
        const changes = new Map(
          Array.from({ length: 8_000 }, (_, j) => [`tier ${randomBytes(64).toString('hex')}`, `t${i}.${j}`] as const),
        );
        return change(NO_DOCUMENT, changes, 'a:1');
      };
      let result: PolicyWriteResult = { kind: 'overtaken' };
      for (let i = 0; i < 20 && result.kind !== 'failed'; i += 1) result = await storeAt(one, large(i));
      expect(result).to.include({ kind: 'failed', undone: false });
      expect(result.kind === 'failed' && result.reason).to.include('space exceeded');
    } finally {
      await full.close();
    }
  });

  it('are read anew from another etcd, although its revisions are the same', async () => {
    const both = [await startEtcd(), await startEtcd()];
    try {
      for (const [i, one] of both.entries()) {
        await one.ready();
        expect(await storeAt(registryAt(one.endpoints), api(1 + i))).to.include({ kind: 'written' });
      }
      const one = registryAt(both.flatMap(({ endpoints }) => endpoints));
      const before = await see(one);
      await both[0]!.members[0]!.kill();
      const after = await see(one);
      expect(after.stored.revision).to.equal(before.stored.revision);
      expect(after.registry).not.to.equal(before.registry);
      expect(digestOf(after.stored)).to.equal(api(2).digest);
      // A write that was made from the other one's document is refused.
      expect(await storeAt(one, api(3), before)).to.deep.equal({ kind: 'overtaken' });
    } finally {
      await Promise.all(both.map((one) => one.close()));
    }
  });
});
