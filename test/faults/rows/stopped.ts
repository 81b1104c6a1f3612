import { setTimeout as sleep } from 'node:timers/promises';
import { machineMs } from '../history.js';
import { createLoopback } from '../network.js';
import type { Row } from '../row.js';
import { PER_SECOND } from '../pace.js';
import { withStage, type Stage } from '../stage.js';
import { commonNotes, failures, figure, loadHeld, overLimit } from '../verdict.js';

const ROLL_MS = 6_000;

export const stopped: Row = stoppedRow('stopped', 'planned stop (SIGTERM), and restart', async (stage, aroundMs) => {
  const code = await stop(stage, 0);
  await sleep(aroundMs / 2);
  await restart(stage, 0);
  return [code];
});

export const rolled: Row = stoppedRow('rolled', 'rolling restart of all nodes, one after another', async (stage) => {
  const codes = [];
  for (const { index } of [...stage.cluster.nodes]) {
    codes.push(await stop(stage, index));
    await restart(stage, index);
  }
  return codes;
});

/** @param play the stops, of which it returns the exit codes */
function stoppedRow(
  name: string,
  fault: string,
  play: (stage: Stage, aroundMs: number) => Promise<readonly (number | undefined)[]>,
): Row {
  return {
    name,
    fault,
    needs: ['loopback'],
    run(options) {
      const { nodes, pace } = options;
      const { aroundMs } = pace;
      const spanMs = 2 * aroundMs + ROLL_MS;
      return withStage(options, { name, network: createLoopback(nodes), nodes, spanMs }, async (stage) => {
        const { load, clients } = stage;
        await load.call('pace', { perSecond: PER_SECOND });
        await sleep(aroundMs);
        const codes = await play(stage, aroundMs);
        await sleep(aroundMs);
        const history = await stage.finish();
        const { asked } = history;
        return {
          failed: failures(asked),
          over: overLimit(asked, clients),
          back: undefined,
          also: [
            loadHeld(history),
            figure(
              'exit codes',
              codes.join(),
              '0',
              codes.every((code) => code === 0),
            ),
          ],
          notes: commonNotes(history),
        };
      });
    },
  };
}

/** As an operator does; the load finds out by itself. @returns the exit code */
export async function stop({ cluster, load, faults }: Stage, index: number): Promise<number | undefined> {
  const { id, pid, exited } = cluster.nodes[index]!;
  const to = [{ node: index, pid }];
  const fromMs = await load.call('signal', { signal: 'SIGTERM', to, routing: 'as-it-says' });
  const code = await exited;
  faults.push({ kind: 'leave', node: id, fromMs, toMs: machineMs() });
  return code;
}

/** Starts it again, and goes on as soon as it says that it is ready, as a rolling deployment does. */
async function restart(stage: Stage, index: number): Promise<void> {
  const { cluster, load } = stage;
  stage.start(index);
  await cluster.nodes[index]!.ready;
  while (!(await load.call('routed', { node: index }))) await sleep(20);
}
