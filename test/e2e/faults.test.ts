import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundledDist } from '../support/dist.js';
import { isDoubtful, runJudged } from '../faults/row.js';
import { ROWS } from '../faults/rows.js';
import { remarks, line } from '../faults/table.js';
import { BusyError } from '../faults/stage.js';
import { missingTool } from '../faults/tools.js';
import { missed } from '../faults/verdict.js';
import { pending } from '../support/programs.js';

/** The quick version of `npm run faults`, which has the other rows too. */
const NAMES = [
  'killed',
  'frozen',
  'stopped',
  'rolled',
  'joined',
  'cut-both-ways',
  'restarted-lmdb',
  'restarted-redis',
  'strict',
];
const PACE = { aroundMs: 1_000, frozenMs: 2_000, cutMs: 3_000, lossyMs: 3_000, overloadMs: 5_000 };
const TRIES = 3;

describe('a cluster of real processes under load keeps its promises through', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-faults-'));
  let kept = false;
  after(() => {
    if (!kept) rmSync(folder, { recursive: true });
  });

  for (const row of ROWS.filter(({ name }) => NAMES.includes(name))) {
    it(row.fault, async function () {
      this.timeout(70_000 * TRIES);
      const why = row.needs.map(missingTool).find((reason) => reason !== undefined);
      if (why !== undefined) pending(this, why);
      const options = { nodes: 3, pace: PACE, dist: bundledDist(), settings: [], seed: Date.now() % 1_000_000, folder };
      try {
        const result = await runJudged(row, options, TRIES);
        if (missed(result).length === 0) return;
        const said = `\n${line(row.fault, result)}${remarks(row.fault, result)}logs and history: ${folder}`;
        if (isDoubtful(result)) pending(this, `the machine is too busy to judge: ${said}`);
        throw new Error(said);
      } catch (error) {
        kept = true;
        if (error instanceof BusyError) pending(this, error.message);
        throw error;
      }
    });
  }
});
