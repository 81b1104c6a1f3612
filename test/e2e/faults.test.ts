import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DIST } from '../faults/options.js';
import { runJudged } from '../faults/row.js';
import { ROWS } from '../faults/rows.js';
import { remarks, line } from '../faults/table.js';
import { missing } from '../faults/tools.js';
import { missed } from '../faults/verdict.js';

/** The quick version of `npm run faults`, which has the other rows too. */
const NAMES = ['killed', 'frozen', 'stopped', 'rolled', 'joined', 'cut-both-ways'];
const PACE = { aroundMs: 1_000, frozenMs: 2_000, cutMs: 3_000, lossyMs: 3_000 };
const TRIES = 3;

describe('a cluster of real processes under load keeps its promises through', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-faults-'));
  let kept = false;
  after(() => {
    if (!kept) rmSync(folder, { recursive: true });
  });

  for (const row of ROWS.filter(({ name }) => NAMES.includes(name))) {
    it(row.fault, async function () {
      this.timeout(60_000 * TRIES);
      const why = row.needs.map(missing).find((reason) => reason !== undefined);
      if (why !== undefined) {
        if (process.env['CI'] === 'true') throw new Error(why);
        this.test!.title += ` (${why})`;
        this.skip();
      }
      mkdirSync(folder, { recursive: true });
      const options = { nodes: 3, pace: PACE, dist: DIST, settings: [], seed: Date.now() % 1_000_000, folder };
      const result = await runJudged(row, options, TRIES);
      if (missed(result).length === 0) return;
      kept = true;
      throw new Error(`\n${line(row.fault, result)}${remarks(row.fault, result)}logs and history: ${folder}`);
    });
  }
});
