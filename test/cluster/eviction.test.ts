import { expect } from 'chai';
import { BucketTable } from '../../src/state/bucket-table.js';
import { clientBytes } from '../../src/limits/heap-bytes.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import { addClient } from '../support/clients.js';
import { ask as askFor, slidingWindow, tokenBucket } from '../support/rules.js';

/** Tokens that a client of `addClient` has used up if it has used up half of its limit. */
const EXHAUSTED = 500_000;

const idOf = (i: number): string => `client:${i}`;

/** A full table of so many clients, which have used up little, or what `usedBy` says. */
function createFull(count: number, usedBy: (i: number) => number = () => 1_000): BucketTable {
  const table = new BucketTable({ maxClients: count });
  for (let i = 0; i < count; i += 1) addClient(table, idOf(i), usedBy(i), 0);
  return table;
}

let newcomers = 0;

/** The clients that newcomers push out, one after the other. */
function pushOut(table: BucketTable, count: number, used = 1_000, nowMs = 0): (string | undefined)[] {
  return Array.from({ length: count }, () => {
    const before = Array.from({ length: table.size() }, (_, place) => table.at(place)!.id);
    addClient(table, `newcomer:${(newcomers += 1)}`, used, nowMs);
    return before.find((id) => table.peek(id) === undefined);
  });
}

describe('a newcomer in a full table', () => {
  it('pushes out those that were not used for long, one place after the other, round and round', () => {
    const table = createFull(5);
    expect(pushOut(table, 3)).to.deep.equal([idOf(0), idOf(1), idOf(2)]);
    const round = pushOut(createFull(5), 7);
    expect(new Set(round).size).to.equal(7);
  });

  it('spares a client that was used, until the search comes by again', () => {
    const table = createFull(4);
    table.openKnown(idOf(0));
    const gone = pushOut(table, 4);
    expect(gone.slice(0, 2)).to.deep.equal([idOf(1), idOf(2)]);
    expect(gone.indexOf(idOf(0))).to.equal(3);
  });

  const bytes = Buffer.from(`-${idOf(0)}-`);
  const { hashHigh, hashLow } = clientKey(idOf(0));
  const looks: [name: string, isUse: boolean, look: (table: BucketTable) => unknown][] = [
    ['open', true, (table) => table.open(clientKey(idOf(0)))],
    ['openBytes', true, (table) => table.openBytes(hashHigh, hashLow, bytes, 1, bytes.length - 1)],
    ['openKnown', true, (table) => table.openKnown(idOf(0))],
    ['openCopy', false, (table) => table.openCopy(idOf(0))],
    ['openCopyOf', false, (table) => table.openCopyOf(bytes, 1, bytes.length - 1)],
    ['peek', false, (table) => table.peek(idOf(0))],
    ['peekAt', false, (table) => table.peekAt(table.peek(idOf(0))!.slot)],
    ['at', false, (table) => table.at(0)],
  ];
  for (const [name, isUse, look] of looks) {
    it(`${isUse ? 'spares' : 'may push out'} a client that was found by ${name}`, () => {
      const table = createFull(4);
      expect(look(table)).to.include({ id: idOf(0), slot: table.peek(idOf(0))!.slot });
      expect(pushOut(table, 1)).to.deep.equal([idOf(isUse ? 1 : 0)]);
    });
  }

  it('pushes out a client at rest among the first 8 rather than one not used for long', () => {
    for (const [resting, gone] of [
      [7, 7],
      [8, 0],
    ] as const) {
      const table = createFull(20, (i) => (i === resting ? 10 : 1_000));
      expect(pushOut(table, 1, 1_000, 10)).to.deep.equal([idOf(gone)]);
      expect(table.unexpiredEvictions()).to.equal(gone === resting ? 0 : 1);
      expect(pushOut(table, 1, 1_000, 10)).to.deep.equal([idOf(gone === resting ? 0 : resting)]);
    }
  });

  for (const [name, used, step] of [
    ['a client that may go', 1_000, 64],
    ['a client at rest', 1, 63],
  ] as const) {
    it(`looks at 64 clients for ${name}, at 8 after a search in vain, and at 64 again after one that found some`, () => {
      const nowMs = 1;
      const push = (table: BucketTable, count: number) => pushOut(table, count, EXHAUSTED + 10, nowMs);
      const having = (...places: number[]) => createFull(150, (i) => (places.includes(i) ? used : EXHAUSTED + 10));
      expect(push(having(0, 40), 2)).to.deep.equal([idOf(0), idOf(40)]);
      expect(push(having(63), 1)).to.deep.equal([idOf(63)]);
      expect(push(having(64), 1)).to.not.include(idOf(64));
      const table = having(72, 72 + step);
      const gone = push(table, 4);
      expect(gone.slice(0, 2)).to.not.include(idOf(72));
      expect(gone.slice(2)).to.deep.equal([idOf(72), idOf(72 + step)]);
    });
  }

  it('that has used up half of its limit pushes out the newest of its kind, a sixteenth of the table', () => {
    const table = createFull(160, () => EXHAUSTED);
    const gone = pushOut(table, 40, EXHAUSTED);
    expect(gone.slice(0, 8)).to.deep.equal(Array.from({ length: 8 }, (_, i) => idOf(151 + i)));
    for (let i = 0; i < 150; i += 1) expect(table.peek(idOf(i)), idOf(i)).to.not.equal(undefined);
    expect(
      pushOut(
        createFull(160, () => EXHAUSTED - 1),
        1,
        EXHAUSTED,
      ),
    ).to.deep.equal([idOf(0)]);
  });

  it('spares those of the newest that were used, unless all were', () => {
    const some = createFull(160, () => EXHAUSTED);
    for (const i of [151, 152]) some.openKnown(idOf(i));
    expect(pushOut(some, 1, EXHAUSTED)).to.deep.equal([idOf(153)]);
    const all = createFull(160, () => EXHAUSTED);
    for (let i = 150; i < 160; i += 1) all.openKnown(idOf(i));
    const gone = pushOut(all, 3, EXHAUSTED);
    expect([gone[0], gone[2]]).to.deep.equal([idOf(158), idOf(151)]);
  });

  it('whose place in the index is crowded pushes out the one there that has used up least', () => {
    const table = new BucketTable({ maxClients: 1_000 });
    const crowd = Array.from({ length: 65 }, (_, i) => ({ clientId: idOf(i), hashHigh: 1, hashLow: 1 }));
    for (const [i, key] of crowd.entries()) {
      const client = table.open(key);
      askFor(client, tokenBucket(1_000, 1_000), 0, i === 40 ? 1 : 2 + i);
      table.close(client, 0);
    }
    expect([table.size(), table.unexpiredEvictions()]).to.deep.equal([64, 1]);
    const held = new Set(Array.from({ length: 64 }, (_, place) => table.at(place)!.id));
    expect(crowd.filter(({ clientId }) => !held.has(clientId)).map(({ clientId }) => clientId)).to.deep.equal([
      idOf(40),
    ]);
  });
});

