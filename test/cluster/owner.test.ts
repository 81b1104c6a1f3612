import { expect } from 'chai';
import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import { createCheck } from '../../src/limits/decide/check.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { Confirmer } from '../../src/replication/confirmer.js';
import { Owner } from '../../src/node/decide/owner.js';

describe('an owner whose replica does not confirm a decision', () => {
  it('says so, and keeps all else that is known of the decision', async () => {
    const known = new Set(['client']);
    const replicator = { replicateNow: () => Promise.resolve(known) };
    const parts = { confirmer: new Confirmer(replicator, undefined) } as unknown as ConstructorParameters<
      typeof Owner
    >[1];
    const owner = new Owner('a:1', parts);
    const rules = [ruleOf('token-bucket', 5, 1_000, 5, undefined)];
    const item = new CheckBatch().add(createCheck(clientKey('client'), rules));
    const verdict = { allowed: true, limit: 5, remaining: 4, retryAfterMs: 0, resetMs: 200, limits: undefined };
    item.record(verdict, { owner: 'a:1', source: 'owner', degraded: false });
    item.extras = { unreserved: true };
    const { decision } = item;
    expect(await owner.confirm([item])).to.deep.equal(['answer']);
    expect(item.decision).to.deep.equal(decision);
    known.clear();
    expect(await owner.confirm([item])).to.deep.equal(['answer']);
    expect(item.decision).to.deep.equal({ ...decision, degraded: true });
  });
});
