import { expect } from 'chai';
import { join } from 'node:path';
import { type Log, systemClock } from '../../src/lib/system.js';
import { change, NO_DOCUMENT } from '../../src/policy/policy-document.js';
import { policyKey } from '../../src/policy/policy-entry.js';
import { LmdbStore } from '../../src/store/lmdb.js';
import { PolicyStateFile, readPolicyState } from '../../src/store/policy-state.js';
import { mountDisk, type Disk } from '../support/power-cut.js';
import { need } from '../support/programs.js';
import { owing, readAll } from '../support/stored.js';

const HOUR_MS = 3_600_000;

describe('after a power cut', function () {
  this.timeout(60_000);
  const log: Log = { info: () => undefined, warn: () => undefined };
  let disk: Disk;
  const mounted: Disk[] = [];
  beforeEach(function () {
    need(this, 'mkfs.ext4');
    const found = mountDisk();
    if (typeof found === 'string') {
      this.currentTest!.title += ` (pending: ${found})`;
      return this.skip();
    }
    mounted.push((disk = found));
  });
  afterEach(() => mounted.splice(0).forEach((one) => one.remove()));

  it('an LMDB file has every write that was acknowledged', async () => {
    const deps = { log, clock: systemClock, wallMs: Date.now, timers: { every: () => () => undefined } };
    const store = await LmdbStore.open(join(disk.folder, 'limits'), deps);
    const ids = Array.from({ length: 20 }, (_, i) => `client ${i}`);
    for (const id of ids) expect(await store.write([owing(id, 8, HOUR_MS)], [], ['b:1'])).to.include({ kind: 'done' });
    const again = await LmdbStore.open(join(disk.cut(), 'limits'), deps);
    const { clients, result } = await readAll(again);
    expect(result).to.deep.equal({ kind: 'done', left: [], lost: false });
    expect([...clients.keys()].sort()).to.deep.equal(ids.sort());
    expect(again.members()).to.deep.equal(['b:1']);
    await Promise.all([store.close(), again.close()]);
  });

  it('the state file of the policies has every change that was saved', async () => {
    const stateOf = (limit: number) => ({
      document: change(NO_DOCUMENT, new Map([[policyKey('api'), { limit, window: '1m' }]]), 'a:1'),
      registry: undefined,
      file: undefined,
    });
    const file = new PolicyStateFile(join(disk.folder, 'state', 'policies'), log);
    for (const limit of [1, 2, 3]) {
      file.save(stateOf(limit));
      await file.saved();
    }
    const state = await readPolicyState(join(disk.cut(), 'state', 'policies'));
    expect(state?.document.digest).to.equal(stateOf(3).document.digest);
  });
});
