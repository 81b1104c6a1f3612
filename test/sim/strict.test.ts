import { expect } from 'chai';
import { ruleOf } from '../../src/core/rule.js';
import { checkAdmission } from './check-admission.js';
import { checkAgreement } from './check-agreement.js';
import type { Violation } from './checker.js';
import { ETCD } from './etcd.js';
import type { Excuses } from './excuses.js';
import type { History } from './history.js';
import type { Scenario, Step } from './scenario.js';
import { simulate } from './simulate.js';
import { asks, crowd, story } from './story.js';
import { bucketsOf } from './takes.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'];
const HOUR_MS = 3_600_000;
const LIMIT = 40;
const TOKENS = [ruleOf('token-bucket', LIMIT, HOUR_MS, LIMIT, undefined)];
const WINDOW = [ruleOf('sliding-window', LIMIT, HOUR_MS, LIMIT, undefined)];
/** From the beginning of a cut: longer than a lease lives, and joining takes. */
const CUT_AT_MS = 600;
const CUT_MS = 4_500;

/** What faults justify: nothing. */
const NONE: Excuses = { firstMs: Infinity, allowance: () => 0, splits: [] };

function overAdmitted(history: History): Violation[] {
  const buckets = [...bucketsOf(history.asked, Infinity).values()];
  return buckets.flatMap((bucket) => checkAdmission(history, bucket, NONE));
}

/**
 * What was decided on two sides of a cut for one client, where the second had to come after the first: once the side with etcd
 * has decided, no other does any more; and of the others, one at most ever did.
 */
function decidedTwice({ asked }: History, sides: readonly (readonly string[])[], cutAtMs: number): string[] {
  const sideOf = (id: string): number => sides.findIndex((side) => side.includes(id));
  const main = sideOf(ETCD);
  const found: string[] = [];
  for (const clientId of new Set(asked.map(({ check }) => check.clientId))) {
    const decided = asked.filter(({ check, decision, askedMs, answeredMs }) => {
      if (check.clientId !== clientId || decision?.allowed !== true || answeredMs === undefined) return false;
      return decision.source !== 'lease' && askedMs > cutAtMs && answeredMs < cutAtMs + CUT_MS;
    });
    const there = decided.filter(({ decision }) => sideOf(decision!.owner) === main);
    const elsewhere = decided.filter(({ decision }) => sideOf(decision!.owner) !== main);
    const fromMs = Math.min(...there.map(({ answeredMs }) => answeredMs!));
    for (const { id, askedMs } of elsewhere) if (askedMs >= fromMs) found.push(`${clientId} #${id} after ${fromMs}`);
    const others = new Set(elsewhere.map(({ decision }) => sideOf(decision!.owner)));
    if (others.size > 1) found.push(`${clientId} on sides ${[...others].join()}`);
  }
  return found;
}

/** All ways to divide a set. */
function partitionsOf(ids: readonly string[]): string[][][] {
  const [first, ...rest] = ids;
  if (first === undefined) return [[]];
  return partitionsOf(rest).flatMap((sides) => [
    [[first], ...sides],
    ...sides.map((_, i) => sides.map((side, j) => (i === j ? [first, ...side] : side))),
  ]);
}

/** Each partition with etcd on each of its sides, and on none. */
function cutsOf(ids: readonly string[]): string[][][] {
  return partitionsOf(ids).flatMap((sides) => [
    [...sides, [ETCD]],
    ...sides.map((_, i) => sides.map((side, j) => (i === j ? [...side, ETCD] : side))),
  ]);
}

/** Ten clients, asked at all nodes the whole time for more than they may have. */
function scenario(seed: number, steps: readonly Step[], more: Partial<Scenario> = {}): Scenario {
  const clockRates = [0.99, 1, 1.01, 1, 0.99];
  return story({
    seed,
    nodes: IDS.map((id, i) => ({ id, clockRate: clockRates[(i + seed) % 5]!, clockOffsetMs: i * 1_000_000 })),
    strict: true,
    replicas: 4,
    network: { minMs: 1, maxMs: 5 },
    loadMs: 8_000,
    steps,
    requests: crowd(10, (id, i) => asks(id, i % 2 === 0 ? TOKENS : WINDOW, { fromMs: 7 * i, everyMs: 83, times: 95 })),
    ...more,
  });
}

