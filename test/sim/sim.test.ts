import { expect } from 'chai';
import { check } from './checker.js';
import { generateScenario } from './generate.js';
import { PATIENCE_MS } from './patience.js';
import { simulate } from './simulate.js';

const SEEDS = 300;
const SEEDS_A_TEST = 100;

async function historyOf(seed: number, options: { bytes?: boolean } = {}): Promise<string> {
  return JSON.stringify((await simulate(generateScenario(seed), options)).history);
}

describe('the cluster in virtual time', function () {
  this.timeout(PATIENCE_MS);

  for (let from = 1; from <= SEEDS; from += SEEDS_A_TEST) {
    const to = from + SEEDS_A_TEST - 1;
    it(`keeps its promises whatever goes wrong, seeds ${from} to ${to}`, async () => {
      for (let seed = from; seed <= to; seed += 1) {
        const violations = check((await simulate(generateScenario(seed))).history);
        expect(violations, `npm run sim -- --seed ${seed} --shrink`).to.deep.equal([]);
      }
    });
  }

  it('does the same again under the same seed, byte for byte', async () => {
    for (let seed = 1; seed <= 20; seed += 1)
      expect(await historyOf(seed), `seed ${seed}`).to.equal(await historyOf(seed));
  });

  it('does the same when each message goes through the bytes that are sent', async () => {
    for (let seed = 1; seed <= 20; seed += 1)
      expect(await historyOf(seed, { bytes: true }), `seed ${seed}`).to.equal(await historyOf(seed));
  });
});
