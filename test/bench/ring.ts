import { join } from 'node:path';
import { askInTurns, CLIENTS, CONNECTIONS, meetAllClients } from './generator.js';
import { atLeast, atMost, count } from './goal.js';
import type { Bench } from './goal.js';
import { GENERATOR_CORE, hasProc, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { runScript, startBareServer, startRing } from './processes.js';
import { measureQuietly } from './quiet.js';

const FEW = 3;
const MANY = 8;
/** Long against what a ring still does for the questions of a turn after its end: copies, for 50 ms. */
const TURN_MS = 500;

/** So long each ring is asked before it is measured: a node must have met thousands of peers' messages before V8 compiles that path. */
const WARM_UP_SECONDS = 15;

/** A ring of 3 nodes, all on one core with one entrance, against a bare server on that core; and then one of 8. */
export const ring: Bench = async ({ dist, quick, progress }) => {
  const few = await startRing(SERVER_CORE, dist, FEW);
  const bare = await startBareServer(SERVER_CORE, few);
  const ofFew = { server: few, limit: 100, batch: 1 };
  const ofBare = { server: bare, limit: 100, batch: 1 };
  progress(`ring of ${FEW}: warm-up`);
  await meetAllClients(few);
  await askInTurns(WARM_UP_SECONDS, [ofFew]);
  const turns = await measureQuietly(quick ? 5 : 9, async (turn) => {
    progress(`ring of ${FEW}: turn ${turn + 1}`);
    const [slice, bareSlice] = await askInTurns(1, [ofFew, ofBare], TURN_MS);
    return { few: slice!, bare: bareSlice! };
  });
  const idle = [];
  for (let i = 0; i < (quick ? 1 : 3); i += 1) {
    progress(`ring of ${FEW}: idle, run ${i + 1}`);
    idle.push(await askOneByOne(few.port, quick ? 3_000 : 10_000));
  }
  await Promise.all([few.stop(), bare.stop()]);

  const many = await startRing(SERVER_CORE, dist, MANY);
  const ofMany = { server: many, limit: 100, batch: 1 };
  progress(`ring of ${MANY}: warm-up`);
  await meetAllClients(many);
  await askInTurns(2 * WARM_UP_SECONDS, [ofMany]);
  const manySlices = await measureQuietly(quick ? 3 : 5, async (turn) => {
    progress(`ring of ${MANY}: turn ${turn + 1}`);
    return (await askInTurns(2, [ofMany]))[0]!;
  });
  await many.stop();

  const rates = turns.map((turn) => turn.few.requestsPerSecond / turn.bare.requestsPerSecond);
  const rate = (side: 'few' | 'bare') => count(median(turns.map((turn) => turn[side].requestsPerSecond)));
  const fewCost = median(turns.map((turn) => turn.few.cpuMicros));
  const growth = manySlices.map(({ cpuMicros }) => cpuMicros / fewCost - 1);
  const manyCost = median(manySlices.map(({ cpuMicros }) => cpuMicros));
  const added = idle.map(({ forwardedP99Ms, ownP99Ms }) => forwardedP99Ms - ownP99Ms);
  const percent = (value: number): string => `${(value * 100).toFixed(1)}%`;
  return [
    {
      name: 'ring',
      what: `${FEW} nodes on one core, ${CONNECTIONS} connections, ${count(CLIENTS)} clients, two thirds forwarded: requests/s to those of bare node:http`,
      mustReach: '>= 0.72',
      measured: `${spread(rates)}; ${rate('few')} to ${rate('bare')}`,
      reached: atLeast(0.72, median(rates)),
    },
    {
      name: 'ring-growth',
      what: `growth of the CPU per decision from ${FEW} to ${MANY} members, of which ${percent(1 - 1 / FEW)} and ${percent(1 - 1 / MANY)} are forwarded`,
      mustReach: '<= 5%',
      measured: hasProc
        ? `${spread(growth, percent)}; ${fewCost.toFixed(1)} µs to ${manyCost.toFixed(1)} µs`
        : 'not measured',
      reached: hasProc ? atMost(1.05, 1 + median(growth)) : undefined,
    },
    {
      name: 'ring-forward',
      what: `what a forward adds to the p99 on an idle ring of ${FEW}, one request at a time`,
      mustReach: '<= 1 ms',
      measured: `${spread(added, (ms) => ms.toFixed(2))} ms`,
      reached: added.every((ms) => ms <= 1) ? 1 : atMost(1, median(added)),
    },
  ];
};

function askOneByOne(port: number, times: number): Promise<{ ownP99Ms: number; forwardedP99Ms: number }> {
  return runScript(GENERATOR_CORE, [join(import.meta.dirname, 'one-by-one.js'), String(port), String(times)]);
}
