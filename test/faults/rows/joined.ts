import { setTimeout as sleep } from 'node:timers/promises';
import { createLoopback } from '../network.js';
import type { Row } from '../row.js';
import { PER_SECOND } from '../pace.js';
import { withStage, type Ownership } from '../stage.js';
import { commonNotes, failures, figure, loadHeld, overLimit } from '../verdict.js';
import { stop } from './stopped.js';

const JOIN_MS = 6_000;
const JOINERS = 2;

/** The ring grows by two that come at once, and shrinks by the same two. */
export const joined: Row = {
  name: 'joined',
  fault: 'join 3 → 5 under load; leave 5 → 3',
  needs: ['loopback'],
  run(options) {
    const { nodes, pace } = options;
    const { aroundMs } = pace;
    const network = createLoopback(nodes + JOINERS);
    return withStage(options, { name: 'joined', network, nodes, spanMs: 3 * aroundMs + JOIN_MS }, async (stage) => {
      const { cluster, load, clients } = stage;
      const few = cluster.nodes.map(({ index }) => index);
      const joiners = Array.from({ length: JOINERS }, (_, i) => nodes + i);
      const before = await stage.owners(0);
      await load.call('pace', { perSecond: PER_SECOND });
      await sleep(aroundMs);
      for (const index of joiners) stage.start(index);
      await stage.settled([...few, ...joiners]);
      const between = await stage.owners(0);
      await sleep(aroundMs);
      const codes = await Promise.all(joiners.map((index) => stop(stage, index)));
      await stage.settled(few);
      const after = await stage.owners(0);
      await sleep(aroundMs);
      const history = await stage.finish();
      const { asked } = history;

      const came = new Set(joiners.map((index) => cluster.nodes[index]!.id));
      const astray = moves(before, between).filter(({ owner }) => !came.has(owner));
      const returned = moves(before, after);
      return {
        failed: failures(asked),
        over: overLimit(asked, clients),
        back: undefined,
        also: [
          loadHeld(history),
          figure('clients that moved elsewhere than to a joiner', astray.length, '0', astray.length === 0),
          figure('clients whose owner is another than at first', returned.length, '0', returned.length === 0),
          figure(
            'exit codes',
            codes.join(),
            '0',
            codes.every((code) => code === 0),
          ),
        ],
        notes: [...commonNotes(history), `${moves(before, between).length} of ${clients.length} clients moved`],
      };
    });
  },
};

function moves(before: readonly Ownership[], after: readonly Ownership[]): readonly Ownership[] {
  return after.filter(({ owner }, i) => owner !== before[i]!.owner);
}
