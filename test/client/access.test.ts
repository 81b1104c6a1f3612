import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createClient, type Client, type ClientOptions, type Decision } from '../../src/client/index.js';
import { ringChecksum } from '../../src/limits/ring/ring.js';
import { digestOf } from '../../src/server/edge/access.js';
import { createAuthority } from '../peer/certificates.js';
import { startTestRing, type TestRing } from '../support/ring.js';
import { startStubNode, type StubNode } from '../support/stub-node.js';
import { need } from '../support/programs.js';

const requests = Array.from({ length: 40 }, (_, i) => ({
  clientId: `client ${i}`,
  limit: 1_000,
  windowMs: 86_400_000,
}));
const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => (error as { code: string }).code,
  );

/** Where decisions come from, once it has had time to learn the ring. */
async function sourcesOf(client: Client): Promise<string[]> {
  let sources: string[] = [];
  for (let tries = 0; tries < 20 && !(sources.length === 1 && sources[0] === 'owner'); tries += 1) {
    const decisions = (await client.checkMany(requests)) as Decision[];
    sources = [...new Set(decisions.map(({ source }) => source))].sort();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return sources;
}

describe('a client of nodes that ask who it is', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-client-'));
  const toClose: { close(): Promise<void> }[] = [];
  after(() => rmSync(folder, { recursive: true }));
  afterEach(async () => {
    for (const one of toClose.splice(0).reverse()) await one.close();
  });
  const start = async (...flags: string[]): Promise<TestRing> => {
    const ring = await startTestRing(2, flags);
    toClose.push(ring);
    return ring;
  };
  const open = (options: ClientOptions): Client => {
    const client = createClient(options);
    toClose.push(client);
    return client;
  };
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  it('shows its token; without the role to read it asks any node', async () => {
    const tokens = [
      { name: 'all', roles: ['decide', 'read'], sha256: digestOf('all').toString('hex') },
      { name: 'decide', roles: ['decide'], sha256: digestOf('decide').toString('hex') },
      { name: 'read', roles: ['read'], sha256: digestOf('read').toString('hex') },
    ];
    const { urls } = await start(
      '--tokens',
      write('tokens.json', JSON.stringify({ require: ['decide', 'read'], tokens })),
    );
    const nodes = urls.slice(0, 1);
    expect(await sourcesOf(open({ nodes, token: 'all' }))).to.deep.equal(['owner']);
    expect(await sourcesOf(open({ nodes, token: 'decide' }))).to.deep.equal(['forwarded', 'owner']);
    expect(await codeOf(open({ nodes, token: 'read' }).allow('a', 1, 1))).to.equal('forbidden');
    expect(await codeOf(open({ nodes, token: 'guess', onUnavailable: 'open' }).allow('a', 1, 1))).to.equal(
      'unauthorized',
    );
    expect(await codeOf(open({ nodes }).describe('a'))).to.equal('unauthorized');
  });

  it('shows its token to no address that a member names before the member has answered there', async () => {
    const names = (members: readonly StubNode[]): object => ({
      self: 'seed:1',
      ringChecksum: ringChecksum(members.map((_, i) => `m${i}:1`)),
      members: members.map(({ url }, i) => ({ id: `m${i}:1`, url, share: 0.5 })),
    });
    const unauthorized = { code: 'unauthorized', status: 401 };
    const stranger = await startStubNode();
    const another = await startStubNode({ cluster: () => ({ ...names([stranger]), self: 'm9:1' }) });
    const guarded = await startStubNode({ guard: unauthorized, cluster: () => ({ ...members, self: 'm2:1' }) });
    const members = names([stranger, another, guarded]);
    const seed = await startStubNode({ cluster: () => members });
    toClose.push(seed, stranger, another, guarded);
    const client = open({ nodes: [seed.url], token: 'hunter2', refreshMs: 100 });
    for (let tries = 0; tries < 100 && guarded.batches.length === 0; tries += 1) {
      await client.checkMany(requests);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(seed.authorizations[0]).to.equal('Bearer hunter2');
    expect(stranger.authorizations.length).to.be.above(0);
    expect(new Set([...stranger.authorizations, ...another.authorizations])).to.deep.equal(new Set([undefined]));
    // It wants a token before it says who it is, as a node does.
    expect(guarded.authorizations.slice(0, 2)).to.deep.equal([undefined, 'Bearer hunter2']);
  });

  it('goes over TLS to all of them, and to nobody whose certificate it has no reason to trust', async function () {
    need(this, 'openssl');
    const authority = createAuthority('public');
    const { cert, key } = authority.issue('DNS:limits.example');
    const { urls } = await start('--tls-cert', write('cert.pem', cert), '--tls-key', write('key.pem', key));
    const nodes = urls.slice(0, 1).map((url) => url.replace('http:', 'https:'));
    const tls = { ca: authority.ca, servername: 'limits.example' };
    expect(await sourcesOf(open({ nodes, tls }))).to.deep.equal(['owner']);
    expect(await codeOf(open({ nodes }).allow('a', 1, 1))).to.equal('no_answer');
    expect(await codeOf(open({ nodes, tls: { ca: authority.ca } }).allow('a', 1, 1))).to.equal('no_answer');
  });
});
