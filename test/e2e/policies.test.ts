import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { post } from '../support/http.js';
import { freePorts } from '../support/ports.js';
import { killAll, serve, tokenring } from './processes.js';

describe('tokenring policies check', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
  });
  after(() => {
    killAll();
    rmSync(folder, { recursive: true });
  });

  it('finds no mistake in the example', async () => {
    const { code, stdout, stderr } = await tokenring(['policies', 'check', 'config/policies.json']).ended;
    expect({ code, stdout, stderr }).to.deep.equal({
      code: 0,
      stdout: 'config/policies.json: 3 policies, no mistakes\n',
      stderr: '',
    });
  });

  it('names each wrong field, one a line', async () => {
    const path = join(folder, 'policies.json');
    writeFileSync(path, '{"policies":{"a":{"limit":-1,"window":"1m","x":2}},"default":"b"}');
    const { code, stderr } = await tokenring(['policies', 'check', path]).ended;
    expect(code).to.equal(1);
    expect(stderr.trim().split('\n')).to.deep.equal([
      `${path}: policies.a.limit: -1 is not valid; use a whole number from 0 to 1000000000`,
      `${path}: policies.a: unknown field "x"; use one of limit, window, windowMs, burst, algorithm, limits, tiers, defaultTier, onUnavailable, durability, shadow, adaptive`,
      `${path}: default: "b" is not a policy; use the name of a policy of this file`,
    ]);
  });

  it('warns of windows that may be meant in seconds, and of tiers that no policy has', async () => {
    const path = join(folder, 'hasty.json');
    writeFileSync(path, '{"policies":{"a":{"limit":5,"window":60}},"clients":{"bob":{"tier":"pro"}}}');
    const { code, stderr } = await tokenring(['policies', 'check', path]).ended;
    expect(code).to.equal(0);
    expect(stderr.trim().split('\n')).to.deep.equal([
      `${path}: policies.a.window: 60 means 60 milliseconds; for seconds write "60s", otherwise "60ms"`,
      `${path}: clients.bob.tier: "pro" is not a tier of any policy; use a tier that a policy defines; no policy has tiers yet, so write one first`,
    ]);
  });

  it('ends with 2 where there is nothing to check', async () => {
    for (const args of [['check', join(folder, 'absent.json')], ['check'], [], ['look', 'x']]) {
      const { code, stderr } = await tokenring(['policies', ...args]).ended;
      expect(code).to.equal(2);
      expect(stderr).to.match(/^tokenring: [^\n]+\n$/);
    }
  });

  it('is what a start does: one line, and exit code 2', async () => {
    const path = join(folder, 'wrong.json');
    writeFileSync(path, '{"policies":{"a":{"limit":5}}}');
    const { code, stderr } = await tokenring(['serve', '--port', '0', '--peer-port', '0', '--policies', path]).ended;
    expect(code).to.equal(2);
    expect(stderr).to.match(
      /^tokenring: TOKENRING_POLICIES: \S+ is not valid: policies\.a\.window is missing; use [^\n]+\n$/,
    );
  });
});

describe('tokenring serve with more policies than it plans with', () => {
  let path: string;
  before(() => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
    path = join(folder, 'policies.json');
    const limits = Array.from({ length: 8 }, (_, i) => ({ limit: 1_000 + i, window: 3_600_000 + i }));
    const policies = Object.fromEntries(Array.from({ length: 900 }, (_, i) => [`policy-${i}`, { limits }]));
    writeFileSync(path, JSON.stringify({ policies }));
  });
  after(() => {
    killAll();
    rmSync(dirname(path), { recursive: true });
  });

  it('stops with one line that names the bound, where the policies are those of its file', async () => {
    const flags = ['--port', '0', '--peer-port', '0', '--memory-mb', '192', '--policies', path];
    const { code, stderr } = await tokenring(['serve', ...flags]).ended;
    expect(code).to.equal(2);
    expect(stderr).to.match(
      /^tokenring: TOKENRING_POLICIES: \S+ is not valid: file: too much for all policies together; use at most \d+ bytes of all, as JSON, or give the node more memory; [^\n]+\n$/,
    );
  });

  it('takes those of its ring all the same, and warns', async () => {
    const [port] = await freePorts(1);
    const first = ['serve', '--port', '0', '--peer-port', String(port), '--memory-mb', '4096', '--policies', path];
    await tokenring([...first, '--policies-state', 'none']).line('tokenring ready');
    const small = await serve('--peers', `127.0.0.1:${port}`, '--memory-mb', '192');
    const { bytes, maxBytes } = await small.line(
      'the policies are larger than this node plans with; give it more memory, or remove some',
    );
    expect(bytes).to.be.above(maxBytes as number);
    const answer = await post(small, '/v1/allow', { clientId: 'x', policy: 'policy-7' });
    expect(answer.status).to.equal(200);
  });
});

describe('tokenring serve in a folder with config/policies.json', () => {
  let folder: string;
  const serve = () =>
    tokenring(['serve', '--port', '0', '--peer-port', '0'], { TOKENRING_POLICIES: undefined }, { cwd: folder });
  const inFolder = (...names: string[]): string => join(folder, ...names);
  const refusal = async (): Promise<string> => {
    const { code, stderr } = await serve().ended;
    expect(code).to.equal(2);
    expect(stderr).to.match(/^tokenring: [^\n]+\n$/);
    return stderr;
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
    mkdirSync(inFolder('config'));
    writeFileSync(inFolder('config', 'policies.json'), '{"policies":{"api":{"limit":5,"window":"1m"}}}');
  });
  afterEach(() => {
    killAll();
    rmSync(folder, { recursive: true });
  });

  it('stops with one line of advice if the file belongs to another program', async () => {
    const others = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`rule ${i}`, { effect: 'deny' }]));
    for (const text of [JSON.stringify(others), '<policies/>', '']) {
      writeFileSync(inFolder('config', 'policies.json'), text);
      const line = await refusal();
      expect(line).to.include('TOKENRING_POLICIES: config/policies.json is not valid: ');
      expect(line).to.include('set TOKENRING_POLICIES to another file or to none');
      expect(line).to.have.lengthOf.below(1_000);
    }
  });

  it('stops with one line of advice if the state file is empty or damaged', async () => {
    mkdirSync(inFolder('.tokenring'));
    for (const [text, problem] of [
      ['', 'it is empty'],
      ['{"version":1,"entr', 'it is not JSON'],
      ['{"version":1}', 'no version and entries of policies'],
    ] as const) {
      writeFileSync(inFolder('.tokenring', 'policies.state'), text);
      const line = await refusal();
      expect(line).to.include(`TOKENRING_POLICIES_STATE: .tokenring/policies.state is not valid: ${problem}; `);
      expect(line).to.include('restore it, or delete it');
    }
  });

  it('keeps its state outside config/', async () => {
    const node = serve();
    await node.line('tokenring ready');
    node.child.kill('SIGTERM');
    expect((await node.ended).code).to.equal(0);
    expect(existsSync(inFolder('.tokenring', 'policies.state'))).to.equal(true);
    expect(readdirSync(inFolder('config'))).to.deep.equal(['policies.json']);
  });
});
