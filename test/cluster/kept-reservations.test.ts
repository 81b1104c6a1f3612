import { expect } from 'chai';
import { BucketTable, type Client } from '../../src/state/bucket-table.js';
import { Reservations } from '../../src/state/reservations.js';
import type { ReservationSnapshot } from '../../src/state/client.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import { decide } from '../../src/limits/decide/decide.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';
import { checkOf, tokenBucket } from '../support/rules.js';

const TEN_MINUTES_MS = 600_000;
const PER_DAY = tokenBucket(1_000, 86_400_000);
const PER_SECOND = tokenBucket(1, 1_000, 1_000);

describe('the reservations that a node keeps', () => {
  let clock: FakeClock;
  let table: BucketTable;
  let reservations: Reservations;

  beforeEach(() => {
    clock = createFakeClock(1_000_000);
    table = new BucketTable({ maxClients: 9 });
    reservations = new Reservations(clock, { maxBytes: 1e6 });
  });

  function change<T>(by: (client: Client, nowMs: number) => T, id = 'alice'): T {
    const client = table.open(clientKey(id));
    const result = by(client, clock.nowMs());
    table.close(client, clock.nowMs());
    return result;
  }

  const take = (reservation: string | undefined, cost: number, rules: readonly Rule[] = [PER_DAY], id?: string): void =>
    change((client, nowMs) => {
      const check = checkOf(rules, { cost, reservation });
      reservations.observe(client, check.rules, nowMs);
      decide(client, check, nowMs);
      reservations.add(client, check, nowMs);
    }, id);

  const settle = (id: string, cost: number) =>
    change((client, nowMs) => reservations.settle(client, id, cost, nowMs)?.settled);

  const mergeRemote = (theirs: Partial<ReservationSnapshot>[]) =>
    change((client, nowMs) => {
      const full = theirs.map((one): ReservationSnapshot => {
        return { id: 'r', cost: 10, rules: [PER_DAY], ageMs: 0, least: [[10, 0]], settled: undefined, ...one };
      });
      return reservations.mergeRemote(client, [], full, nowMs);
    });

  /** Tokens, rounded up. */
  const owed = (rule = PER_DAY): number => {
    const client = table.peek('alice')!;
    let bucket = client.first;
    while (bucket !== undefined && bucket.rule.windowMs !== rule.windowMs) bucket = bucket.next;
    return bucket?.algorithm === 'token-bucket' ? bucket.tokens + Math.ceil(bucket.part / bucket.rule.windowMs) : 0;
  };

  const idsOf = (newerThanMs = -Infinity) => reservations.of('alice', newerThanMs).map(({ id }) => id);

  it('are open until they are settled, and known for ten minutes, and the client as long', () => {
    expect([
      reservations.has('alice', 'r'),
      reservations.knows({ id: 'alice' }),
      reservations.hasOpen({ id: 'alice' }),
    ]).to.deep.equal([false, false, false]);
    take('r', 10);
    take(undefined, 1, [PER_DAY], 'bob');
    expect([reservations.has('alice', 'r'), reservations.hasOpen({ id: 'alice' }), reservations.size()]).to.deep.equal([
      true,
      true,
      1,
    ]);
    expect([
      reservations.knows({ id: 'bob' }),
      reservations.hasOpen({ id: 'bob' }),
      reservations.of('bob', 0),
    ]).to.deep.equal([false, false, []]);
    expect(table.peek('alice')).to.include({
      hasStoredDecisions: true,
      remembersUntilMs: clock.nowMs() + TEN_MINUTES_MS,
    });
    clock.advance(1_000);
    expect([settle('r', 4), settle('r', 9), settle('s', 1)]).to.deep.equal([4, 4, undefined]);
    expect([reservations.has('alice', 'r'), reservations.hasOpen({ id: 'alice' })]).to.deep.equal([true, false]);
    clock.advance(TEN_MINUTES_MS - 1_001);
    expect([reservations.has('alice', 'r'), idsOf()]).to.deep.equal([true, ['r']]);
    clock.advance(1);
    expect(idsOf()).to.deep.equal([]);
    clock.advance(1);
    expect([reservations.has('alice', 'r'), reservations.knows({ id: 'alice' })]).to.deep.equal([false, false]);
  });

  it('keep the time until which decisions on the client are remembered, if that is later', () => {
    change((client, nowMs) => (client.remembersUntilMs = nowMs + 2 * TEN_MINUTES_MS));
    take('r', 10);
    expect(table.peek('alice')!.remembersUntilMs).to.equal(clock.nowMs() + 2 * TEN_MINUTES_MS);
  });

  it('are at most 256 of a client: the oldest stands as it is', () => {
    for (let i = 0; i < 256; i += 1) take(`r${i}`, 1);
    settle('r0', 1);
    expect([reservations.size(), reservations.has('alice', 'r0')]).to.deep.equal([256, true]);
    take('r256', 1);
    expect(idsOf()).to.deep.equal(Array.from({ length: 256 }, (_, i) => `r${i + 1}`));
    expect(settle('r0', 0)).to.equal(undefined);
    // Their least debts are right also after those of older ones were dropped.
    clock.advance(10);
    for (let i = 1; i <= 256; i += 1) settle(`r${i}`, 0);
    expect(owed()).to.equal(1);
    expect(reservations.hasOpen({ id: 'alice' })).to.equal(false);
  });

  it('remember the least debt since the oldest of 256, whatever came later', () => {
    take('r0', 10, [PER_SECOND]);
    clock.advance(7_000);
    for (let i = 1; i < 256; i += 1) take(`r${i}`, 1, [PER_SECOND]);
    settle('r0', 0);
    expect(owed(PER_SECOND)).to.equal(255);
  });

  for (const startMs of [0, 1]) {
    it(`end after ten minutes, also when the clock began at ${startMs}`, () => {
      clock.set(startMs);
      take('r', 1);
      clock.advance(TEN_MINUTES_MS + 1);
      expect(reservations.has('alice', 'r')).to.equal(false);
    });
  }

  it('are forgotten with their client, and no others', () => {
    for (const id of ['r', 's']) take(id, 1);
    take('r', 1, [PER_DAY], 'bob');
    reservations.forget('nobody');
    reservations.forget('alice');
    expect([
      reservations.knows({ id: 'alice' }),
      reservations.hasOpen({ id: 'alice' }),
      reservations.size(),
    ]).to.deep.equal([false, false, 1]);
    expect(reservations.has('bob', 'r')).to.equal(true);
  });

  it('are another one under an id that is used again after a minute, and the latest of the client', () => {
    take('r', 10);
    take('s', 1);
    clock.advance(59_999);
    take('r', 20);
    expect(idsOf()).to.deep.equal(['r', 's']);
    clock.advance(1);
    take('r', 30);
    expect(idsOf()).to.deep.equal(['s', 'r']);
    expect([reservations.size(), reservations.of('alice', 0)[1]]).to.deep.include(2);
    expect(reservations.of('alice', 0)[1]).to.include({ cost: 30, ageMs: 0 });
    settle('r', 0);
    expect(owed()).to.equal(10 + 1 + 20);
    expect(reservations.hasOpen({ id: 'alice' })).to.equal(true);
  });

  it('are told with their age, their least debt, and their settlement, if they changed lately', () => {
    take('r', 10, [PER_SECOND]);
    clock.advance(4_000);
    take('s', 5, [PER_SECOND]);
    expect(reservations.of('alice', clock.nowMs())).to.deep.equal([
      { id: 's', cost: 5, rules: [PER_SECOND], ageMs: 0, least: [[11, 0]], settled: undefined },
    ]);
    expect(idsOf(clock.nowMs() - 4_000)).to.deep.equal(['r', 's']);
    expect(reservations.of('alice', -Infinity)[0]).to.deep.include({ ageMs: 4_000, least: [[6, 0]] });
    clock.advance(1_000);
    settle('r', 9);
    expect(reservations.of('alice', clock.nowMs())).to.deep.equal([
      { id: 'r', cost: 10, rules: [PER_SECOND], ageMs: 5_000, least: [[6, 0]], settled: 9 },
    ]);
  });

  it('give back no more than the bucket has owed since, under each of their rules', () => {
    take('r', 10, [PER_SECOND, PER_DAY]);
    clock.advance(7_000);
    take(undefined, 50, [PER_SECOND, PER_DAY]);
    settle('r', 0);
    expect([owed(PER_SECOND), owed(PER_DAY)]).to.deep.equal([50, 50]);
  });

  it('give back of a bucket what they took, in whatever order they are settled', () => {
    take('r', 10);
    take(undefined, 1, [PER_SECOND]);
    take('s', 20);
    take('t', 30);
    clock.advance(1);
    for (const [id, left] of [
      ['s', 40],
      ['r', 30],
      ['t', 0],
    ] as const) {
      settle(id, 0);
      expect(owed()).to.equal(left);
    }
  });

  describe('of another node', () => {
    it('are kept for the rest of ten minutes', () => {
      mergeRemote([{ id: 'old', ageMs: TEN_MINUTES_MS }, { id: 'last', ageMs: TEN_MINUTES_MS - 1 }, { settled: 3 }]);
      expect(idsOf()).to.deep.equal(['last', 'r']);
      expect([reservations.has('alice', 'old'), settle('r', 9)]).to.deep.equal([false, 3]);
      expect(reservations.hasOpen({ id: 'alice' })).to.equal(true);
      clock.advance(2);
      expect(reservations.has('alice', 'last')).to.equal(false);
    });

    it('are not open where they are settled', () => {
      mergeRemote([{ settled: 3 }]);
      expect([reservations.knows({ id: 'alice' }), reservations.hasOpen({ id: 'alice' })]).to.deep.equal([true, false]);
    });

    it('raise no least debt of this node', () => {
      take('r', 10, [PER_SECOND]);
      clock.advance(7_000);
      mergeRemote([{ rules: [PER_SECOND], ageMs: 7_000, least: [[8, 0]] }]);
      take(undefined, 50, [PER_SECOND]);
      settle('r', 0);
      expect(owed(PER_SECOND)).to.equal(50);
    });

    it('settle those of this node, and lower their least debts', () => {
      take('r', 10);
      mergeRemote([{ settled: 4 }]);
      expect([owed(), settle('r', 9)]).to.deep.equal([4, 4]);
      take('s', 10);
      mergeRemote([{ id: 's', least: [[3, 0]] }]);
      settle('s', 0);
      expect(owed()).to.equal(4 + 10 - 3);
    });

    it('do not unsettle those of this node or settle them anew, but the larger of two settlements is named', () => {
      take('r', 10);
      settle('r', 4);
      clock.advance(100);
      for (const settled of [undefined, 3, 4]) mergeRemote([{ ageMs: 100, settled }]);
      expect([owed(), settle('r', 0), idsOf(clock.nowMs())]).to.deep.equal([4, 4, []]);
      mergeRemote([{ ageMs: 100, settled: 9 }]);
      expect([owed(), settle('r', 0), idsOf(clock.nowMs())]).to.deep.equal([4, 9, ['r']]);
    });
  });
});
