import { join } from 'node:path';
import { askInTurns, meetAllClients } from './generator.js';
import { atMost, type Bench } from './goal.js';
import { hasProc, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { runScript, startBareServer, startNode } from './processes.js';
import { measureQuietly } from './quiet.js';

const BATCH = 100;
const NODES = 3;

/**
 * A hop between nodes without sockets: three nodes in one process with the codec and replication on, beside one node alone.
 * The difference is held against one request of a bare node:http server in the same run.
 */
export const hop: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  const bare = await startBareServer(SERVER_CORE, node);
  await meetAllClients(node);
  await node.stop();
  const sides = [{ server: bare, limit: 100, batch: 1 }];
  await askInTurns(2, sides);
  const script = join(import.meta.dirname, 'hop-process.js');
  const inProcess = async (nodes: number): Promise<number> => {
    const args = [script, dist, String(nodes), String(BATCH), quick ? '2' : '4'];
    return (await runScript<{ cpuMicros: number }>(SERVER_CORE, args)).cpuMicros;
  };
  const turns = await measureQuietly(quick ? 2 : 5, async (turn) => {
    progress(`hop: turn ${turn + 1}`);
    const one = await inProcess(1);
    const three = await inProcess(NODES);
    const [slice] = await askInTurns(1, sides);
    return { one, three, bare: slice!.cpuMicros };
  });
  await bare.stop();
  const ratios = turns.map(({ one, three, bare: request }) => (three - one) / request);
  const figure = (name: 'one' | 'three' | 'bare'): string => median(turns.map((turn) => turn[name])).toFixed(1);
  return [
    {
      name: 'hop',
      what: `${NODES} nodes in one process, codec and replication on, batches of ${BATCH}: CPU per decision beyond one node's, to one request of bare node:http`,
      mustReach: '<= 0.1',
      measured: hasProc
        ? `${spread(ratios)}; ${figure('three')} µs and ${figure('one')} µs to ${figure('bare')} µs`
        : 'not measured: there is no /proc',
      reached: hasProc ? atMost(0.1, median(ratios)) : undefined,
    },
  ];
};
