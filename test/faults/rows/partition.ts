import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../../src/limits/ring/ring.js';
import type { Fault } from '../../sim/history.js';
import { startEtcdOn, type EtcdOnHosts } from '../etcd-hosts.js';
import { createNamespaces, type CuttableNetwork } from '../namespaces.js';
import { machineMs, type Asked } from '../history.js';
import type { Row } from '../row.js';
import { PER_SECOND, UNSUSPECTED } from '../pace.js';
import { withStage, type Ownership, type RunOptions, type StageResult } from '../stage.js';
import { ETCDS } from '../strict.js';
import {
  admittedLately,
  commonNotes,
  countBy,
  duration,
  failures,
  loadHeld,
  overLimit,
  type Figure,
} from '../verdict.js';
import { agreement } from './agreement.js';
import { extraBuckets } from './extra-buckets.js';
import { measureCopyAge } from './flush.js';

const HEALED_WITHIN_MS = 2_000;
export const PEER_SETTINGS = ['--peer-secret', 'known to the nodes of this test only'];

/** The one that is cut off. */
const ALONE = 0;

const bothWays: Cut = {
  cut(network, nodes) {
    for (let node = 1; node < nodes; node += 1) {
      network.cut(ALONE, node);
      network.cut(node, ALONE);
    }
  },
  faults: ([alone, ...rest], span) => [{ kind: 'partition', sides: [[alone!], rest], ...span }],
};

export const cutBothWays: Row = partitionRow('cut-both-ways', 'two-way partition, healed', bothWays);

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

/** Members in an etcd of three, which some do not reach. */
const LEASE_MS = 2_000;
/** A lease ends, and who joins again has been found out and handed its clients. */
const JOINED_WITHIN_MS = LEASE_MS + HEALED_WITHIN_MS;

/** Its lease ends, and others own its clients; it hears from its peers that it is out, and joins once etcd answers again. */
export const etcdCutOff: Row = partitionRow('etcd-cut-off', 'one node cut off from etcd, not from its peers, healed', {
  etcd: true,
  settings: UNSUSPECTED,
  above: 'lately',
  cut(network, nodes) {
    network.cutAll(etcdHosts(nodes).flatMap((host) => [[ALONE, host] as const, [host, ALONE] as const]));
  },
  // When it was replaced is read off the history.
  faults: () => [],
});

/**
 * A node that was taken out of the ring decides until it hears of that. The node that decides instead need not know of its
 * latest decisions. So as much may be admitted again as after a frozen node.
 */
function replaced(
  asked: readonly Asked[],
  owners: readonly Ownership[],
  alone: NodeId,
  span: { readonly fromMs: number; readonly toMs: number; readonly ageMs: number },
): { readonly fault: Fault; readonly lately: ReadonlyMap<number, number>; readonly bothMs: number } {
  const meanwhile = asked.filter(
    ({ client, allowed, sentMs, receivedMs }) =>
      owners[client]!.owner === alone && allowed === true && receivedMs > span.fromMs && sentMs < span.toMs,
  );
  const others = meanwhile.filter(({ owner }) => owner !== alone);
  const takenMs = others.reduce((first, { sentMs }) => Math.min(first, sentMs), span.toMs);
  const own = meanwhile.filter(({ owner }) => owner === alone);
  const lastMs = own.reduce((last, { receivedMs }) => Math.max(last, receivedMs), takenMs);
  return {
    fault: { kind: 'replaced', node: alone, fromMs: takenMs, heardMs: lastMs, toMs: span.toMs },
    lately: admittedLately(asked, new Set([alone]), lastMs, lastMs - takenMs + span.ageMs),
    // Somebody decided instead no later than that was received.
    bothMs: lastMs - others.reduce((first, { receivedMs }) => Math.min(first, receivedMs), lastMs),
  };
}

/** Until it hears from a peer that it is out: they pass views on with their answers, and are asked each tenth of the suspicion time. */
const HEARS_WITHIN_MS = 1_000;

/** It stays a member, and stands in for those that it does not reach, as they do for it: two sides, as without etcd. */
export const etcdNotPeers: Row = partitionRow(
  'etcd-not-peers',
  'one node cut off from its peers, not from etcd, healed',
  { ...bothWays, etcd: true },
);

export const etcdDown: Row = partitionRow('etcd-down', 'all of etcd killed, and started again', {
  etcd: true,
  settings: UNSUSPECTED,
  above: 'none',
  async cut(_network, _nodes, etcd) {
    await Promise.all(etcd!.members.map((member) => member.kill()));
  },
  async heal(_network, etcd) {
    etcd!.members.forEach((member) => member.restart());
    await etcd!.elected();
  },
  faults: () => [],
});

