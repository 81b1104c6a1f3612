import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../../src/core/ring.js';
import type { Fault } from '../../sim/history.js';
import { createNamespaces } from '../namespaces.js';
import type { CuttableNetwork } from '../namespaces.js';
import { machineMs } from '../history.js';
import type { Row } from '../row.js';
import { PER_SECOND } from '../pace.js';
import { withStage } from '../stage.js';
import { commonNotes, countBy, duration, failures, loadHeld, overLimit } from '../verdict.js';
import { agreement } from './agreement.js';
import { extraBuckets } from './extra-buckets.js';
import { measureCopyAge } from './flush.js';

const HEALED_WITHIN_MS = 2_000;
export const PEER_SETTINGS = ['--peer-secret', 'known to the nodes of this test only'];

/** The one that is cut off. */
const ALONE = 0;

export const cutBothWays: Row = partitionRow('cut-both-ways', 'two-way partition, healed', {
  cut(network, nodes) {
    for (let node = 1; node < nodes; node += 1) {
      network.cut(ALONE, node);
      network.cut(node, ALONE);
    }
  },
  faults: ([alone, ...rest], span) => [{ kind: 'partition', sides: [[alone!], rest], ...span }],
});

export const cutOneWay: Row = partitionRow('cut-one-way', 'one-way partition, healed', {
  cut(network, nodes) {
    for (let node = 1; node < nodes; node += 1) network.cut(ALONE, node);
  },
  faults: ([alone, ...rest], span) => [{ kind: 'one-way', from: [alone!], to: rest, ...span }],
});

/** Two that do not reach each other, while all others hear both: neither is suspected by anyone. */
export const cutPair: Row = partitionRow('cut-pair', 'partition of one pair of nodes, healed', {
  cut(network) {
    network.cut(ALONE, 1);
    network.cut(1, ALONE);
  },
  faults: ([alone, other], span) => [
    { kind: 'one-way', from: [alone!], to: [other!], ...span },
    { kind: 'one-way', from: [other!], to: [alone!], ...span },
  ],
});

interface Cut {
  cut(network: CuttableNetwork, nodes: number): void;
  /** What it is to the checker. @param ids of the nodes */
  faults(ids: readonly NodeId[], span: { readonly fromMs: number; readonly toMs: number }): readonly Fault[];
}

function partitionRow(name: string, fault: string, kind: Cut): Row {
  return {
    name,
    fault,
    needs: ['namespaces'],
    run(options) {
      const { nodes, pace } = options;
      const { aroundMs, cutMs } = pace;
      const network = createNamespaces(nodes);
      const spanMs = 2 * aroundMs + cutMs + HEALED_WITHIN_MS;
      return withStage(options, { name, network, nodes, settings: PEER_SETTINGS, spanMs }, async (stage) => {
        const { load, clients, cluster } = stage;
        const all = cluster.nodes.map(({ index }) => index);
        const owners = await stage.owners(ALONE);
        await load.call('pace', { perSecond: PER_SECOND });
        const { ageMs } = await measureCopyAge(stage, all, aroundMs);
        const cutAtMs = machineMs();
        kind.cut(network, nodes);
        await sleep(cutMs);
        network.heal();
        const healedMs = machineMs();
        const ids = cluster.nodes.map(({ id }) => id);
        stage.faults.push(...kind.faults(ids, { fromMs: cutAtMs, toMs: healedMs }));
        const agreedMs = await stage.settled(all);
        await sleep(Math.max(0, HEALED_WITHIN_MS - (machineMs() - healedMs)));
        const states = await agreement(stage, all);
        await load.call('pace', { perSecond: PER_SECOND });
        await sleep(aroundMs);
        const history = await stage.finish();
        const { asked } = history;

        const odd = asked.filter(
          ({ degraded, source, sentMs }) => sentMs > healedMs && (degraded === true || source === 'fallback'),
        );
        const oddUntilMs = odd.reduce((latest, { sentMs }) => Math.max(latest, sentMs), healedMs);
        const backMs = Math.max(agreedMs, oddUntilMs) - healedMs;
        const meanwhile = asked.filter(({ sentMs, receivedMs }) => receivedMs > cutAtMs && sentMs < healedMs);
        const over = overLimit(asked, clients, extraBuckets(clients, cutMs + HEALED_WITHIN_MS));
        return {
          failed: failures(asked),
          over: { ...over, bound: '<= one extra bucket for each client' },
          back: duration('ms until all is as before', backMs, HEALED_WITHIN_MS),
          also: [loadHeld(history), ...states.judge({ asked, owners, cutAtMs, ageMs })],
          notes: [
            ...commonNotes(history, cutAtMs),
            `meanwhile: ${countBy(meanwhile, ({ source, degraded }) => `${source}${degraded === true ? ' (degraded)' : ''}`)}`,
            `rings agreed ${Math.round(agreedMs - healedMs)} ms after healing, the last degraded answer was asked for ${Math.round(oddUntilMs - healedMs)} ms after it`,
          ],
        };
      });
    },
  };
}