describe('a table whose part of the heap is full', () => {
  const DAY_MS = 86_400_000;
  const two = (limit = 1_000): Rule[] => [tokenBucket(limit, DAY_MS), tokenBucket(limit, DAY_MS + 1)];

  function ask(table: BucketTable, id: string, rules: readonly Rule[], nowMs = 0): void {
    const client = table.open(clientKey(id));
    table.forgot(askFor(client, rules, nowMs).forgotten);
    table.close(client, nowMs);
  }

  function bucketsOf(table: BucketTable, id: string): number | undefined {
    const client = table.peek(id);
    if (client === undefined) return undefined;
    let count = 0;
    for (let bucket = client.first; bucket !== undefined; bucket = bucket.next) count += 1;
    return count;
  }

  /** Room for three clients with these rules and for the rules of a few others. */
  function createTable(rules: readonly Rule[]): BucketTable {
    const sample = new BucketTable({ maxClients: 1 });
    ask(sample, 'a', rules);
    return new BucketTable({ maxClients: 100, maxHeapBytes: 3 * clientBytes(sample.at(0)!, 1) + 500 });
  }

  it('takes nothing while it is not above its bound, to the byte, with the rules of its records', () => {
    const sample = new BucketTable({ maxClients: 1 });
    ask(sample, 'a', two());
    const RULE_BYTES = 180;
    const bytes = 2 * clientBytes(sample.at(0)!, 1) + 2 * RULE_BYTES;
    for (const [maxHeapBytes, buckets] of [
      [bytes, [2, 2]],
      [bytes - 1, [1, 2]],
    ] as const) {
      const table = new BucketTable({ maxClients: 9, maxHeapBytes });
      for (const [i, id] of ['y', 'z'].entries()) ask(table, id, [tokenBucket(1, DAY_MS + i)]);
      for (const id of ['a', 'b']) ask(table, id, two());
      expect(['a', 'b'].map((id) => bucketsOf(table, id))).to.deep.equal(buckets);
      expect(table.unexpiredEvictions()).to.equal(2 - buckets[0]);
    }
  });

  const countsOf = (table: BucketTable): (number | undefined)[] =>
    ['a', 'b', 'c', 'd'].map((id) => bucketsOf(table, id));

  it('takes all buckets but one from a client that was not used for long', () => {
    const table = createTable(two());
    for (const id of ['a', 'b', 'c']) ask(table, id, two());
    expect(table.unexpiredEvictions()).to.equal(0);
    ask(table, 'd', two());
    expect(countsOf(table)).to.deep.equal([2, 1, 2, 2]);
    expect(table.unexpiredEvictions()).to.equal(1);
  });

  it('spares a client that was used, until the search comes by again', () => {
    const table = createTable(two());
    for (const id of ['a', 'b', 'c', 'b']) ask(table, id, two());
    ask(table, 'd', two());
    expect(countsOf(table)).to.deep.equal([2, 2, 1, 2]);
    for (const id of ['e', 'f', 'g']) ask(table, id, two());
    expect(countsOf(table)).to.include(1);
    expect(bucketsOf(table, 'b')).to.equal(1);
  });

  it('spares clients that have used up half of a limit, and takes the buckets of the one that asks', () => {
    const table = createTable(two());
    for (const id of ['a', 'b', 'c']) ask(table, id, two(2));
    ask(table, 'd', two());
    expect(countsOf(table)).to.deep.equal([2, 2, 2, 1]);
    expect(table.unexpiredEvictions()).to.equal(1);
  });

  it('drops a client at rest, and does not count it', () => {
    const table = createTable(two());
    ask(table, 'a', two());
    ask(table, 'b', [tokenBucket(1, 10), tokenBucket(1, 20)]);
    ask(table, 'c', two());
    ask(table, 'd', two(), 20);
    expect(countsOf(table)).to.deep.equal([2, undefined, 2, 2]);
    expect(table.unexpiredEvictions()).to.equal(0);
  });

  it('drops a client whose last bucket takes of the heap too, and counts it', () => {
    const rules = [slidingWindow(1_000, DAY_MS)];
    const table = createTable(rules);
    for (const id of ['a', 'b', 'c', 'd', 'e']) ask(table, id, rules);
    const gone = ['a', 'b', 'c', 'd', 'e'].filter((id) => table.peek(id) === undefined);
    expect(gone[0]).to.equal('b');
    expect(table.unexpiredEvictions()).to.equal(gone.length);
    expect(table.peek('e')).to.not.equal(undefined);
  });
});

