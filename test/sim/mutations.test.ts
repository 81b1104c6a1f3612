import { expect } from 'chai';
import { check, type CheckName } from './checker.js';
import { generateScenario } from './generate.js';
import { MUTATIONS, type Mutation } from './mutations.js';
import { PATIENCE_MS } from './patience.js';
import { POLICY_MUTATIONS } from './policy-mutations.js';
import { simulate } from './simulate.js';

/** A fault made on purpose is to be found in fewer runs. */
const RUNS = 200;

const SEEDS = Array.from({ length: RUNS - 1 }, (_, i) => i + 1);

/** The checks that fail, up to the run in which the expected one does. */
async function caught(mutation: Mutation): Promise<ReadonlySet<CheckName>> {
  const failed = new Set<CheckName>();
  for (const seed of [mutation.seed ?? 1, ...SEEDS]) {
    const { history } = await simulate(generateScenario(seed, mutation.theme), await mutation.world());
    for (const violation of check(history)) failed.add(violation.check);
    if (failed.has(mutation.caughtBy)) break;
  }
  return failed;
}

describe('the checker fails when a node', function () {
  this.timeout(PATIENCE_MS);

  for (const mutation of [...MUTATIONS, ...POLICY_MUTATIONS]) {
    it(`${mutation.name} (${mutation.caughtBy})`, async () => {
      expect(await caught(mutation)).to.include(mutation.caughtBy);
    });
  }
});
