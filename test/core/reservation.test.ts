import { expect } from 'chai';
import fc from 'fast-check';
import { addBucket, Buckets, findBucket, advance, lend, take } from '../../src/limits/bucket/bucket.js';
import {
  leastOwed,
  lowerLeast,
  observe,
  reserve,
  settleReservation,
  settleSnapshots,
  type Reservation,
} from '../../src/limits/bucket/reservation.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import { toSnapshots, type Snapshot } from '../../src/limits/bucket/snapshot.js';

const PER_SECOND = ruleOf('token-bucket', 10, 1_000, 100, undefined);
const SLIDING = ruleOf('sliding-window', 100, 3_200, 100, undefined);

/** A client that takes and reserves whatever it likes, as the limiter would have allowed it. */
function createTaker(rule: Rule): {
  buckets: Buckets;
  open: Reservation[];
  take(cost: number, nowMs: number): void;
  reserve(cost: number, nowMs: number): void;
  settle(place: number, cost: number, nowMs: number): void;
  owes(nowMs: number): number;
} {
  const buckets = new Buckets();
  const open: Reservation[] = [];
  const charge = (cost: number, nowMs: number): void => {
    for (const one of open) observe(buckets, one, nowMs);
    const bucket = findBucket(buckets, rule) ?? addBucket(buckets, rule, nowMs);
    advance(bucket, nowMs);
    take(bucket, cost);
  };
  return {
    buckets,
    open,
    take: charge,
    reserve(cost, nowMs) {
      charge(cost, nowMs);
      open.push(reserve(buckets, `r${open.length}`, [rule], cost, nowMs));
    },
    settle(place, cost, nowMs) {
      for (const one of open) observe(buckets, one, nowMs);
      const isOpen = ({ settled }: Reservation): boolean => settled === undefined;
      const earlier = open.slice(0, place).filter(isOpen);
      const later = open.slice(place + 1).filter(isOpen);
      lowerLeast({ earlier, later }, open[place]!, settleReservation(buckets, open[place]!, cost, nowMs));
    },
    owes(nowMs) {
      const state = toSnapshots(buckets, nowMs)[0]?.state ?? [0, 0];
      return rule.algorithm === 'token-bucket'
        ? state[0]! + state[1]! / rule.windowMs
        : state.filter((_, i) => i % 2 === 1).reduce((a, b) => a + b, 0);
    },
  };
}

type Step = { afterMs: number } & (
  { kind: 'take' | 'reserve'; cost: number } | { kind: 'settle'; place: number; part: number }
);

const after = fc.oneof(fc.constant(0), fc.nat(300), fc.nat(5_000));
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      afterMs: after,
      kind: fc.constantFrom('take' as const, 'reserve' as const),
      cost: fc.integer({ min: 1, max: 60 }),
    }),
    fc.record({
      afterMs: after,
      kind: fc.constant('settle' as const),
      place: fc.nat(5),
      part: fc.double({ min: 0, max: 1.5, noNaN: true }),
    }),
  ),
  { maxLength: 25 },
);

/** @returns what is owed after these steps, and what would be had each reservation taken its real cost at first */
function play(rule: Rule, list: readonly Step[]): { owed: number; wouldOwe: number; settlements: number } {
  const real = createTaker(rule);
  const charges: { cost: number; atMs: number; settledAt?: number; more?: number }[] = [];
  const reservations: number[] = [];
  let nowMs = 0;
  let settlements = 0;
  for (const step of list) {
    nowMs += step.afterMs;
    if (step.kind === 'settle') {
      const place = step.place;
      const reservation = real.open[place];
      if (reservation === undefined || reservation.settled !== undefined) continue;
      const cost = Math.round(step.part * reservation.cost);
      real.settle(place, cost, nowMs);
      settlements += 1;
      // What costs more is charged when it is known; what costs less was never more.
      if (cost > reservation.cost) charges.push({ cost: cost - reservation.cost, atMs: nowMs });
      else charges[reservations[place]!]!.cost = cost;
    } else {
      if (step.kind === 'reserve') reservations.push(charges.length);
      charges.push({ cost: step.cost, atMs: nowMs });
      real[step.kind](step.cost, nowMs);
    }
  }
  const model = createTaker(rule);
  for (const { cost, atMs } of charges) if (cost > 0) model.take(cost, atMs);
  return { owed: real.owes(nowMs), wouldOwe: model.owes(nowMs), settlements };
}

