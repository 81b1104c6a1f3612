import { expect } from 'chai';
import fc from 'fast-check';
import { finish } from '../../src/lib/turns.js';
import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import { SOURCES, type Decision } from '../../src/limits/decide/decision.js';
import { TokenringError } from '../../src/lib/error.js';
import { asciiJson } from '../../src/lib/text.js';
import { JsonDecisionWriter, type ResponseBody } from '../../src/server/http/decisions/decision-writer.js';
import { Counters } from '../../src/server/edge/counters.js';
import { checkOf, tokenBucket } from '../support/rules.js';

const CHECK = checkOf([tokenBucket(1, 1_000)]);
const HEAD = 'HTTP/1.1 200 OK\r\n\r\n';

const whole = fc.oneof(fc.nat({ max: 1e9 }), fc.constantFrom(0, 9, 10, 99, 100, 999_999_999, 1e9));
const wait = fc.oneof(whole, fc.constantFrom(null, 2 ** 31 - 1, 2 ** 31, 3.16224e19, Number.MAX_SAFE_INTEGER));
const origins = fc.record({
  owner: fc.oneof(fc.constantFrom('10.0.0.1:9080', 'b:1'), fc.string({ unit: 'binary', maxLength: 20 })),
  source: fc.constantFrom(...SOURCES),
  degraded: fc.boolean(),
});
const decisions: fc.Arbitrary<Decision> = fc
  .tuple(
    fc.record({
      allowed: fc.boolean(),
      limit: whole,
      remaining: whole,
      retryAfterMs: wait,
      resetMs: fc.oneof(whole, fc.constant(3.16224e22)),
    }),
    origins,
  )
  .map(([figures, origin]) => ({ ...figures, ...origin, limits: undefined }));

describe('the writer of the answers of a batch', () => {
  const counters = new Counters();
  const writer = new JsonDecisionWriter(counters);

  function bodyOf(batch: CheckBatch): ResponseBody {
    let written: ResponseBody | undefined;
    finish(writer.writing(batch, (body) => (written = body)));
    return written!;
  }

  /** Writes a batch that has an object for each answer for which `isObject` is true, and numbers for the others. */
  function written(answers: readonly (Decision | TokenringError)[], isObject: (i: number) => boolean): string {
    const batch = CheckBatch.of(answers.map(() => CHECK));
    answers.forEach((answer, place) => {
      const item = batch.items[place]!;
      if (answer instanceof TokenringError) return item.fail(answer);
      const { owner, source, degraded } = answer;
      item.record(answer, isObject(place) ? answer : { owner, source, degraded });
    });
    const body = bodyOf(batch);
    let sent = '';
    body.send(HEAD, (bytes) => {
      sent = bytes.toString('latin1');
      return true;
    });
    expect(sent.slice(0, HEAD.length)).to.equal(HEAD);
    expect(body.length).to.equal(sent.length - HEAD.length);
    return sent.slice(HEAD.length);
  }

  it('writes what each decision is as JSON, from numbers and from objects', () => {
    fc.assert(
      fc.property(fc.array(decisions, { minLength: 1, maxLength: 30 }), fc.nat(3), (answers, every) => {
        const expected = `{"results":[${answers.map(asciiJson).join(',')}]}`;
        expect(written(answers, (i) => i % (every + 1) === 0)).to.equal(expected);
      }),
    );
  });

  it('writes the mistake of an item in its place, and counts decisions and problems', () => {
    const decision: Decision = {
      allowed: true,
      limit: 5,
      remaining: 4,
      retryAfterMs: 0,
      resetMs: 10,
      owner: 'a:1',
      source: 'lease',
      degraded: false,
      limits: undefined,
    };
    const before = { lease: counters.allowed.lease, problems: counters.problems.get('overloaded') ?? 0 };
    const { results } = JSON.parse(written([decision, new TokenringError('overloaded'), decision], () => false)) as {
      results: object[];
    };
    expect(results[1]).to.have.nested.property('error.code', 'overloaded');
    expect([results[0], results[2]]).to.deep.equal(Array(2).fill(JSON.parse(JSON.stringify(decision))));
    expect(counters.allowed.lease - before.lease).to.equal(2);
    expect(counters.problems.get('overloaded')! - before.problems).to.equal(1);
  });

  it('counts decisions without the state of the owner, from numbers and from objects', () => {
    const figures = { allowed: false, limit: 5, remaining: 0, retryAfterMs: 1, resetMs: 1, limits: undefined };
    const decision: Decision = { ...figures, owner: 'a:1', source: 'fallback', degraded: true };
    const before = counters.degraded;
    written([decision, decision], (i) => i === 0);
    expect(counters.degraded - before).to.equal(2);
  });

  it('uses its memory again once the bytes are copied, and not before', () => {
    const decision = { allowed: true, limit: 1, remaining: 0, retryAfterMs: 0, resetMs: 0, limits: undefined };
    const origin = { owner: 'a:1', source: 'owner', degraded: false } as const;
    const memoryOf = (copied: boolean): Buffer => {
      const batch = CheckBatch.of([CHECK]);
      batch.items[0]!.record(decision, origin);
      let memory: Buffer = Buffer.alloc(0);
      bodyOf(batch).send('', (bytes) => {
        memory = bytes;
        return copied;
      });
      return memory;
    };
    const first = memoryOf(false);
    const second = memoryOf(true);
    const third = memoryOf(true);
    expect(second.buffer).not.to.equal(first.buffer);
    expect(third.buffer).to.equal(second.buffer);
  });

  it('takes a head of any length', () => {
    const batch = CheckBatch.of([CHECK]);
    batch.items[0]!.fail(new TokenringError('overloaded'));
    for (const length of [0, 511, 512, 513, 5_000]) {
      const head = 'x'.repeat(length);
      bodyOf(batch).send(head, (bytes) => {
        expect(bytes.toString('latin1', 0, length + 12)).to.equal(`${head}{"results":[`);
        return true;
      });
    }
  });
});
