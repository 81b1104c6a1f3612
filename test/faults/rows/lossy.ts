import { setTimeout as sleep } from 'node:timers/promises';
import { machineMs, type Asked } from '../history.js';
import type { Fault } from '../../sim/history.js';
import { createLossyNetwork } from '../lossy-network.js';
import type { Row } from '../row.js';
import { INTERVAL_MS, PER_SECOND, SUSPECT_AFTER_MS } from '../pace.js';
import { withStage } from '../stage.js';
import { commonNotes, countBy, failures, loadHeld, overLimit } from '../verdict.js';
import { PEER_SETTINGS } from './partition.js';

const LOSS_PERCENT = 10;
const DELAY_MS = 50;

export const lossy: Row = {
  name: 'lossy',
  fault: `${LOSS_PERCENT}% of packets lost, ${DELAY_MS} ms delay between nodes`,
  needs: ['namespaces', 'vde'],
  async run(options) {
    const { nodes, pace } = options;
    const { aroundMs, lossyMs } = pace;
    const network = await createLossyNetwork(nodes);
    const spanMs = 2 * aroundMs + lossyMs;
    return withStage(options, { name: 'lossy', network, nodes, settings: PEER_SETTINGS, spanMs }, async (stage) => {
      const { load, clients, cluster } = stage;
      const owners = (await stage.owners(0)).map(({ owner }) => owner);
      await load.call('pace', { perSecond: PER_SECOND });
      await sleep(aroundMs);
      const logged = cluster.log.length;
      const fromMs = machineMs();
      await network.degrade(LOSS_PERCENT, DELAY_MS);
      await sleep(lossyMs);
      await network.degrade(0, 0);
      const toMs = machineMs();
      const suspicions = cluster.log.slice(logged).filter(isSuspicion).length;
      await sleep(aroundMs);
      const history = await stage.finish();
      const { asked } = history;
      // A retransmission or two makes late, and what is given up breaks.
      stage.faults.push({ kind: 'lossy', broken: true, fromMs, toMs }, ...silences(asked, owners));
      const during = asked.filter(({ sentMs }) => sentMs >= fromMs && sentMs < toMs);
      const waits = during.map(({ sentMs, receivedMs }) => receivedMs - sentMs).sort((a, b) => a - b);
      const quantile = (part: number): number => Math.round(waits[Math.floor(part * (waits.length - 1))]!);
      return {
        failed: failures(asked),
        over: overLimit(asked, clients, admittedBeforeTakeovers(asked, owners)),
        back: undefined,
        also: [loadHeld(history)],
        notes: [
          ...commonNotes(history, fromMs),
          `meanwhile: ${countBy(during, ({ source, degraded }) => `${source}${degraded === true ? ' (degraded)' : ''}`)}`,
          `waits: p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms, longest ${quantile(1)} ms; ${suspicions} changes of the ring`,
        ],
      };
    });
  },
};

function isSuspicion({ msg }: { msg: string }): boolean {
  return msg === 'the ring changed' || msg.startsWith('paused; another node');
}

/** A copy that is not acknowledged within the suspicion time is one that its owner was suspected for. */
const COPY_AGE_MS = INTERVAL_MS + SUSPECT_AFTER_MS;

/** For each two nodes, when one decided for clients of the other: until then it had not heard it for half the suspicion time. */
function silences(asked: readonly Asked[], owners: readonly string[]): Fault[] {
  const found = new Map<string, { kind: 'silence'; from: string; to: string; fromMs: number; toMs: number }>();
  for (const { client, owner: to, sentMs, receivedMs } of asked) {
    const from = owners[client]!;
    if (to === undefined || to === from) continue;
    const fromMs = sentMs - SUSPECT_AFTER_MS;
    const known = found.get(`${from} ${to}`);
    if (known === undefined) found.set(`${from} ${to}`, { kind: 'silence', from, to, fromMs, toMs: receivedMs });
    else known.toMs = Math.max(known.toMs, receivedMs);
  }
  return [...found.values()];
}

/**
 * For each client, what its owner had admitted lately whenever another node decided instead: it may not know. Nothing while
 * nobody is suspected, as then only owners decide.
 */
function admittedBeforeTakeovers(asked: readonly Asked[], owners: readonly string[]): Map<number, number> {
  const lately = new Map<number, Asked[]>();
  const counts = new Map<number, number>();
  for (const one of asked) {
    const { client, allowed, owner, receivedMs } = one;
    if (allowed === undefined) continue;
    const before = lately.get(client) ?? [];
    if (owner === owners[client]) {
      if (allowed) lately.set(client, [...before.filter((two) => receivedMs - two.receivedMs < COPY_AGE_MS), one]);
      continue;
    }
    const unknown = before.filter((two) => receivedMs - two.receivedMs < COPY_AGE_MS).length;
    counts.set(client, (counts.get(client) ?? 0) + unknown);
    // Each is to be charged to one takeover only.
    lately.delete(client);
  }
  return counts;
}
