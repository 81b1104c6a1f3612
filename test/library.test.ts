import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createNode, TokenringError, type AllowRequest, type Decision, type Node } from '../src/index.js';
import { WITHOUT_POLICIES } from '../src/policy/active-policies.js';
import { LocalLimiter } from '../src/app/local-limiter.js';
import { VERSION } from '../src/lib/version.js';
import { killAll, start } from './e2e/processes.js';
import { deciderOf } from './support/batch.js';
import { errorOf } from './support/error-of.js';

describe('the library', function () {
  this.timeout(60_000);
  let node: Node;
  before(async () => {
    node = await createNode();
  });
  after(async () => {
    await node.close();
    killAll();
  });

  it('says whether a client may', async () => {
    const allowed: boolean[] = [];
    for (let i = 0; i < 4; i += 1) allowed.push(await node.allow('alice', 3, 86_400_000));
    expect(allowed).to.deep.equal([true, true, true, false]);
    expect(await node.allow('alice', 1, '1h')).to.equal(true);
  });

  it('answers the full question in full', async () => {
    const request: AllowRequest = {
      clientId: 'bob',
      limits: [
        { limit: 10, windowMs: 3_600_000 },
        { limit: 99, window: '1d' },
      ],
      cost: 4,
    };
    const decision: Decision = await node.check(request);
    expect(decision).to.include({
      allowed: true,
      limit: 10,
      remaining: 6,
      retryAfterMs: 0,
      source: 'owner',
      degraded: false,
    });
    expect(decision.limits?.map(({ remaining }) => remaining)).to.deep.equal([6, 95]);
    expect((await node.check({ ...request, peek: true })).remaining).to.equal(6);
  });

  it('rejects a bad request with the problem that the API would answer', async () => {
    const wrong: [promise: Promise<unknown>, field: string][] = [
      [node.allow('', 1, 1000), 'clientId'],
      [node.allow('a', -1, 1000), 'limit'],
      [node.allow('a', NaN, 1000), 'limit'],
      // @ts-expect-error: no duration
      [node.allow('a', 1, '1 minute'), 'window'],
      [node.check({ clientId: 'a' }), 'limit'],
      [node.check({ clientId: 'a', limit: 1, window: 1, cost: 0.5 }), 'cost'],
      // @ts-expect-error: the types say so, and so does the node
      [node.check({ clientId: 7, limit: 1, window: 1 }), 'clientId'],
      // @ts-expect-error: there is no such field
      [node.check({ clientId: 'a', limit: 1, window: 1, lmit: 2 }), 'lmit'],
      // @ts-expect-error: there must be a request
      [node.check(), 'body'],
    ];
    for (const [promise, field] of wrong) {
      const error: unknown = await promise.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error, field).to.be.instanceOf(TokenringError);
      expect(error).to.include({ code: 'invalid_request', status: 400, field });
      expect((error as TokenringError).message).to.include(field);
    }
  });

  it('rejects an option that is unknown or not valid, by the rules of the settings', async () => {
    const wrong: [options: object, message: string][] = [
      [{ maxClients: 0 }, 'maxClients: 0 is not valid, expected a whole number from 1 to 16777216'],
      [{ maxClients: 2 ** 24 + 1 }, 'maxClients: 16777217 is not valid, expected a whole number from 1 to 16777216'],
      [{ maxClients: '10' }, "maxClients: '10' is not valid, expected a whole number from 1 to 16777216"],
      ...[0, -1, NaN, Infinity, 1.5, 6, null, [2]].map((replicas): [object, string] => [
        { replicas },
        `replicas: ${Array.isArray(replicas) ? '[ 2 ]' : replicas} is not valid, expected a whole number from 1 to 5`,
      ]),
      [{ peerPort: 65_536 }, 'peerPort: 65536 is not valid, expected a whole number from 0 to 65535'],
      [{ peerHost: 'a b' }, "peerHost: 'a b' is not valid, expected a host name or address"],
      [{ peerHost: '0.0.0.0' }, 'peerHost: "0.0.0.0" is open to others, expected peerSecret with it'],
      [
        { peerHost: '0.0.0.0', peerSecret: '' },
        'peerSecret: the value given is not valid, expected one secret, or up to 4 different ones separated by commas, none of them empty or with white space around it',
      ],
      [{ advertise: 'me' }, "advertise: 'me' is not valid, expected host:port"],
      [{ onUnavailable: 'panic' }, "onUnavailable: 'panic' is not valid, expected local or open or closed"],
      [{ peers: 'a:1' }, "peers: 'a:1' is not valid, expected host:port, several separated by commas"],
      [{ peers: ['a:1', 'b'] }, "peers: [ 'a:1', 'b' ] is not valid, expected host:port, several separated by commas"],
      [{ peers: [''] }, "peers: [ '' ] is not valid, expected host:port, several separated by commas"],
      [{ maxClinets: 10 }, 'maxClinets: there is no such option'],
      // A setting, but none of the library's.
      [{ port: 8080 }, 'port: there is no such option'],
    ];
    for (const [options, message] of wrong) {
      const error: unknown = await createNode(options).catch((reason: unknown) => reason);
      expect(error, message).to.be.instanceOf(TypeError).and.to.have.property('message', message);
    }
    const fine = await createNode({
      peers: [],
      peerPort: 0,
      peerHost: '::1',
      maxClients: 1,
      replicas: 5,
      peerSecret: 's',
    });
    await fine.close();
  });

  it('answers many at once, and an error in the place of each bad one', async () => {
    const results = await node.checkMany([
      { clientId: 'many', limit: 1, window: '1d' },
      { clientId: 'many', limit: -1, window: '1d' },
      { clientId: 'many', limit: 1, window: '1d' },
    ]);
    expect(results[0]).to.include({ allowed: true });
    expect(results[1]).to.be.instanceOf(TokenringError).and.to.include({ field: 'limit', item: 1 });
    expect(results[2]).to.include({ allowed: false });
  });

  it('tells what is left and what was consumed, reserves and settles, and forgets', async () => {
    const { reservation } = await node.reserve({ clientId: 'carol', limit: 10, window: '1d', cost: 8 });
    expect(await node.remaining('carol', 10, '1d')).to.equal(2);
    expect(await node.settle(reservation!, 3)).to.include({ cost: 3, reserved: 8, remaining: 7 });
    const { clientId, buckets } = await node.describe('carol');
    expect([clientId, buckets.map(({ remaining }) => remaining)]).to.deep.equal(['carol', [7]]);
    await node.reset('carol');
    expect(await node.remaining('carol', 10, '1d')).to.equal(10);
    for (const bad of [node.describe(''), node.reset('\ud800')])
      expect(await errorOf(bad)).to.include({ code: 'invalid_request', field: 'clientId' });
    expect(await errorOf(node.settle(reservation!, 3))).to.include({ code: 'unknown_reservation' });
  });

  it('decides by named policies, of an object or of a file', async () => {
    const policies = { policies: { login: { limit: 2, window: '15m' } }, default: 'login' };
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-library-'));
    writeFileSync(join(folder, 'policies.json'), JSON.stringify(policies));
    for (const given of [policies, join(folder, 'policies.json')]) {
      const named = await createNode({ policies: given });
      expect(await named.check({ clientId: 'x', policy: 'login' })).to.include({ allowed: true, limit: 2 });
      expect(await named.check({ clientId: 'x' })).to.include({ allowed: true, remaining: 0 });
      expect(await errorOf(named.check({ clientId: 'x', policy: 'nope' }))).to.include({ code: 'unknown_policy' });
      await named.close();
    }
    rmSync(folder, { recursive: true });
    const without = await createNode();
    expect(await errorOf(without.check({ clientId: 'x', policy: 'login' }))).to.include({
      code: 'unknown_policy',
      detail:
        'policy: "login" is not a policy; use a policy file (TOKENRING_POLICIES, createNode({ policies })) or a PUT, ' +
        'as no policies are loaded',
    });
    await without.close();
    const wrong = { policies: { login: { limit: -1, window: '15m' } } };
    expect(await errorOf(createNode({ policies: wrong })))
      .to.be.instanceOf(TypeError)
      .with.property('message')
      .that.matches(/^policies: the object given is not valid: policies\.login\.limit/);
    expect(await errorOf(createNode({ policies: '/nowhere/policies.json' })))
      .to.be.instanceOf(TypeError)
      .with.property('message')
      .that.matches(/^policies: \/nowhere\/policies\.json cannot be read/);
  });

  it('warns of what policies may not mean, through its log or the process', async () => {
    const policies = { policies: { api: { limit: 5, window: 61 } }, clients: { bob: { tier: 'pro' } } };
    const logged: unknown[] = [];
    const log = {
      info: () => undefined,
      warn: (fields: Record<string, unknown>) => void logged.push(fields['detail']),
    };
    const warned: string[] = [];
    const listener = ({ message }: Error): void => void warned.push(message);
    process.on('warning', listener);
    for (const options of [{ policies, log }, { policies }]) await (await createNode(options)).close();
    await new Promise(setImmediate);
    process.off('warning', listener);
    const expected = [
      'policies.api.window: 61 means 61 milliseconds; for seconds write "61s", otherwise "61ms"',
      'clients.bob.tier: "pro" is not a tier of any policy; ' +
        'use a tier that a policy defines; no policy has tiers yet, so write one first',
    ];
    expect(logged).to.deep.equal(expected);
    expect(warned.map((one) => one.replace(/^.*they say: /, ''))).to.deep.equal(expected);
  });

  it('goes on where it was after a restart with a store', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-library-'));
    const options = { store: `lmdb:${join(folder, 'limits')}` };
    const first = await createNode(options);
    expect(await first.allow('kept', 1, '1d')).to.equal(true);
    await first.close();
    const second = await createNode(options);
    expect(await second.allow('kept', 1, '1d')).to.equal(false);
    await second.close();
    rmSync(folder, { recursive: true });
  });

  it('rejects with `unavailable` instead of denying without an answer of the owner, where that is wanted', async () => {
    const fallback = { limit: 1, remaining: 0, resetMs: 0, owner: 'a:1', source: 'fallback', degraded: true } as const;
    const calls = (throws: boolean, allowed: boolean): LocalLimiter => {
      const decision: Decision = { ...fallback, allowed, retryAfterMs: allowed ? 0 : 1_000, limits: undefined };
      return new LocalLimiter(
        {
          checks: deciderOf(() => decision),
          node: {
            activePolicies: WITHOUT_POLICIES,
            settler: { settle: () => Promise.resolve({ kind: 'unavailable' }) },
            admin: {
              describe: () => Promise.resolve(undefined),
              forget: () => Promise.resolve(false),
            },
          },
        },
        throws ? 'throw' : 'closed',
        { leave: () => Promise.resolve(), close: () => Promise.resolve() },
      );
    };
    expect(await errorOf(calls(true, false).allow('x', 1, '1d'))).to.include({ code: 'unavailable' });
    expect(await calls(true, true).allow('x', 1, '1d')).to.equal(true);
    expect(await calls(false, false).allow('x', 1, '1d')).to.equal(false);
    // What needs other nodes says so, too.
    const { describe: look, reset, settle } = calls(false, true);
    const reservation = `${Buffer.from('x').toString('base64url')}.${'A'.repeat(24)}`;
    for (const failed of [look('x'), reset('x'), settle(reservation, 1)])
      expect(await errorOf(failed)).to.include({ code: 'unavailable' });
  });

  it('keeps its store when it is required from CommonJS', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-library-'));
    const script = join(folder, 'use.cjs');
    writeFileSync(
      script,
      `const { createNode } = require(${JSON.stringify(join(process.cwd(), 'dist/cjs/index.js'))});
      (async () => {
        const node = await createNode({ store: 'lmdb:${join(folder, 'limits')}' });
        console.log(await node.allow('kept', 1, '1d'));
        await node.close();
      })();`,
    );
    const outputs: string[] = [];
    for (let i = 0; i < 2; i += 1) outputs.push((await start([script]).ended).stdout);
    expect(outputs).to.deep.equal(['true\n', 'false\n']);
    rmSync(folder, { recursive: true });
  });

  it('keeps two nodes of one process apart', async () => {
    const [a, b] = await Promise.all([createNode(), createNode({ advertise: 'b:1', maxClients: 10 })]);
    expect(await Promise.all([a.allow('x', 1, '1d'), b.allow('x', 1, '1d')])).to.deep.equal([true, true]);
    expect((await b.check({ clientId: 'x', limit: 1, window: '1d' })).owner).to.equal('b:1');
    await Promise.all([a.close(), b.close()]);
  });

  it('closes once, however often it is told to, and then rejects every call', async () => {
    const closed = await createNode();
    const closing = closed.close();
    expect(closed.close()).to.equal(closing);
    await closing;
    const error: unknown = await closed.allow('a', 1, 1000).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(TokenringError).and.to.include({ code: 'closed' });
  });

  const use = `
    const node = await createNode();
    const answers = [await node.allow('a', 1, 60000), await node.allow('a', 1, '1m')];
    const problem = await node.allow('', 1, 1).catch((error) => error);
    console.log(JSON.stringify([answers, problem instanceof TokenringError, problem.code]));`;
  const printed = '[[true,false],true,"invalid_request"]\n';

  it('is imported as an ES module, and lets its process end though nobody closes it', async () => {
    const code = `import { createNode, TokenringError } from 'tokenring'; ${use}`;
    const { code: exit, stdout, stderr } = await start(['--input-type=module', '-e', code]).ended;
    expect({ exit, stdout, stderr }).to.deep.equal({ exit: 0, stdout: printed, stderr: '' });
  });

  it('is required from CommonJS, and lets its process end though nobody closes it', async () => {
    const code = `const { createNode, TokenringError } = require('tokenring'); (async () => { ${use} })();`;
    const { code: exit, stdout, stderr } = await start(['--input-type=commonjs', '-e', code]).ended;
    expect({ exit, stdout, stderr }).to.deep.equal({ exit: 0, stdout: printed, stderr: '' });
  });

  it('has the version of its package', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(VERSION).to.equal(version);
  });
});
