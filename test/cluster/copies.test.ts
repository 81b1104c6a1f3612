import { expect } from 'chai';
import { BucketTable, type Client } from '../../src/state/bucket-table.js';
import { Copies } from '../../src/state/copies.js';
import { decodeClients, encodeClients } from '../../src/state/client-format.js';
import { RecentDecisions, REQUEST_ID_TTL_MS } from '../../src/state/recent-decisions.js';
import { Reservations } from '../../src/state/reservations.js';
import type { ClientSnapshot } from '../../src/state/client.js';
import { batchItemId } from '../../src/limits/request/request.js';
import { lend } from '../../src/limits/bucket/bucket.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import type { Snapshot } from '../../src/limits/bucket/snapshot.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { decide, type Verdict } from '../../src/limits/decide/decide.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';
import { checkOf, slidingWindow, tokenBucket } from '../support/rules.js';

const DAY_MS = 86_400_000;
const PER_DAY = tokenBucket(10, DAY_MS);
const PER_SECOND = tokenBucket(1, 1_000, 10);

interface Node {
  readonly table: BucketTable;
  readonly recent: RecentDecisions;
  readonly reservations: Reservations;
  readonly copies: Copies;
}

describe('copies', () => {
  let clock: FakeClock;
  let sender: Node;
  let receiver: Node;

  beforeEach(() => {
    clock = createFakeClock(1_000_000);
    sender = createNode();
    receiver = createNode();
  });

  function createNode(): Node {
    const table = new BucketTable({ maxClients: 1_000 });
    const recent = new RecentDecisions(clock, 'a:1', 1e7);
    const reservations = new Reservations(clock, { maxBytes: 1e6 });
    const copies = new Copies({ clock, table, recent, reservations, self: 'a:1' });
    return { table, recent, reservations, copies };
  }

  function change({ table }: Node, id: string, by: (client: Client, nowMs: number) => void): void {
    const client = table.open(clientKey(id));
    by(client, clock.nowMs());
    table.close(client, clock.nowMs());
  }

  const ask = (node: Node, id: string, rules: readonly Rule[] = [PER_DAY], cost = 1): void =>
    change(node, id, (client, nowMs) => void decide(client, checkOf(rules, { cost }), nowMs));

  const verdict = (remaining: number): Verdict => {
    return { allowed: true, limit: 10, remaining, retryAfterMs: 0, resetMs: 5, limits: undefined };
  };
  const decision = (remaining: number): Decision => {
    return { ...verdict(remaining), owner: 'a:1', source: 'owner', degraded: false };
  };

  /** A decision on an item of a batch, as the limiter notes it. */
  const decideItem = (node: Node, id: string, batchId: string, index: number, remaining: number): void =>
    change(node, id, (client, nowMs) => {
      node.recent.batches.add(batchId, index, client, verdict(remaining), nowMs);
      client.remembersUntilMs = nowMs + 60_000;
    });

  const decideNamed = (node: Node, id: string, requestId: string, remaining: number, degraded = false): void =>
    change(node, id, (client, nowMs) => {
      node.recent.add(id, requestId, { ...decision(remaining), degraded });
      client.hasStoredDecisions = true;
      client.remembersUntilMs = nowMs + 60_000;
    });

  const reserve = (node: Node, id: string, rule: Rule, cost: number): void =>
    change(node, id, (client, nowMs) => {
      const check = checkOf([rule], { clientId: id, cost, reservation: 'r' });
      node.reservations.observe(client, check.rules, nowMs);
      decide(client, check, nowMs);
      node.reservations.add(client, check, nowMs);
    });

  function batchOf({ table, copies }: Node, whole = true): Uint8Array {
    const batch = copies.createBatch();
    for (let index = 0; index < table.size(); index += 1) batch.add(table.at(index)!, whole);
    return batch.take();
  }

  /** The copy of one client. */
  function copyOf({ table, copies }: Node, id: string, whole: boolean): ClientSnapshot | undefined {
    const client = table.peek(id);
    const batch = copies.createBatch();
    if (client !== undefined) batch.add(client, whole);
    return decodeClients(batch.take())[0];
  }

  function receive(copied: Uint8Array, node = receiver): void {
    node.copies.merge(copied);
  }

  /** Tokens that a client owes under its first bucket, and the parts of the next. */
  function owedBy({ table }: Node, id: string): readonly number[] | undefined {
    const client = table.peek(id);
    const bucket = client?.first;
    return bucket?.algorithm === 'token-bucket' ? [bucket.tokens, bucket.part] : undefined;
  }

  describe('of a client', () => {
    it('have what is known of it, and no more elements than that', () => {
      ask(sender, 'alice');
      const copy = (): unknown => copyOf(sender, 'alice', true);
      const buckets = [{ ...PER_DAY, ruleChanges: 0, state: [1, 0] }];
      expect(copy()).to.deep.equal(['alice', buckets]);
      decideNamed(sender, 'alice', 'q', 4);
      const recent = [{ requestId: 'q', ageMs: 0, verdict: verdict(4), degraded: false }];
      expect(copy()).to.deep.equal(['alice', buckets, recent]);
      reserve(sender, 'alice', PER_DAY, 3);
      expect(copy()).to.have.length(4);
    });

    it('are missing for a client that the table does not hold, or of which nothing is left', () => {
      ask(sender, 'alice');
      ask(sender, 'bob', [PER_SECOND]);
      clock.advance(1_000);
      expect(['nobody', 'alice', 'bob'].map((id) => copyOf(sender, id, true)?.[0])).to.deep.equal([
        undefined,
        'alice',
        undefined,
      ]);
      expect(decodeClients(batchOf(sender)).map(([id]) => id)).to.deep.equal(['alice']);
    });

    it('take no byte for decisions and reservations that it does not have', () => {
      ask(sender, 'alice');
      const alone = batchOf(sender).length;
      decideNamed(sender, 'bob', 'q', 4);
      const batch = sender.copies.createBatch();
      batch.add(sender.table.peek('alice')!, true);
      expect(batch.bytes).to.equal(alone);
      expect(alone).to.equal(encodeClients([['alice', [{ ...PER_DAY, ruleChanges: 0, state: [1, 0] }]]]).length);
    });

    it('are missing once its decisions are too old, and nothing else is known of it', () => {
      decideItem(sender, 'alice', 'batch', 0, 0);
      decideNamed(sender, 'bob', 'q', 0);
      clock.advance(REQUEST_ID_TTL_MS + 1);
      const batch = sender.copies.createBatch();
      for (const id of ['alice', 'bob']) batch.add(sender.table.peek(id)!, true);
      expect(batch.clients).to.equal(0);
    });

    it('show its leases, unless they are to be left out', () => {
      ask(sender, 'alice');
      const lease = { id: 'lease', tokens: 4, endMs: clock.nowMs() + 800, spent: undefined };
      change(sender, 'alice', (client) => lend(client.first!, lease));
      const copied = (withLeases?: boolean): Snapshot => {
        const batch = sender.copies.createBatch();
        batch.add(sender.table.peek('alice')!, true, withLeases);
        return decodeClients(batch.take())[0]![1][0]!;
      };
      expect([copied(), copied(true), copied(false)].map(({ leases }) => leases?.length)).to.deep.equal([
        1,
        1,
        undefined,
      ]);
    });

    it('have the decisions on its own batch items alone, with their ages', () => {
      for (const index of [0, 1]) decideItem(sender, 'alice', 'batch', index, index);
      decideItem(sender, 'bob', 'batch', 2, 2);
      clock.advance(300);
      for (const [id, indexes] of [
        ['alice', [1, 0]],
        ['bob', [2]],
      ] as const) {
        const [, , recent] = copyOf(sender, id, true)!;
        const expected = indexes.map((index) => {
          return { requestId: batchItemId('batch', index), ageMs: 300, verdict: verdict(index), degraded: false };
        });
        expect(recent).to.deep.equal(expected);
      }
    });

    it('have all of its request ids for a node that knows nothing yet, and else the latest 100 of the last second', () => {
      decideNamed(sender, 'alice', 'old', 0);
      decideItem(sender, 'alice', 'old batch', 0, 0);
      clock.advance(1_001);
      for (let i = 0; i < 150; i += 1) decideNamed(sender, 'alice', `r${i}`, i);
      for (let i = 0; i < 150; i += 1) decideItem(sender, 'alice', 'batch', i, i);
      clock.advance(1_000);
      const idsOf = (whole: boolean): string[] => copyOf(sender, 'alice', whole)![2]!.map(({ requestId }) => requestId);
      expect(new Set(idsOf(true)).size).to.equal(302);
      const latest = Array.from({ length: 100 }, (_, i) => `r${i + 50}`);
      const items = Array.from({ length: 100 }, (_, i) => batchItemId('batch', 149 - i));
      expect(idsOf(false)).to.deep.equal([...latest, ...items]);
    });
  });

  describe('in one message', () => {
    it('are those of all clients, however little each owes', () => {
      ask(sender, 'a part of a token', [PER_SECOND]);
      clock.advance(500);
      ask(sender, 'plain');
      ask(sender, 'two', [PER_DAY, tokenBucket(10, 1_000)]);
      ask(sender, 'window', [slidingWindow(10, DAY_MS)]);
      decideNamed(sender, 'named', 'q', 1);
      const copied = batchOf(sender);
      expect(decodeClients(copied).map(([id, buckets]) => [id, buckets.length])).to.deep.equal([
        ['a part of a token', 1],
        ['plain', 1],
        ['two', 2],
        ['window', 1],
        ['named', 0],
      ]);
      receive(copied);
      expect([owedBy(receiver, 'plain'), owedBy(receiver, 'a part of a token')]).to.deep.equal([
        [1, 0],
        [0, 500],
      ]);
    });

    it('are none of a client of which nothing is left', () => {
      ask(sender, 'plain', [PER_SECOND]);
      ask(sender, 'window', [slidingWindow(10, 1_000)]);
      clock.advance(2_000);
      expect(decodeClients(batchOf(sender))).to.deep.equal([]);
    });

    it('owe nothing for a client that has decisions on batch items alone', () => {
      ask(sender, 'first');
      decideItem(sender, 'alice', 'batch', 0, 7);
      ask(sender, 'bob', [PER_SECOND]);
      decideItem(sender, 'bob', 'batch', 1, 8);
      clock.advance(1_000);
      receive(batchOf(sender));
      for (const [id, index] of [
        ['alice', 0],
        ['bob', 1],
      ] as const) {
        expect(owedBy(receiver, id)).to.equal(undefined);
        expect(receiver.recent.get(id, batchItemId('batch', index))).to.include({ remaining: 7 + index });
      }
    });

    it('take as many bytes as it says, and are taken once', () => {
      ask(sender, 'plain');
      ask(sender, 'window', [slidingWindow(10, DAY_MS)]);
      const batch = sender.copies.createBatch();
      expect([batch.bytes, batch.clients]).to.deep.equal([0, 0]);
      for (const id of ['plain', 'window', 'window']) batch.add(sender.table.peek(id)!, true);
      expect(batch.clients).to.equal(3);
      const { bytes } = batch;
      const taken = batch.take();
      expect([taken.length, decodeClients(taken).length]).to.deep.equal([bytes, 3]);
      expect([batch.bytes, batch.clients]).to.deep.equal([0, 0]);
      expect(decodeClients(batch.take())).to.deep.equal([]);
    });

    it('are merged in slices, whose sizes the receiver chooses', () => {
      for (const id of ['a', 'b', 'c', 'd', 'e']) ask(sender, id);
      const mergeNext = receiver.copies.beginMerge(batchOf(sender));
      const merged = [2, 2, 2, 2].map((most) => [mergeNext(most), receiver.table.size()]);
      expect(merged).to.deep.equal([
        [2, 2],
        [2, 4],
        [1, 5],
        [0, 5],
      ]);
    });
  });

  describe('from another node', () => {
    it('are merged: the larger debt stands', () => {
      ask(sender, 'alice', [PER_DAY], 3);
      ask(receiver, 'alice', [PER_DAY], 2);
      ask(sender, 'bob', [PER_DAY], 1);
      ask(receiver, 'bob', [PER_DAY], 2);
      receive(batchOf(sender));
      expect([owedBy(receiver, 'alice'), owedBy(receiver, 'bob')]).to.deep.equal([
        [3, 0],
        [2, 0],
      ]);
    });

    it('have items of batches where those are kept, and other request ids to be passed on', () => {
      for (const index of [0, 1]) decideItem(sender, 'alice', 'batch', index, index);
      receive(batchOf(sender));
      expect([receiver.recent.batches.size(), receiver.recent.size()]).to.deep.equal([2, 0]);
      decideNamed(sender, 'bob', 'q', 4);
      receive(batchOf(sender));
      expect([receiver.recent.batches.size(), receiver.recent.size()]).to.deep.equal([2, 1]);
      expect(copyOf(receiver, 'bob', false)![2]).to.have.length(1);
    });

    it('name this node as owner in a decision, and say whether it was degraded', () => {
      for (const [id, degraded] of [
        ['alice', false],
        ['bob', true],
      ] as const) {
        decideNamed(sender, id, 'q', 4, degraded);
        receive(batchOf(sender));
        expect(receiver.recent.get(id, 'q')).to.deep.equal({ ...decision(4), degraded });
      }
    });

    it('name the clients that the table holds', () => {
      for (const id of ['first', 'alice', 'bob']) ask(sender, id);
      ask(receiver, 'first');
      ask(receiver, 'bob');
      const met: string[] = [];
      receiver.copies.visit(batchOf(sender), ({ id }) => met.push(id));
      expect(met).to.deep.equal(['first', 'bob']);
      expect(receiver.table.size()).to.equal(2);
    });

    for (const [name, note] of [
      ['a request id', (node: Node, remaining: number) => decideNamed(node, 'alice', batchItemId('b', 0), remaining)],
      ['a batch item', (node: Node, remaining: number) => decideItem(node, 'alice', 'b', 0, remaining)],
      [
        'a batch item that took a token',
        (node: Node, remaining: number) => {
          ask(node, 'alice', [PER_SECOND]);
          decideItem(node, 'alice', 'b', 0, remaining);
        },
      ],
    ] as const) {
      const found = (node: Node): number | undefined => node.recent.get('alice', batchItemId('b', 0))?.remaining;

      it(`have the decision on ${name} for 60 s since it was made, and the client is held as long`, () => {
        note(sender, 7);
        clock.advance(20_000);
        receive(batchOf(sender));
        clock.advance(40_000 - 1);
        receiver.table.sweep(9, clock.nowMs());
        expect([receiver.table.size(), found(receiver)]).to.deep.equal([1, 7]);
        clock.advance(1);
        receiver.table.sweep(9, clock.nowMs());
        expect(receiver.table.size()).to.equal(0);
        clock.advance(1);
        expect(found(receiver)).to.equal(undefined);
      });

      it(`do not prolong the decision on ${name} when they come late`, () => {
        note(sender, 7);
        clock.advance(60_000);
        receive(batchOf(sender));
        expect([receiver.table.size(), found(receiver)]).to.deep.equal([0, undefined]);
      });

      it(`leave the first decision on ${name} as it is`, () => {
        note(receiver, 3);
        clock.advance(1_000);
        note(sender, 7);
        receive(batchOf(sender));
        expect(found(receiver)).to.equal(3);
      });

      it(`have the decision on ${name} when they are passed on, and hold the client as long as others need it`, () => {
        note(sender, 7);
        ask(sender, 'alice');
        ask(receiver, 'alice');
        change(receiver, 'alice', (client, nowMs) => (client.remembersUntilMs = nowMs + 90_000));
        receive(batchOf(sender));
        const third = createNode();
        receive(batchOf(receiver), third);
        expect(found(third)).to.equal(7);
        expect(receiver.table.peek('alice')!.remembersUntilMs).to.equal(clock.nowMs() + 90_000);
      });
    }

    it('have a decision on an item anew, once the time of an earlier one is over here', () => {
      decideItem(receiver, 'alice', 'b', 0, 3);
      clock.advance(60_000);
      decideItem(sender, 'alice', 'b', 0, 7);
      clock.advance(1);
      receive(batchOf(sender));
      expect(receiver.recent.get('alice', batchItemId('b', 0))).to.include({ remaining: 7 });
    });

    it('have decisions of two clients on one item of one batch id', () => {
      const other = createNode();
      ask(sender, 'alice');
      decideItem(sender, 'alice', 'b', 0, 1);
      ask(other, 'bob');
      decideItem(other, 'bob', 'b', 0, 2);
      clock.advance(5_000);
      receive(batchOf(sender));
      receive(batchOf(other));
      const third = createNode();
      receive(batchOf(receiver), third);
      for (const { recent } of [receiver, third]) {
        expect(recent.get('alice', batchItemId('b', 0))).to.include({ remaining: 1 });
        expect(recent.get('bob', batchItemId('b', 0))).to.include({ remaining: 2 });
      }
      expect(receiver.table.peek('bob')!.remembersUntilMs).to.equal(clock.nowMs() + 55_000);
    });

    it('bring back nothing of a reserved cost that had been refilled when they raised the debt', () => {
      reserve(receiver, 'alice', PER_SECOND, 5);
      clock.advance(5_000);
      ask(sender, 'alice', [PER_SECOND], 8);
      receive(batchOf(sender));
      change(receiver, 'alice', (client, nowMs) => void receiver.reservations.settle(client, 'r', 0, nowMs));
      expect(owedBy(receiver, 'alice')).to.deep.equal([8, 0]);
    });
  });
});
