import { expect } from 'chai';
import fc from 'fast-check';
import { addBucket, Buckets, lend, advance, take } from '../../src/limits/bucket/bucket.js';
import { inScope, ruleOf } from '../../src/limits/bucket/rule.js';
import { toLastingState, type Snapshot } from '../../src/limits/bucket/snapshot.js';
import { MalformedMessage } from '../../src/lib/byte-reader.js';
import { encodeClients } from '../../src/state/client-format.js';
import { nextRecord, readRecord, recall, tryRecord, type StoredRecord } from '../../src/store/record.js';

const NOW_MS = 1_800_000_000_000;
const PER_SECOND = ruleOf('token-bucket', 10, 1_000, 10, undefined);

function owing(tokens: number, rule = PER_SECOND): Snapshot[] {
  const buckets = new Buckets();
  take(addBucket(buckets, rule, 0), tokens);
  return [...toLastingState(buckets, 0).snapshots];
}

function stored(buckets: readonly Snapshot[], atMs = NOW_MS): StoredRecord {
  return readRecord(nextRecord(undefined, ['alice', buckets], atMs)!.bytes);
}

describe('a stored record', () => {
  it('returns the state that was stored, less what time has refilled since', () => {
    const record = stored(owing(8));
    expect(recall(record, NOW_MS)).to.deep.equal(['alice', owing(8)]);
    expect(recall(record, NOW_MS + 300)).to.deep.equal(['alice', owing(5)]);
    expect(recall(record, NOW_MS + 800)).to.deep.equal(['alice', []]);
  });

  it('is not refilled by a wall clock that went back, nor twice when the clock goes on', () => {
    const record = stored(owing(8));
    expect(recall(record, NOW_MS - 3_600_000)).to.deep.equal(['alice', owing(8)]);
    const again = readRecord(nextRecord(record, ['alice', []], NOW_MS - 3_600_000)!.bytes);
    expect(recall(again, NOW_MS - 3_600_000)).to.deep.equal(['alice', owing(8)]);
    expect(recall(again, NOW_MS - 3_600_000 + 300)).to.deep.equal(['alice', owing(5)]);
    const window = stored(owing(8, ruleOf('sliding-window', 10, 1_000, 10, undefined)));
    expect(recall(window, NOW_MS - 500)).to.deep.equal(recall(window, NOW_MS));
    const later = readRecord(nextRecord(window, ['alice', []], NOW_MS - 500)!.bytes);
    expect(recall(later, NOW_MS - 500)).to.deep.equal(recall(window, NOW_MS));
  });

  it('ages by one time and is stamped with another if it is uncertain what time it is', () => {
    const next = readRecord(nextRecord(stored(owing(8)), ['alice', owing(1)], NOW_MS + 100, NOW_MS + 5_000)!.bytes);
    expect(next).to.deep.include({ atMs: NOW_MS + 5_000, restAtMs: NOW_MS + 5_700, buckets: owing(7) });
  });

  it('merges with a later state; the stricter wins, whichever comes first', () => {
    const debts = fc.tuple(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 10 }), fc.nat({ max: 500 }));
    fc.assert(
      fc.property(debts, ([before, after, elapsedMs]) => {
        const next = nextRecord(stored(owing(before)), ['alice', owing(after)], NOW_MS + elapsedMs)!;
        const expected = Math.max(before * 1_000 - elapsedMs * 10, after * 1_000);
        const [, [snapshot]] = recall(readRecord(next.bytes), NOW_MS + elapsedMs);
        expect(snapshot!.state[0]! * 1_000 + snapshot!.state[1]!).to.equal(expected);
      }),
    );
  });

  it('keeps scopes apart, in the record and where a later state is merged into it', () => {
    const [reports] = inScope([PER_SECOND], 'reports');
    const record = stored([...owing(8), ...owing(5, reports)]);
    expect(recall(record, NOW_MS)[1]).to.have.deep.members([...owing(8), ...owing(5, reports)]);
    const next = readRecord(nextRecord(record, ['alice', [...owing(1), ...owing(9, reports)]], NOW_MS)!.bytes);
    expect(recall(next, NOW_MS)[1]).to.have.deep.members([...owing(8), ...owing(9, reports)]);
  });

  it('names the time after which nothing of it is left', () => {
    expect(nextRecord(undefined, ['alice', owing(8)], NOW_MS)!.restMs).to.equal(800);
    expect(stored(owing(8)).restAtMs).to.equal(NOW_MS + 800);
    const slow = ruleOf('token-bucket', 1, 31_622_400_000, 1e9, undefined);
    expect(nextRecord(undefined, ['alice', owing(1e9, slow)], NOW_MS)!.restMs).to.be.below(2 ** 50);
    expect(nextRecord(stored(owing(1)), ['alice', []], NOW_MS + 100)).to.equal(undefined);
  });

  it('counts leased tokens as spent', () => {
    for (const algorithm of ['token-bucket', 'sliding-window'] as const) {
      const buckets = new Buckets();
      const bucket = addBucket(buckets, ruleOf(algorithm, 100, 60_000, 100, undefined), 0);
      advance(bucket, 0);
      take(bucket, 5);
      lend(bucket, { id: 'x', tokens: 20, endMs: 1_000, spent: undefined });
      const { snapshots } = toLastingState(buckets, 0);
      const [, [back]] = recall(stored(snapshots), NOW_MS);
      expect(back).not.to.have.property('leases');
      const owed =
        algorithm === 'token-bucket'
          ? back!.state[0]
          : back!.state.filter((_, i) => i % 2 === 1).reduce((a, b) => a + b);
      expect(owed, algorithm).to.equal(25);
    }
  });

  it('is ignored if it is damaged or of another format', () => {
    const { bytes } = nextRecord(undefined, ['alice', owing(8)], NOW_MS)!;
    const changed = (at: number, ...by: number[]): Buffer => Buffer.concat([bytes.subarray(0, at), Buffer.from(by)]);
    const times = bytes.indexOf(encodeClients([['alice', owing(8)]]));
    for (const damaged of [
      Buffer.alloc(0),
      Buffer.from('x'),
      Buffer.from(JSON.stringify([1, NOW_MS, NOW_MS, [], []])),
      bytes.subarray(0, -3),
      Buffer.concat([bytes, Buffer.of(0)]),
      Buffer.concat([Buffer.of(1), bytes.subarray(1)]),
      // Times beyond 2^52, and more or less than one client.
      Buffer.concat([changed(1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), bytes.subarray(times)]),
      Buffer.concat([bytes.subarray(0, times), encodeClients([])]),
      Buffer.concat([
        bytes.subarray(0, times),
        encodeClients([
          ['a', owing(8)],
          ['b', owing(8)],
        ]),
      ]),
    ]) {
      expect(() => readRecord(damaged), damaged.toString('hex')).to.throw(MalformedMessage);
      expect(tryRecord(damaged)).to.equal(undefined);
    }
    expect(() => tryRecord(undefined as never), 'a fault of the program is none of the record').to.throw(TypeError);
  });
});
