import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import {
  LoadSchema,
  OverrideSchema,
  PolicyListSchema,
  PolicySchema,
  TierSchema,
} from '../../src/server/validate/policy-schema.js';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings, SettingsError } from '../../src/app/settings/settings.js';
import {
  allow,
  call,
  decisionOf,
  expectProblem,
  expectShape,
  liveNode,
  newClient,
  post,
  type Answer,
} from '../support/http.js';
import { freePort } from '../support/ports.js';

const TOKEN = 'the-admin-token';

function request(
  node: { port: number },
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const json = body === undefined ? {} : { 'content-type': 'application/json' };
  const sent = { method, headers: { authorization: `Bearer ${TOKEN}`, ...json, ...headers } };
  return call(node, path, body === undefined ? sent : { ...sent, body: JSON.stringify(body) });
}

const versionOf = ({ json }: Answer): number => (json as { version: number }).version;

describe('/v1/policies', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode('--admin-token', TOKEN);
  });
  const put = (name: string, policy: unknown, headers?: Record<string, string>): Promise<Answer> =>
    request(node, 'PUT', `/v1/policies/${name}`, policy, headers);
  async function putGood(name: string, policy: object): Promise<number> {
    const answer = await put(name, policy);
    expect(answer.status, answer.text).to.equal(200);
    expectShape(PolicySchema, answer.json);
    return versionOf(answer);
  }

  it('keeps a policy as it was written, and counts the version up with each change', async () => {
    const policy = {
      limits: [
        { limit: 5, window: '1m' },
        { limit: 9, windowMs: 1000 },
      ],
      shadow: false,
    };
    const version = await putGood('kept', policy);
    const read = await call(node, '/v1/policies/kept');
    expect(read.status).to.equal(200);
    expect(read.json).to.deep.equal({ name: 'kept', ...policy, version });
    expect(await putGood('kept', read.json as object)).to.equal(version);
    expect(await putGood('kept', { limit: 1, window: 5 })).to.equal(version + 1);
    const list = await call(node, '/v1/policies');
    expectShape(PolicyListSchema, list.json);
    expect(list.json).to.deep.include({ version: version + 1 });
    expect((list.json as { policies: object }).policies)
      .to.have.property('kept')
      .that.deep.equals({ limit: 1, window: 5 });
    const gone = await request(node, 'DELETE', '/v1/policies/kept');
    expect(gone.status).to.equal(200);
    expect(versionOf(gone)).to.equal(version + 2);
    expectProblem(await call(node, '/v1/policies/kept'), 'not_found');
    expectProblem(await request(node, 'DELETE', '/v1/policies/kept'), 'not_found');
  });

  it('deletes a policy that was asked for in the last hour only by force, and says how it is used', async () => {
    await putGood('used', { limit: 5, window: '1m' });
    for (let i = 0; i < 2; i += 1) await allow(node, { clientId: newClient(), policy: 'used' });
    const refused = await request(node, 'DELETE', '/v1/policies/used');
    expectProblem(refused, 'policy_in_use');
    expect(refused.status).to.equal(409);
    expect((refused.json as { detail: string }).detail).to.match(
      /^used: 2 requests in the last hour, the last \d+ s ago; to delete it nevertheless, send DELETE with \?force=true$/,
    );
    expectProblem(await request(node, 'DELETE', '/v1/policies/used?force=yes'), 'invalid_request', 'force');
    expectProblem(await request(node, 'DELETE', '/v1/policies/used?force=false'), 'policy_in_use');
    expect((await allow(node, { clientId: newClient(), policy: 'used' })).limit).to.equal(5);
    expect((await request(node, 'DELETE', '/v1/policies/used?force=true')).status).to.equal(200);
  });

  it('warns of windows without a unit that may be meant in seconds, and takes them', async () => {
    const single = await put('hasty', { limit: 5, window: 60 });
    expect(single.json).to.deep.include({
      window: 60,
      warnings: ['window: 60 means 60 milliseconds; for seconds write "60s", otherwise "60ms"'],
    });
    expectShape(PolicySchema, single.json);
    expect((await put('hasty', single.json)).json).to.have.property('warnings');
    expect((await call(node, '/v1/policies/hasty')).json).not.to.have.property('warnings');
    const tiers = {
      free: {
        limits: [
          { limit: 1, window: '1m' },
          { limit: 9, window: 999 },
        ],
      },
      pro: { limit: 5, window: 1_000 },
    };
    expect((await put('hasty', { tiers, defaultTier: 'free' })).json)
      .to.have.property('warnings')
      .that.deep.equals([
        'tiers.free.limits[1].window: 999 means 999 milliseconds; for seconds write "999s", otherwise "999ms"',
      ]);
    for (const clear of [
      { limit: 5, window: '60ms' },
      { limit: 5, windowMs: 60 },
    ])
      expect((await put('hasty', clear)).json).not.to.have.property('warnings');
    const override = await request(node, 'PUT', '/v1/clients/someone/overrides/hasty', { limit: 5, window: 60 });
    expectShape(OverrideSchema, override.json);
    expect(override.json).to.have.property('warnings');
    await request(node, 'DELETE', '/v1/policies/hasty');
  });

  it('decides under a named policy, in a batch too', async () => {
    await putGood('two', {
      limits: [
        { limit: 2, window: '1d' },
        { limit: 10, window: '366d' },
      ],
    });
    const question = { clientId: newClient(), policy: 'two' };
    const first = await allow(node, question);
    expect(first).to.include({ allowed: true, limit: 2, remaining: 1 });
    expect(first.limits).to.have.length(2);
    const { json } = await post(node, '/v1/allow/batch', {
      requests: [question, question, { ...question, policy: 'x' }],
    });
    const [second, third, unknown] = (json as { results: { allowed?: boolean; error?: { code: string } }[] }).results;
    expect([second?.allowed, third?.allowed, unknown?.error?.code]).to.deep.equal([true, false, 'unknown_policy']);
    expectProblem(await post(node, '/v1/allow', { ...question, policy: 'nobody' }), 'unknown_policy', 'policy');
    expectProblem(await post(node, '/v1/allow', { ...question, limit: 3 }), 'invalid_request', 'limit');
    const named = await post(node, '/v1/allow', { clientId: newClient(), policy: 'two' });
    expect(named.headers['ratelimit-policy']).to.be.a('string');
  });

  it('keeps the buckets of a client under different policies apart, and applies a changed limit to them at once', async () => {
    await putGood('one', { limit: 3, window: '1d' });
    await putGood('other', { limit: 3, window: '1d' });
    const question = { clientId: newClient(), policy: 'one', cost: 3 };
    expect((await allow(node, question)).allowed).to.equal(true);
    expect((await allow(node, { ...question, policy: 'other' })).allowed).to.equal(true);
    expect((await allow(node, { ...question, limit: 3, window: '1d', policy: undefined })).allowed).to.equal(true);
    expect((await allow(node, { ...question, cost: 1 })).allowed).to.equal(false);
    await putGood('one', { limit: 5, window: '1d' });
    expect(await allow(node, { ...question, cost: 2 })).to.include({ allowed: true, remaining: 0, limit: 5 });
    expect((await allow(node, { ...question, cost: 1 })).allowed).to.equal(false);
  });

  it('gives a client a limit of its own, in the window of the policy where it names none', async () => {
    await putGood('own', { limit: 1, window: '1d' });
    const clientId = newClient();
    const path = `/v1/clients/${encodeURIComponent(clientId)}/overrides/own`;
    expectProblem(await call(node, path), 'not_found');
    const written = await request(node, 'PUT', path, { limit: 3 });
    expect(written.status, written.text).to.equal(200);
    expectShape(OverrideSchema, written.json);
    expect((await call(node, path)).json).to.deep.equal({
      clientId,
      policy: 'own',
      limit: 3,
      version: versionOf(written),
    });
    expect(await allow(node, { clientId, policy: 'own', cost: 3 })).to.include({ allowed: true, limit: 3 });
    expect(await allow(node, { clientId: newClient(), policy: 'own' })).to.include({ limit: 1 });
    expect((await request(node, 'DELETE', path)).status).to.equal(200);
    expect(await allow(node, { clientId, policy: 'own' })).to.include({ allowed: false, limit: 1 });
    expectProblem(await request(node, 'PUT', `/v1/clients/x/overrides/nobody`, { limit: 3 }), 'not_found');
    expectProblem(await request(node, 'PUT', path, { limit: -3 }), 'invalid_request', 'limit');
    expectProblem(await request(node, 'PUT', path, { limit: 3, shadow: true }), 'invalid_request', 'shadow');
  });

  it('takes the limits of the tier that a client has', async () => {
    await putGood('tiered', {
      tiers: { free: { limit: 1, window: '1d' }, pro: { limit: 10, window: '1d' } },
      defaultTier: 'free',
    });
    const clientId = newClient();
    const path = `/v1/clients/${encodeURIComponent(clientId)}/tier`;
    expect(await allow(node, { clientId, policy: 'tiered' })).to.include({ limit: 1 });
    const written = await request(node, 'PUT', path, { tier: 'pro' });
    expectShape(TierSchema, written.json);
    expect(await allow(node, { clientId, policy: 'tiered' })).to.include({ allowed: true, limit: 10, remaining: 8 });
    expect((await call(node, path)).json).to.deep.include({ clientId, tier: 'pro' });
    expectProblem(await request(node, 'PUT', path, { tier: 5 }), 'invalid_request', 'tier');
    const undefinedTier = await request(node, 'PUT', path, { tier: 'por' });
    expectProblem(undefinedTier, 'invalid_request', 'tier');
    expect((undefinedTier.json as { detail: string }).detail).to.match(
      /^tier: "por" is not a tier of any policy; use one of .*free, .*pro/,
    );
    const letters = await request(node, 'PUT', path, 'pro');
    expectProblem(letters, 'invalid_request', 'body');
    expect((letters.json as { detail: string }).detail).to.equal(
      'body: "pro" is not valid; use an object, as in {"tier": "pro"}',
    );
    expect((await request(node, 'DELETE', path)).status).to.equal(200);
    expect(await allow(node, { clientId, policy: 'tiered' })).to.include({ allowed: false, limit: 1 });
  });

  it('never denies under a policy on trial, but says and counts what it would have done', async () => {
    await putGood('trial', { limit: 1, window: '1d', shadow: true });
    const question = { clientId: newClient(), policy: 'trial' };
    expect((await allow(node, question)).shadow).to.deep.equal({ allowed: true, retryAfterMs: 0 });
    for (let i = 0; i < 3; i += 1) {
      const answer = await post(node, '/v1/allow', question);
      expect(answer.status).to.equal(200);
      expect(answer.headers).not.to.have.property('retry-after');
      const { allowed, retryAfterMs, remaining, shadow } = decisionOf(answer);
      expect([allowed, retryAfterMs, remaining]).to.deep.equal([true, 0, 0]);
      expect(shadow?.allowed).to.equal(false);
      expect(shadow?.retryAfterMs).to.be.within(86_000_000, 86_400_000);
    }
    const { text } = await call(node, '/metrics');
    expect(text).to.include('tokenring_shadow_denials_total{policy="trial"} 3');
    await putGood('trial', { limit: 1, window: '1d' });
    expect((await allow(node, question)).allowed).to.equal(false);
  });

  it('changes only what the writer has seen, where it says so', async () => {
    const version = await putGood('matched', { limit: 1, window: 1 });
    const etag = (await call(node, '/v1/policies/matched')).headers['etag'] as string;
    expect(etag).to.match(/^"\d+-[\da-f]{16}"$/);
    const next = await put('matched', { limit: 2, window: 1 }, { 'if-match': `"${version}"` });
    expect(next.status, next.text).to.equal(200);
    expect(next.headers['etag']).not.to.equal(etag);
    for (const tag of [String(version), `"${version}"`, etag, `W/${next.headers['etag'] as string}`, '"x", "y"', '']) {
      const refused = await put('matched', { limit: 3, window: 1 }, { 'if-match': tag });
      expectProblem(refused, 'precondition_failed', 'If-Match');
    }
    expectProblem(await put('absent', { limit: 3, window: 1 }, { 'if-match': '*' }), 'precondition_failed');
    for (const tag of [`"0", ${next.headers['etag'] as string}`, '*']) {
      const answer = await put('matched', { limit: 3, window: 1 }, { 'if-match': tag });
      expect(answer.status, tag).to.equal(200);
    }
    expectProblem(
      await request(node, 'DELETE', '/v1/policies/matched', undefined, { 'if-match': '1' }),
      'precondition_failed',
    );
  });

  it('makes what is not there yet, and only that, where the writer says so', async () => {
    const first = await put('new', { limit: 1, window: 1 }, { 'if-none-match': '*' });
    expect(first.status, first.text).to.equal(200);
    await putGood('metals', { tiers: { gold: { limit: 1, window: '1s' } }, defaultTier: 'gold' });
    for (const path of ['/v1/policies/new', '/v1/clients/a%2F%25%20%C3%A9/tier']) {
      const body = path.endsWith('tier') ? { tier: 'gold' } : { limit: 9, window: 1 };
      expect((await request(node, 'PUT', path, body)).status).to.equal(200);
      const again = await request(node, 'PUT', path, body, { 'if-none-match': '*' });
      expectProblem(again, 'precondition_failed', 'If-None-Match');
    }
    for (const headers of [{ 'if-none-match': '"7"' }, { 'if-none-match': '*', 'if-match': '*' }])
      expectProblem(await put('new', { limit: 3, window: 1 }, headers), 'invalid_request', 'If-None-Match');
    // What nodes say to each other about it cannot be said from outside.
    expectProblem(await put('newer', { limit: 3, window: 1 }, { 'if-match': 'none' }), 'precondition_failed');
  });

  it('refuses what is no policy with every wrong field, and changes nothing', async () => {
    const version = await putGood('strict', { limit: 1, window: 1 });
    const wrong = await put('strict', { limit: 'x', window: '1w', extra: 1 });
    const { detail } = expectProblem(wrong, 'invalid_request', 'limit');
    expect(detail).to.include('window: ').and.to.include('unknown field "extra"');
    for (const body of [null, [], 5, {}, { name: 'other', limit: 1, window: 1 }]) {
      expectProblem(await put('strict', body), 'invalid_request');
    }
    expectProblem(await put('a%20b', { limit: 1, window: 1 }), 'invalid_request', 'name');
    expectProblem(await put('x'.repeat(129), { limit: 1, window: 1 }), 'invalid_request', 'name');
    const broken = { method: 'PUT', headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' } };
    expectProblem(await call(node, '/v1/policies/strict', { ...broken, body: '{"limit":1,' }), 'invalid_json');
    expectProblem(
      await call(node, '/v1/policies/strict', { ...broken, body: '{"limit":1,"limit":2,"window":1}' }),
      'invalid_json',
      'limit',
    );
    expect(versionOf(await call(node, '/v1/policies/strict'))).to.equal(version);
  });

  it('takes any name that a property of an object may have', async () => {
    for (const name of ['__proto__', 'constructor', 'toString', '__defineGetter__']) {
      const question = { clientId: newClient(), policy: name };
      expectProblem(await post(node, '/v1/allow', question), 'unknown_policy');
      await putGood(name, { limit: 1, window: '1d' });
      expect((await allow(node, question)).allowed).to.equal(true);
      expect((await allow(node, question)).allowed).to.equal(false);
    }
    const { text } = await call(node, '/v1/policies');
    expect(text).to.include('"__proto__":{"limit":1');
  });

  it('follows the load that is reported, within its bounds', async () => {
    await putGood('loaded', { limit: 1_000, window: '1d', adaptive: { target: 0.5, min: 0.25, latencyMs: 100 } });
    const report = (body: unknown, name = 'loaded'): Promise<Answer> => request(node, 'PUT', `/v1/load/${name}`, body);
    const factorOf = ({ json }: Answer): number => (json as { factor: number }).factor;
    const first = await report({ load: 0.25 });
    expect(first.status, first.text).to.equal(200);
    expectShape(LoadSchema, first.json);
    expect(first.json).to.deep.equal({ name: 'loaded', factor: 1, load: 0.25 });
    expect((await report({ latencyMs: 100 })).json).to.include({ load: 0.5 });
    const clientId = newClient();
    expect(await allow(node, { clientId, policy: 'loaded' })).to.include({ limit: 1_000 });
    for (let tries = 0; factorOf(await report({ load: 1 })) === 1; tries += 1) {
      expect(tries).to.be.below(100);
      await wait(50);
    }
    const factor = factorOf(await call(node, '/v1/load/loaded'));
    expect(factor).to.be.within(0.25, 0.99);
    const { limit } = await allow(node, { clientId, policy: 'loaded' });
    expect(limit).to.be.within(250, 990);
    expect((await call(node, '/metrics')).text).to.match(/tokenring_load_factor\{policy="loaded"\} 0\.\d+/);

    expectProblem(await report({ load: 1.5 }), 'invalid_request', 'load');
    expectProblem(await report({ load: 0.5, x: 1 }), 'invalid_request', 'x');
    expectProblem(await report({ errors: 0.5 }), 'invalid_request', 'load');
    expectProblem(await report({ load: 0.5 }, 'nobody'), 'not_found');
    await putGood('fixed', { limit: 1, window: 1 });
    expectProblem(await report({ load: 0.5 }, 'fixed'), 'not_found');
    expectProblem(await call(node, '/v1/load/fixed'), 'not_found');
  });

  it('is changed by nobody without the token', async () => {
    for (const path of ['/v1/policies/p', '/v1/clients/c/overrides/p', '/v1/clients/c/tier']) {
      for (const method of ['PUT', 'DELETE']) {
        expectProblem(await call(node, path, { method }), 'unauthorized');
        expectProblem(await call(await liveNode(), path, { method }), 'forbidden');
      }
    }
  });
});

