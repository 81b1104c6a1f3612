import { join } from 'node:path';
import { atLeast, count } from './goal.js';
import type { Bench } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { median } from './pairs.js';
import { runScript } from './processes.js';

/** `node.check` in process. */
export const check: Bench = async ({ dist, quick, progress }) => {
  progress('check: node.check in a process of its own');
  const script = join(import.meta.dirname, 'check-process.js');
  const { together, sequential } = await runScript<{ together: number[]; sequential: number[] }>(SERVER_CORE, [
    script,
    dist,
    ...(quick ? ['0.5', '5'] : ['1', '9']),
  ]);
  return [
    goal('node.check in process, 1,000 callers at once: calls/s', together),
    goal('node.check in process, one after the other: calls/s', sequential),
  ];
};

function goal(what: string, perSecond: readonly number[]) {
  const middle = median(perSecond);
  return {
    what,
    mustReach: '>= 1,500,000',
    measured: `${count(middle)} (${count(Math.min(...perSecond))} to ${count(Math.max(...perSecond))})`,
    reached: atLeast(1_500_000, middle),
  };
}
