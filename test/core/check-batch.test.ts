import { expect } from 'chai';
import { CheckBatch, decideAlone } from '../../src/limits/decide/check-batch.js';
import { createCheck, sharedParams } from '../../src/limits/decide/check.js';
import { TokenringError } from '../../src/lib/error.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { deciderOf } from '../support/batch.js';
import { tokenBucket } from '../support/rules.js';

const RULES = [tokenBucket(10, 1_000)];
const params = sharedParams(createCheck(clientKey(''), RULES, { cost: 3 }))!;
const origin = { owner: 'o:1', source: 'forwarded', degraded: false } as const;
const failure = new TokenringError('overloaded');

/** Two checks whose ids are bytes, the first with a request id, and between them one that is an object. */
function batchOfThree(): CheckBatch {
  const batch = new CheckBatch(Buffer.from('alice,r-1,bob'));
  batch.addBytes(0, 5, params, 6, 9);
  batch.add(createCheck(clientKey('çelik'), RULES, { requestId: 'r-2' }));
  batch.addBytes(10, 13, params);
  return batch;
}

const verdictAt = (index: number) => ({
  allowed: index % 2 === 0,
  limit: 10 + index,
  remaining: 20 + index,
  retryAfterMs: [0, null, 31.5][index]!,
  resetMs: 2 ** 40 + index,
  limits: undefined,
});

describe('a batch of checks', () => {
  it('gives each check as an object, with its own id, hash, and request id, also when all are answered', () => {
    const batch = batchOfThree();
    for (const item of batch.items) item.record(verdictAt(item.index), origin);
    expect(batch.size).to.equal(3);
    for (const [index, clientId, requestId] of [
      [0, 'alice', 'r-1'],
      [1, 'çelik', 'r-2'],
      [2, 'bob', undefined],
    ] as const) {
      const item = batch.items[index]!;
      const cost = index === 1 ? 1 : 3;
      expect(item).to.include({ clientId, requestId, idBytes: clientId.length, isObject: index === 1 });
      const { hashHigh, hashLow } = clientKey(clientId);
      expect(item).to.include({ hashHigh, hashLow });
      expect(item.check).to.deep.equal(createCheck(clientKey(clientId), RULES, { cost, requestId }));
      expect(item.check, 'the same object').to.equal(item.check);
      expect(item.isObject).to.equal(true);
    }
  });

  it('gives items without a request id one of the batch, except peeks', () => {
    const batch = new CheckBatch(Buffer.from('alice,r-1'), 'b');
    batch.addBytes(0, 5, params, 6, 9);
    batch.addBytes(0, 5, params);
    batch.addBytes(0, 5, { ...params, peek: true });
    batch.add(createCheck(clientKey('bob'), RULES, { requestId: 'b#3' }));
    expect(batch.items.map(({ requestId }) => requestId)).to.deep.equal(['r-1', 'b#1', undefined, 'b#3']);
    expect(batch.items.map(({ hasBatchItemId }) => hasBatchItemId)).to.deep.equal([false, true, false, true]);
  });

  it('has the trace of its request for checks in bytes, and another one for a check that gets it', () => {
    const batch = batchOfThree();
    const [trace, other] = ['a', 'b'].map((digit) => {
      return { traceparent: `00-${digit.repeat(32)}-${digit.repeat(16)}-01`, tracestate: '' };
    });
    batch.trace = trace;
    batch.items[2]!.traceUnder(other);
    expect(batch.items.map(({ check }) => check.trace)).to.deep.equal([trace, undefined, other]);
  });

  it('shows each decision as it was made, and whether there is one', () => {
    const batch = batchOfThree();
    for (const index of [2, 0, 1]) {
      const item = batch.items[index]!;
      expect(item.isAnswered).to.equal(false);
      item.record(verdictAt(index), { ...origin, owner: `o:${index}` });
      expect(item.isAnswered).to.equal(true);
    }
    for (const { index, decision } of batch.items)
      expect(decision).to.deep.equal({ ...verdictAt(index), ...origin, owner: `o:${index}` });
    batch.items[1]!.extras = { unreserved: true };
    expect(batch.items[1]!.decision).to.deep.include({ ...verdictAt(1), unreserved: true });
  });

  it('has no check, and no id, where it began with an error', () => {
    const batch = batchOfThree();
    batch.addError(failure);
    expect(batch.size).to.equal(4);
    expect(batch.items[3]).to.include({ idBytes: 0, isAnswered: true, error: failure });
    expect(batch.items[2]!.isAnswered).to.equal(false);
    expect(() => batch.items[3]!.decision).to.throw(failure);
  });

  it('lets a later answer replace an earlier one', () => {
    const item = batchOfThree().items[0]!;
    item.record(verdictAt(0), origin);
    item.extras = { reservation: 'r' };
    item.fail(failure);
    expect(() => item.decision).to.throw(failure);
    item.record(verdictAt(0), origin);
    expect(item.decision).to.deep.equal({ ...verdictAt(0), ...origin });
  });

  it('knows whether any answer depends on the terms of a policy or a reservation', () => {
    const of = (...more: object[]): boolean =>
      CheckBatch.of(more.map((one) => createCheck(clientKey('a'), RULES, one))).hasTerms;
    expect(of()).to.equal(false);
    expect(of({}, { requestId: 'r' })).to.equal(false);
    expect(of({ reservation: 'r' }, {})).to.equal(true);
    expect(of({}, { terms: { policy: undefined, listed: 'deny' } })).to.equal(true);
  });
});

describe('a check alone', () => {
  const check = createCheck(clientKey('alice'), RULES);
  const decision = { ...verdictAt(0), ...origin };

  it('is decided at once or later, as the decider does', async () => {
    expect(
      decideAlone(
        deciderOf(() => decision),
        check,
      ),
    ).to.deep.equal(decision);
    const later = decideAlone(
      deciderOf(() => Promise.resolve(decision)),
      check,
    );
    expect(later).to.be.instanceOf(Promise);
    expect(await later).to.deep.equal(decision);
  });

  it('rejects with the error in place of a decision', async () => {
    for (const answer of [failure, Promise.resolve(failure)]) {
      const later = Promise.resolve(
        decideAlone(
          deciderOf(() => answer),
          check,
        ),
      );
      expect(await later.catch((error: unknown) => error)).to.equal(failure);
    }
  });
});
