import { join } from 'node:path';
import { atLeast, count, type Bench, type Goal } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { runScript } from './processes.js';
import { measureQuietly } from './quiet.js';

/** `node.check` in a process of its own, by how its caller waits; calls a second. */
export const check: Bench = async ({ dist, quick, progress }) => {
  const script = join(import.meta.dirname, 'check-process.js');
  const runs = await measureQuietly(quick ? 3 : 7, (turn) => {
    progress(`check: run ${turn + 1}`);
    return runScript<{ together: number; sequential: number }>(SERVER_CORE, [script, dist, quick ? '0.5' : '1']);
  });
  return [
    goal(
      'check',
      'node.check in process, Promise.all of 1,000: calls/s',
      runs.map(({ together }) => together),
    ),
    goal(
      'check-sequential',
      'node.check in process, await one by one: calls/s',
      runs.map(({ sequential }) => sequential),
    ),
  ];
};

function goal(name: string, what: string, perSecond: readonly number[]): Goal {
  return {
    name,
    what,
    mustReach: '>= 1,500,000',
    measured: spread(perSecond, count),
    reached: atLeast(1_500_000, median(perSecond)),
  };
}
