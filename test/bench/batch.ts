import { askInTurns, meetAllClients } from './generator.js';
import { atLeast, count } from './goal.js';
import type { Bench } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { startNode } from './processes.js';
import { measureQuietly } from './quiet.js';

const BATCH = 100;
/** When a turn ends, 64 batches are in flight: 6 ms of work. */
const TURN_MS = 500;

/** Decisions by `POST /v1/allow/batch`, and how many times those of one by one they are. */
export const batch: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  // A limit that a million decisions a second do not reach.
  const sides = [BATCH, 1].map((size) => ({ server: node, limit: 10_000, batch: size }));
  progress('batch: warm-up');
  await meetAllClients(node);
  await askInTurns(quick ? 3 : 5, sides);
  const pairs = await measureQuietly(quick ? 5 : 7, async (turn) => {
    progress(`batch: pair ${turn + 1}`);
    const [batches, singles] = await askInTurns(2, sides, TURN_MS);
    return { perSecond: batches!.requestsPerSecond * BATCH, singlesPerSecond: singles!.requestsPerSecond };
  });
  await node.stop();

  const perSecond = pairs.map((pair) => pair.perSecond);
  const times = pairs.map((pair) => pair.perSecond / pair.singlesPerSecond);
  return [
    {
      name: 'batch',
      what: `POST /v1/allow/batch, ${BATCH} decisions each: decisions/s`,
      mustReach: '>= 1,000,000, or 20 times the single path',
      measured: `${spread(perSecond, count)}; ${spread(times, (value) => value.toFixed(1))} times`,
      reached: Math.max(atLeast(1_000_000, median(perSecond)), atLeast(20, median(times))),
    },
  ];
};
