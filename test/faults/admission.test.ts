import { expect } from 'chai';
import { overAdmissions, overAdmitted, type Admission } from './admission.js';
import type { AskedRule } from './clients.js';

const BUCKET: AskedRule = { algorithm: 'token-bucket', limit: 10, windowMs: 1_000, capacity: 10 };
const SLIDING: AskedRule = { algorithm: 'sliding-window', limit: 3, windowMs: 1_000, capacity: 3 };

function at(...momentsMs: number[]): Admission[] {
  return momentsMs.map((ms) => ({ sentMs: ms - 1, receivedMs: ms + 1 }));
}

function excess(admissions: readonly Admission[], rule: AskedRule): number {
  return overAdmitted(admissions, rule, 1)?.count ?? 0;
}

describe('what a history proves about admission', () => {
  it('a full bucket and its refill are no excess', () => {
    const burst = Array.from({ length: 10 }, () => 1_000);
    expect(excess(at(...burst, 1_100, 1_200, 1_300), BUCKET)).to.equal(0);
  });

  it('each token more than bucket and refill is one, also in a span in the middle', () => {
    const burst = Array.from({ length: 10 }, () => 60_000);
    expect(excess(at(...burst, 60_000), BUCKET)).to.equal(1);
    expect(excess(at(1_000, ...burst, 60_050, 60_090, 200_000), BUCKET)).to.equal(2);
  });

  it('a slow answer proves nothing that a quick one would', () => {
    const burst = Array.from({ length: 10 }, () => 1_000);
    const slow = { sentMs: 1_000, receivedMs: 1_200 };
    expect(excess([...at(...burst), slow], BUCKET)).to.equal(0);
  });

  it('a sliding window counts what lies wholly within it', () => {
    expect(excess(at(1_000, 1_300, 1_600, 2_010), SLIDING)).to.equal(0);
    expect(excess(at(1_000, 1_300, 1_600, 1_990), SLIDING)).to.equal(1);
  });

  it('a client is judged by the rule that it exceeds most', () => {
    const clients = [{ id: 'a', weight: 1, rules: [BUCKET, SLIDING] }];
    const asked = at(1_000, 1_000, 1_000, 1_000, 1_000).map((admission) => {
      return { ...admission, client: 0, node: 0, status: 200, allowed: true, owner: 'a:1' };
    });
    expect([...overAdmissions(asked, clients)]).to.deep.equal([[0, { count: 2, fromMs: 999, toMs: 1_001 }]]);
  });
});
