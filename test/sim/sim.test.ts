import { expect } from 'chai';
import { check } from './checker.js';
import { generateScenario } from './generate.js';
import { MUTATIONS } from './mutations.js';
import { simulate } from './simulate.js';

const SEEDS = 1_000;
/** A fault made on purpose is to be found in so many runs. */
const RUNS = 200;

describe('the cluster in virtual time', () => {
  it(`keeps its promises under the faults of ${SEEDS} seeds`, async function () {
    this.timeout(600_000);
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const violations = check((await simulate(generateScenario(seed))).history);
      expect(violations, `npm run sim -- --seed ${seed} --log`).to.deep.equal([]);
    }
  });

  it('does the same again under the same seed, byte for byte', async function () {
    this.timeout(60_000);
    for (const seed of [1, 17, 213]) {
      const run = async (): Promise<string> => JSON.stringify((await simulate(generateScenario(seed))).history);
      expect(await run()).to.equal(await run());
    }
  });

  for (const mutation of MUTATIONS) {
    it(`shows when it ${mutation.name}: ${mutation.caughtBy}`, async function () {
      this.timeout(300_000);
      const caught = new Set<string>();
      for (let seed = 1; seed <= RUNS && !caught.has(mutation.caughtBy); seed += 1) {
        const { history } = await simulate(generateScenario(seed), await mutation.world());
        for (const violation of check(history)) caught.add(violation.check);
      }
      expect([...caught]).to.include(mutation.caughtBy);
    });
  }
});
