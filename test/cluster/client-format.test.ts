import { expect } from 'chai';
import fc from 'fast-check';
import { MalformedMessage } from '../../src/lib/byte-reader.js';
import { checkClients, ClientWriter, decodeClients, encodeClients } from '../../src/state/client-format.js';
import type { ClientSnapshot } from '../../src/state/client.js';
import { BucketTable } from '../../src/state/bucket-table.js';
import { Copies } from '../../src/state/copies.js';
import { RecentDecisions } from '../../src/state/recent-decisions.js';
import { Reservations } from '../../src/state/reservations.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import { decide } from '../../src/limits/decide/decide.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import { MAX_BATCH_ID_BYTES } from '../../src/limits/request/request.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';
import { clientLists } from '../wire/arbitraries.js';

interface Node {
  readonly recent: RecentDecisions;
  readonly clock: FakeClock;
  readonly table: BucketTable;
  readonly copies: Copies;
}

function createNode(startMs: number): Node {
  const clock = createFakeClock(startMs);
  const table = new BucketTable({ maxClients: 1_000 });
  const others = {
    recent: new RecentDecisions(clock, 'a:1', 1e6),
    reservations: new Reservations(clock, { maxBytes: 1e6 }),
  };
  return { recent: others.recent, clock, table, copies: new Copies({ clock, table, ...others, self: 'a:1' }) };
}

const DAY_MS = 86_400_000;
const rules = fc
  .record({
    algorithm: fc.constantFrom('token-bucket' as const, 'token-bucket' as const, 'sliding-window' as const),
    limit: fc.constantFrom(1, 7, 100, 999_999_000),
    windowMs: fc.constantFrom(1, 1_000, 3_600_000, 366 * DAY_MS),
    burst: fc.constantFrom(0, 5, 250),
    policy: fc.constantFrom(undefined, 'basic', 'größer'),
    scope: fc.constantFrom(undefined, undefined, 'reports', 'größer'),
  })
  .map(({ algorithm, limit, windowMs, burst, policy, scope }) =>
    ruleOf(algorithm, limit, windowMs, algorithm === 'token-bucket' ? limit + burst : limit, policy, scope),
  );

interface Step {
  readonly client: number;
  readonly rules: readonly Rule[];
  readonly cost: number;
  readonly waitMs: number;
  /** The place in a batch with a request id, if it is asked in one. */
  readonly place?: number | undefined;
}

const steps = fc.array(
  fc.record({
    client: fc.nat(5),
    rules: fc.oneof(
      { weight: 4, arbitrary: rules.map((rule) => [rule]) },
      { weight: 1, arbitrary: fc.tuple(rules, rules) },
    ),
    cost: fc.constantFrom(1, 1, 2, 50, 1_000_000),
    waitMs: fc.constantFrom(0, 0, 1, 17, 5_000),
    place: fc.constantFrom(undefined, undefined, 0, 1, 2, 999),
  }),
  { maxLength: 30, size: 'max' },
);

const IDS = ['a', 'client-0000000000007', 'größe 💧', 'x'.repeat(36), 'y'.repeat(256), '__proto__'];

function ask({ clock, table, recent }: Node, { client, rules: asked, cost, waitMs, place }: Step): void {
  clock.advance(waitMs);
  const opened = table.open(clientKey(IDS[client]!));
  const outcome = decide(opened, createCheck(clientKey(IDS[client]!), asked, { cost }), clock.nowMs());
  if (place !== undefined && outcome.limits === undefined) {
    // The ids of one batch for several clients: then only one has the place.
    recent.batches.add(`batch ${client >> 1}`, place, opened, outcome, clock.nowMs());
    opened.remembersUntilMs = clock.nowMs() + 60_000;
  }
  table.close(opened, clock.nowMs());
}

function copiesOf({ table, copies }: Node): Uint8Array {
  const batch = copies.createBatch();
  for (let place = 0; place < table.size(); place += 1) batch.add(table.at(place)!, true);
  return batch.take();
}

/** All that a node knows, as it would tell it. */
function knowledge(node: Node): unknown {
  const { recent } = node;
  const copies = new Map(decodeClients(copiesOf(node)).map((copy) => [copy[0], copy]));
  return IDS.map((id) => {
    const copy = copies.get(id);
    const places = [0, 1, 2, 999].flatMap((place) => [0, 1, 2].map((batch) => `batch ${batch}#${place}`));
    return [copy?.slice(0, 2), places.map((requestId) => recent.get(id, requestId))];
  });
}

