import { setTimeout as sleep } from 'node:timers/promises';
import { SPARE_LIMIT } from '../clients.js';
import { createLoopback } from '../network.js';
import type { Row } from '../row.js';
import { PER_SECOND, SUSPECT_AFTER_MS } from '../pace.js';
import { spareClients, withStage } from '../stage.js';
import {
  admittedLately,
  commonNotes,
  duration,
  failures,
  figure,
  loadHeld,
  longestWait,
  overLimit,
} from '../verdict.js';
import { measureCopyAge } from './flush.js';

const BACK_WITHIN_MS = 300 + SUSPECT_AFTER_MS;
const VICTIM = 0;
/** Requests for each of the spare clients that wait in the sockets of the frozen node, and as many once it goes on. */
const WAITING = 10;

/** A node stops in the middle of everything, others stand in for it, and it goes on as if no time had passed. */
export const frozen: Row = {
  name: 'frozen',
  fault: 'owner frozen (-STOP), then continued',
  needs: ['loopback'],
  run(options) {
    const { aroundMs, frozenMs } = options.pace;
    const { nodes } = options;
    const network = createLoopback(nodes);
    const stageOptions = { name: 'frozen', network, nodes, spanMs: 3 * aroundMs + frozenMs, absent: [VICTIM] };
    return withStage(options, stageOptions, async (stage) => {
      const { cluster, load, clients } = stage;
      const victim = cluster.nodes[VICTIM]!;
      const owners = await stage.owners(VICTIM);
      const spare = spareClients(clients).filter((i) => owners[i]!.owner === victim.id);
      await load.call('pace', { perSecond: PER_SECOND });
      // Their limits are used up only while the owner is frozen: it knows of a quarter, and must not go by that.
      await load.call('burst', { clients: spare, times: SPARE_LIMIT / 4 });
      const { ageMs, note } = await measureCopyAge(stage, [VICTIM], aroundMs);
      const to = [{ node: VICTIM, pid: victim.pid }];
      const stoppedMs = await load.call('signal', { signal: 'SIGSTOP', to, routing: 'off' });
      await sleep(frozenMs / 2);
      await load.call('burst', { clients: spare, times: 2 * SPARE_LIMIT });
      await load.call('burst', { clients: spare, times: WAITING, node: VICTIM });
      await sleep(frozenMs / 2);
      const continuedMs = await load.call('signal', { signal: 'SIGCONT', to, routing: 'on' });
      stage.faults.push({ kind: 'freeze', node: victim.id, fromMs: stoppedMs, toMs: continuedMs });
      await load.call('burst', { clients: spare, times: WAITING, node: VICTIM });
      await stage.settled(cluster.nodes.map(({ index }) => index));
      await sleep(aroundMs);
      const history = await stage.finish();
      const { asked } = history;

      const orphaned = asked.filter(({ client, node }) => owners[client]!.owner === victim.id && node !== VICTIM);
      const waitMs = longestWait(
        orphaned.filter(({ sentMs, receivedMs }) => receivedMs > stoppedMs && sentMs < continuedMs),
        stoppedMs,
      );
      const lately = admittedLately(asked, new Set([victim.id]), stoppedMs, ageMs);
      const direct = asked.filter(
        ({ client, node, sentMs }) => node === VICTIM && sentMs > stoppedMs && spare.includes(client),
      );
      return {
        failed: failures(asked),
        over: overLimit(asked, clients, lately),
        back: duration('ms to the first decision', waitMs, BACK_WITHIN_MS),
        also: [
          loadHeld(history),
          figure(
            'of those asked directly at the frozen node and just after, on stale state admitted',
            direct.filter(({ allowed }) => allowed === true).length,
            `0 of ${direct.length}`,
            direct.every(({ allowed }) => allowed !== true),
          ),
        ],
        notes: [
          ...commonNotes(history, stoppedMs),
          note,
          `longest wait after it went on: ${Math.round(
            longestWait(
              asked.filter(({ receivedMs }) => receivedMs > continuedMs),
              continuedMs,
            ),
          )} ms`,
        ],
      };
    });
  },
};
