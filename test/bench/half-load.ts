import { askAtRate, askInTurns, meetAllClients } from './generator.js';
import { atMost, count, type Bench } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { startBareServer, startNode } from './processes.js';
import { measureQuietly } from './quiet.js';

/** The p99 of `POST /v1/allow` at half the rate that a bare node:http server can do. */
export const halfLoad: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  const bare = await startBareServer(SERVER_CORE, node);
  progress('half-load: warm-up, and what the bare server can do');
  const sides = [node, bare].map((server) => ({ server, limit: 100, batch: 1 }));
  await meetAllClients(node);
  await askInTurns(2, sides);
  const rates: number[] = [];
  for (let i = 0; i < (quick ? 3 : 5); i += 1) rates.push((await askInTurns(1, sides))[1]!.requestsPerSecond);
  // The best one: what disturbs a server says nothing about what it can do.
  const rate = Math.max(...rates) / 2;
  const pairs = await measureQuietly(quick ? 5 : 9, async (turn) => {
    progress(`half-load: pair ${turn + 1}`);
    // Both get the same questions at the same times.
    const asked = { rate, seconds: quick ? 1 : 2, round: turn };
    const first = await askAtRate(turn % 2 === 0 ? node : bare, asked);
    const second = await askAtRate(turn % 2 === 0 ? bare : node, asked);
    return turn % 2 === 0 ? { ours: first, bares: second } : { ours: second, bares: first };
  });
  await Promise.all([node.stop(), bare.stop()]);

  const ratios = pairs.map(({ ours, bares }) => ours.p99Ms / bares.p99Ms);
  const p99 = (side: 'ours' | 'bares') => median(pairs.map((pair) => pair[side].p99Ms)).toFixed(2);
  return [
    {
      name: 'half-load',
      what: `p99 at half of that load (${count(rate)} requests/s, each sent when due) to that of bare node:http`,
      mustReach: '<= 1.5',
      measured: `${spread(ratios)}; ${p99('ours')} ms to ${p99('bares')} ms`,
      reached: atMost(1.5, median(ratios)),
    },
  ];
};
