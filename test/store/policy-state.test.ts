import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Log } from '../../src/lib/system.js';
import { change, NO_DOCUMENT, tierKey } from '../../src/policy/policy-document.js';
import { policyKey } from '../../src/policy/policy-entry.js';
import { PolicyStateFile, readPolicyState, type PolicyState } from '../../src/store/policy-state.js';

const withLimit = (limit: number): PolicyState => ({
  document: change(NO_DOCUMENT, new Map([[policyKey('api'), { limit, window: '1m' }]]), 'a:1'),
  registry: undefined,
  file: undefined,
});

describe('the state file of the policies', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-state-'));
  const lines: string[] = [];
  const log: Log = { info: (_, message) => lines.push(message), warn: (_, message) => lines.push(message) };
  let files = 0;
  const newPath = (): string => join(folder, String((files += 1)), 'policies.state');

  beforeEach(() => (lines.length = 0));
  after(() => rmSync(folder, { recursive: true }));

  it('holds the last of several states that are saved during one write', async () => {
    const path = newPath();
    const file = new PolicyStateFile(path, log);
    for (const limit of [1, 2, 3, 4]) file.save(withLimit(limit));
    await file.saved();
    expect((await readPolicyState(path))!.document.digest).to.equal(withLimit(4).document.digest);
    file.save(withLimit(5));
    await file.saved();
    expect((await readPolicyState(path))!.document.digest).to.equal(withLimit(5).document.digest);
    expect(lines).to.deep.equal([]);
  });

  it('is kept from other users, also if it was there before', async () => {
    const path = newPath();
    const first = new PolicyStateFile(path, log);
    first.save(withLimit(1));
    await first.saved();
    const modeOf = (): number => statSync(path).mode & 0o777;
    expect(modeOf()).to.equal(0o600);
    chmodSync(path, 0o644);
    new PolicyStateFile(path, log);
    expect(modeOf()).to.equal(0o600);
    expect(lines).to.deep.equal([]);
  });

  it('holds every entry of a large document, and of the policy file', async () => {
    const path = newPath();
    const entries = (count: number): Map<string, string> =>
      new Map(Array.from({ length: count }, (_, i) => [tierKey(`client ${i}`), 'pro']));
    const state: PolicyState = {
      document: change(NO_DOCUMENT, entries(450), 'a:1'),
      registry: 'one',
      file: entries(400),
    };
    const file = new PolicyStateFile(path, log);
    file.save(state);
    await file.saved();
    const read = (await readPolicyState(path))!;
    expect(read).to.deep.include({ registry: 'one', file: state.file });
    expect(read.document.digest).to.equal(state.document.digest);
    file.save({ ...state, file: new Map() });
    await file.saved();
    expect((await readPolicyState(path))!.file).to.deep.equal(new Map());
  });

  it('is shared by nodes with the same process id, as in containers, which save at the same time', async () => {
    const path = newPath();
    const nodes = Array.from({ length: 4 }, () => new PolicyStateFile(path, log));
    for (const limit of [1, 2, 3]) for (const node of nodes) node.save(withLimit(limit));
    await Promise.all(nodes.map((node) => node.saved()));
    expect(lines).to.deep.equal([]);
    expect((await readPolicyState(path))!.document.digest).to.equal(withLimit(3).document.digest);
  });

  it('leaves no temporary file behind when a write fails, and logs the first failure', async () => {
    const path = newPath();
    mkdirSync(path, { recursive: true });
    const file = new PolicyStateFile(path, log);
    for (const limit of [1, 2]) {
      file.save(withLimit(limit));
      await file.saved();
    }
    expect(readdirSync(join(path, '..'))).to.deep.equal(['policies.state']);
    expect(lines).to.deep.equal(['changes of policies cannot be saved; a restart of all nodes would lose them']);
  });

  it('removes old temporary files of processes that were killed, and no others', async () => {
    const path = newPath();
    mkdirSync(join(path, '..'));
    const [old, recent, other] = [`${path}.1.tmp`, `${path}.2.tmp`, `${path}.backup`] as const;
    for (const one of [old, recent, other]) writeFileSync(one, '');
    for (const one of [old, other]) utimesSync(one, 1, 1);
    const file = new PolicyStateFile(path, log);
    file.save(withLimit(1));
    await file.saved();
    expect([old, recent, other].map((one) => existsSync(one))).to.deep.equal([false, true, true]);
  });
});
