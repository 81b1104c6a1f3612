import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { policyKey } from '../../src/policy/policy-entry.js';
import type { AdaptiveText } from '../../src/policy/policy.js';
import { createWorld } from './world.js';

const IDS = ['a:1', 'b:1', 'c:1'];
/** How often clients ask and are counted. */
const TICK_MS = 20;
const NAME = 'service';
/** Of each client, a second: far more than its share of the service, so that only the factor holds them back. */
const LIMIT = 120;

/** From a second on: what the service can do, and what each client asks of it, in requests a second. */
export interface Phase {
  readonly fromS: number;
  readonly says: string;
  readonly capacity: number;
  readonly demands: readonly number[];
  /** The service does not report: it was restarted, or cannot reach the cluster. */
  readonly silent?: boolean;
  /** The node that steers is killed when it begins. */
  readonly kills?: boolean;
}

/** One second. */
export interface Second {
  readonly s: number;
  /** What was admitted, of what the service can do; above 1, more than it can. */
  readonly load: number;
  readonly factor: number;
  /** Of each client, admitted in this second. */
  readonly admitted: readonly number[];
}

/**
 * A service of known capacity behind three nodes, whose clients each ask through nodes in turn; it reports once a second, to nodes in
 * turn, the load of that second, which is 1 at most: by how much it is over, it cannot know.
 */
export async function runService(
  phases: readonly Phase[],
  adaptive: AdaptiveText,
  endS: number,
  seed = 1,
): Promise<Second[]> {
  const world = createWorld(seed);
  for (const id of IDS) await world.until(world.spawn(id, { seeds: IDS, maxClients: 1_000 }).cluster.start(), 10_000);
  await world.run(500);
  // In whole requests of ten seconds, so that a tenth of it is not a coarse step.
  const text = { limit: 10 * LIMIT, window: '10s', burst: LIMIT, adaptive };
  await world.until(world.node('a:1').cluster.policies.write(new Map([[policyKey(NAME), text]])), 5_000);

  const alive = [...IDS];
  const seconds: Second[] = [];
  let phase = phases[0]!;
  let asks = 0;
  let due: number[] = [];
  for (let s = 0; s < endS; s += 1) {
    const next = phases.find(({ fromS }) => fromS === s);
    if (next !== undefined) phase = next;
    if (next?.kills === true) {
      const steering = world.node(alive[0]!).cluster.membership.ring().owner(NAME)!;
      world.kill(steering);
      alive.splice(alive.indexOf(steering), 1);
    }
    const admitted = phase.demands.map(() => 0);
    if (due.length !== phase.demands.length) due = phase.demands.map(() => 0);
    for (let ms = 0; ms < 1_000; ms += TICK_MS) {
      phase.demands.forEach((demand, i) => {
        // Unevenly, as requests come.
        due[i]! += (demand * TICK_MS * 2 * world.random.next()) / 1_000;
        for (; due[i]! >= 1; due[i]! -= 1) {
          const { checks, activePolicies } = world.node(alive[asks % alive.length]!).cluster;
          asks += 1;
          const { policy, rules } = activePolicies.resolve(`client ${i}`, NAME)!;
          const count = ({ allowed }: Decision): void => void (admitted[i]! += Number(allowed));
          const terms = { policy, listed: undefined };
          const decision = decideAlone(checks, createCheck(clientKey(`client ${i}`), rules, { terms }));
          if (decision instanceof Promise) void decision.then(count);
          else count(decision);
        }
      });
      await world.run(TICK_MS);
    }
    const load = admitted.reduce((a, b) => a + b) / phase.capacity;
    const { adaptive } = world.node(alive[s % alive.length]!).cluster;
    if (phase.silent !== true) void adaptive.report(NAME, { load: Math.min(1, load) });
    const factor = adaptive.factors().find(([name]) => name === NAME)?.[1] ?? 1;
    seconds.push({ s, load, factor, admitted });
  }
  return seconds;
}

const even = (clients: number, demand: number): number[] => new Array<number>(clients).fill(demand);

/** A day in the life of a service, in five minutes: the curve in docs/policies.md. */
export const TARGET: AdaptiveText = { target: 0.8, min: 0.1 };
export const DAY: readonly Phase[] = [
  { fromS: 0, says: 'quiet', capacity: 600, demands: even(10, 40) },
  { fromS: 30, says: 'demand ×2.5', capacity: 600, demands: even(10, 100) },
  { fromS: 90, says: 'capacity ÷2', capacity: 300, demands: even(10, 100) },
  { fromS: 150, says: 'capacity ×3', capacity: 900, demands: even(10, 100) },
  { fromS: 210, says: 'steering node killed', capacity: 900, demands: even(10, 100), kills: true },
  { fromS: 240, says: 'capacity ÷3', capacity: 300, demands: even(10, 100) },
  { fromS: 300, says: 'no reports', capacity: 300, demands: even(10, 100), silent: true },
];
export const DAY_END_S = 340;

/** Seconds after `fromS` until the load, over five seconds, is within a tenth of the target and stays so until `toS`. */
export function settledAfterS(seconds: readonly Second[], target: number, fromS: number, toS: number): number {
  const smooth = (s: number): number => {
    const last = seconds.slice(Math.max(fromS, s - 4), s + 1);
    return last.reduce((sum, { load }) => sum + load, 0) / last.length;
  };
  let settled = toS;
  for (let s = toS - 1; s >= fromS && Math.abs(smooth(s) - target) <= target / 10; s -= 1) settled = s;
  return settled - fromS;
}