describe('a table whose part of the heap is full of clients that have used up theirs', () => {
  const DAY_MS = 86_400_000;

  function add(table: BucketTable, id: string, rule: Rule, nowMs = 0): void {
    const client = table.open(clientKey(id));
    askFor(client, rule, nowMs);
    table.close(client, nowMs);
  }

  it('drops one of the newest for each newcomer, and counts it', () => {
    const sample = new BucketTable({ maxClients: 1 });
    add(sample, idOf(10), slidingWindow(1, DAY_MS));
    const maxHeapBytes = 60 * clientBytes(sample.at(0)!, idOf(10).length);
    const table = new BucketTable({ maxClients: 1_000, maxHeapBytes: maxHeapBytes + 180 });
    for (let i = 0; i < 20; i += 1) add(table, `flat:${i}`, tokenBucket(1_000, DAY_MS));
    for (let i = 10; i < 80; i += 1) {
      add(table, idOf(i), slidingWindow(1, DAY_MS));
      expect(table.peek(idOf(i))).to.not.equal(undefined);
    }
    expect([table.size(), table.unexpiredEvictions()]).to.deep.equal([80, 10]);
    for (let i = 0; i < 20; i += 1) expect(table.peek(`flat:${i}`)).to.not.equal(undefined);
    for (let i = 10; i < 60; i += 1) expect(table.peek(idOf(i)), idOf(i)).to.not.equal(undefined);
  });

  it('drops clients at rest for the sake of the rules that only they have, and does not count them', () => {
    const table = new BucketTable({ maxClients: 1_000, maxHeapBytes: 9_000 });
    for (let i = 0; i < 50; i += 1) add(table, idOf(i), tokenBucket(1, 1_000 + i));
    for (let i = 50; i < 90; i += 1) add(table, idOf(i), tokenBucket(1, DAY_MS + i), 2_000);
    expect(table.unexpiredEvictions()).to.equal(0);
    for (let i = 50; i < 90; i += 1) expect(table.peek(idOf(i)), idOf(i)).to.not.equal(undefined);
  });

  it('keeps a single client that is above the bound by itself', () => {
    const table = new BucketTable({ maxClients: 9, maxHeapBytes: 1 });
    add(table, 'alice', slidingWindow(1, DAY_MS));
    expect([table.size(), table.unexpiredEvictions()]).to.deep.equal([1, 0]);
  });
});

