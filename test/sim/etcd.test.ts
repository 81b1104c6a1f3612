import { expect } from 'chai';
import { check } from './checker.js';
import { generateScenario } from './generate.js';
import { PATIENCE_MS } from './patience.js';
import { THEMES } from './scenario.js';
import { simulate } from './simulate.js';

const SEEDS_A_THEME = 20;

describe('the cluster in virtual time, its members in etcd,', function () {
  this.timeout(PATIENCE_MS);

  for (const theme of THEMES) {
    it(`keeps its promises: ${theme}`, async () => {
      for (let seed = 1; seed <= SEEDS_A_THEME; seed += 1) {
        const violations = check((await simulate(generateScenario(seed, theme), { etcdRate: 1 })).history);
        expect(violations, `npm run sim -- --etcd --theme ${theme} --seed ${seed} --shrink`).to.deep.equal([]);
      }
    });
  }
});