export const etcdLeader: Row = partitionRow('etcd-leader', "etcd's leader killed, and started again", {
  etcd: true,
  settings: UNSUSPECTED,
  above: 'none',
  cut: (_network, _nodes, etcd) => etcd!.members[etcd!.leader()]!.kill(),
  heal(_network, etcd) {
    etcd!.members.find(({ isRunning }) => !isRunning)!.restart();
  },
  faults: () => [],
});

const etcdHosts = (nodes: number): number[] => Array.from({ length: ETCDS }, (_, i) => nodes + i);

interface Cut {
  /** Whether the members are in an etcd. */
  readonly etcd?: boolean;
  /** More of the nodes. */
  readonly settings?: readonly string[];
  /** What may be admitted above the limits: nothing, or what one admitted lately that was replaced; one more bucket without. */
  readonly above?: 'none' | 'lately';
  cut(network: CuttableNetwork, nodes: number, etcd: EtcdOnHosts | undefined): void | Promise<void>;
  /** Besides the network. */
  heal?(network: CuttableNetwork, etcd: EtcdOnHosts | undefined): void | Promise<void>;
  /** What it is to the checker. @param ids of the nodes */
  faults(ids: readonly NodeId[], span: { readonly fromMs: number; readonly toMs: number }): readonly Fault[];
}

function partitionRow(name: string, fault: string, kind: Cut): Row {
  return {
    name,
    fault,
    needs: kind.etcd === true ? ['namespaces', 'etcd'] : ['namespaces'],
    async run(options) {
      const { nodes } = options;
      if (kind.etcd !== true) return runPartition(name, kind, options, createNamespaces(nodes), undefined);
      const network = createNamespaces(nodes + ETCDS);
      const etcd = await startEtcdOn(
        etcdHosts(nodes).map((host) => network.nodes[host]!),
        network.outside,
      );
      try {
        await etcd.elected();
        return await runPartition(name, kind, options, network, etcd);
      } finally {
        await etcd.close();
      }
    },
  };
}

function runPartition(
  name: string,
  kind: Cut,
  options: RunOptions,
  network: CuttableNetwork,
  etcd: EtcdOnHosts | undefined,
): Promise<StageResult> {
  const { nodes, pace } = options;
  const { aroundMs, cutMs } = pace;
  const backWithinMs = etcd === undefined ? HEALED_WITHIN_MS : JOINED_WITHIN_MS;
  const spanMs = 2 * aroundMs + cutMs + backWithinMs;
  const found = ['--discovery', 'etcd', '--etcd-lease-ms', String(LEASE_MS)];
  const members = etcd === undefined ? [] : [...found, '--etcd-endpoints', etcd.endpoints];
  const settings = [...PEER_SETTINGS, ...members, ...(kind.settings ?? [])];
  return withStage(options, { name, network, nodes, settings, spanMs }, async (stage) => {
    const { load, clients, cluster } = stage;
    const all = cluster.nodes.map(({ index }) => index);
    const owners = await stage.owners(ALONE);
    await load.call('pace', { perSecond: PER_SECOND });
    const { ageMs } = await measureCopyAge(stage, all, aroundMs);
    const cutAtMs = machineMs();
    await kind.cut(network, nodes, etcd);
    await sleep(cutMs);
    network.heal();
    await kind.heal?.(network, etcd);
    const healedMs = machineMs();
    const ids = cluster.nodes.map(({ id }) => id);
    stage.faults.push(...kind.faults(ids, { fromMs: cutAtMs, toMs: healedMs }));
    const agreedMs = await stage.settled(all);
    await sleep(Math.max(0, backWithinMs - (machineMs() - healedMs)));
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
    const span = { fromMs: cutAtMs, toMs: healedMs, ageMs };
    const lately = kind.above === 'lately' ? replaced(asked, owners, ids[ALONE]!, span) : undefined;
    if (lately !== undefined) stage.faults.push(lately.fault);
    return {
      failed: failures(asked),
      over: overOf(),
      back: duration('ms until all is as before', backMs, backWithinMs),
      also: [
        loadHeld(history),
        ...(lately === undefined ? [] : [duration('ms in which two decided', lately.bothMs, HEARS_WITHIN_MS)]),
        ...states.judge({ asked, owners, cutAtMs, ageMs }),
      ],
      notes: [
        ...commonNotes(history, cutAtMs),
        `meanwhile: ${countBy(meanwhile, ({ source, degraded }) => `${source}${degraded === true ? ' (degraded)' : ''}`)}`,
        `rings agreed ${Math.round(agreedMs - healedMs)} ms after healing, the last degraded answer was asked for ${Math.round(oddUntilMs - healedMs)} ms after it`,
      ],
    };

    function overOf(): Figure {
      if (lately !== undefined) return overLimit(asked, clients, lately.lately);
      if (kind.above === 'none') return overLimit(asked, clients);
      const over = overLimit(asked, clients, extraBuckets(clients, cutMs + backWithinMs));
      return { ...over, bound: '<= one extra bucket for each client' };
    }
  });
}
