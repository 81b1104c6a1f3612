import { expect } from 'chai';
import fc from 'fast-check';
import { BucketTable, type Client } from '../../src/state/bucket-table.js';
import { SWEEP_STEPS } from '../../src/node/lifecycle.js';
import { isIdle } from '../../src/limits/bucket/bucket.js';
import { clientBytes } from '../../src/limits/heap-bytes.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import { addClient } from '../support/clients.js';
import { ask as askFor, slidingWindow, tokenBucket } from '../support/rules.js';

/** As many ids as steps choose from: a table for so many never has to make room. */
const CLIENTS = 40;

/** What happens to a table; `at` picks one of the clients, `ms` how long they take to rest, or how much time goes by. */
interface Step {
  readonly kind: 'add' | 'get' | 'peek' | 'delete' | 'sweep' | 'wait';
  readonly at: number;
  readonly ms: number;
}

/** `size`, as fast-check's arrays otherwise end after ten, whatever `maxLength` allows. */
const steps = (kinds: readonly Step['kind'][], maxLength: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({ kind: fc.constantFrom(...kinds), at: fc.nat(CLIENTS - 1), ms: fc.integer({ min: 1, max: 30 }) }),
    { maxLength, size: 'max' },
  );

const CHURN = ['add', 'add', 'get', 'get', 'delete'] as const;

function churn(table: BucketTable, { kind, at, ms }: Step, nowMs: number): void {
  const id = `client:${at}`;
  if (kind === 'get') table.openKnown(id);
  if (kind === 'delete') table.delete(id);
  if (kind === 'add' && table.peek(id) === undefined) addClient(table, id, ms, nowMs);
}

/** What happens between two steps of a sweep or a walk: all sorts of things, or an exodus. */
const pauses = fc.oneof(
  ...[CHURN, ['get', 'delete'] as const].map((kinds) =>
    fc.array(steps(kinds, 12), { minLength: 1, maxLength: 20, size: 'max' }),
  ),
);

/** Clients in a step of the sweep of a million. */
const SWEEP_CLIENTS = Math.ceil(1_000_000 / SWEEP_STEPS);

/** All clients, from the last place to the first. */
function idsOf(table: BucketTable): string[] {
  return Array.from({ length: table.size() }, (_, i) => table.at(table.size() - 1 - i)!.id);
}

