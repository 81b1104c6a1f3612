import { join } from 'node:path';
import { askAtRate, askInTurns, CLIENTS, CONNECTIONS, meetAllClients, type Slice } from './generator.js';
import { atLeast, atMost, count, type Bench, type BenchOptions, type Goal } from './goal.js';
import { GENERATOR_CORE, hasProc, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { runScript, startBareServer, startRedisServer, startRing, type ServerProcess } from './processes.js';
import { measureQuietly } from './quiet.js';
import { missing } from '../support/programs.js';

const FEW = 3;
const MANY = 8;
const BATCH = 100;
/** Long against what a ring still does for the questions of a turn after its end: copies, for 50 ms. */
const TURN_MS = 500;
/** V8 compiles the path of a peer's messages only after a node has met thousands of them. */
const WARM_UP_SECONDS = 15;

/** Rings on one core with one entry node, beside a bare server and a limiter on Valkey on the same core. */
export const ring: Bench = async (options) => {
  const few = await startRing(SERVER_CORE, options.dist, FEW);
  const bare = await startBareServer(SERVER_CORE, few);
  const { goals, fewMicros } = await compareSingles(few, bare, options);
  goals.push(await compareBatches(few, bare, options));
  goals.push(await compareLatency(few, bare, options));
  goals.push(await measureForward(few, options));
  await Promise.all([few.stop(), bare.stop()]);
  goals.push(await measureGrowth(fewMicros, options));
  return goals;
};

/** Single POSTs: the ring, the bare server, and Valkey in turns. */
async function compareSingles(
  few: ServerProcess,
  bare: ServerProcess,
  { quick, progress }: BenchOptions,
): Promise<{ goals: Goal[]; fewMicros: number }> {
  const redis = missing('valkey-server') === undefined ? await startRedisServer(SERVER_CORE) : undefined;
  const servers = redis === undefined ? [few, bare] : [few, bare, redis];
  const sides = servers.map((server) => ({ server, limit: 100, batch: 1 }));
  progress(`ring of ${FEW}: warm-up`);
  await meetAllClients(few);
  await askInTurns(quick ? 5 : WARM_UP_SECONDS, sides);
  const turns = await measureQuietly(quick ? 5 : 9, (turn) => {
    progress(`ring of ${FEW}: turn ${turn + 1}`);
    return askInTurns(1, sides, TURN_MS);
  });
  await redis?.stop();
  const figure = (side: number, name: keyof Slice): number => median(turns.map((turn) => turn[side]![name]));
  const ratios = (side: number, name: keyof Slice): number[] => turns.map((turn) => turn[0]![name] / turn[side]![name]);
  const rates = ratios(1, 'requestsPerSecond');
  const goals: Goal[] = [
    {
      name: 'ring',
      what: `${FEW} nodes on one core, ${CONNECTIONS} connections, ${count(CLIENTS)} clients, two thirds forwarded: requests/s to those of bare node:http`,
      mustReach: '>= 0.55',
      measured: `${spread(rates)}; ${count(figure(0, 'requestsPerSecond'))} to ${count(figure(1, 'requestsPerSecond'))}`,
      reached: atLeast(0.55, median(rates)),
    },
  ];
  const what = 'the same, CPU per decision to that of rate-limiter-flexible on Valkey';
  if (redis === undefined || !hasProc) {
    const measured =
      redis === undefined ? `not measured: ${missing('valkey-server')!}` : 'not measured: there is no /proc';
    goals.push({ name: 'ring-redis', what, mustReach: '<= 0.9', measured, reached: undefined });
  } else {
    const costs = ratios(2, 'cpuMicros');
    goals.push({
      name: 'ring-redis',
      what,
      mustReach: '<= 0.9',
      measured: `${spread(costs)}; ${figure(0, 'cpuMicros').toFixed(1)} µs to ${figure(2, 'cpuMicros').toFixed(1)} µs; bare ${figure(1, 'cpuMicros').toFixed(1)} µs`,
      reached: atMost(0.9, median(costs)),
    });
  }
  return { goals, fewMicros: figure(0, 'cpuMicros') };
}

async function compareBatches(
  few: ServerProcess,
  bare: ServerProcess,
  { quick, progress }: BenchOptions,
): Promise<Goal> {
  const sides = [
    { server: few, limit: 10_000, batch: BATCH },
    { server: bare, limit: 100, batch: 1 },
  ];
  await askInTurns(quick ? 2 : 5, sides);
  const times = await measureQuietly(quick ? 3 : 7, async (turn) => {
    progress(`ring of ${FEW}: batches, turn ${turn + 1}`);
    const [batches, singles] = await askInTurns(1, sides, TURN_MS);
    return (batches!.requestsPerSecond * BATCH) / singles!.requestsPerSecond;
  });
  return {
    name: 'ring-batch',
    what: `the same by batches of ${BATCH}: decisions/s in multiples of the bare server's requests/s`,
    mustReach: '>= 5',
    measured: spread(times, (value) => value.toFixed(1)),
    reached: atLeast(5, median(times)),
  };
}

/** The p99 at half of what the ring can do, to the bare server's at the same rate. */
async function compareLatency(
  few: ServerProcess,
  bare: ServerProcess,
  { quick, progress }: BenchOptions,
): Promise<Goal> {
  const questions = { server: few, limit: 100, batch: 1 };
  const rates: number[] = [];
  for (let i = 0; i < 3; i += 1) rates.push((await askInTurns(1, [questions]))[0]!.requestsPerSecond);
  const rate = Math.max(...rates) / 2;
  const pairs = await measureQuietly(quick ? 3 : 7, async (turn) => {
    progress(`ring of ${FEW}: half load, pair ${turn + 1}`);
    const asked = { rate, seconds: quick ? 1 : 2, round: turn };
    return { few: await askAtRate(few, asked), bare: await askAtRate(bare, asked) };
  });
  const ratios = pairs.map((pair) => pair.few.p99Ms / pair.bare.p99Ms);
  const p99 = (side: 'few' | 'bare'): string => median(pairs.map((pair) => pair[side].p99Ms)).toFixed(2);
  return {
    name: 'ring-p99',
    what: `its p99 at half of its saturation (${count(rate)} requests/s) to that of bare node:http at the same rate`,
    mustReach: '<= 2',
    measured: `${spread(ratios)}; ${p99('few')} ms to ${p99('bare')} ms`,
    reached: atMost(2, median(ratios)),
  };
}

async function measureForward(few: ServerProcess, { quick, progress }: BenchOptions): Promise<Goal> {
  const added: number[] = [];
  for (let i = 0; i < (quick ? 1 : 3); i += 1) {
    progress(`ring of ${FEW}: idle, run ${i + 1}`);
    const script = join(import.meta.dirname, 'one-by-one.js');
    const args = [script, String(few.port), String(quick ? 3_000 : 10_000)];
    const { ownP99Ms, forwardedP99Ms } = await runScript<{ ownP99Ms: number; forwardedP99Ms: number }>(
      GENERATOR_CORE,
      args,
    );
    added.push(forwardedP99Ms - ownP99Ms);
  }
  return {
    name: 'ring-forward',
    what: `what a forward adds to the p99 on an idle ring of ${FEW}, one request at a time`,
    mustReach: '<= 1 ms',
    measured: `${spread(added, (ms) => ms.toFixed(2))} ms`,
    reached: added.every((ms) => ms <= 1) ? 1 : atMost(1, median(added)),
  };
}

async function measureGrowth(fewMicros: number, { dist, quick, progress }: BenchOptions): Promise<Goal> {
  const many = await startRing(SERVER_CORE, dist, MANY);
  const questions = { server: many, limit: 100, batch: 1 };
  progress(`ring of ${MANY}: warm-up`);
  await meetAllClients(many);
  await askInTurns(quick ? WARM_UP_SECONDS : 2 * WARM_UP_SECONDS, [questions]);
  const slices = await measureQuietly(quick ? 3 : 5, async (turn) => {
    progress(`ring of ${MANY}: turn ${turn + 1}`);
    return (await askInTurns(2, [questions]))[0]!;
  });
  await many.stop();
  const growth = slices.map(({ cpuMicros }) => cpuMicros / fewMicros);
  const manyMicros = median(slices.map(({ cpuMicros }) => cpuMicros));
  const percent = (value: number): string => `${(value * 100).toFixed(0)}%`;
  return {
    name: 'ring-growth',
    what: `CPU per decision of ${MANY} members to that of ${FEW}, all on one core; ${percent(1 - 1 / MANY)} and ${percent(1 - 1 / FEW)} are forwarded`,
    mustReach: '<= 1.15',
    measured: hasProc
      ? `${spread(growth, (value) => value.toFixed(2))}; ${manyMicros.toFixed(1)} µs to ${fewMicros.toFixed(1)} µs`
      : 'not measured: there is no /proc',
    reached: hasProc ? atMost(1.15, median(growth)) : undefined,
  };
}
