import { expect } from 'chai';
import fc from 'fast-check';
import { BucketTable, MARK, type Client } from '../../src/state/bucket-table.js';
import { SlotIndex } from '../../src/state/slot-index.js';
import { addBucket, Buckets, isIdle, lend, takeBack } from '../../src/limits/bucket/bucket.js';
import { leasesFrom } from '../../src/limits/bucket/lease.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import { decide } from '../../src/limits/decide/decide.js';
import { toSnapshots } from '../../src/limits/bucket/snapshot.js';
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
        const table = new BucketTable({ maxClients: 100 });
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
          expect({ ...decide(client, check, nowMs) }).to.deep.equal(decide(alone, check, nowMs));
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
    const table = new BucketTable({ maxClients: 5_000, secret: 12345 });
    const ids = Array.from({ length: 5_000 }, (_, i) => `${'é'.repeat(i % 60)}${'a'.repeat(i % 7)}${i}`);
    for (const id of ids) addClient(table, id, 1_000, 0);
    for (const id of ids) expect(table.peek(id)?.id).to.equal(id);
    for (const id of ids.filter((_, i) => i % 3 !== 0)) expect(table.delete(id)).to.equal(true);
    for (const [i, id] of ids.entries()) expect(table.peek(id)?.id).to.equal(i % 3 === 0 ? id : undefined);
    for (const id of ids.filter((_, i) => i % 3 !== 0)) addClient(table, id, 1_000, 0);
    for (const id of ids) expect(table.peek(id)?.id).to.equal(id);
  });

  it('tells clients apart whose hashes are equal, by text and by bytes', () => {
    const table = new BucketTable({ maxClients: 10 });
    const ids = ['alice', 'alic', 'alice2', 'ali', 'älic', 'bob'];
    const held: string[] = [];
    for (const clientId of ids) {
      const bytes = Buffer.from(`-${clientId}-`);
      const openBoth = () =>
        [table.open({ clientId, hashHigh: 1, hashLow: 1 }), table.openBytes(1, 1, bytes, 1, bytes.length - 1)].map(
          ({ slot, id }) => [slot, id],
        );
      expect(openBoth()[0]).to.deep.equal([-1, clientId]);
      expect(openBoth()[1]).to.deep.equal([-1, clientId]);
      const client = table.open({ clientId, hashHigh: 1, hashLow: 1 });
      addBucket(client, RULES[0]!, 0);
      table.close(client, 0);
      held.push(clientId);
      expect(openBoth()).to.deep.equal([0, 1].map(() => [held.length - 1, clientId]));
    }
  });

  it('has all that a client got, however large it is, when the client is read again', () => {
    const table = new BucketTable({ maxClients: 10 });
    addClient(table, 'first', 1_000, 0);
    const [flat, faster] = [RULES[0]!, { ...RULES[0]!, limit: 20 }];
    const lease = { id: 'l', tokens: 2, endMs: 300, spent: undefined };
    const changes: Partial<Client>[] = [
      { hasStoredDecisions: true, lastItem: 2 ** 31 - 1, remembersUntilMs: 2 ** 50 },
      { hasStoredDecisions: false },
      { rule: faster },
      { rule: flat, tokens: 2 ** 31 - 1, part: 999, atMs: 2 ** 50, ruleChanges: 2 ** 31 - 1 },
      { tokens: 2 ** 31 },
      { tokens: 1, ruleChanges: 2 ** 31 },
      { ruleChanges: 2, leases: leasesFrom([lease]) },
      { leases: undefined },
    ];
    const alice = table.open(clientKey('alice'));
    addBucket(alice, flat, 0);
    table.close(alice, 0);
    const expected: Partial<Client> = { rule: flat, tokens: 0, part: 0, atMs: 0, ruleChanges: 0, leases: undefined };
    for (const change of changes) {
      const client = table.openKnown('alice')!;
      Object.assign(client, change);
      Object.assign(expected, change);
      table.close(client, 0);
      table.peek('first');
      table.openKnown('first');
      for (const read of [table.peek('alice')!, table.openKnown('alice')!])
        for (const [field, value] of Object.entries(expected))
          expect(read[field as keyof Client], field).to.deep.equal(value);
    }
    expect(table.peek('first')).to.include({ hasStoredDecisions: false, tokens: 1_000 });
  });

  it('takes the heap of one rule for a client whose limit changes again and again', () => {
    const table = new BucketTable({ maxClients: 10, maxHeapBytes: 1_000 });
    addClient(table, 'first', 1_000, 0);
    for (let limit = 10; limit < 100; limit += 1) {
      const alice = table.open(clientKey('alice'));
      decide(alice, createCheck(clientKey('alice'), [tokenBucket(limit, 60_000)]), 0);
      table.close(alice, 0);
    }
    expect([table.size(), table.unexpiredEvictions()]).to.deep.equal([2, 0]);
    expect(table.peek('alice')!.rule.limit).to.equal(99);
  });

  it('has nothing at the slot of a client that was deleted', () => {
    const table = new BucketTable({ maxClients: 10 });
    const { slot } = addClient(table, 'alice', 1_000, 0);
    addClient(table, 'bob', 1_000, 0);
    table.delete('alice');
    expect([table.peekAt(slot), table.mark(slot, MARK.changed)]).to.deep.equal([undefined, false]);
    expect([table.peekAt(-1), table.at(-1), table.at(1)]).to.deep.equal([undefined, undefined, undefined]);
  });

  it('shows nobody a mark of the client that had the slot before', () => {
    const table = new BucketTable({ maxClients: 10 });
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
    const index = new SlotIndex(
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
    const index = new SlotIndex(
      () => 7,
      (slot) => slot === sought,
    );
    for (let slot = 0; slot < 64; slot += 1) expect(index.add(7, 1, slot)).to.equal(true);
    expect(index.add(7, 1, 64)).to.equal(false);
    expect(index.probeGroup(7)).to.have.lengthOf(64);
    for (sought = 0; sought < 64; sought += 1) expect(index.find(7, 1)).to.equal(sought);
    index.remove(7, 30);
    expect(index.add(7, 1, 64)).to.equal(true);
    sought = 64;
    expect(index.find(7, 1)).to.equal(64);
  });

  /** An index of entries with these hashes, which are all in it at first. */
  function createIndexOf(hashes: readonly number[]) {
    let sought = 0;
    const index = new SlotIndex(
      (slot) => hashes[slot]!,
      (slot) => slot === sought,
    );
    const held = new Set<number>();
    const bench = {
      index,
      add(slot: number): boolean {
        const isAdded = index.add(hashes[slot]!, 1, slot);
        if (isAdded) held.add(slot);
        return isAdded;
      },
      remove(slots: readonly number[]): void {
        for (const slot of slots) {
          held.delete(slot);
          index.remove(hashes[slot]!, slot);
        }
      },
      expectAll(): void {
        for (sought = 0; sought < hashes.length; sought += 1)
          expect(index.find(hashes[sought]!, 1)).to.equal(held.has(sought) ? sought : -1);
      },
      sizes: (...crowds: number[]) => crowds.map((hash) => index.probeGroup(hash).length),
    };
    return bench;
  }

  const from = (begin: number, end: number): number[] => Array.from({ length: end - begin }, (_, i) => begin + i);
  /** The second bit of a hash. */
  const SECOND = 2 ** 30;

  it('splits a shard above 640 entries, and merges two again that have 256 together, one of them below 128', () => {
    const hashes = from(0, 700).map((i) => i + (i % 2) * SECOND);
    const bench = createIndexOf(hashes);
    for (const slot of from(0, 640)) expect(bench.add(slot)).to.equal(true);
    expect(bench.sizes(0, SECOND)).to.deep.equal([64, 64]);
    const apart = [32, 32];
    expect(bench.add(640)).to.equal(true);
    expect(bench.sizes(0, SECOND)).to.deep.equal(apart);
    for (const slot of from(641, 700)) expect(bench.add(slot)).to.equal(true);
    const [even, odd] = [0, 1].map((rest) => from(0, 700).filter((slot) => slot % 2 === rest)) as [number[], number[]];
    bench.remove(even.slice(130));
    bench.remove(odd.slice(127));
    bench.expectAll();
    expect(bench.sizes(0, SECOND)).to.deep.equal(apart);
    bench.remove([odd[126]!]);
    expect(bench.sizes(0, SECOND)).to.deep.equal([64, 64]);
    bench.expectAll();
    for (const slot of [...even.slice(130), ...odd.slice(126)]) bench.add(slot);
    bench.remove([...even.slice(128), ...odd.slice(128)]);
    expect(bench.sizes(0, SECOND), 'none is below 128').to.deep.equal(apart);
    bench.remove([even[127]!]);
    expect(bench.sizes(0, SECOND)).to.deep.equal([64, 64]);
    bench.expectAll();
  });

  it('loses no entry of a probeGroup when it splits', () => {
    const probeGroup = [...new Array<number>(60).fill(5), ...new Array<number>(9).fill(10)];
    const hashes = [...probeGroup, ...from(200, 800).map((i) => i + (i % 2) * SECOND)];
    const bench = createIndexOf(hashes);
    for (const slot of from(0, hashes.length)) expect(bench.add(slot)).to.equal(true);
    expect(bench.sizes(300, SECOND + 300)).to.deep.equal([32, 32]);
    bench.expectAll();
  });

  it('merges no shard with a part of its twin', () => {
    const begins = [0, SECOND, SECOND + SECOND / 2];
    const hashes = from(0, 1_000).map((i) => begins[i < 200 ? 0 : 1 + (i % 2)]! + (i % 900));
    const bench = createIndexOf(hashes);
    for (const slot of from(0, 1_000)) expect(bench.add(slot)).to.equal(true);
    bench.remove(from(200, 800).filter((slot) => slot % 2 === 0));
    bench.remove(from(0, 190));
    bench.expectAll();
  });

  it('merges no shards whose entries would probeGroup one', () => {
    const hashes = [...new Array<number>(50).fill(5), ...new Array<number>(50).fill(SECOND + 5)];
    const bench = createIndexOf(hashes);
    for (const slot of from(0, 100)) expect(bench.add(slot)).to.equal(true);
    bench.remove([99, 49]);
    bench.expectAll();
    expect(bench.sizes(5, SECOND + 5)).to.deep.equal([49, 49]);
    bench.remove(from(0, 49));
    expect(bench.sizes(5)).to.deep.equal([49]);
    bench.expectAll();
    expect(bench.index.find(SECOND + 5, 2), 'another tag').to.equal(-1);
  });

  it('has a directory at most 16 times as large as its size needs, now and after it had many more entries', () => {
    const many = from(0, 30_000).map((i) => Math.imul(i, 0x9e3779b1) >>> 0);
    const crowds = [2 ** 27, 2 ** 26].map((bit) => from(0, 65).map((i) => 5 + (i % 2) * bit));
    const bench = createIndexOf([...many, ...crowds.flat()]);
    for (const round of [1, 2]) {
      for (const [first, isLast] of [
        [30_000, true],
        [30_065, false],
      ] as const) {
        const slots = from(first, first + 65);
        expect(slots.map((slot) => bench.add(slot)).lastIndexOf(true), `round ${round}`).to.equal(isLast ? 64 : 63);
        bench.remove(isLast ? slots : slots.slice(0, 64));
      }
      if (round === 2) continue;
      for (const slot of from(0, 30_000)) if (!bench.add(slot)) expect.fail(`no place for ${slot}`);
      bench.remove(from(0, 30_000));
    }
  });
});
