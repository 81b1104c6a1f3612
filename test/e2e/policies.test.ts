import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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