describe('a reservation', () => {
  it('never gives back more than its real cost would have left, however many are open', () => {
    for (const rule of [PER_SECOND, SLIDING]) {
      fc.assert(
        fc.property(steps, (list) => {
          const { owed, wouldOwe } = play(rule, list);
          expect(owed).to.be.at.least(wouldOwe - 1e-9);
        }),
        { numRuns: 3_000 },
      );
    }
  });

  it('gives back all that it may, however many are open, in whatever order they are settled', () => {
    fc.assert(
      fc.property(steps, (list) => {
        const { owed, wouldOwe } = play(PER_SECOND, list);
        expect(owed).to.be.closeTo(wouldOwe, 1e-6);
      }),
      { numRuns: 3_000 },
    );
  });

  it('of a busy client gives back all, however long it took', () => {
    const busy = createTaker(PER_SECOND);
    busy.take(50, 0);
    busy.reserve(40, 0);
    // Ten a second are refilled, and taken by others.
    for (let nowMs = 100; nowMs <= 20_000; nowMs += 100) busy.take(1, nowMs);
    const before = busy.owes(20_000);
    busy.settle(0, 5, 20_000);
    expect(before - busy.owes(20_000)).to.equal(35);
  });

  it('counts once, however often it is settled', () => {
    const taker = createTaker(PER_SECOND);
    taker.reserve(50, 0);
    taker.settle(0, 10, 0);
    expect(taker.owes(0)).to.equal(10);
    for (const cost of [10, 0, 90]) taker.settle(0, cost, 0);
    expect(taker.owes(0)).to.equal(10);
  });

  it('that costs more than there is leaves the client owing', () => {
    const taker = createTaker(PER_SECOND);
    taker.reserve(100, 0);
    taker.settle(0, 1_000_000_000, 0);
    expect(taker.owes(0)).to.equal(1_000_000_000);
    for (let i = 1; i < 9; i += 1) {
      taker.reserve(1, 0);
      taker.settle(i, 1_000_000_000, 0);
    }
    expect(taker.owes(0)).to.be.at.most(2_000_000_010);
  });
});

describe('a settlement', () => {
  it('of a sliding window gives back what the request did not take, while that still counts', () => {
    for (const [atMs, left] of [
      [0, 70],
      [3_199, 70],
      [3_200, 100],
    ] as const) {
      const taker = createTaker(SLIDING);
      taker.take(30, 0);
      taker.reserve(70, 0);
      taker.settle(0, 40, atMs);
      expect(taker.owes(atMs)).to.equal(atMs < 3_200 ? left : 0);
    }
    const whole = createTaker(SLIDING);
    whole.reserve(70, 0);
    whole.settle(0, 0, 10);
    expect(toSnapshots(whole.buckets, 10)).to.deep.equal([]);
  });

  it('takes from a fresh bucket what costs more, if the old one is gone, and nothing under a limit of 0', () => {
    for (const rule of [PER_SECOND, SLIDING]) {
      const taker = createTaker(rule);
      taker.reserve(10, 0);
      taker.settle(0, 25, 60_000);
      expect(taker.owes(60_000), rule.algorithm).to.equal(15);
    }
    const buckets = new Buckets();
    const off = { ...PER_SECOND, limit: 0 };
    const reservation = reserve(buckets, 'r', [off], 10, 0);
    expect(settleReservation(buckets, reservation, 25, 0)).to.deep.equal([[0, 0]]);
    expect(buckets.first).to.equal(undefined);
  });

  it('takes or gives back nothing else, if the bucket is gone', () => {
    for (const rule of [PER_SECOND, SLIDING]) {
      const buckets = new Buckets();
      const dearer = reserve(buckets, 'r', [rule], 2, 0);
      settleReservation(buckets, dearer, 5, 0);
      expect(toSnapshots(buckets, 0)[0]?.state.includes(3), rule.algorithm).to.equal(true);
      const none = new Buckets();
      const cheaper = reserve(none, 'r', [rule], 2, 0);
      expect(settleReservation(none, cheaper, 1, 0)).to.deep.equal([[0, 0]]);
      expect(none.first).to.equal(undefined);
    }
  });

  it('gives back to the end of its own reservation in a sliding window, and to no earlier one', () => {
    const buckets = new Buckets();
    const bucket = addBucket(buckets, SLIDING, 0);
    take(bucket, 5);
    advance(bucket, 1_000);
    take(bucket, 3);
    const reservation = reserve(buckets, 'r', [SLIDING], 3, 1_000);
    const before = toSnapshots(buckets, 1_500);
    const { snapshots } = settleSnapshots(before, { ...reservation }, 1, 1_500);
    settleReservation(buckets, reservation, 1, 1_500);
    const owed = (list: readonly Snapshot[]): number =>
      list.flatMap(({ state }) => state.filter((_, i) => i % 2 === 1)).reduce((sum, count) => sum + count, 0);
    expect(owed(toSnapshots(buckets, 1_500))).to.equal(6);
    expect(snapshots[0]!.state).to.deep.equal(toSnapshots(buckets, 1_500)[0]!.state);
    expect(owed(toSnapshots(buckets, 3_500))).to.equal(1);
  });

  it('has seen nothing more once it is settled', () => {
    const buckets = new Buckets();
    take(addBucket(buckets, PER_SECOND, 0), 50);
    const reservation = reserve(buckets, 'r', [PER_SECOND], 10, 0);
    settleReservation(buckets, reservation, 10, 0);
    observe(buckets, reservation, 2_000);
    expect(reservation.least).to.deep.equal([[50, 0]]);
  });

  it('gives back as before while a lease is open, which hides nothing yet', () => {
    const buckets = new Buckets();
    const bucket = addBucket(buckets, PER_SECOND, 0);
    take(bucket, 50);
    const reservation = reserve(buckets, 'r', [PER_SECOND], 50, 0);
    lend(bucket, { id: 'a', tokens: 10, endMs: 201, spent: undefined });
    expect(settleReservation(buckets, reservation, 10, 200)).to.deep.equal([[40, 0]]);
  });

  it('says what each bucket lost, once', () => {
    const buckets = new Buckets();
    const rules = [PER_SECOND, SLIDING];
    for (const rule of rules) take(addBucket(buckets, rule, 0), 60);
    const reservation = reserve(buckets, 'r', rules, 50, 0);
    expect(settleReservation(buckets, reservation, 20, 0)).to.deep.equal([
      [30, 0],
      [0, 0],
    ]);
    expect(settleReservation(buckets, reservation, 0, 0)).to.deep.equal([
      [0, 0],
      [0, 0],
    ]);
  });

  it('in copies that do not know of it gives back, or takes, as much as at the owner', () => {
    for (const cost of [1, 20, 50, 90]) {
      const buckets = new Buckets();
      const other = ruleOf('token-bucket', 10, 7_000, 100, undefined);
      for (const rule of [PER_SECOND, SLIDING, other]) take(addBucket(buckets, rule, 0), 60);
      const reservation = reserve(buckets, 'r', [PER_SECOND, SLIDING], 50, 0);
      const before = toSnapshots(buckets, 1_000);
      const { snapshots, backs } = settleSnapshots(
        before,
        { ...reservation, least: [...reservation.least] },
        cost,
        1_000,
      );
      const owned = settleReservation(buckets, reservation, cost, 1_000);
      expect(backs).to.deep.equal(owned);
      const stateOf = (list: readonly Snapshot[], { algorithm, windowMs }: Rule): unknown =>
        list.find((one) => one.algorithm === algorithm && one.windowMs === windowMs)?.state;
      expect(stateOf(snapshots, PER_SECOND)).to.deep.equal(stateOf(toSnapshots(buckets, 1_000), PER_SECOND));
      expect(stateOf(snapshots, other)).to.deep.equal(stateOf(before, other));
      // A higher cost is in the copy that was settled, and the merge keeps it.
      const expected = cost > 50 ? before : toSnapshots(buckets, 1_000);
      expect(stateOf(snapshots, SLIDING), String(cost)).to.deep.equal(stateOf(expected, SLIDING));
    }
  });

  it('gives nothing back that a lease may have hidden', () => {
    const buckets = new Buckets();
    const bucket = addBucket(buckets, PER_SECOND, 0);
    take(bucket, 50);
    const reservation = reserve(buckets, 'r', [PER_SECOND], 50, 0);
    lend(bucket, { id: 'a', tokens: 10, endMs: 100, spent: undefined });
    expect(settleReservation(buckets, reservation, 10, 200)).to.deep.equal([[0, 0]]);
  });
});