const cut = (sides: readonly (readonly string[])[]): Step => ({
  kind: 'partition',
  atMs: CUT_AT_MS,
  sides,
  forMs: CUT_MS,
});

describe('a strict cluster', () => {
  const cuts = cutsOf(IDS);

  it('is cut in every way there is', () => {
    expect(partitionsOf(IDS)).to.have.lengthOf(52);
    expect(cuts).to.have.lengthOf(52 + 151);
  });

  for (let from = 0; from < cuts.length; from += 29) {
    it(`admits no more than its limits in cuts ${from} to ${Math.min(cuts.length, from + 29) - 1} of five nodes and etcd`, async function () {
      this.timeout(120_000);
      for (const [i, sides] of cuts.slice(from, from + 29).entries()) {
        // The clock of etcd may be fast, too.
        const { history } = await simulate(scenario(from + i, [cut(sides)]), { etcdRate: 1.01 });
        const where = JSON.stringify(sides);
        expect(overAdmitted(history), where).to.deep.equal([]);
        expect(decidedTwice(history, sides, history.upMs + CUT_AT_MS), where).to.deep.equal([]);
        expect(checkAgreement(history), where).to.deep.equal([]);
        const allowed = history.asked.filter(({ decision }) => decision?.allowed === true);
        // What was charged and could not be made known is lost, but no more.
        expect(allowed.length, where).to.be.at.least(0.3 * 10 * LIMIT);
        if (sides.some((side) => side.includes(ETCD) && side.length > 1)) {
          const late = allowed.filter(({ askedMs }) => askedMs > history.upMs + CUT_AT_MS + CUT_MS / 2);
          expect(late.length, where).to.be.above(0);
        }
      }
    });
  }

  for (const sides of cuts.filter((_, i) => i % 4 === 1)) {
    it(`with one copy each has one side at most decide: ${sides.map((side) => side.map((id) => id.replace(':1', '')).join('+')).join('|')}`, async () => {
      const { history } = await simulate(scenario(7, [cut(sides)], { replicas: 1 }), { etcdRate: 1.01 });
      expect(decidedTwice(history, sides, history.upMs + CUT_AT_MS)).to.deep.equal([]);
    });
  }

  it('admits no more than its limits through crashes, freezes and cuts of one way, joins and leaves', async function () {
    this.timeout(120_000);
    const steps: Step[] = [
      { kind: 'crash', atMs: 900, node: 'b:1', silent: false, backAfterMs: 200 },
      { kind: 'crash', atMs: 900, node: 'b:1', silent: true, backAfterMs: 3_000 },
      { kind: 'freeze', atMs: 900, node: 'b:1', forMs: 700, timersFirst: true },
      { kind: 'freeze', atMs: 900, node: 'b:1', forMs: 3_500, timersFirst: false },
      { kind: 'one-way', atMs: 900, from: ['b:1'], to: ['a:1', 'c:1', 'd:1', 'e:1'], forMs: 3_000 },
      { kind: 'one-way', atMs: 900, from: ['b:1'], to: [ETCD], forMs: 3_000 },
      { kind: 'one-way', atMs: 900, from: [ETCD], to: ['b:1', 'c:1'], forMs: 3_000 },
      { kind: 'lossy', atMs: 900, lost: 0.1, broken: 0.05, forMs: 3_000 },
      { kind: 'leave', atMs: 900, node: 'b:1', backAfterMs: 500 },
      { kind: 'rolling-restart', atMs: 500 },
    ];
    for (const [i, step] of steps.entries()) {
      for (const more of [
        [],
        [
          cut([
            ['a:1', 'b:1'],
            ['c:1', 'd:1', 'e:1', ETCD],
          ]),
        ],
      ]) {
        const { history } = await simulate(scenario(i, [...more, step]), { etcdRate: 1 });
        expect(overAdmitted(history), JSON.stringify([step, more])).to.deep.equal([]);
        expect(checkAgreement(history), JSON.stringify([step, more])).to.deep.equal([]);
      }
    }
  });
});
