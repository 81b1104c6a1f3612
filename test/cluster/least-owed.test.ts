import { expect } from 'chai';
import fc from 'fast-check';
import { LeastOwed } from '../../src/state/least-owed.js';
import { lesser, type Debt } from '../../src/limits/bucket/reservation.js';

describe('the least that a bucket owed', () => {
  it('since any moment is the least of all that was seen since', () => {
    const debt = fc.tuple(fc.nat(20), fc.nat(2)) as fc.Arbitrary<Debt>;
    const steps = fc.array(fc.oneof(debt, fc.constantFrom('moment' as const, 'forget' as const)), {
      size: 'max',
      maxLength: 60,
    });
    fc.assert(
      fc.property(steps, (history) => {
        const least = new LeastOwed();
        const seen: [moment: number, debt: Debt][] = [];
        let moment = 0;
        let oldest = 0;
        for (const step of history) {
          if (step === 'moment') moment += 1;
          else if (step === 'forget') least.forgetBefore((oldest = Math.floor((oldest + moment) / 2)));
          else {
            least.note(moment, step);
            seen.push([moment, step]);
          }
          for (let since = oldest; since <= moment; since += 1) {
            const debts = seen.filter(([at]) => at >= since).map(([, one]) => one);
            const expected = debts.length === 0 ? undefined : debts.reduce(lesser);
            expect(least.since(since)).to.deep.equal(expected);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it('takes memory for the debts that some moment needs, and for no others', () => {
    const bytesOf = (least: LeastOwed): number => JSON.stringify(least).length;
    const least = new LeastOwed();
    for (let i = 1; i <= 1_000; i += 1) least.note(1, [i, 0]);
    expect(bytesOf(least)).to.be.below(50);
    for (let i = 2; i <= 1_000; i += 1) least.note(i, [i, 0]);
    expect(bytesOf(least)).to.be.above(1_000);
    least.forgetBefore(1_000);
    expect(bytesOf(least)).to.be.below(50);
    expect(least.since(1_000)).to.deep.equal([1_000, 0]);
  });
});
