import { askInTurns, meetAllClients } from './generator.js';
import { atLeast, count, type Bench } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { startBareServer, startNode } from './processes.js';
import { measureQuietly } from './quiet.js';

const BATCH = 100;
/** When a turn ends, 64 batches are in flight: 6 ms of work. */
const TURN_MS = 500;

/** Decisions by `POST /v1/allow/batch`, in multiples of what a bare server answers one by one. */
export const batch: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  const bare = await startBareServer(SERVER_CORE, node);
  // A limit that a million decisions a second do not reach.
  const sides = [
    { server: node, limit: 10_000, batch: BATCH },
    { server: bare, limit: 100, batch: 1 },
  ];
  progress('batch: warm-up');
  await meetAllClients(node);
  await askInTurns(quick ? 3 : 5, sides);
  const pairs = await measureQuietly(quick ? 5 : 7, async (turn) => {
    progress(`batch: pair ${turn + 1}`);
    const [batches, singles] = await askInTurns(2, sides, TURN_MS);
    return { perSecond: batches!.requestsPerSecond * BATCH, singlesPerSecond: singles!.requestsPerSecond };
  });
  await Promise.all([node.stop(), bare.stop()]);

  const perSecond = pairs.map((pair) => pair.perSecond);
  const times = pairs.map((pair) => pair.perSecond / pair.singlesPerSecond);
  return [
    {
      name: 'batch',
      what: `POST /v1/allow/batch, ${BATCH} decisions each: decisions/s`,
      mustReach: '>= 15 times',
      measured: `${spread(perSecond, count)}; ${spread(times, (value) => value.toFixed(1))} times the requests/s of bare node:http`,
      reached: atLeast(15, median(times)),
    },
  ];
};
