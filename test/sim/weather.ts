import type { NodeId } from '../../src/limits/ring/ring.js';
import type { Link, Passage } from './network.js';
import type { NetworkPlan, NodePlan } from './scenario.js';
import type { Random } from './random.js';

/** A retransmission, as TCP would time the first; each that follows takes twice as long. */
const RETRANSMIT_MS = 200;
/** Time after which the sender has closed its connection. */
const GIVEN_UP_MS = 1_000;
/** Part of the messages that still arrive then: TCP had them, though nobody waits for an answer. */
const LATE = 0.2;

/** When TCP sends again, for the first time after the cut has healed. */
function retransmittedAfterMs(cutForMs: number): number {
  let afterMs = 0;
  for (let waitMs = RETRANSMIT_MS; afterMs < cutForMs; waitMs *= 2) afterMs += waitMs;
  return afterMs;
}

interface Cut {
  readonly from: ReadonlySet<NodeId>;
  readonly to: ReadonlySet<NodeId>;
  readonly untilMs: number;
}

/** The network and what is wrong with it now. */
export interface Weather {
  readonly link: Link;
  /** Loses all from some to others for a time. */
  cut(from: readonly NodeId[], to: readonly NodeId[], forMs: number): void;
  /** Loses some packets for a time. */
  lose(lost: number, broken: number, forMs: number): void;
  /** Times in which nothing got through from one node to another. */
  silences(): { from: NodeId; to: NodeId; fromMs: number; toMs: number }[];
}

/** @param silentMs a pause between two arrivals from one node at another that counts as a silence */
export function createWeather(
  plan: NetworkPlan,
  nodes: readonly NodePlan[],
  nowMs: () => number,
  silentMs: number,
): Weather {
  const slowMs = new Map(nodes.map((node) => [node.id, node.slowMs]));
  const cuts: Cut[] = [];
  let loss = { lost: 0, broken: 0, fromMs: 0, untilMs: 0 };
  const arrivals = new Map<string, number[]>();

  function healsInMs(from: NodeId, to: NodeId): number | undefined {
    const healed = cuts.filter((cut) => cut.untilMs > nowMs() && cut.from.has(from) && cut.to.has(to));
    return healed.length === 0 ? undefined : Math.max(...healed.map((cut) => cut.untilMs)) - nowMs();
  }

  function arrivesIn(delayMs: number, from: NodeId, to: NodeId): number {
    if (loss.untilMs > 0) {
      const key = `${from} ${to}`;
      let times = arrivals.get(key);
      if (times === undefined) arrivals.set(key, (times = []));
      times.push(nowMs() + delayMs);
    }
    return delayMs;
  }

  function pass(from: NodeId, to: NodeId, random: Random): Passage {
    const delayMs = random.between(plan.minMs, plan.maxMs) + (slowMs.get(from) ?? 0) + (slowMs.get(to) ?? 0);
    const cutForMs = healsInMs(from, to);
    if (cutForMs !== undefined) {
      const lateMs = retransmittedAfterMs(cutForMs);
      return lateMs <= GIVEN_UP_MS || random.chance(LATE) ? arrivesIn(lateMs + delayMs, from, to) : undefined;
    }
    if (nowMs() >= loss.untilMs) return arrivesIn(delayMs, from, to);
    if (random.chance(loss.broken)) {
      const arrivesAfterMs = random.chance(0.5) ? arrivesIn(delayMs, from, to) : undefined;
      return { brokenAfterMs: delayMs + random.between(0, 20), arrivesAfterMs };
    }
    let lateMs = 0;
    for (let again = RETRANSMIT_MS; random.chance(loss.lost); again *= 2) lateMs += again;
    return arrivesIn(delayMs + lateMs, from, to);
  }

  return {
    link: pass,
    cut: (from, to, forMs) => cuts.push({ from: new Set(from), to: new Set(to), untilMs: nowMs() + forMs }),
    lose(lost, broken, forMs) {
      loss = { lost, broken, fromMs: nowMs(), untilMs: nowMs() + forMs };
      arrivals.clear();
    },
    silences() {
      return [...arrivals].flatMap(([key, times]) => {
        const [from, to] = key.split(' ') as [NodeId, NodeId];
        const sorted = [loss.fromMs, ...times].sort((a, b) => a - b);
        return sorted.flatMap((toMs, i) => {
          const fromMs = sorted[i - 1] ?? toMs;
          return toMs - fromMs >= silentMs && fromMs < loss.untilMs ? [{ from, to, fromMs, toMs }] : [];
        });
      });
    },
  };
}
