import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import { Access, digestOf, readTokenFile, withAdminToken, type Role } from '../../src/server/edge/access.js';
import { TokenringError } from '../../src/lib/error.js';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings, SettingsError } from '../../src/app/settings/settings.js';
import { call, expectProblem, newClient } from '../support/http.js';

const token = (name: string, ...roles: Role[]): object => {
  return { name, roles, sha256: digestOf(`token of ${name}`).toString('hex') };
};
const bearer = (name: string): string => `Bearer token of ${name}`;

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return error instanceof TokenringError ? error.code : String(error);
  }
  return 'admitted';
}

describe('tokens', () => {
  const rules = readTokenFile(
    Buffer.from(
      JSON.stringify({
        require: ['decide', 'read'],
        tokens: [
          token('looker', 'read'),
          token('gate', 'decide'),
          token('both', 'read', 'decide'),
          token('boss', 'admin'),
        ],
      }),
    ),
  );

  it('let each role do what is its own, and admin all', () => {
    const access = new Access(rules);
    const may = (name: string): Role[] =>
      (['read', 'decide', 'admin'] as const).filter(
        (role) => codeOf(() => access.authorize(bearer(name), role)) === 'admitted',
      );
    expect([may('looker'), may('gate'), may('both'), may('boss')]).to.deep.equal([
      ['read'],
      ['decide'],
      ['read', 'decide'],
      ['read', 'decide', 'admin'],
    ]);
    expect(access.authorize(bearer('boss'), 'admin')).to.equal('boss');
    expect(codeOf(() => access.authorize(bearer('gate'), 'admin'))).to.equal('forbidden');
    expect(codeOf(() => access.authorize(bearer('nobody'), 'admin'))).to.equal('unauthorized');
    expect(codeOf(() => access.authorize(undefined, 'decide'))).to.equal('unauthorized');
  });

  it('are asked for where the file says so, and for changes always', () => {
    const access = new Access({ ...rules, required: ['decide'] });
    expect(access.guardsDecisions()).to.equal(true);
    expect(access.authorize(undefined, 'read')).to.equal(undefined);
    expect(codeOf(() => access.authorize(undefined, 'decide'))).to.equal('unauthorized');
    access.replace({ ...rules, required: [] });
    expect(access.guardsDecisions()).to.equal(false);
    expect(access.authorize('Bearer of anything', 'decide')).to.equal(undefined);
    expect(codeOf(() => access.authorize(undefined, 'admin'))).to.equal('unauthorized');
  });

  it('leave shut what no token opens', () => {
    const access = new Access(readTokenFile(Buffer.from('{"require":["decide"],"tokens":[]}')));
    for (const role of ['decide', 'admin'] as const)
      expect(codeOf(() => access.authorize(bearer('boss'), role))).to.equal('forbidden');
    expect(() => access.authorize(bearer('boss'), 'admin')).to.throw(
      'no token of the node has the role admin; start the node with TOKENRING_ADMIN_TOKEN or TOKENRING_TOKENS',
    );
    const withAdmin = new Access(withAdminToken({ required: [], tokens: [] }, 'token of boss'));
    expect(withAdmin.authorize(bearer('boss'), 'admin')).to.equal('TOKENRING_ADMIN_TOKEN');
  });

  it('are refused as a whole where the file is not valid, by the name of the field, and without a word of it', () => {
    const good = token('a', 'read');
    const wrong: [content: unknown, field: string][] = [
      ['{"tokens": [hunter2', ''],
      ['{"tokens":[],"tokens":[]}', 'tokens'],
      [[], 'body'],
      [{}, 'tokens'],
      [{ tokens: {} }, 'tokens'],
      [{ tokens: [], secret: 'hunter2' }, 'secret'],
      [{ tokens: [], require: ['write'] }, 'require[0]'],
      [{ tokens: [{ ...good, sha256: 'hunter2' }] }, 'tokens[0].sha256'],
      [{ tokens: [{ ...good, roles: [] }] }, 'tokens[0].roles'],
      [{ tokens: [{ ...good, roles: ['root'] }] }, 'tokens[0].roles[0]'],
      [{ tokens: [{ ...good, name: 'hunter2 \n' }] }, 'tokens[0].name'],
      [{ tokens: [good, { ...good, name: 'b' }] }, 'tokens[1]'],
      [{ tokens: [good, token('a', 'admin'), token('c', 'admin')] }, 'tokens[1]'],
      [{ tokens: Array.from({ length: 101 }, (_, i) => token(`t${i}`, 'read')) }, 'tokens'],
    ];
    for (const [content, field] of wrong) {
      const text = typeof content === 'string' ? content : JSON.stringify(content);
      expect(() => readTokenFile(Buffer.from(text)), text)
        .to.throw(TokenringError, field)
        .with.property('message')
        .that.does.not.include('hunter2');
    }
  });
});