describe('debts in parts of a token', () => {
  const reservation = (least: readonly [number, number]): Reservation => {
    return { id: 'r', cost: 10, rules: [PER_SECOND], atMs: 0, least: [least], settled: undefined };
  };

  it('are given back to the part, with a token changed into parts where that is needed', () => {
    const snapshot: Snapshot = { ...PER_SECOND, ruleChanges: 0, state: [5, 200] };
    const { snapshots, backs } = settleSnapshots([snapshot], reservation([3, 500]), 0, 0);
    expect([snapshots[0]!.state, backs]).to.deep.equal([[1, 700], [[3, 500]]]);
  });

  it('of a later reservation fall to 0, and not below', () => {
    const later = reservation([2, 300]);
    lowerLeast({ earlier: [], later: [later] }, reservation([9, 0]), [[2, 400]]);
    expect(later.least).to.deep.equal([[0, 0]]);
  });

  it('are unchanged for a reservation under another rule', () => {
    const later = { ...reservation([2, 300]), rules: [SLIDING] };
    lowerLeast({ earlier: [], later: [later] }, reservation([9, 0]), [[2, 400]]);
    expect(later.least).to.deep.equal([[2, 300]]);
  });

  it('are unknown at the moment at which a lease ends, since its tokens count at once', () => {
    const buckets = new Buckets();
    const bucket = addBucket(buckets, PER_SECOND, 0);
    take(bucket, 50);
    lend(bucket, { id: 'l', tokens: 5, endMs: 100, spent: undefined });
    expect(leastOwed(buckets, PER_SECOND, 99)).to.deep.equal([49, 10]);
    expect(leastOwed(buckets, PER_SECOND, 100)).to.deep.equal([0, 0]);
  });
});

describe('a sliding window in a copy', () => {
  it('gets nothing back for a reservation whose tokens count no more, or are not in it', () => {
    const snapshot: Snapshot = { ...SLIDING, ruleChanges: 0, state: [100, 5] };
    for (const atMs of [-5_000, -3_200, 0]) {
      const known: Reservation = { id: 'r', cost: 5, rules: [SLIDING], atMs, least: [[0, 0]], settled: undefined };
      expect(settleSnapshots([snapshot], known, 0, 0).snapshots, String(atMs)).to.deep.equal([snapshot]);
    }
  });
});
