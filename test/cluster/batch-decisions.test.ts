import { expect } from 'chai';
import fc from 'fast-check';
import { BatchDecisions } from '../../src/state/batch-decisions.js';
import type { Verdict } from '../../src/limits/decide/decide.js';

const TTL_MS = 60_000;

const create = (makeRoom: (bytes: number) => void = () => undefined): BatchDecisions =>
  new BatchDecisions('a:1', TTL_MS, makeRoom);

const clientOf = (n: number): { hashHigh: number; hashLow: number; lastItem: number } => {
  return { hashHigh: n * 7 - 3, hashLow: -n, lastItem: 0 };
};

const verdict = (remaining: number): Verdict => {
  const allowed = remaining % 3 > 0;
  const retryAfterMs = allowed ? 0 : remaining % 2 > 0 ? null : 31_622_400_000;
  return { allowed, limit: 1e9, remaining, retryAfterMs, resetMs: remaining, limits: undefined };
};

const decision = (remaining: number): object => ({
  ...verdict(remaining),
  owner: 'a:1',
  source: 'owner',
  degraded: false,
});

describe('decisions on items of batches', () => {
  it('are found by batch, index, and client, and listed by client, the last first', () => {
    const steps = fc.array(
      fc.record({ batch: fc.nat(3), index: fc.oneof(fc.nat(3), fc.constantFrom(7, 8, 999)), client: fc.nat(3) }),
      { maxLength: 40, size: 'max' },
    );
    fc.assert(
      fc.property(steps, fc.constantFrom(undefined, 1, 1_000), (asked, size) => {
        const decisions = create();
        const clients = [0, 1, 2, 3].map(clientOf);
        const model = new Map<string, { client: number; remaining: number }>();
        for (const [remaining, { batch, index, client }] of asked.entries()) {
          const key = `b${batch}#${index}`;
          const known = model.get(key);
          const first = known?.client === client ? decision(known.remaining) : undefined;
          expect(decisions.get(`b${batch}`, index, clients[client]!, 5)).to.deep.equal(first);
          const isAdded = decisions.add(`b${batch}`, index, clients[client]!, verdict(remaining), 5, size);
          expect(isAdded).to.equal(known === undefined || known.client === client);
          if (known === undefined) model.set(key, { client, remaining });
        }
        expect(decisions.size()).to.equal(model.size);
        for (const [n, client] of clients.entries()) {
          const listed: [string, number][] = [];
          decisions.eachOf(client, 1_000, 0, (one) => listed.push([`${one.batchId}#${one.index}`, one.remaining]));
          const expected = [...model].filter(([, one]) => one.client === n).map(([key, one]) => [key, one.remaining]);
          expect(listed).to.deep.equal(expected.reverse());
        }
      }),
      { numRuns: 500 },
    );
  });

  it('are remembered for 60 s and not one ms more, and then anew', () => {
    const decisions = create();
    const client = clientOf(1);
    decisions.add('b', 0, client, verdict(1), 100);
    expect(decisions.get('b', 0, client, 100 + TTL_MS)).to.deep.equal(decision(1));
    expect(decisions.knows('b', 100 + TTL_MS)).to.equal(true);
    expect(decisions.get('b', 0, client, 101 + TTL_MS)).to.equal(undefined);
    expect(decisions.size()).to.equal(0);
    expect(decisions.bytes()).to.equal(0);
    decisions.add('b', 0, client, verdict(2), 101 + TTL_MS);
    expect(decisions.get('b', 0, client, 101 + TTL_MS)).to.deep.equal(decision(2));
    expect(decisions.size()).to.equal(1);
  });

  it('are each remembered for 60 s, however long their batch goes on', () => {
    const decisions = create();
    const client = clientOf(1);
    for (let index = 0; index < 5; index += 1) decisions.add('b', index, client, verdict(index), index * 30_000);
    const foundAt = (nowMs: number): readonly number[] =>
      [0, 1, 2, 3, 4].filter((index) => decisions.get('b', index, client, nowMs) !== undefined);
    expect([TTL_MS, TTL_MS + 1, 120_000, 120_001].map(foundAt)).to.deep.equal([
      [0, 1, 2, 3, 4],
      [1, 2, 3, 4],
      [2, 3, 4],
      [3, 4],
    ]);
    const listed: number[] = [];
    decisions.eachOf(client, 10, 120_001 - TTL_MS, ({ index, atMs }) => listed.push(index, atMs));
    expect(listed).to.deep.equal([4, 120_000, 3, 90_000]);
    expect([180_000, 180_001].map((nowMs) => decisions.knows('b', nowMs))).to.deep.equal([true, false]);
    expect(decisions.knows('other', 0)).to.equal(false);
  });

  it('make room for another on the same item after 60 s, and are listed once', () => {
    const decisions = create();
    const [alice, bob] = [clientOf(1), clientOf(2)];
    const list = (client: typeof alice): readonly number[] => {
      const listed: number[] = [];
      decisions.eachOf(client, 10, 0, ({ remaining }) => listed.push(remaining));
      return listed;
    };
    for (const index of [0, 1, 2]) decisions.add('b', index, alice, verdict(index), index * 25_000);
    expect(decisions.add('b', 0, alice, verdict(7), TTL_MS + 1)).to.equal(true);
    expect(decisions.get('b', 0, alice, TTL_MS + 1)).to.deep.equal(decision(7));
    expect(list(alice)).to.deep.equal([7, 2, 1]);
    expect(decisions.add('b', 1, bob, verdict(8), 85_001)).to.equal(true);
    expect([list(alice), list(bob)]).to.deep.equal([[7, 2], [8]]);
    expect(decisions.add('b', 0, bob, verdict(9), TTL_MS + 2)).to.equal(false);
    decisions.add('b', 2, alice, verdict(4), 110_001);
    expect(list(alice)).to.deep.equal([4, 7]);
    expect(decisions.size()).to.equal(3);
  });

  it('are those of their own client, also where the halves of two hashes are equal', () => {
    const decisions = create();
    const clients = [
      { hashHigh: 1, hashLow: 1, lastItem: 0 },
      { hashHigh: 1, hashLow: 2, lastItem: 0 },
      { hashHigh: 2, hashLow: 1, lastItem: 0 },
    ];
    decisions.add('b', 0, clients[0]!, verdict(1), 0);
    expect(clients.map((client) => decisions.get('b', 0, client, 0) !== undefined)).to.deep.equal([true, false, false]);
    for (const client of clients.slice(1)) expect(decisions.add('b', 0, client, verdict(2), 0)).to.equal(false);
  });

  it('take a row each, in a batch that grows by as many rows as it has', () => {
    const [BATCH, ROW] = [400, 64];
    const rowsOf = (indexes: readonly number[], size?: number): number => {
      const decisions = create();
      for (const index of indexes) decisions.add('b', index, clientOf(1), verdict(1), 0, size);
      return (decisions.bytes() - BATCH - 4) / ROW;
    };
    expect([[0], [7], [20], [0, 8], [0, 20]].map((indexes) => rowsOf(indexes))).to.deep.equal([8, 8, 21, 16, 21]);
    expect([rowsOf([0], 3), rowsOf([0, 3], 3), rowsOf([0, 999], 600)]).to.deep.equal([3, 6, 1_024]);
  });

  it('go batch by batch, the one whose last decision is oldest first', () => {
    const decisions = create();
    for (const batchId of ['b0', 'b1']) decisions.add(batchId, 0, clientOf(1), verdict(1), 0);
    decisions.add('b0', 1, clientOf(1), verdict(1), 100);
    decisions.forgetOldest();
    expect(['b0', 'b1'].map((batchId) => decisions.knows(batchId, 100))).to.deep.equal([true, false]);
    expect(decisions.oldestAtMs()).to.equal(100);
  });

  it('go batch by batch, whichever of them is over first', () => {
    const decisions = create();
    const client = clientOf(1);
    for (const batchId of ['b0', 'b1', 'b2']) decisions.add(batchId, 0, client, verdict(1), 0);
    for (const batchId of ['b0', 'b2']) decisions.add(batchId, 1, client, verdict(1), 100);
    expect(decisions.knows('b1', TTL_MS + 1)).to.equal(false);
    decisions.add('b3', 0, client, verdict(1), TTL_MS + 1);
    expect(decisions.knows('b2', TTL_MS + 101)).to.equal(false);
    decisions.add('b4', 0, client, verdict(1), TTL_MS + 1);
    const left: boolean[][] = [];
    for (let i = 0; i < 4; i += 1) {
      left.push(['b0', 'b3', 'b4'].map((batchId) => decisions.knows(batchId, 100)));
      decisions.forgetOldest();
    }
    expect(left).to.deep.equal([
      [true, true, true],
      [false, true, true],
      [false, false, true],
      [false, false, false],
    ]);
    expect([decisions.size(), decisions.bytes()]).to.deep.equal([0, 0]);
  });

  it('have numbers that no other batch has which is remembered, and are not those before a number came again', () => {
    const decisions = new BatchDecisions('a:1', TTL_MS, () => undefined, 4);
    const client = clientOf(1);
    const add = (batchId: string, atMs: number) => decisions.add(batchId, 0, client, verdict(1), atMs);
    const list = (of = client): string[] => {
      const listed: string[] = [];
      decisions.eachOf(of, 10, 0, ({ batchId }) => listed.push(batchId));
      return listed;
    };
    add('b1', 0);
    add('b2', 100);
    const other = clientOf(2);
    decisions.add('b2', 1, other, verdict(1), 100);
    add('b3', 0);
    expect(['b1', 'b3'].map((batchId) => decisions.knows(batchId, TTL_MS + 1))).to.deep.equal([false, false]);
    // The numbers 1 and 3 are free.
    add('b5', 100);
    add('b7', 100);
    expect(['b2', 'b5', 'b7'].map((batchId) => decisions.get(batchId, 0, client, 100))).to.deep.equal(
      new Array(3).fill(decision(1)),
    );
    expect([list(), list(other)]).to.deep.equal([['b7', 'b5'], ['b2']]);
  });

  it('go with their batch, the oldest first, and are then not listed either', () => {
    const asked: number[] = [];
    const decisions = create((bytes) => void asked.push(bytes));
    const client = clientOf(1);
    for (let i = 0; i < 3; i += 1) decisions.add(`b${i}`, 0, client, verdict(i), i, 10);
    expect(asked).to.have.lengthOf(3);
    expect(Math.min(...asked)).to.be.above(10 * 64);
    expect(decisions.bytes()).to.equal(asked.reduce((sum, one) => sum + one));
    expect(decisions.oldestAtMs()).to.equal(0);
    decisions.forgetOldest();
    expect(decisions.oldestAtMs()).to.equal(1);
    expect(decisions.get('b0', 0, client, 3)).to.equal(undefined);
    const listed: string[] = [];
    decisions.eachOf(client, 10, 0, ({ batchId }) => listed.push(batchId));
    expect(listed).to.deep.equal(['b2', 'b1']);
    listed.length = 0;
    decisions.eachOf(client, 1, 0, ({ batchId }) => listed.push(batchId));
    decisions.eachOf(client, 10, 2, ({ batchId }) => listed.push(batchId));
    expect(listed).to.deep.equal(['b2', 'b2']);
    while (decisions.size() > 0) decisions.forgetOldest();
    expect([decisions.bytes(), decisions.oldestAtMs()]).to.deep.equal([0, Infinity]);
  });

  it('are not those of a later batch with the number of a forgotten one', () => {
    const decisions = new BatchDecisions('a:1', TTL_MS, () => undefined, 4);
    const [alice, bob] = [clientOf(1), clientOf(2)];
    decisions.add('b1', 0, alice, verdict(1), 0);
    decisions.add('b2', 0, alice, verdict(2), 0);
    const stale = { ...alice, lastItem: (1 << 10) | 0 };
    decisions.forgetOldest();
    // Three numbers are in use by turns, and that of `b1` comes again.
    for (const batchId of ['b3', 'b4']) decisions.add(batchId, 0, bob, verdict(3), 0);
    const listed: string[] = [];
    const list = (client: typeof alice): void => decisions.eachOf(client, 10, 0, ({ batchId }) => listed.push(batchId));
    expect(bob.lastItem).to.equal(stale.lastItem);
    list(stale);
    expect(listed).to.deep.equal([]);
    list(alice);
    expect(listed).to.deep.equal(['b2']);
    list(bob);
    expect(listed).to.deep.equal(['b2', 'b4', 'b3']);
  });

  it('of one client are forgotten together', () => {
    const decisions = create();
    const [a, b] = [clientOf(1), clientOf(2)];
    for (const [index, client] of [a, b, a].entries()) decisions.add('b', index, client, verdict(index), 0);
    decisions.forget(a);
    expect([0, 1, 2].map((index) => decisions.get('b', index, index === 1 ? b : a, 0))).to.deep.equal([
      undefined,
      decision(1),
      undefined,
    ]);
    expect(decisions.size()).to.equal(1);
    decisions.forget(a);
    expect(decisions.size()).to.equal(1);
    decisions.eachOf(a, 10, 0, () => expect.fail('nothing is left of it'));
    decisions.forgetOldest();
    decisions.forgetOldest();
    expect(decisions.size()).to.equal(0);
  });
});
