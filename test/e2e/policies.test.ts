import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { killAll, tokenring } from './processes.js';

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

describe('tokenring serve in a folder with config/policies.json', () => {
  let folder: string;
  const serve = () =>
    tokenring(['serve', '--port', '0', '--peer-port', '0'], { TOKENRING_POLICIES: undefined }, folder);
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
