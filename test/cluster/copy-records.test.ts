import { expect } from 'chai';
import fc from 'fast-check';
import { areRecords, createRecordWriter, readRecords } from '../../src/state/copy-records.js';
import { BucketTable } from '../../src/state/bucket-table.js';
import { createCopies } from '../../src/state/copies.js';
import type { Copies } from '../../src/state/copies.js';
import { createRecentDecisions } from '../../src/state/recent-decisions.js';
import type { RecentDecisions } from '../../src/state/recent-decisions.js';
import { Reservations } from '../../src/state/reservations.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, decide } from '../../src/limits/decide/decide.js';
import { addBucket } from '../../src/limits/bucket/bucket.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import { MAX_BATCH_ID_BYTES } from '../../src/limits/batch-item-id.js';
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
  const table = new BucketTable({ maxClients: 1_000 });
  const others = {
    recent: createRecentDecisions({ clock }, { maxBytes: 1e6, self: 'a:1' }),
    reservations: new Reservations(clock, { maxBytes: 1e6 }),
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

  it('are as many as one message takes, and each message stands by itself', () => {
    const node = createNode(0);
    const rules = [
      ruleOf('token-bucket', 300, DAY_MS, 300, 'größer'),
      ruleOf('token-bucket', 9, DAY_MS, 12, undefined),
    ];
    const ids = Array.from({ length: 200 }, (_, i) => `${i}`.padEnd(200, 'ü').slice(0, 128));
    for (const [i, id] of ids.entries()) {
      const opened = node.table.open(clientKey(id));
      decide(opened, createCheck(clientKey(id), [rules[i % 2]!], { cost: 1 + (i % 9) }), 0);
      node.table.close(opened, 0);
    }
    const writer = createRecordWriter(node.table);
    expect([writer.byteLength(), writer.take()]).to.deep.equal([0, undefined]);
    const messages = [0, 1].map(() => {
      for (let place = 0; place < ids.length; place += 1) writer.add(node.table.at(place)!);
      const length = writer.byteLength();
      const bytes = writer.take()!;
      expect([bytes.length, writer.byteLength()]).to.deep.equal([length, 0]);
      return bytes;
    });
    expect(messages[0]).to.deep.equal(messages[1]);
    const expected = ids.map((id, i) => [id, [{ ...rules[i % 2], ruleChanges: 0, state: [1 + (i % 9), 0] }]]);
    expect(snapshotsOf({ clients: [], records: messages[1] })).to.deep.equal(expected);
    const items = Array.from({ length: 1_000 }, (_, place) => {
      const batchId = `${place}`.padStart(MAX_BATCH_ID_BYTES, 'b');
      return { batchId, place, ageMs: 0, allowed: true, limit: 1, remaining: 1, retryAfterMs: 0, resetMs: 0 };
    });
    writer.add(node.table.at(0)!, items, items.length);
    expect(readRecords(writer.take()!, (record) => expect(record.items).to.deep.equal(items))).to.equal(true);
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

/** A whole number as the records have it: groups of seven bits, lowest first. */
function leb(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return [...bytes, Number(rest)];
}

const textBytes = (value: string): number[] => [...leb(Buffer.byteLength(value)), ...Buffer.from(value)];

const ALLOWED = 1;
const HAS_LIMIT = 2;
const NEVER = 4;
const RECORD = {
  ...{ ruleNumber: 0, limit: 10, windowMs: 1_000, capacity: 20, policy: 'p', scope: 's' },
  ...{ ruleChanges: 3, tokens: 4, part: 0, id: 'a', itemCount: 1 },
  ...{ batchNumber: 0, batchId: 'b', place: 6, ageMs: 7, flags: HAS_LIMIT, remaining: 8, itemLimit: 9 },
  ...{ retryAfterMs: 11, resetMs: 12 },
};

/** A first record, and its decisions, all of them alike. */
function encode(changes: Partial<typeof RECORD> = {}): number[] {
  const one = { ...RECORD, ...changes };
  const item = [
    ...[one.place, one.ageMs, one.flags, one.remaining].flatMap(leb),
    ...((one.flags & HAS_LIMIT) === 0 ? [] : leb(one.itemLimit)),
    ...((one.flags & (ALLOWED | NEVER)) === 0 ? leb(one.retryAfterMs) : []),
    ...leb(one.resetMs),
  ];
  const record = [
    ...leb(2 * one.ruleNumber + (one.itemCount > 0 ? 1 : 0)),
    ...[one.limit, one.windowMs, one.capacity].flatMap(leb),
    ...textBytes(one.policy),
    ...textBytes(one.scope),
    ...[one.ruleChanges, one.tokens, one.part].flatMap(leb),
    ...[Buffer.byteLength(one.id) - 1, ...Buffer.from(one.id)],
  ];
  if (one.itemCount === 0) return record;
  const more = Array.from({ length: one.itemCount - 1 }, () => [0, ...item]).flat();
  return [...record, ...leb(one.itemCount), ...leb(one.batchNumber), ...textBytes(one.batchId), ...item, ...more];
}

/** The last record of these bytes, with its first decision; `undefined`: they are refused. */
function decode(from: readonly number[]): Record<string, unknown> | undefined {
  const bytes = Uint8Array.from(from);
  let found: Record<string, unknown> = {};
  const isRead = readRecords(bytes, ({ rule, ruleChanges, tokens, part, idStart, idEnd, items, itemCount }) => {
    const { limit: itemLimit, ...item } = items[0] ?? { limit: undefined };
    const id = Buffer.from(bytes.subarray(idStart, idEnd)).toString();
    found = { ...item, itemLimit, ...rule, ruleChanges, tokens, part, id, itemCount };
  });
  return isRead ? found : undefined;
}

describe('the format of the records', () => {
  it('has all that is known of a client, in the place of each', () => {
    const { ruleNumber, batchNumber, flags, ...fields } = RECORD;
    expect([ruleNumber, batchNumber, flags]).to.deep.equal([0, 0, HAS_LIMIT]);
    expect(decode(encode())).to.deep.equal({ ...fields, algorithm: 'token-bucket', allowed: false });
    expect(decode(encode({ itemCount: 0 }))).to.include({ itemCount: 0, id: 'a' });
  });

  const LARGEST = 2 ** 31 - 1;
  const LONGEST_WAIT_MS = 2 ** 31 * 366 * DAY_MS;
  const bounds: [field: keyof typeof RECORD, least: number, most: number, beyond: number][] = [
    ['limit', 1, 1e9, 1e9 + 1],
    ['windowMs', 1, 366 * DAY_MS, 366 * DAY_MS + 1],
    ['capacity', 1, 1e9, 1e9 + 1],
    ['ruleChanges', 0, LARGEST, LARGEST + 1],
    ['tokens', 0, LARGEST, LARGEST + 1],
    ['part', 0, 999, 1_000],
    ['itemCount', 1, 1_000, 1_001],
    ['place', 0, 999, 1_000],
    ['ageMs', 0, LARGEST, LARGEST + 1],
    ['remaining', 0, 1e9, 1e9 + 1],
    ['itemLimit', 0, 1e9, 1e9 + 1],
    ['retryAfterMs', 0, LONGEST_WAIT_MS, 2 * LONGEST_WAIT_MS],
    ['resetMs', 0, LONGEST_WAIT_MS, 2 * LONGEST_WAIT_MS],
  ];
  for (const [field, least, most, beyond] of bounds) {
    it(`has a ${field} from ${least} to ${most}`, () => {
      for (const value of [least, 127, 128, most]) expect(decode(encode({ [field]: value }))?.[field]).to.equal(value);
      for (const value of [beyond, ...(['limit', 'windowMs', 'capacity'].includes(field) ? [0] : [])])
        expect(decode(encode({ [field]: value })), String(value)).to.equal(undefined);
    });
  }

  it('is refused when it is cut, or has a number of more bytes than the largest', () => {
    for (const itemCount of [0, 2]) {
      const bytes = encode({ itemCount });
      for (let length = 1; length < bytes.length; length += 1)
        expect(decode(bytes.slice(0, length)), `the first ${length} bytes`).to.equal(undefined);
    }
    const [rest, endless] = [[3, 4, 0, 0, 97, 0], new Array<number>(10).fill(0x80)];
    expect(decode([...encode(), 1, ...rest])).to.include({ itemCount: 0 });
    expect(decode([...encode(), ...endless, ...rest])).to.equal(undefined);
  });

  it('has names of policies up to 512 bytes, scopes up to 128, and ids of batches of 1 to 124, in UTF-8', () => {
    for (const policy of ['x'.repeat(512), 'ü'.repeat(256)]) expect(decode(encode({ policy }))).to.include({ policy });
    for (const scope of ['x'.repeat(128), 'ü'.repeat(64)]) expect(decode(encode({ scope }))).to.include({ scope });
    expect(decode(encode({ policy: '', scope: '' }))).to.include({ policy: undefined, scope: undefined });
    for (const batchId of ['x', 'ü'.repeat(MAX_BATCH_ID_BYTES / 2)])
      expect(decode(encode({ batchId }))).to.include({ batchId });
    const long = 'x'.repeat(MAX_BATCH_ID_BYTES + 1);
    for (const changes of [{ policy: 'x'.repeat(513) }, { scope: 'x'.repeat(129) }, { batchId: '' }, { batchId: long }])
      expect(decode(encode(changes))).to.equal(undefined);
    for (const field of ['policy', 'scope', 'batchId', 'id'] as const) {
      const bytes = encode({ [field]: 'ü' });
      expect(areRecords(Uint8Array.from(bytes))).to.equal(true);
      bytes[bytes.indexOf(0xc3)] = 0xff;
      expect(areRecords(Uint8Array.from(bytes)), field).to.equal(false);
    }
  });

  it('has no limit for a decision with that of the rule, and no wait for one that is allowed or denied for ever', () => {
    const of = (flags: number) => decode(encode({ flags }));
    expect(of(0)).to.include({ allowed: false, itemLimit: 10, retryAfterMs: 11, resetMs: 12 });
    expect(of(ALLOWED)).to.include({ allowed: true, itemLimit: 10, retryAfterMs: 0, resetMs: 12 });
    expect(of(NEVER | HAS_LIMIT)).to.include({ allowed: false, itemLimit: 9, retryAfterMs: null, resetMs: 12 });
    for (const flags of [ALLOWED | NEVER, 8]) expect(of(flags)).to.equal(undefined);
  });

  it('numbers rules and batches one by one, and has at most 1,024 records', () => {
    for (const changes of [{ ruleNumber: 1 }, { batchNumber: 1 }])
      expect(decode(encode(changes)), JSON.stringify(changes)).to.equal(undefined);
    expect(decode(encode({ itemCount: 2 }).with(-8, 2)), 'no third batch').to.equal(undefined);
    const second = encode({ ruleNumber: 1, limit: 77, batchNumber: 1, batchId: 'c' });
    expect(decode([...encode(), ...second])).to.include({ limit: 77, batchId: 'c' });
    expect(decode([...encode(), ...encode({ ruleNumber: 2 })])).to.equal(undefined);
    // The rule of the first record: tokens, part, and the id.
    const more = [0, 3, 4, 0, 0, 97];
    const many = (count: number) => [...encode(), ...Array.from({ length: count - 1 }, () => more).flat()];
    expect(decode(many(1_024))).to.include({ limit: 10, tokens: 4 });
    expect(decode(many(1_025))).to.equal(undefined);
  });
  it('is that of the writer, for the smallest numbers and the largest', () => {
    const { table } = createNode(0);
    const LARGE = { ruleChanges: LARGEST, tokens: LARGEST, part: 999, place: 999, ageMs: LARGEST, remaining: 1e9 };
    for (const changes of [
      {},
      { tokens: 127, ageMs: 128, part: 255 },
      {
        ...LARGE,
        retryAfterMs: LONGEST_WAIT_MS,
        resetMs: LONGEST_WAIT_MS,
        policy: 'ü'.repeat(256),
        scope: 'ü'.repeat(64),
      },
      { flags: 0 },
      { flags: ALLOWED, policy: '', scope: '' },
      { flags: ALLOWED | HAS_LIMIT },
      { flags: NEVER, batchId: 'ü'.repeat(62) },
      { itemCount: 1_000 },
    ]) {
      const one = { ...RECORD, ...changes };
      const client = table.open(clientKey(one.id));
      const { limit, windowMs, capacity, policy, scope, tokens, part, ruleChanges, flags } = one;
      const rule = ruleOf('token-bucket', limit, windowMs, capacity, policy || undefined, scope || undefined);
      addBucket(client, rule, 0);
      Object.assign(client, { tokens, part, ruleChanges });
      table.close(client, 0);
      const item = {
        ...one,
        limit: (flags & HAS_LIMIT) === 0 ? limit : one.itemLimit,
        allowed: (flags & ALLOWED) !== 0,
        retryAfterMs: (flags & NEVER) === 0 ? one.retryAfterMs : null,
      };
      const writer = createRecordWriter(table);
      writer.add(table.peek(one.id)!, new Array(one.itemCount).fill(item), one.itemCount);
      expect([...writer.take()!]).to.deep.equal(encode(one));
      table.delete(one.id);
    }
  });
});
