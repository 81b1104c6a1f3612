import { setTimeout as sleep } from 'node:timers/promises';
import { createLoopback } from '../network.js';
import type { Row } from '../row.js';
import { PER_SECOND } from '../pace.js';
import { withStage } from '../stage.js';
import { admittedLately, commonNotes, duration, failures, loadHeld, longestWait, overLimit } from '../verdict.js';
import { measureCopyAge } from './flush.js';

const BACK_WITHIN_MS = 300;

export const killed: Row = killedRow('killed', 'owner killed (-KILL)', 1, (nodes) => nodes);
export const killedTwo: Row = killedRow('killed-two', 'two of five killed at once, REPLICAS=2', 2, (nodes) =>
  Math.max(5, nodes),
);

function killedRow(name: string, fault: string, victims: number, size: (nodes: number) => number): Row {
  return {
    name,
    fault,
    needs: ['loopback'],
    run(options) {
      const { aroundMs } = options.pace;
      const nodes = size(options.nodes);
      const spanMs = 3 * aroundMs;
      return withStage(
        options,
        { name, network: createLoopback(nodes), nodes, replicas: victims, spanMs },
        async (stage) => {
          const { cluster, load, clients } = stage;
          const owners = await stage.owners(0);
          await load.call('pace', { perSecond: PER_SECOND });
          const { ageMs, note } = await measureCopyAge(stage, range(victims), aroundMs);
          const to = range(victims).map((node) => ({ node, pid: cluster.nodes[node]!.pid }));
          const killedMs = await load.call('signal', { signal: 'SIGKILL', to, routing: 'off' });
          for (const { node } of to)
            stage.faults.push({
              kind: 'crash',
              node: cluster.nodes[node]!.id,
              silent: false,
              fromMs: killedMs,
              toMs: killedMs,
            });
          await sleep(2 * aroundMs);
          const history = await stage.finish();
          const { asked } = history;

          const dead = new Set(range(victims).map((i) => cluster.nodes[i]!.id));
          const orphaned = new Set(clients.map((_, i) => i).filter((i) => dead.has(owners[i]!.owner)));
          const withVictim = ({ node, sentMs }: { node: number; sentMs: number }): boolean =>
            node < victims && sentMs <= killedMs;
          const survivors = asked.filter((one) => !withVictim(one));
          const later = survivors.filter(({ receivedMs }) => receivedMs > killedMs);
          const waitMs = longestWait(
            later.filter(({ client }) => orphaned.has(client)),
            killedMs,
          );
          const elseMs = longestWait(
            later.filter(({ client }) => !orphaned.has(client)),
            killedMs,
          );
          return {
            failed: failures(survivors),
            over: overLimit(asked, clients, admittedLately(asked, dead, killedMs, ageMs)),
            back: duration('ms to the first decision', waitMs, BACK_WITHIN_MS),
            also: [loadHeld(history)],
            notes: [
              ...commonNotes(history, killedMs),
              note,
              `longest wait meanwhile for other clients: ${Math.round(elseMs)} ms`,
            ],
          };
        },
      );
    },
  };
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
