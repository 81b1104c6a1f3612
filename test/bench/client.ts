import { join } from 'node:path';
import { atLeast, type Bench, type Goal } from './goal.js';
import { GENERATOR_CORE, hasProc, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { runScript, startRing } from './processes.js';

interface Turn {
  readonly decisions: number;
  /** Part of them, 0 to 1. */
  readonly forwarded: number;
  readonly cpuSeconds: number;
}

const IN_FLIGHT: readonly { readonly inFlight: number; readonly goal: number | undefined }[] = [
  { inFlight: 1, goal: undefined },
  { inFlight: 64, goal: undefined },
  { inFlight: 512, goal: 15 },
];

/** The SDK against three nodes on one core, beside plain requests to them: CPU of caller and nodes for a decision. */
export const client: Bench = async ({ dist, quick, progress }) => {
  const what = 'SDK to plain requests, decisions per CPU second of caller and three nodes';
  if (!hasProc)
    return [
      { name: 'client', what, mustReach: '>= 15', measured: 'not measured: there is no /proc', reached: undefined },
    ];
  const nodes = await startRing(SERVER_CORE, dist, 3);
  const goals: Goal[] = [];
  for (const { inFlight, goal } of IN_FLIGHT) {
    progress(`client: ${inFlight} in flight`);
    const script = join(import.meta.dirname, 'client-process.js');
    const args = [nodes.urls.join(), nodes.pids.join(), inFlight, quick ? 3 : 7, 1_000].map(String);
    const { sdk, plain } = await runScript<{ sdk: Turn[]; plain: Turn[] }>(GENERATOR_CORE, [script, dist, ...args]);
    const micros = (turns: readonly Turn[]): number[] => turns.map((one) => (one.cpuSeconds / one.decisions) * 1e6);
    const ratios = micros(plain).map((one, i) => one / micros(sdk)[i]!);
    const costs = `${median(micros(sdk)).toFixed(1)} µs to ${median(micros(plain)).toFixed(1)} µs`;
    const forwarded = `forwarded ${(100 * median(sdk.map((one) => one.forwarded))).toFixed(0)}% to ${(100 * median(plain.map((one) => one.forwarded))).toFixed(0)}%`;
    goals.push({
      name: `client-${inFlight}`,
      what: `${what}, ${inFlight} in flight`,
      mustReach: goal === undefined ? '' : `>= ${goal}`,
      measured: `${spread(ratios, (value) => value.toFixed(2))}; ${costs}; ${forwarded}`,
      reached: goal === undefined ? undefined : atLeast(goal, median(ratios)),
    });
  }
  await nodes.stop();
  return goals;
};
