import { expect } from 'chai';
import { TurnBudget } from '../../src/node/decide/turn-budget.js';

describe('the budget of a turn of the event loop', () => {
  let soon: (() => void)[];
  const timers = {
    soon: (run: () => void) => void soon.push(run),
    sleep: undefined as never,
    every: undefined as never,
  };
  const nextTurn = async (): Promise<void> => {
    for (const run of soon.splice(0)) run();
    await Promise.resolve();
  };

  beforeEach(() => (soon = []));

  it('gives out no more than it has, however often it is asked, and as much again in the next turn', async () => {
    const budget = new TurnBudget(timers, 10);
    for (let turn = 0; turn < 3; turn += 1) {
      expect([4, 4, 4, 4].map((wanted) => budget.take(wanted))).to.deep.equal([4, 4, 2, 0]);
      expect(soon).to.have.length(1);
      await nextTurn();
    }
  });

  it('serves those who wait in later turns, the first first, and before anyone who comes later', async () => {
    const budget = new TurnBudget(timers, 10);
    budget.take(10);
    const served: string[] = [];
    for (const [name, wanted] of [
      ['a', 15],
      ['b', 5],
      ['c', 3],
    ] as const)
      void budget.wait(wanted).then((granted) => served.push(`${name} ${granted}`));
    await nextTurn();
    expect(served).to.deep.equal(['a 10']);
    expect(budget.take(1)).to.equal(0);
    await nextTurn();
    expect(served).to.deep.equal(['a 10', 'b 5', 'c 3']);
    expect(budget.take(10)).to.equal(2);
  });
});
