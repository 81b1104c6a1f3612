import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRandom } from '../../sim/random.js';
import { createLoopback } from '../network.js';
import type { Row } from '../row.js';
import { PER_SECOND } from '../pace.js';
import { withStage } from '../stage.js';
import { commonNotes, failures, figure, loadHeld, overLimit } from '../verdict.js';
import { faketimeLibrary } from '../../support/programs.js';

const STEPS = 6;
const MAX_HOURS = 30;
const HOUR_MS = 3_600_000;

/** Only the wall clock of each process is false, and steps forward and back by hours; its monotonic clock is the machine's. */
export const clocks: Row = {
  name: 'clocks',
  fault: 'wall clocks of the nodes hours apart, stepped while running',
  needs: ['loopback', 'faketime'],
  run(options) {
    const { nodes, pace } = options;
    const { aroundMs } = pace;
    const folder = join(options.folder, 'clocks');
    mkdirSync(folder, { recursive: true });
    const fileOf = (index: number): string => join(folder, `clock${index}`);
    const random = createRandom(options.seed);
    const step = (index: number): void => {
      const hours = random.between(1, MAX_HOURS);
      writeFileSync(fileOf(index), `${random.chance(0.5) ? '+' : '-'}${hours}h\n`);
    };
    for (let i = 0; i < nodes; i += 1) step(i);
    const env = (index: number): NodeJS.ProcessEnv => ({
      LD_PRELOAD: faketimeLibrary(),
      FAKETIME_TIMESTAMP_FILE: fileOf(index),
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      FAKETIME_CACHE_DURATION: '1',
    });
    const network = createLoopback(nodes);
    return withStage(options, { name: 'clocks', network, nodes, env, spanMs: 3 * aroundMs }, async (stage) => {
      const { load, clients, cluster } = stage;
      await load.call('pace', { perSecond: PER_SECOND });
      const offsets = cluster.nodes.map((): number[] => []);
      for (let i = 0; i < STEPS; i += 1) {
        await sleep((3 * aroundMs) / STEPS);
        for (const { index } of cluster.nodes) {
          const { date } = await load.get(index, '/healthz');
          offsets[index]!.push((Date.parse(date!) - Date.now()) / HOUR_MS);
        }
        step(i % nodes);
      }
      const history = await stage.finish();
      const { asked } = history;
      const apart = offsets[0]!.map((_, i) => {
        const now = offsets.map((of) => of[i]!);
        return Math.max(...now) - Math.min(...now);
      });
      const told = offsets.map((of) => of.map((hours) => Math.round(hours)).join(' ')).join('; ');
      return {
        failed: failures(asked),
        over: overLimit(asked, clients),
        back: undefined,
        also: [
          loadHeld(history),
          figure('hours between the clocks', Math.max(...apart), '>= 1', Math.max(...apart) >= 1),
        ],
        notes: [...commonNotes(history), `hours that each node was ahead at each step: ${told}`],
      };
    });
  },
};