describe('an empty client', () => {
  it('is not added, unless decisions on its request ids are remembered', () => {
    const table = new BucketTable({ maxClients: 9 });
    for (const [id, remembersUntilMs] of [
      ['alice', 0],
      ['bob', 100],
      ['carol', 101],
    ] as const) {
      const client = table.open(clientKey(id));
      client.remembersUntilMs = remembersUntilMs;
      table.close(client, 100);
    }
    expect([table.size(), table.at(0)?.id]).to.deep.equal([1, 'carol']);
  });

  it('has nothing of the client that was opened before it', () => {
    const table = new BucketTable({ maxClients: 9 });
    const alice = addClient(table, 'alice', 1_000, 0);
    Object.assign(alice, { hasStoredDecisions: true, lastItem: 7, remembersUntilMs: 100 });
    table.close(alice, 0);
    for (const open of [
      (id: string) => table.open(clientKey(id)),
      (id: string) => table.openCopy(id),
      (id: string) => table.openCopyOf(Buffer.from(id), 0, id.length),
      (id: string) => table.openBytes(5, 6, Buffer.from(id), 0, id.length),
    ]) {
      expect(table.openKnown('alice')).to.include({ hasStoredDecisions: true, lastItem: 7 });
      const blank = {
        id: 'bob',
        slot: -1,
        hasStoredDecisions: false,
        lastItem: 0,
        remembersUntilMs: 0,
        marks: 0,
        first: undefined,
      };
      expect(open('bob')).to.include(blank);
    }
    expect(table.openKnown('bob')).to.equal(undefined);
  });
});

describe('a deletion', () => {
  it('says whether the table held the client', () => {
    const table = createFull(2);
    expect([idOf(0), idOf(1), idOf(0)].map((id) => table.delete(id))).to.deep.equal([true, true, false]);
  });
});

describe('a sweep', () => {
  it('goes on where the last one stopped, from the last place to the first, and looks at each client once at most', () => {
    const table = createFull(5, (i) => (i === 1 ? 1_000 : 1));
    const idsAfter = (count: number): string[] => {
      table.sweep(count, 1);
      return Array.from({ length: table.size() }, (_, place) => table.at(place)!.id);
    };
    expect(idsAfter(2)).to.deep.equal([0, 1, 2].map(idOf));
    expect(idsAfter(0)).to.have.length(3);
    expect(idsAfter(2)).to.deep.equal([0, 1].map(idOf));
    expect(idsAfter(9)).to.deep.equal([idOf(1)]);
    table.delete(idOf(1));
    expect(idsAfter(9)).to.deep.equal([]);
  });

  it('looks at the last clients, if those are gone where it stopped', () => {
    for (const left of [2, 3]) {
      const table = createFull(5, (i) => (i < 2 ? 1 : 1_000));
      table.sweep(1, 1);
      for (let i = left; i < 5; i += 1) table.delete(idOf(i));
      table.sweep(left, 1);
      expect(table.size()).to.equal(left - 2);
    }
  });
});