describe('a node with a file of tokens', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-tokens-'));
  const [path, auditPath] = [join(folder, 'tokens.json'), join(folder, 'audit.log')];
  const write = (require: Role[], ...tokens: object[]): void => {
    writeFileSync(`${path}.new`, JSON.stringify({ require, tokens }));
    renameSync(`${path}.new`, path);
  };
  const flags = [
    '--tokens',
    path,
    '--audit-log',
    auditPath,
    '--port',
    '0',
    '--peer-port',
    '0',
    '--log-level',
    'silent',
  ];
  const audited = (): Record<string, unknown>[] =>
    readFileSync(auditPath, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  let node: RunningNode;
  before(async () => {
    write(['read', 'decide'], token('looker', 'read'), token('gate', 'decide'), token('boss', 'admin'));
    node = await startNode(readSettings(flags, {}));
  });
  after(async () => {
    await node.stop();
    rmSync(folder, { recursive: true });
  });
  const question = (clientId: string): string => JSON.stringify({ clientId, limit: 5, window: '1d' });
  const ask = (name?: string, path = '/v1/allow', body = question(newClient())): ReturnType<typeof call> =>
    call(node, path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(name && { authorization: bearer(name) }) },
      body,
    });
  const get = (path: string, name?: string): ReturnType<typeof call> =>
    call(node, path, { headers: name === undefined ? {} : { authorization: bearer(name) } });

  it('decides for who may ask, one by one and in batches', async () => {
    const batch = `{"requests":[${question(newClient())}]}`;
    for (const name of ['gate', 'boss']) {
      expect((await ask(name)).status).to.equal(200);
      expect((await ask(name, '/v1/allow/batch', batch)).status).to.equal(200);
    }
    for (const path of ['/v1/allow', '/v1/allow/batch', '/V1/ALLOW', '/v1/settle']) {
      const answer = await ask(undefined, path);
      expectProblem(answer, 'unauthorized', 'Authorization');
      expect(answer.headers['www-authenticate']).to.match(/^Bearer/);
      expectProblem(await ask('looker', path), 'forbidden', 'Authorization');
      expectProblem(await ask('stranger', path), 'unauthorized');
    }
  });

  it('shows itself to who may look, and to anyone what machinery must see', async () => {
    for (const path of ['/v1/cluster', '/v1/cluster/owner?clientId=x', '/v1/clients/x', '/metrics']) {
      expect((await get(path, 'looker')).status, path).to.equal(200);
      expectProblem(await get(path), 'unauthorized');
      expectProblem(await get(path, 'gate'), 'forbidden');
    }
    for (const path of ['/v1/policies', '/v1/load/none']) {
      expectProblem(await get(path), 'unauthorized');
      expectProblem(await get(path, 'gate'), 'forbidden');
    }
    for (const path of ['/healthz', '/readyz', '/openapi.json', '/docs'])
      expect((await get(path)).status, path).to.equal(200);
  });

  it('takes the load of a service from who may decide, and not from who may only look', async () => {
    const put = (name?: string): ReturnType<typeof call> =>
      call(node, '/v1/load/none', {
        method: 'PUT',
        headers: { 'content-type': 'application/json', ...(name && { authorization: bearer(name) }) },
        body: '{"load":0.5}',
      });
    expectProblem(await put(), 'unauthorized');
    expectProblem(await put('looker'), 'forbidden');
    for (const name of ['gate', 'boss']) expectProblem(await put(name), 'not_found');
  });

  it('writes down who changed what, from what, to what', async () => {
    const evil = 'mallory\n{"level":30}\u009b2J\u202e';
    await ask('gate', '/v1/allow', question(evil));
    const address = `/v1/clients/${encodeURIComponent(evil)}`;
    expectProblem(
      await call(node, address, { method: 'DELETE', headers: { authorization: bearer('gate') } }),
      'forbidden',
    );
    const answer = await call(node, address, { method: 'DELETE', headers: { authorization: bearer('boss') } });
    expect(answer.status).to.equal(204);
    const line = audited().at(-1)!;
    expect(line).to.deep.include({
      audit: true,
      who: { token: 'boss', address: '127.0.0.1' },
      what: 'client forgotten',
      target: evil,
    });
    expect(line).to.have.nested.property('before[0].remaining', 4);
    expect(line).not.to.have.property('after');
    const raw = readFileSync(auditPath, 'utf8');
    expect(raw)
      .to.match(/^[^\u007f-\u009f\u202e]*$/)
      .and.not.to.include('token of boss');
    expect(raw.trim().split('\n').at(-1)).to.include(String.raw`\u009b`);
  });

  it('writes down who changed a policy, from what, to what', async () => {
    const put = (limit: number, name: string): ReturnType<typeof call> =>
      call(node, '/v1/policies/api', {
        method: 'PUT',
        headers: { 'content-type': 'application/json', authorization: bearer(name) },
        body: JSON.stringify({ limit, window: '1m' }),
      });
    expectProblem(await put(1, 'gate'), 'forbidden');
    expect((await put(1, 'boss')).status).to.equal(200);
    expect((await put(2, 'boss')).status).to.equal(200);
    const line = audited().at(-1)!;
    expect(line).to.deep.include({
      audit: true,
      who: { token: 'boss', address: '127.0.0.1' },
      what: 'policies changed',
    });
    expect(JSON.stringify(line['before'])).to.include('"limit":1');
    expect(JSON.stringify(line['after'])).to.include('"limit":2');
  });

  it('takes over what the file says from the next second on, and nothing that is not valid', async function () {
    this.timeout(10_000);
    const until = async (holds: () => Promise<boolean>): Promise<void> => {
      const startMs = performance.now();
      while (!(await holds())) {
        expect(performance.now() - startMs, 'ms').to.be.below(2_000);
        await wait(20);
      }
    };
    write(['decide'], token('newcomer', 'decide'), token('boss', 'admin'));
    await until(async () => (await ask('newcomer')).status === 200);
    expectProblem(await ask('gate'), 'unauthorized');
    expect((await get('/metrics')).status).to.equal(200);
    const line = audited().at(-1)!;
    expect(line).to.deep.include({ what: 'tokens read', who: { file: path } });
    expect(line).to.have.nested.property('after.tokens[0].name', 'newcomer');
    writeFileSync(path, '{"require":[],"tokens":[');
    await wait(700);
    expectProblem(await ask('gate'), 'unauthorized');
    expect((await ask('newcomer')).status).to.equal(200);
  });

  it('does not start where changes could not be written down', async () => {
    const error = await startNode(readSettings([...flags, '--audit-log', join(folder, 'nowhere', 'x')], {})).catch(
      (cause: unknown) => cause,
    );
    expect(error).to.be.instanceOf(SettingsError);
    expect((error as Error).message).to.match(/^TOKENRING_AUDIT_LOG: .*nowhere/);
  });

  it('does not start with a file that is not valid, and names the field', async () => {
    const bad = join(folder, 'bad.json');
    writeFileSync(bad, '{"tokens":[{"name":"x","roles":["admin"],"sha256":"hunter2"}]}');
    const error = await startNode(readSettings([...flags, '--tokens', bad], {})).catch((cause: unknown) => cause);
    expect(error).to.be.instanceOf(SettingsError);
    expect((error as Error).message)
      .to.match(/TOKENRING_TOKENS.*tokens\[0\]\.sha256/)
      .and.not.to.include('hunter2');
  });
});
