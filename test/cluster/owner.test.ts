import { expect } from 'chai';
import { createOwner } from '../../src/node/decide/owner.js';
import { createCheck } from '../../src/limits/decide/decide.js';
import { decisionBy } from '../../src/limits/decide/decision.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';

describe('an owner whose replica does not confirm a decision', () => {
  it('says so, and keeps all else that is known of the decision', () => {
    const deps = { recent: { batches: undefined }, acknowledger: undefined };
    const owner = createOwner(deps as unknown as Parameters<typeof createOwner>[0], { self: 'a:1' });
    const check = createCheck(clientKey('client'), [ruleOf('token-bucket', 5, 1_000, 5, undefined)]);
    const verdict = { allowed: true, limit: 5, remaining: 4, retryAfterMs: 0, resetMs: 200 };
    const usual = decisionBy({ owner: 'a:1', source: 'owner', degraded: false }, verdict);
    const decision = Object.assign({}, usual, { unreserved: true as const });
    expect(owner.confirmed(check, decision, new Set())).to.deep.equal({ ...decision, degraded: true });
    expect(owner.confirmed(check, decision, new Set(['client']))).to.equal(decision);
  });
});