describe('bucket table', () => {
  it('holds what a map would, within its bound, and counts exactly whom it forgot before their time', () => {
    const all = steps(['add', 'add', 'add', 'get', 'peek', 'delete', 'sweep', 'wait'], 200);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), all, (maxClients, history) => {
        const table = new BucketTable({ maxClients });
        /** When each client is at rest. */
        const model = new Map<string, number>();
        let nowMs = 0;
        let forgotten = 0;
        for (const { kind, at, ms } of history) {
          const id = `client:${at}`;
          const restsAtMs = model.get(id);
          if (kind === 'wait') nowMs += ms;
          if (kind === 'get' || kind === 'peek') {
            expect((kind === 'get' ? table.openKnown(id) : table.peek(id))?.id).to.equal(
              restsAtMs === undefined ? undefined : id,
            );
          }
          if (kind === 'delete') expect(table.delete(id)).to.equal(model.delete(id));
          if (kind === 'add' && restsAtMs === undefined) {
            addClient(table, id, ms, nowMs);
            if (model.size === maxClients) {
              const [gone, ...others] = [...model.keys()].filter((one) => table.peek(one) === undefined);
              expect(others, 'one makes room').to.deep.equal([]);
              if (model.get(gone!)! > nowMs) forgotten += 1;
              model.delete(gone!);
            }
            model.set(id, nowMs + ms);
          }
          if (kind === 'sweep') {
            table.sweep(ms, nowMs);
            const dropped = [...model.keys()].filter((one) => table.peek(one) === undefined);
            expect(dropped.length).to.be.at.most(ms);
            for (const one of dropped) {
              expect(model.get(one), 'dropped before it rested').to.be.at.most(nowMs);
              model.delete(one);
            }
          }
          expect(idsOf(table).sort().join()).to.equal([...model.keys()].sort().join());
          expect(table.at(table.size())).to.equal(undefined);
          expect(table.size()).to.equal(model.size);
          expect(table.unexpiredEvictions()).to.equal(forgotten);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('forgets a client not used for long when it is full of limits that still count', () => {
    const table = new BucketTable({ maxClients: 10 });
    for (let i = 0; i < 10; i += 1) addClient(table, `client:${i}`, 1_000, 0);
    table.open(clientKey('client:0'));
    table.peek('client:1');
    addClient(table, 'newcomer', 1_000, 0);
    expect(table.peek('client:1')).to.equal(undefined);
    expect([table.size(), table.unexpiredEvictions()]).to.deep.equal([10, 1]);
  });

  it('keeps whoever is used through a flood of others', () => {
    const table = new BucketTable({ maxClients: 100 });
    const regulars = Array.from({ length: 40 }, (_, i) => `regular:${i}`);
    for (const id of regulars) addClient(table, id, 1_000, 0);
    for (let i = 0; i < 10_000; i += 1) {
      addClient(table, `flood:${i}`, 1_000, 0);
      expect(table.openKnown(regulars[i % regulars.length]!), `after ${i}`).to.not.equal(undefined);
    }
  });

  it('spares who has used up its limit: newcomers push out those who have most of it left, or else each other', () => {
    const table = new BucketTable({ maxClients: 160 });
    const addExhausted = (id: string): unknown => addClient(table, id, 1_000_000, 0);
    const old = Array.from({ length: 100 }, (_, i) => `old:${i}`);
    for (const id of old) addExhausted(id);
    for (let i = 0; i < 1_000; i += 1) addClient(table, `flood:${i}`, 1, 0);
    for (let i = 0; i < 1_000; i += 1) addExhausted(`exhausted flood:${i}`);
    expect(old.filter((id) => table.peek(id) === undefined)).to.deep.equal([]);
    expect(table.size()).to.equal(160);
    // The newest are not thrown out at once: who asks again within the time of some others is known.
    addExhausted('newcomer');
    for (let i = 0; i < 5; i += 1) addExhausted(`next:${i}`);
    expect(table.peek('newcomer')).to.not.equal(undefined);
  });

  it('is bounded by the bytes of its clients: of those with long ids it holds fewer', () => {
    const table = new BucketTable({ maxClients: 10_000, maxBytes: 104_000 });
    for (let i = 0; i < 2_000; i += 1) addClient(table, `client:${i}`.padEnd(20), 1_000, 0);
    expect(table.size()).to.equal(1_000);
    for (let i = 0; i < 2_000; i += 1) addClient(table, `client:${i}`.padEnd(256), 1_000, 0);
    expect(table.size()).to.be.within(305, 310);
  });

  it('is above its bound of bytes by none, also of the longest ids', () => {
    for (const [maxBytes, held] of [
      [3 * (84 + 256), 3],
      [3 * (84 + 256) - 1, 2],
    ] as const) {
      const table = new BucketTable({ maxClients: 10, maxBytes });
      for (let i = 0; i < 5; i += 1) addClient(table, `${i}`.padEnd(256), 1_000, 0);
      expect(table.size()).to.equal(held);
    }
  });

  it('holds one client though its id alone is above the bound of bytes', () => {
    const table = new BucketTable({ maxClients: 10, maxBytes: 10 });
    for (const id of ['alice', 'bob']) addClient(table, id, 1_000, 0);
    expect(idsOf(table)).to.deep.equal(['bob']);
  });

  it('keeps the buckets of a client that got more of them while it was read, whoever is read next', () => {
    const table = new BucketTable({ maxClients: 10 });
    for (const id of ['alice', 'bob']) addClient(table, id, 1_000, 0);
    for (const find of [() => table.peek('alice')!, () => table.open(clientKey('alice'))]) {
      const alice = find();
      askFor(alice, tokenBucket(10, 1_000), 0);
      table.close(alice, 0);
      for (const look of [() => table.peek('bob'), () => table.open(clientKey('bob'))]) {
        expect(look()!.first!.next).to.equal(undefined);
        expect(table.peek('alice')!.first!.next).to.not.equal(undefined);
      }
      table.delete('alice');
      addClient(table, 'alice', 1_000, 0);
    }
  });

  describe('of clients with several limits', () => {
    const DAY_MS = 86_400_000;
    const limits = (count: number, begin = 0, limit = 1_000): Rule[] =>
      Array.from({ length: count }, (_, i) => slidingWindow(limit, DAY_MS + begin + i));
    const bucketsOf = (client: Client): number => {
      let count = 0;
      for (let bucket = client.first; bucket !== undefined; bucket = bucket.next) count += 1;
      return count;
    };
    const held = (table: BucketTable): number =>
      Array.from({ length: table.size() }, (_, i) => bucketsOf(table.at(i)!)).reduce((a, b) => a + b, 0);
    const heldBytes = (table: BucketTable): number =>
      Array.from({ length: table.size() }, (_, i) => table.at(i)!)
        .filter(({ isOnHeap }) => isOnHeap)
        .reduce((bytes, client) => bytes + clientBytes(client, Buffer.byteLength(client.id)), 0);
    /** What the limiter does with a check. */
    function ask(table: BucketTable, id: string, rules: readonly Rule[], nowMs = 0): void {
      const client = table.open(clientKey(id));
      table.forgot(askFor(client, rules, nowMs).forgotten);
      table.close(client, nowMs);
    }

    it('takes no more of the heap than its bound, whoever asks under ever more limits', () => {
      // A client with eight sliding windows takes 5 KB.
      const table = new BucketTable({ maxClients: 100, maxHeapBytes: 100_000 });
      for (let round = 0; round < 8; round += 1) {
        for (let i = 0; i < 100; i += 1) {
          ask(table, `flood:${i}`, limits(8, round * 8));
          expect(heldBytes(table)).to.be.at.most(100_000);
        }
      }
      expect(held(table)).to.be.at.least(100);
      expect(table.unexpiredEvictions()).to.be.at.least(6_400 - 200);
    });

    it('counts one sliding window by its weight too, and keeps those that are exhausted', () => {
      const table = new BucketTable({ maxClients: 10_000, maxHeapBytes: 100_000 });
      for (let i = 0; i < 50; i += 1) ask(table, `exhausted:${i}`, limits(1, 0, 1));
      for (let i = 0; i < 1_000; i += 1) {
        ask(table, `flood:${i}`, limits(1, 0, i % 2 === 0 ? 1 : 1_000));
        expect(heldBytes(table)).to.be.at.most(100_000);
      }
      for (let i = 0; i < 50; i += 1) expect(table.peek(`exhausted:${i}`), String(i)).to.not.equal(undefined);
    });

    it('makes room for rules of their own with clients that were not used for long', () => {
      const table = new BucketTable({ maxClients: 10_000, maxHeapBytes: 18_000 });
      for (let i = 0; i < 1_000; i += 1) ask(table, `client:${i}`, [tokenBucket(1_000, DAY_MS + i)]);
      expect(table.size()).to.be.within(50, 100);
      expect(table.peek('client:999')).to.not.equal(undefined);
    });

    it('takes nothing from clients with one limit, from those who have used up theirs, or from those in use', () => {
      const table = new BucketTable({ maxClients: 200, maxHeapBytes: 150_000 });
      for (let i = 0; i < 50; i += 1) ask(table, `single:${i}`, [tokenBucket(1_000, DAY_MS)]);
      for (let i = 0; i < 20; i += 1) ask(table, `exhausted:${i}`, limits(3, 0, 1));
      for (let round = 0; round < 50; round += 1) {
        for (let i = 0; i < 50; i += 1) {
          ask(table, 'regular', limits(3, 0, 1_000_000));
          ask(table, `flood:${i}`, limits(8, round * 8, round % 2 === 0 ? 1 : 1_000));
        }
      }
      for (let i = 0; i < 50; i += 1) expect(bucketsOf(table.peek(`single:${i}`)!)).to.equal(1);
      for (let i = 0; i < 20; i += 1) expect(bucketsOf(table.peek(`exhausted:${i}`)!)).to.equal(3);
      expect(bucketsOf(table.peek('regular')!)).to.equal(3);
    });

    it('drops buckets at rest first, and does not count them', () => {
      const table = new BucketTable({ maxClients: 100, maxHeapBytes: 140_000 });
      for (let i = 0; i < 50; i += 1) ask(table, `past:${i}`, [...limits(1), tokenBucket(1, 10), tokenBucket(1, 20)]);
      for (let i = 0; i < 30; i += 1) ask(table, `now:${i}`, limits(3), 100);
      expect(table.unexpiredEvictions()).to.equal(0);
      for (let i = 0; i < 30; i += 1) expect(bucketsOf(table.peek(`now:${i}`)!)).to.equal(3);
    });

    it('has room again once those are gone that took it', () => {
      const table = new BucketTable({ maxClients: 10, maxHeapBytes: 15_000 });
      for (let round = 0; round < 3; round += 1) {
        for (let i = 0; i < 5; i += 1) ask(table, `client:${round}:${i}`, limits(3));
        expect(held(table)).to.equal(15);
        for (let i = 0; i < 5; i += 1) table.delete(`client:${round}:${i}`);
      }
      expect(table.unexpiredEvictions()).to.equal(0);
    });
  });

  it('drops a client at rest rather than one not used for long, and does not count it', () => {
    const table = new BucketTable({ maxClients: 10 });
    for (let i = 0; i < 10; i += 1) addClient(table, `client:${i}`, i === 5 ? 10 : 1_000, 0);
    addClient(table, 'newcomer', 1_000, 10);
    expect(table.peek('client:5')).to.equal(undefined);
    expect([table.size(), table.unexpiredEvictions()]).to.deep.equal([10, 0]);
  });

  it('drops no client at rest while decisions on its request ids are remembered', () => {
    const table = new BucketTable({ maxClients: 2 });
    const alice = addClient(table, 'alice', 1, 0);
    alice.remembersUntilMs = 100;
    table.close(alice, 0);
    addClient(table, 'bob', 1, 0);
    addClient(table, 'carol', 1, 50);
    expect(idsOf(table).sort()).to.deep.equal(['alice', 'carol']);
    table.sweep(2, 99);
    expect(idsOf(table)).to.deep.equal(['alice']);
    table.sweep(2, 100);
    expect(table.size()).to.equal(0);
  });

  it('comes to every client at rest within two passes of the sweep, whatever is added, used and deleted meanwhile', () => {
    fc.assert(
      fc.property(steps(CHURN, 80), pauses, fc.integer({ min: 1, max: 7 }), (before, between, count) => {
        const table = new BucketTable({ maxClients: CLIENTS });
        for (const step of before) churn(table, step, 0);
        // The sweep is somewhere by now.
        table.sweep(count, 0);
        const nowMs = 15;
        const resting = idsOf(table).flatMap((id) => {
          const client = table.peek(id)!;
          return isIdle(client, nowMs) ? [{ id, generation: client.generation }] : [];
        });
        for (let looked = 0, i = 0; looked < 2 * CLIENTS; looked += count, i += 1) {
          table.sweep(count, nowMs);
          for (const step of between[i % between.length]!) churn(table, step, nowMs);
        }
        for (const { id, generation } of resting) expect(table.peek(id)?.generation, id).to.not.equal(generation);
      }),
      { numRuns: 1_000 },
    );
  });

  it('shows who goes down its places every client that stays, whatever is added, used and deleted meanwhile', () => {
    fc.assert(
      fc.property(steps(CHURN, 80), pauses, (before, between) => {
        const table = new BucketTable({ maxClients: CLIENTS });
        for (const step of before) churn(table, step, 0);
        const stayed = new Map(idsOf(table).map((id) => [id, table.peek(id)!.generation]));
        const met = new Set<number>();
        for (let place = table.size() - 1, i = 0; place >= 0; place -= 1, i += 1) {
          const client = table.at(place);
          if (client !== undefined) met.add(client.generation);
          for (const step of between[i % between.length]!) {
            churn(table, step, 0);
            for (const [id, generation] of stayed) if (table.peek(id)?.generation !== generation) stayed.delete(id);
          }
        }
        for (const [id, generation] of stayed) expect(met.has(generation), id).to.equal(true);
      }),
      { numRuns: 500 },
    );
  });

  it('of a million clients sweeps a 600th in a step, even if it drops them all', () => {
    const table = new BucketTable({ maxClients: 1_000_000 });
    for (let i = 0; i < 1_000_000; i += 1) addClient(table, `client:${i}`, 1_000, 0);
    table.sweep(SWEEP_CLIENTS, 500);
    expect(table.size(), 'nothing to drop').to.equal(1_000_000);
    for (let step = 1; step <= SWEEP_STEPS; step += 1) {
      table.sweep(SWEEP_CLIENTS, 1_000);
      expect(table.size()).to.equal(Math.max(0, 1_000_000 - step * SWEEP_CLIENTS));
    }
    expect(table.size(), 'after as many steps as a sweep has').to.equal(0);
  }).timeout(120_000);

  it('looks once at its only client in a step for a million, and drops it', () => {
    const table = new BucketTable({ maxClients: 1_000_000 });
    for (let i = 0; i < 20; i += 1) {
      addClient(table, 'alice', 1, 0);
      // Each look at a client that has a state compares its end with the time.
      let looks = 0;
      const nowMs = (atMs: number): number =>
        ({ [Symbol.toPrimitive]: () => (looks += 1) && atMs }) as unknown as number;
      table.sweep(SWEEP_CLIENTS, nowMs(0));
      expect(looks, 'reads of the time').to.be.within(1, 5);
      expect(table.size()).to.equal(1);
      table.sweep(SWEEP_CLIENTS, 1);
      expect(table.size()).to.equal(0);
    }
  });
});
