import { askInTurns, CLIENTS, CONNECTIONS, meetAllClients } from './generator.js';
import { atLeast, atMost, count, type Bench } from './goal.js';
import { hasProc, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { startBareServer, startNode } from './processes.js';
import { measureQuietly } from './quiet.js';

/** `POST /v1/allow` against a bare node:http server that reads, parses and answers the same. */
export const allow: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  const bare = await startBareServer(SERVER_CORE, node);
  const sides = [node, bare].map((server) => ({ server, limit: 100, batch: 1 }));
  progress('allow: warm-up');
  await meetAllClients(node);
  await askInTurns(quick ? 3 : 5, sides);
  const pairs = await measureQuietly(quick ? 5 : 9, async (turn) => {
    progress(`allow: pair ${turn + 1}`);
    const [ours, bares] = await askInTurns(2, sides);
    return { ours: ours!, bares: bares! };
  });
  await Promise.all([node.stop(), bare.stop()]);

  const speeds = pairs.map(({ ours, bares }) => ours.requestsPerSecond / bares.requestsPerSecond);
  const costs = pairs.map(({ ours, bares }) => ours.cpuMicros / bares.cpuMicros);
  const perSecond = (side: 'ours' | 'bares') => count(median(pairs.map((pair) => pair[side].requestsPerSecond)));
  const micros = (side: 'ours' | 'bares') => median(pairs.map((pair) => pair[side].cpuMicros)).toFixed(1);
  return [
    {
      name: 'allow',
      what: `POST /v1/allow, ${CONNECTIONS} connections, ${count(CLIENTS)} clients: requests/s to those of bare node:http`,
      mustReach: '>= 0.9',
      measured: `${spread(speeds)}; ${perSecond('ours')} to ${perSecond('bares')}`,
      reached: atLeast(0.9, median(speeds)),
    },
    {
      name: 'allow-cpu',
      what: 'CPU per decision to that of bare node:http',
      mustReach: '<= 1.15',
      measured: hasProc ? `${spread(costs)}; ${micros('ours')} µs to ${micros('bares')} µs` : 'not measured',
      reached: hasProc ? atMost(1.15, median(costs)) : undefined,
    },
  ];
};