describe('the file of policies', () => {
  let folder: string;
  let nodes: RunningNode[] = [];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
  });
  afterEach(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    nodes = [];
    rmSync(folder, { recursive: true });
  });

  const path = (): string => join(folder, 'policies.json');
  const write = (value: unknown): void =>
    writeFileSync(path(), typeof value === 'string' ? value : JSON.stringify(value));
  async function start(...flags: string[]): Promise<RunningNode> {
    const quiet = ['--log-level', 'silent', '--audit-log', join(folder, 'audit.log')];
    const fixed = ['--port', '0', '--peer-port', '0', ...quiet, '--admin-token', TOKEN];
    const node = await startNode(readSettings([...fixed, '--policies', path(), ...flags], {}));
    nodes.push(node);
    return node;
  }
  async function restart(node: RunningNode, ...flags: string[]): Promise<RunningNode> {
    await node.stop();
    nodes = nodes.filter((one) => one !== node);
    return start(...flags);
  }
  async function limitOf(node: RunningNode, policy: string): Promise<number | undefined> {
    const { json } = await post(node, '/v1/allow', { clientId: 'x', policy, peek: true });
    return (json as { limit?: number }).limit;
  }
  async function until(holds: () => Promise<boolean>): Promise<number> {
    const beganMs = performance.now();
    while (!(await holds())) {
      if (performance.now() - beganMs > 5_000) throw new Error('not within 5 s');
      await wait(20);
    }
    return performance.now() - beganMs;
  }
  const api = (limit: number): object => ({ policies: { api: { limit, window: '1m' } } });

  it('is in force at the start: policies, default, tiers, overrides and lists', async () => {
    write({
      policies: { api: { limit: 5, window: '1m' }, many: { limit: 8, window: '1m' } },
      default: 'api',
      clients: { alice: { overrides: { many: { limit: 9 } } } },
      allow: ['probe'],
      deny: ['mallory'],
    });
    const node = await start();
    expect(await allow(node, { clientId: 'bob' })).to.include({ allowed: true, limit: 5, remaining: 4 });
    expect(await allow(node, { clientId: 'alice', policy: 'many' })).to.include({ limit: 9 });
    for (let i = 0; i < 7; i += 1) {
      expect(await allow(node, { clientId: 'probe' })).to.include({ allowed: true, remaining: 5 });
      expect(await allow(node, { clientId: 'mallory', limit: 9, window: '1s' })).to.include({
        allowed: false,
        retryAfterMs: null,
      });
    }
  });

  it('stops the start where it is not valid, naming each field', async () => {
    write({ policies: { api: { limit: -1, window: 'x' } } });
    const error: unknown = await start().catch((one: unknown) => one);
    expect(error).to.be.instanceOf(SettingsError);
    expect((error as Error).message)
      .to.match(/^TOKENRING_POLICIES: \S+policies\.json is not valid: [^\n]*$/)
      .and.to.include('policies.api.limit: -1 is not valid; use a whole number')
      .and.to.include(`policies.api.window: "x" is not a duration; use whole milliseconds`);
    for (const text of ['{', '{"policies":{"a":{"limit":1,"window":1},"a":{"limit":1,"window":1}}}', '[]']) {
      write(text);
      expect(await start().catch((one: unknown) => one), text).to.be.instanceOf(SettingsError);
    }
    expect(await start('--policies', `${path()}.none`).catch((one: unknown) => one)).to.be.instanceOf(SettingsError);
  });

  it('is watched: a valid change is in force within a second, an invalid one not at all', async () => {
    write(api(5));
    const node = await start();
    expect(await limitOf(node, 'api')).to.equal(5);
    write({ policies: { api: { limit: 6, window: '1m' }, more: { limit: 1, window: '1m' } } });
    expect(await until(async () => (await limitOf(node, 'api')) === 6)).to.be.below(1_000);
    expect(await limitOf(node, 'more')).to.equal(1);
    for (const invalid of [
      { policies: { api: { limit: 7, window: '1m' }, more: { limit: 'x' } } },
      '{"policies"',
      '',
    ]) {
      write(invalid);
      await wait(700);
      expect(await limitOf(node, 'api')).to.equal(6);
    }
    write(api(8));
    await until(async () => (await limitOf(node, 'api')) === 8);
    expect(await limitOf(node, 'more')).to.equal(undefined);
  });

  it('and what the API changed are there after a restart, and only a change of the file changes them', async () => {
    write({ policies: { api: { limit: 5, window: '1m' }, file: { limit: 1, window: '1m' } } });
    let node = await start();
    await request(node, 'PUT', '/v1/policies/api', { limit: 50, window: '1m' });
    await request(node, 'PUT', '/v1/policies/mine', { limit: 60, window: '1m' });
    await request(node, 'DELETE', '/v1/policies/file');
    const limits = async (): Promise<unknown[]> =>
      Promise.all(['api', 'mine', 'file'].map((one) => limitOf(node, one)));
    node = await restart(node);
    expect(await limits()).to.deep.equal([50, 60, undefined]);
    write({ policies: { api: { limit: 5, window: '1m' }, file: { limit: 2, window: '1m' } } });
    node = await restart(node);
    expect(await limits()).to.deep.equal([50, 60, 2]);
    write({ policies: { file: { limit: 2, window: '1m' } } });
    node = await restart(node);
    expect(await limits()).to.deep.equal([undefined, 60, 2]);
  });

  it('and the API leave a line in the audit log for each change: who, what, before, after', async () => {
    write(api(5));
    const node = await start();
    await request(node, 'PUT', '/v1/policies/api', { limit: 50, window: '1m' });
    await request(node, 'PUT', '/v1/policies/api', { limit: 50, window: '1m' });
    await request(node, 'PUT', '/v1/clients/alice/overrides/api', { limit: 7 });
    const lines = readFileSync(join(folder, 'audit.log'), 'utf8').trim().split('\n');
    const [file, put, own, ...more] = lines.map((line) => JSON.parse(line) as Record<string, Record<string, unknown>>);
    expect(file).to.deep.include({ who: { file: path() }, what: 'policies changed', target: 'version 1' });
    expect(put).to.deep.include({
      what: 'policies changed',
      before: { 'policy api': { limit: 5, window: '1m' } },
      after: { 'policy api': { limit: 50, window: '1m' } },
    });
    expect(put!['who']).to.include({ address: '127.0.0.1' });
    expect(own).to.deep.include({
      before: { 'override api alice': null },
      after: { 'override api alice': { limit: 7 } },
    });
    expect(more).to.deep.equal([]);
  });

  it('alone is there after a restart where nothing is kept', async () => {
    write(api(5));
    let node = await start('--policies-state', 'none');
    await request(node, 'PUT', '/v1/policies/api', { limit: 50, window: '1m' });
    node = await restart(node, '--policies-state', 'none');
    expect(await limitOf(node, 'api')).to.equal(5);
  });

  it('stops the start where what was kept beside it is spoilt', async () => {
    write(api(5));
    writeFileSync(`${path()}.state`, '{"version":1,"entries":[["policy api",{},1,"a:1"]],"file":null}');
    const error: unknown = await start().catch((one: unknown) => one);
    expect(error).to.be.instanceOf(SettingsError);
    expect((error as Error).message)
      .to.include('policies.json.state is not valid')
      .and.to.include('policy api');
  });

  it('leaves a line in the audit log if a join overwrites what the node has kept', async () => {
    write(api(5));
    const seed = `127.0.0.1:${await freePort()}`;
    const first = await start('--advertise', seed, '--peer-port', seed.slice(seed.indexOf(':') + 1));
    await request(first, 'PUT', '/v1/policies/api', { limit: 50, window: '1m' });
    const [state, log] = [join(folder, 'kept.state'), join(folder, 'joiner.log')];
    const kept = { version: 1, entries: [['policy api', { limit: 7, window: '1m' }, 1, 'z:1']], file: null };
    writeFileSync(state, JSON.stringify(kept));
    await start('--policies', 'none', '--policies-state', state, '--peers', seed, '--audit-log', log);
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    expect(lines).to.have.lengthOf(1);
    expect(JSON.parse(lines[0]!)).to.deep.include({
      who: { nodes: [seed] },
      what: 'policies overwritten',
      before: { 'policy api': { limit: 7, window: '1m' } },
      after: { 'policy api': { limit: 50, window: '1m' } },
    });
  });

  it('reaches the nodes that have another one, or the same', async () => {
    write(api(5));
    const seed = `127.0.0.1:${await freePort()}`;
    const first = await start('--advertise', seed, '--peer-port', seed.slice(seed.indexOf(':') + 1));
    const other = join(folder, 'other.json');
    writeFileSync(other, JSON.stringify(api(5)));
    const second = await start('--policies', other, '--peers', seed);
    expect(await limitOf(second, 'api')).to.equal(5);
    expect((await call(second, '/v1/policies')).json).to.deep.equal((await call(first, '/v1/policies')).json);
    writeFileSync(other, JSON.stringify(api(6)));
    expect(await until(async () => (await limitOf(first, 'api')) === 6)).to.be.below(1_000);
    const third = await start('--policies-state', 'none', '--peers', seed);
    // Nobody remembers that its file is the older one of the two: it is another than the last that was applied.
    expect(await limitOf(third, 'api')).to.equal(5);
    await until(async () => (await limitOf(first, 'api')) === 5);
    const version = versionOf(await call(first, '/v1/policies'));
    await until(() => Promise.resolve(readFileSync(`${path()}.state`, 'utf8').includes(`"version":${version},`)));
  });
});
