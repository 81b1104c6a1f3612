import { expect } from 'chai';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { checkAgreement } from './check-agreement.js';
import { checkNoneAbove, checkOneSide } from './check-strict.js';
import type { Violation } from './checker.js';
import { cutsOf, ETCD, partitionsOf } from './cuts.js';
import type { History } from './history.js';
import { PATIENCE_MS } from './patience.js';
import type { Scenario, Step } from './scenario.js';
import { simulate } from './simulate.js';
import { asks, crowd, story } from './story.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'];
const HOUR_MS = 3_600_000;
const LIMIT = 40;
const TOKENS = [ruleOf('token-bucket', LIMIT, HOUR_MS, LIMIT, undefined)];
const WINDOW = [ruleOf('sliding-window', LIMIT, HOUR_MS, LIMIT, undefined)];
/** From the beginning of a cut: longer than a lease lives, and joining takes. */
const CUT_AT_MS = 600;
const CUT_MS = 4_500;

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

function decidedTwice(history: History, sides: readonly (readonly string[])[]): Violation[] {
  const fromMs = history.upMs + CUT_AT_MS;
  return checkOneSide(history, { sides, fromMs, toMs: fromMs + CUT_MS });
}

const cut = (sides: readonly (readonly string[])[]): Step => ({
  kind: 'partition',
  atMs: CUT_AT_MS,
  sides,
  forMs: CUT_MS,
});

describe('a strict cluster', function () {
  this.timeout(PATIENCE_MS);

  const cuts = cutsOf(IDS);

  it('is cut in every way there is', () => {
    expect(partitionsOf(IDS)).to.have.lengthOf(52);
    expect(cuts).to.have.lengthOf(52 + 151);
  });

  for (let from = 0; from < cuts.length; from += 29) {
    it(`admits no more than its limits in cuts ${from} to ${Math.min(cuts.length, from + 29) - 1} of five nodes and etcd`, async () => {
      for (const [i, sides] of cuts.slice(from, from + 29).entries()) {
        // The clock of etcd may be fast, too.
        const { history } = await simulate(scenario(from + i, [cut(sides)]), { etcdRate: 1.01 });
        const where = JSON.stringify(sides);
        expect(checkNoneAbove(history), where).to.deep.equal([]);
        expect(decidedTwice(history, sides), where).to.deep.equal([]);
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
      expect(decidedTwice(history, sides)).to.deep.equal([]);
    });
  }

  it('admits no more than its limits through crashes, freezes and cuts of one way, joins and leaves', async () => {
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
        expect(checkNoneAbove(history), JSON.stringify([step, more])).to.deep.equal([]);
        expect(checkAgreement(history), JSON.stringify([step, more])).to.deep.equal([]);
      }
    }
  });
});
