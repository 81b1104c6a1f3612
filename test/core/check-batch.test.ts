import { expect } from 'chai';
import { CheckBatch, decisionOf, OnePlace } from '../../src/limits/decide/check-batch.js';
import type { Answer } from '../../src/limits/decide/check-batch.js';
import { createCheck } from '../../src/limits/decide/decide.js';
import { TokenringError } from '../../src/lib/error.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { tokenBucket } from '../support/rules.js';

const RULES = [tokenBucket(10, 1_000)];
const asked = createCheck(clientKey(''), RULES, { cost: 3 });
const origin = { owner: 'o:1', source: 'forwarded', degraded: false } as const;
const failure = new TokenringError('overloaded');

/** Two checks whose ids are bytes, the first with a request id, and between them one that is an object. */
function batchOfThree(): CheckBatch {
  const batch = new CheckBatch(4, Buffer.from('alice,r-1,bob'));
  batch.addBytes(0, 5, asked, 6, 9);
  batch.add(createCheck(clientKey('çelik'), RULES, { requestId: 'r-2' }));
  batch.addBytes(10, 13, asked);
  return batch;
}

const verdictAt = (place: number) => ({
  allowed: place % 2 === 0,
  limit: 10 + place,
  remaining: 20 + place,
  retryAfterMs: [0, null, 31.5][place]!,
  resetMs: 2 ** 40 + place,
});

describe('a batch of checks', () => {
  it('gives each check as an object, with its own id, hash, and request id, also when all are answered', () => {
    const batch = batchOfThree();
    for (const place of [0, 1, 2]) batch.decide(place, verdictAt(place), origin);
    expect(batch.size).to.equal(3);
    for (const [place, clientId, requestId] of [
      [0, 'alice', 'r-1'],
      [1, 'çelik', 'r-2'],
      [2, 'bob', undefined],
    ] as const) {
      const { hashHigh, hashLow } = clientKey(clientId);
      expect([batch.hashHigh[place], batch.hashLow[place]], clientId).to.deep.equal([hashHigh, hashLow]);
      expect([batch.clientId(place), batch.requestId(place)]).to.deep.equal([clientId, requestId]);
      expect(batch.idBytes(place)).to.equal(clientId.length);
      const cost = place === 1 ? 1 : 3;
      expect(batch.check(place)).to.deep.equal(createCheck(clientKey(clientId), RULES, { cost, requestId }));
      expect(batch.check(place), 'the same object').to.equal(batch.check(place));
    }
  });

  it('tells checks that are objects from those in the bytes of the message', () => {
    const batch = batchOfThree();
    expect([0, 1, 2].map((place) => batch.isInBytes(place))).to.deep.equal([true, false, true]);
    batch.check(0);
    expect(batch.isInBytes(0)).to.equal(false);
  });

  it('shows each decision as it was made, and whether there is one', () => {
    const batch = batchOfThree();
    for (const place of [2, 0, 1]) {
      expect(batch.isAnswered(place)).to.equal(false);
      batch.decide(place, verdictAt(place), { ...origin, owner: `o:${place}` });
      expect(batch.isAnswered(place)).to.equal(true);
    }
    for (const place of [0, 1, 2]) {
      const decision = { ...verdictAt(place), ...origin, owner: `o:${place}`, limits: undefined };
      expect(batch.answerAt(place)).to.deep.equal(decision);
    }
  });

  it('passes answers on in order: decisions by their figures, a refusal as it is', () => {
    const batch = batchOfThree();
    batch.addAnswer(failure);
    for (const place of [0, 1, 2]) batch.decide(place, verdictAt(place), origin);
    const seen: unknown[] = [];
    const visit = (from: number, to: number): unknown[] => {
      seen.length = 0;
      batch.visit(
        from,
        to,
        (...figures) => void seen.push(figures),
        (answer) => void seen.push(answer),
      );
      return [...seen];
    };
    const figures = [
      [true, 10, 20, 0, 2 ** 40, origin],
      [false, 11, 21, -1, 2 ** 40 + 1, origin],
      [true, 12, 22, 31.5, 2 ** 40 + 2, origin],
      failure,
    ];
    expect(visit(0, 4)).to.deep.equal(figures);
    expect(visit(1, 3)).to.deep.equal(figures.slice(1, 3));
    expect(visit(2, 2)).to.deep.equal([]);
  });

  it('has no check, and no id, where it began with an answer', () => {
    const batch = batchOfThree();
    batch.addAnswer(failure);
    expect([batch.size, batch.idBytes(3), batch.isAnswered(3), batch.answerAt(3)]).to.deep.equal([4, 0, true, failure]);
    expect(batch.asked[3]!.rules).to.deep.equal([]);
    expect(batch.isAnswered(2)).to.equal(false);
  });

  it('lets a later answer replace a decision', () => {
    const batch = batchOfThree();
    batch.decide(0, verdictAt(0), origin);
    batch.answer(0, failure);
    expect(batch.answerAt(0)).to.equal(failure);
    batch.decide(0, verdictAt(0), origin);
    expect(batch.answerAt(0)).to.deep.include(verdictAt(0));
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

describe('a place for one check', () => {
  it('gives its check, and the latest answer', () => {
    const place = new OnePlace(asked);
    expect(place.check()).to.equal(asked);
    place.decide(0, verdictAt(1), origin);
    const decision: Answer = { ...verdictAt(1), ...origin, limits: undefined };
    expect(place.answerAt()).to.deep.equal(decision);
    place.answer(0, failure);
    expect(place.answerAt()).to.equal(failure);
  });
});

describe('an answer', () => {
  it('that is no decision is thrown where one is needed', () => {
    const decision: Answer = { ...verdictAt(0), ...origin, limits: undefined };
    expect(decisionOf(decision)).to.equal(decision);
    expect(() => decisionOf(failure)).to.throw(failure);
  });
});
