import { expect } from 'chai';
import fc from 'fast-check';
import { rememberedDecisionBytes } from '../../src/limits/heap-bytes.js';
import { batchItemId } from '../../src/limits/request/request.js';
import { RecentDecisions } from '../../src/state/recent-decisions.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createFakeClock } from '../support/fake-clock.js';

const decision: Decision = {
  allowed: true,
  limit: 10,
  remaining: 9,
  retryAfterMs: 0,
  resetMs: 100,
  limits: undefined,
  owner: 'a:1',
  source: 'owner',
  degraded: false,
};

describe('recent decisions', () => {
  for (const startMs of [0, 1, 123_456_789]) {
    it(`are remembered for 60 s and not one ms more, also when the clock began at ${startMs}`, () => {
      const clock = createFakeClock(startMs);
      const recent = new RecentDecisions(clock, 'a:1', 1e6);
      recent.add('alice', 'r1', decision);
      expect(recent.get('alice', 'r1')).to.equal(decision);
      clock.advance(60_000);
      // To ask again does not prolong it.
      expect(recent.get('alice', 'r1')).to.equal(decision);
      clock.advance(1);
      expect(recent.get('alice', 'r1')).to.equal(undefined);
    });
  }

  it('are what a list of them would be, of each client in their order, however they come, age, and go', () => {
    const clients = ['alice', 'bob'];
    const ids = ['r1', 'r2', batchItemId('b', 0), batchItemId('b', 1), batchItemId('c', 0)];
    const steps = fc.array(
      fc.record({
        kind: fc.constantFrom('add' as const, 'add' as const, 'forget' as const, 'wait' as const),
        clientId: fc.constantFrom(...clients),
        requestId: fc.constantFrom(...ids),
        ms: fc.constantFrom(1, 20_000, 59_999, 60_000),
      }),
      { maxLength: 30, size: 'max' },
    );
    const property = fc.property(steps, (list) => {
      const clock = createFakeClock(5);
      const recent = new RecentDecisions(clock, 'a:1', 1e6);
      let model: { clientId: string; requestId: string; atMs: number; decision: Decision }[] = [];
      const isOver = ({ atMs }: { atMs: number }): boolean => clock.nowMs() - atMs > 60_000;
      for (const [i, { kind, clientId, requestId, ms }] of list.entries()) {
        if (kind === 'wait') clock.advance(ms);
        if (kind === 'forget') {
          recent.forget(clientId);
          model = model.filter((one) => one.clientId !== clientId);
        }
        if (kind === 'add') {
          const added = { clientId, requestId, atMs: clock.nowMs(), decision: { ...decision, remaining: i } };
          recent.add(clientId, requestId, added.decision);
          model = model.filter((one) => !(one.clientId === clientId && one.requestId === requestId) && !isOver(one));
          model.push(added);
        }
        for (const id of clients) {
          const own = model.filter((one) => one.clientId === id);
          expect(recent.has(id)).to.equal(own.length > 0);
          expect(recent.of(id, 100, Infinity)).to.deep.equal(
            own
              .filter((one) => !isOver(one))
              .map((one) => ({ requestId: one.requestId, ageMs: clock.nowMs() - one.atMs, decision: one.decision })),
          );
          expect(recent.of(id, 2, Infinity)).to.have.length.at.most(2);
        }
        for (const batchId of ['b', 'c'])
          expect(recent.hasItemsOf(batchId)).to.equal(model.some((one) => one.requestId.startsWith(`${batchId}#`)));
        expect(recent.size()).to.equal(model.length);
      }
    });
    fc.assert(property, { numRuns: 500 });
  });

  it('are not taken when they are 60 s old, or larger than all room', () => {
    const size = rememberedDecisionBytes('alice', 'r1', decision);
    const recent = new RecentDecisions(createFakeClock(100_000), 'a:1', size);
    recent.add('alice', 'r1', decision, 60_000);
    recent.add('alice', 'r1'.padEnd(100), decision);
    expect(recent.size()).to.equal(0);
    recent.add('alice', 'r1', decision, 59_999);
    expect(recent.get('alice', 'r1')).to.equal(decision);
    expect(recent.of('alice', 1, 59_998)).to.deep.equal([]);
    expect(recent.of('alice', 1, 59_999)).to.have.length(1);
  });

  it('are those of one client and one id, whatever the two look like side by side', () => {
    const text = fc.string({ unit: fc.constantFrom('a', '1', ':', '2', '\u0000', 'ü', '💧'), maxLength: 5 });
    fc.assert(
      fc.property(fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 30, size: 'max' }), (asked) => {
        const recent = new RecentDecisions(createFakeClock(), 'a:1', 1e6);
        const model = new Map<string, Decision>();
        for (const [i, [clientId, requestId]] of asked.entries()) {
          const key = JSON.stringify([clientId, requestId]);
          expect(recent.get(clientId, requestId)).to.equal(model.get(key));
          const first = { ...decision, remaining: i };
          if (model.has(key)) continue;
          recent.add(clientId, requestId, first);
          model.set(key, first);
        }
        expect(recent.size()).to.equal(model.size);
      }),
      { numRuns: 1_000 },
    );
  });

  it('are as many as there is room for: the oldest makes room', () => {
    const recent = new RecentDecisions(createFakeClock(), 'a:1', 3 * rememberedDecisionBytes('alice', 'r1', decision));
    for (const id of ['r1', 'r2', 'r3', 'r4']) recent.add('alice', id, decision);
    expect(recent.size()).to.equal(3);
    expect(recent.get('alice', 'r1')).to.equal(undefined);
    for (const id of ['r2', 'r3', 'r4']) expect(recent.get('alice', id)).to.equal(decision);
  });

  it('share the room with those on items of batches: the oldest of both makes room', () => {
    const item = batchItemId('b', 0);
    const size = rememberedDecisionBytes('alice', 'r1', decision);
    const clock = createFakeClock();
    const { hashHigh, hashLow } = clientKey('alice');
    const client = { hashHigh, hashLow, lastItem: 0 };
    const create = (more: number) => {
      const recent = new RecentDecisions(clock, 'a:1', 468 + more);
      const addItem = () => recent.batches.add('b', 0, client, decision, clock.nowMs(), 1);
      const found = () => ['r1', 'r2', item].map((id) => recent.get('alice', id)?.remaining);
      return { recent, addItem, found };
    };
    const first = create(2 * size - 1);
    first.addItem();
    clock.advance(1);
    first.recent.add('alice', 'r1', decision);
    expect(first.found()).to.deep.equal([9, undefined, 9]);
    clock.advance(1);
    first.recent.add('alice', 'r2', decision);
    expect(first.found()).to.deep.equal([9, 9, undefined]);
    const last = create(2 * size - 1);
    for (const id of ['r1', 'r2']) {
      last.recent.add('alice', id, decision);
      clock.advance(1);
    }
    last.addItem();
    expect(last.found()).to.deep.equal([undefined, 9, 9]);
    const one = create(0);
    one.addItem();
    one.recent.batches.add('c', 0, client, decision, clock.nowMs(), 1);
    expect(one.found().concat(one.recent.get('alice', batchItemId('c', 0))?.remaining)).to.deep.equal([
      undefined,
      undefined,
      undefined,
      9,
    ]);
    const small = create(-400);
    small.addItem();
    expect(small.found()).to.deep.equal([undefined, undefined, 9]);
  });

  it('go with those on items of batches, if the client is forgotten', () => {
    const recent = new RecentDecisions(createFakeClock(), 'a:1', 1e6);
    for (const [index, id] of ['alice', 'bob'].entries()) {
      const { hashHigh, hashLow } = clientKey(id);
      recent.batches.add('b', index, { hashHigh, hashLow, lastItem: 0 }, decision, 0);
    }
    const found = () => ['alice', 'bob'].map((id, index) => recent.get(id, batchItemId('b', index))?.remaining);
    expect(found()).to.deep.equal([9, 9]);
    expect(recent.get('alice', 'b')).to.equal(undefined);
    recent.forget('alice');
    expect(found()).to.deep.equal([undefined, 9]);
  });

  it("of one client are forgotten together, and no one else's", () => {
    const recent = new RecentDecisions(createFakeClock(), 'a:1', 1e6);
    for (const id of ['r1', 'r2']) recent.add('alice', id, decision);
    recent.add('bob', 'r1', decision);
    recent.forget('alice');
    expect(recent.get('alice', 'r1')).to.equal(undefined);
    expect(recent.get('alice', 'r2')).to.equal(undefined);
    expect(recent.get('bob', 'r1')).to.equal(decision);
    expect(recent.size()).to.equal(1);
  });

  it('of one client can be listed, the latest of them, with their age', () => {
    const clock = createFakeClock();
    const recent = new RecentDecisions(clock, 'a:1', 1e6);
    for (const id of ['r1', 'r2', 'r3']) {
      recent.add('alice', id, decision);
      clock.advance(10);
    }
    recent.add('alice', 'r0', decision, 59_000);
    const listed = (max: number, maxAgeMs: number): [string, number][] =>
      recent.of('alice', max, maxAgeMs).map(({ requestId, ageMs }) => [requestId, ageMs]);
    expect(listed(9, 60_000)).to.deep.equal([
      ['r1', 30],
      ['r2', 20],
      ['r3', 10],
      ['r0', 59_000],
    ]);
    expect(listed(2, 60_000)).to.deep.equal([
      ['r3', 10],
      ['r0', 59_000],
    ]);
    expect(listed(9, 20)).to.deep.equal([
      ['r2', 20],
      ['r3', 10],
    ]);
    clock.advance(1_001);
    expect(recent.get('alice', 'r0')).to.equal(undefined);
    expect(recent.of('bob', 9, 60_000)).to.deep.equal([]);
  });

  it('start no timer, which would keep the process alive or fire after its end', () => {
    const before = process.getActiveResourcesInfo().length;
    const recent = new RecentDecisions(createFakeClock(), 'a:1', 1e6);
    recent.add('alice', 'r1', decision);
    recent.get('alice', 'r1');
    expect(process.getActiveResourcesInfo()).to.have.length(before);
  });
});
