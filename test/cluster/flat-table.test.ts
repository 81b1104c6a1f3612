import { expect } from 'chai';
import fc from 'fast-check';
import { createBucketTable, MARK } from '../../src/cluster/state/bucket-table.js';
import { createSlotIndex } from '../../src/cluster/state/slot-index.js';
import { Buckets, isIdle, lend, takeBack } from '../../src/core/bucket/bucket.js';
import { clientKey } from '../../src/core/ring/client-hash.js';
import { createCheck, decide } from '../../src/core/decide/decide.js';
import { toSnapshots } from '../../src/core/bucket/snapshot.js';
import { slidingWindow, tokenBucket } from '../support/rules.js';
import { addClient } from '../support/clients.js';

const RULES = [tokenBucket(10, 1_000), tokenBucket(20, 1_000, 30), tokenBucket(7, 60_000), slidingWindow(9, 1_000)];

describe('the flat table', () => {
  it('decides as the buckets of each client would by themselves, whatever shapes they take and leave', () => {
    const step = fc.record({
      id: fc.nat(4),
      rules: fc.constantFrom([0], [0], [0], [1], [2], [3], [0, 2], [1, 3]),
      cost: fc.integer({ min: 1, max: 4 }),
      then: fc.constantFrom('nothing', 'nothing', 'nothing', 'lend', 'return', 'delete', 'sweep'),
      waitMs: fc.constantFrom(0, 0, 3, 400, 70_000),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (history) => {
        const table = createBucketTable({ maxClients: 100 });
        const model = new Map<string, Buckets>();
        let nowMs = 0;
        for (const [i, { id, rules, cost, then, waitMs }] of history.entries()) {
          nowMs += waitMs;
          const key = clientKey(`client ${id}`);
          const alone = model.get(key.clientId) ?? new Buckets();
          model.set(key.clientId, alone);
          const check = createCheck(
            key,
            rules.map((one) => RULES[one]!),
            { cost },
          );
          const client = table.open(key);
          expect(decide(client, check, nowMs)).to.deep.equal(decide(alone, check, nowMs));
          for (const buckets of [client, alone]) {
            const { first } = buckets;
            if (first === undefined) continue;
            if (then === 'lend') lend(first, { id: `${i}`, tokens: 2, endMs: nowMs + 300, spent: undefined });
            if (then === 'return') takeBack(first, `${i - 1}`, 1, nowMs);
          }
          table.close(client, nowMs);
          if (then === 'delete')
            expect(table.delete(key.clientId)).to.equal(alone.first !== undefined && model.delete(key.clientId));
          if (then === 'sweep') table.sweep(100, nowMs);
          for (const [other, buckets] of model) {
            const held = table.peek(other);
            if (held !== undefined) expect(toSnapshots(held, nowMs)).to.deep.equal(toSnapshots(buckets, nowMs));
            else if (isIdle(buckets, nowMs)) model.delete(other);
            else expect.fail(`${other} is gone`);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it('finds every client by its whole id, though ids begin alike and have all sorts of lengths', () => {
    const table = createBucketTable({ maxClients: 5_000, secret: 12345 });
    const ids = Array.from({ length: 5_000 }, (_, i) => `${'é'.repeat(i % 60)}${'a'.repeat(i % 7)}${i}`);
    for (const id of ids) addClient(table, id, 1_000, 0);
    for (const id of ids) expect(table.peek(id)?.id).to.equal(id);
    for (const id of ids.filter((_, i) => i % 3 !== 0)) expect(table.delete(id)).to.equal(true);
    for (const [i, id] of ids.entries()) expect(table.peek(id)?.id).to.equal(i % 3 === 0 ? id : undefined);
    for (const id of ids.filter((_, i) => i % 3 !== 0)) addClient(table, id, 1_000, 0);
    for (const id of ids) expect(table.peek(id)?.id).to.equal(id);
  });

  it('shows nobody a mark of the client that had the slot before', () => {
    const table = createBucketTable({ maxClients: 10 });
    const { slot } = addClient(table, 'alice', 1_000, 0);
    expect(table.mark(slot, MARK.changed)).to.equal(true);
    expect(table.mark(slot, MARK.changed)).to.equal(false);
    const { generation } = table.peek('alice')!;
    table.delete('alice');
    expect([table.unmark(slot, MARK.changed), table.mark(slot, MARK.changed)]).to.deep.equal([false, false]);
    expect(addClient(table, 'bob', 1_000, 0).slot).to.equal(slot);
    expect(table.peekAt(slot)!.generation).to.not.equal(generation);
    expect(table.unmark(slot, MARK.changed)).to.equal(false);
  });
});

describe('the index of slots', () => {
  it('holds what a map would, through splits, merges and removals', () => {
    const hashes: number[] = [];
    const index = createSlotIndex(
      (slot) => hashes[slot]!,
      (slot) => slot === sought,
    );
    let sought = 0;
    const held = new Set<number>();
    let state = 1;
    const random = (): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0);
    const check = (): void => {
      for (let slot = 0; slot < hashes.length; slot += 1) {
        sought = slot;
        expect(index.find(hashes[slot]!, 1 + (slot & 126)), `slot ${slot}`).to.equal(held.has(slot) ? slot : -1);
      }
    };
    for (const target of [9_000, 10, 4_000, 0]) {
      while (held.size < target) {
        const slot = hashes.push(Math.imul(random(), 2_654_435_761) >>> 0) - 1;
        expect(index.add(hashes[slot]!, 1 + (slot & 126), slot)).to.equal(true);
        held.add(slot);
      }
      for (const slot of [...held].slice(target)) {
        index.remove(hashes[slot]!, slot);
        held.delete(slot);
      }
      check();
    }
  });

  it('refuses what finds no place among the 64 entries of a lookup, and holds on to the rest', () => {
    let sought = 0;
    const index = createSlotIndex(
      () => 7,
      (slot) => slot === sought,
    );
    for (let slot = 0; slot < 64; slot += 1) expect(index.add(7, 1, slot)).to.equal(true);
    expect(index.add(7, 1, 64)).to.equal(false);
    expect(index.crowd(7)).to.have.lengthOf(64);
    for (sought = 0; sought < 64; sought += 1) expect(index.find(7, 1)).to.equal(sought);
    index.remove(7, 30);
    expect(index.add(7, 1, 64)).to.equal(true);
    sought = 64;
    expect(index.find(7, 1)).to.equal(64);
  });
});
