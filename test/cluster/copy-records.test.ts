import { expect } from 'chai';
import fc from 'fast-check';
import { areRecords, createRecordWriter } from '../../src/cluster/state/copy-records.js';
import { createBucketTable } from '../../src/cluster/state/bucket-table.js';
import type { BucketTable } from '../../src/cluster/state/bucket-table.js';
import { createCopies } from '../../src/cluster/state/copies.js';
import type { Copies } from '../../src/cluster/state/copies.js';
import { createRecentDecisions } from '../../src/cluster/state/recent-decisions.js';
import type { RecentDecisions } from '../../src/cluster/state/recent-decisions.js';
import { createReservations } from '../../src/cluster/state/reservations.js';
import { clientKey } from '../../src/core/ring/client-hash.js';
import { createCheck, decide } from '../../src/core/decide/decide.js';
import { ruleOf } from '../../src/core/bucket/rule.js';
import type { Rule } from '../../src/core/bucket/rule.js';
import { createFakeClock } from '../support/fake-clock.js';
import type { FakeClock } from '../support/fake-clock.js';
import { snapshotsOf } from '../support/records.js';

interface Node {
  readonly recent: RecentDecisions;
  readonly clock: FakeClock;
  readonly table: BucketTable;
  readonly copies: Copies;
}

function createNode(startMs: number): Node {
  const clock = createFakeClock(startMs);
  const table = createBucketTable({ maxClients: 1_000 });
  const others = {
    recent: createRecentDecisions({ clock }, { maxBytes: 1e6, self: 'a:1' }),
    reservations: createReservations({ clock }, { maxBytes: 1e6 }),
  };
  return { recent: others.recent, clock, table, copies: createCopies({ clock, table, ...others }, { self: 'a:1' }) };
}

const DAY_MS = 86_400_000;
const rules = fc
  .record({
    algorithm: fc.constantFrom('token-bucket' as const, 'token-bucket' as const, 'sliding-window' as const),
    limit: fc.constantFrom(1, 7, 100, 999_999_000),
    windowMs: fc.constantFrom(1, 1_000, 3_600_000, 366 * DAY_MS),
    burst: fc.constantFrom(0, 5, 250),
    policy: fc.constantFrom(undefined, 'basic', 'größer'),
  })
  .map(({ algorithm, limit, windowMs, burst, policy }) =>
    ruleOf(algorithm, limit, windowMs, algorithm === 'token-bucket' ? limit + burst : limit, policy),
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

/** All that a node knows, as it would tell it. */
function knowledge({ table, copies, recent }: Node): unknown {
  return IDS.map((id) => {
    const copy = table.peek(id) && copies.ofId(id, true);
    const places = [0, 1, 2, 999].flatMap((place) => [0, 1, 2].map((batch) => `batch ${batch}#${place}`));
    return [copy?.slice(0, 2), places.map((requestId) => recent.get(id, requestId))];
  });
}

describe('records of copies', () => {
  it('make of a receiver what the snapshots of the same clients make of it', () => {
    fc.assert(
      fc.property(steps, steps, fc.nat(3_000), (theirs, ours, laterMs) => {
        const sender = createNode(1_000);
        for (const step of theirs) ask(sender, step);
        sender.clock.advance(laterMs);
        const batch = sender.copies.createBatch();
        for (let place = 0; place < sender.table.size(); place += 1) batch.add(sender.table.at(place)!, true);
        const copied = batch.take();
        const [byRecords, bySnapshots] = [createNode(9_000_000), createNode(9_000_000)];
        for (const node of [byRecords, bySnapshots]) for (const step of ours) ask(node, step);
        byRecords.copies.keep(copied.clients);
        if (copied.records !== undefined) byRecords.copies.keepRecords(copied.records);
        bySnapshots.copies.keep(IDS.flatMap((id) => [sender.copies.ofId(id, true)]).filter((one) => one !== undefined));
        expect(knowledge(byRecords)).to.deep.equal(knowledge(bySnapshots));
        // A copy that comes twice changes nothing.
        byRecords.copies.keep(copied.clients);
        if (copied.records !== undefined) byRecords.copies.keepRecords(copied.records);
        expect(knowledge(byRecords)).to.deep.equal(knowledge(bySnapshots));
      }),
      { numRuns: 500 },
    );
  });

  it('carry a denial whose wait is beyond 2^53 ms', () => {
    const sender = createNode(0);
    const largest = ruleOf('token-bucket', 1_000_000_000, 366 * DAY_MS, 1_000_000_000, undefined);
    const slowest = ruleOf('token-bucket', 1, 366 * DAY_MS, 1, undefined);
    ask(sender, { client: 1, rules: [largest], cost: 1_000_000_000, waitMs: 0 });
    ask(sender, { client: 1, rules: [slowest], cost: 1, waitMs: 0, place: 7 });
    const batch = sender.copies.createBatch();
    batch.add(sender.table.at(0)!, true);
    const receiver = createNode(0);
    const { records } = batch.take();
    expect(areRecords(records!)).to.equal(true);
    receiver.copies.keepRecords(records!);
    const { retryAfterMs } = receiver.recent.get(IDS[1]!, 'batch 0#7')!;
    expect(retryAfterMs).to.equal(1_000_000_000 * 366 * DAY_MS);
  });

  it('take about 30 bytes for a client with a 20-byte id', () => {
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
    const { clients, records } = batch.take();
    expect(clients).to.deep.equal([]);
    expect(records!.length / 1_000).to.be.below(31);
    expect(snapshotsOf({ clients, records })).to.have.lengthOf(1_000);
  });

  it('are refused when cut, and never crash the reader, whatever is changed in them', () => {
    const node = createNode(0);
    for (const [client, id] of IDS.entries())
      ask(node, { client, rules: [ruleOf('token-bucket', 9, DAY_MS, 12, id.slice(0, 9))], cost: 3, waitMs: 1 });
    const writer = createRecordWriter(node.table);
    const ends = new Set<number>();
    for (let place = 0; place < IDS.length; place += 1) {
      writer.add(node.table.at(place)!);
      ends.add(writer.byteLength());
    }
    const items = [0, 7].map((place) => {
      const more = { allowed: place > 0, limit: 9 + place, remaining: 3, retryAfterMs: place > 0 ? 0 : 5, resetMs: 8 };
      return { batchId: 'größe', place, ageMs: 100, ...more };
    });
    writer.add(node.table.at(0)!, items, 2);
    ends.add(writer.byteLength());
    writer.add(node.table.at(1)!, [{ ...items[0]!, retryAfterMs: null }], 1);
    ends.add(writer.byteLength());
    const bytes = writer.take()!;
    for (let length = 1; length < bytes.length; length += 1)
      expect(areRecords(bytes.subarray(0, length)), `the first ${length} bytes`).to.equal(ends.has(length));
    const receiver = createNode(0);
    for (let i = 0; i < bytes.length; i += 1) {
      for (const bit of [1, 2, 16, 128]) {
        const changed = Uint8Array.from(bytes, (byte, at) => (at === i ? byte ^ bit : byte));
        if (!areRecords(changed)) continue;
        receiver.copies.keepRecords(changed);
        for (const [id, [bucket]] of snapshotsOf({ clients: [], records: changed })) {
          expect(id.isWellFormed()).to.equal(true);
          expect(bucket!.limit).to.be.within(1, 1e9);
          expect(bucket!.state[0]).to.be.within(0, 2 ** 31 - 1);
          expect(bucket!.state[1]).to.be.within(0, bucket!.windowMs - 1);
        }
      }
    }
  });
});