describe('the format of clients', () => {
  it('makes of a receiver the same as the objects of the same clients, and changes nothing when it comes twice', () => {
    fc.assert(
      fc.property(steps, steps, fc.nat(3_000), (theirs, ours, laterMs) => {
        const sender = createNode(1_000);
        for (const step of theirs) ask(sender, step);
        sender.clock.advance(laterMs);
        const copied = copiesOf(sender);
        const [direct, byObjects] = [createNode(9_000_000), createNode(9_000_000)];
        for (const node of [direct, byObjects]) for (const step of ours) ask(node, step);
        direct.copies.merge(copied);
        byObjects.copies.merge(encodeClients(decodeClients(copied)));
        expect(knowledge(direct)).to.deep.equal(knowledge(byObjects));
        direct.copies.merge(copied);
        expect(knowledge(direct)).to.deep.equal(knowledge(byObjects));
      }),
      { numRuns: 500 },
    );
  });

  it('carries a denial whose wait is beyond 2^53 ms', () => {
    const sender = createNode(0);
    const largest = ruleOf('token-bucket', 1_000_000_000, 366 * DAY_MS, 1_000_000_000, undefined);
    const slowest = ruleOf('token-bucket', 1, 366 * DAY_MS, 1, undefined);
    ask(sender, { client: 1, rules: [largest], cost: 1_000_000_000, waitMs: 0 });
    ask(sender, { client: 1, rules: [slowest], cost: 1, waitMs: 0, place: 7 });
    const batch = sender.copies.createBatch();
    batch.add(sender.table.at(0)!, true);
    const receiver = createNode(0);
    receiver.copies.merge(batch.take());
    const { retryAfterMs } = receiver.recent.get(IDS[1]!, 'batch 0#7')!;
    expect(retryAfterMs).to.equal(1_000_000_000 * 366 * DAY_MS);
  });

  it('takes about 30 bytes for a client with a 20-byte id', () => {
    const node = createNode(0);
    const rule = ruleOf('token-bucket', 100, 60_000, 100, undefined);
    for (let i = 0; i < 1_000; i += 1) {
      const key = clientKey(`client-${String(i).padStart(13, '0')}`);
      const opened = node.table.open(key);
      decide(opened, createCheck(key, [rule]), 0);
      node.table.close(opened, 0);
    }
    const batch = node.copies.createBatch();
    for (let place = 0; place < 1_000; place += 1) batch.add(node.table.at(place)!, false);
    const clients = batch.take();
    expect(clients.length / 1_000).to.be.below(31);
    expect(decodeClients(clients)).to.have.lengthOf(1_000);
  });

  it('gives every client back as it was, and each message stands by itself', () => {
    const writer = new ClientWriter();
    fc.assert(
      fc.property(clientLists, (clients) => {
        for (const client of clients) writer.add(client);
        const { bytes } = writer;
        const taken = writer.take();
        expect(taken).to.have.length(clients.length === 0 ? 3 : bytes);
        expect(decodeClients(taken)).to.deep.equal(clients);
      }),
      { numRuns: 500 },
    );
  });

  it('has ids of 1 to 256 bytes from the table, at any place of the memory of the writer', () => {
    const { table, copies } = createNode(0);
    const rule = ruleOf('token-bucket', 9, DAY_MS, 9, undefined);
    const ids = Array.from({ length: 256 }, (_, i) => 'x'.repeat(i + 1));
    for (const id of ids) {
      const opened = table.open(clientKey(id));
      decide(opened, createCheck(clientKey(id), [rule]), 0);
      table.close(opened, 0);
    }
    const batch = copies.createBatch();
    for (let place = 0; place < table.size(); place += 1) batch.add(table.at(place)!, true);
    expect(decodeClients(batch.take()).map(([id]) => id)).to.deep.equal(ids);
  });

  it('has the id of a batch once, and the index of each item', () => {
    const batchId = 'ü'.repeat(MAX_BATCH_ID_BYTES / 2);
    const verdict = { allowed: true, limit: 1, remaining: 1, retryAfterMs: 0, resetMs: 0 };
    const writer = new ClientWriter();
    const sizes = [0, 7, 999].map((index) => {
      writer.begin(`client ${index}`, 0, true);
      writer.itemDecision(batchId, index, 5, verdict);
      writer.endDecisions(0);
      return writer.bytes;
    });
    expect(sizes[2]! - sizes[1]!).to.be.below(30);
    const recent = decodeClients(writer.take()).map((client) => client[2]!);
    const expected = [0, 7, 999].map((index) => [
      { requestId: `${batchId}#${index}`, ageMs: 5, verdict: { ...verdict, limits: undefined }, degraded: false },
    ]);
    expect(recent).to.deep.equal(expected);
  });

  it('has at most 1,024 clients in a message, all of the same version', () => {
    const many = (count: number): Buffer =>
      encodeClients(Array.from({ length: count }, (_, i) => [`${i}`, []] as const));
    expect(decodeClients(many(2_000))).to.have.length(2_000);
    checkClients(many(1_024));
    expect(() => checkClients(many(1_025))).to.throw(MalformedMessage, 'number of clients');
    const other = many(1);
    other[0] = 9;
    expect(() => decodeClients(other)).to.throw(MalformedMessage, 'format of clients');
  });

  const RULE = [0, 1, 10, 0xe8, 7];
  const MALFORMED: readonly (readonly [what: string, client: readonly number[]])[] = [
    ['no id', [2, 0, ...RULE, 0, 1, 0]],
    ['an id that is no UTF-8', [2, 1, 0xff, ...RULE, 0, 1, 0]],
    ['a rule that is not in the table', [2, 1, 97, 1, 0, 1, 0]],
    ['an unknown flag of a bucket', [2, 1, 97, ...RULE, 4, 1, 0]],
    ['an unknown flag of a decision', [1, 1, 97, 1, 1, 114, 5, 0x10, 9, 9, 9, 0, 0]],
    ['a decision of a batch that is not in the table', [1, 1, 97, 3, 1, 98, 0, 5, 1, 9, 9, 9, 0, 0]],
    ['a batch without an id', [1, 1, 97, 2, 0, 0, 5, 1, 9, 9, 9, 0, 0]],
    ['an index beyond those of batches', [1, 1, 97, 2, 1, 98, 0xe8, 7, 5, 1, 9, 9, 9, 0, 0]],
    ['a decision that is allowed, and never', [1, 1, 97, 1, 1, 114, 5, 3, 9, 9, 9, 0, 0]],
    ['a decision of more than an hour ago', [1, 1, 97, 1, 1, 114, 0x81, 0xdd, 0xdb, 1, 1, 9, 9, 9, 0, 0]],
    ['a reservation of another flag', [1, 1, 97, 0, 1, 1, 114, 2, 0, 5, 1, ...RULE, 0, 0]],
  ];
  for (const [what, client] of MALFORMED) {
    it(`refuses ${what}`, () => {
      expect(() => checkClients(Buffer.from([1, 1, 0, ...client]))).to.throw(MalformedMessage);
    });
  }

  it('is read where it is valid', () => {
    const bucket = { ...ruleOf('token-bucket', 10, 1_000, 10, undefined), ruleChanges: 0, state: [1, 0] };
    expect(decodeClients(Buffer.from([1, 1, 0, 2, 1, 97, 0, 0, 10, 0xe8, 7, 0, 1, 0]))).to.deep.equal([
      ['a', [bucket]],
    ]);
  });

  it('is refused when cut, and never crashes the reader, whatever is changed in it', () => {
    const node = createNode(0);
    for (const [client, id] of IDS.entries())
      ask(node, {
        client,
        rules: [ruleOf('token-bucket', 9, DAY_MS, 12, id.slice(0, 9))],
        cost: 3,
        waitMs: 1,
        place: 7,
      });
    const bytes = copiesOf(node);
    for (let length = 0; length < bytes.length; length += 1)
      expect(() => checkClients(bytes.subarray(0, length)), `the first ${length} bytes`).to.throw(MalformedMessage);
    const receiver = createNode(0);
    for (let i = 0; i < bytes.length; i += 1) {
      for (const bit of [1, 2, 16, 128]) {
        const changed = Buffer.from(bytes);
        changed[i]! ^= bit;
        let read: ClientSnapshot[];
        try {
          read = decodeClients(changed);
        } catch (error) {
          expect(error).to.be.instanceOf(MalformedMessage);
          continue;
        }
        receiver.copies.merge(changed);
        for (const [id, [bucket]] of read) {
          expect(id.isWellFormed()).to.equal(true);
          if (bucket === undefined) continue;
          expect(bucket.limit).to.be.within(1, 1e9);
          expect(bucket.state[0]).to.be.within(0, 4e9);
          expect(bucket.state[1]).to.be.within(0, bucket.windowMs - 1);
        }
      }
    }
  });
});
