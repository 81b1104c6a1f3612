import { expect } from 'chai';
import fc from 'fast-check';
import { WITHOUT_POLICIES } from '../../src/policy/active-policies.js';
import { Buckets } from '../../src/limits/bucket/bucket.js';
import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import { decide } from '../../src/limits/decide/decide.js';
import { TokenringError } from '../../src/lib/error.js';
import { Counters } from '../../src/server/edge/counters.js';
import { WriterPool } from '../../src/server/edge/answer-buffers.js';
import { DecisionWriter } from '../../src/server/resp/decision-writer.js';
import { readThrottle } from '../../src/server/resp/check-commands.js';
import { ErrorText } from '../../src/server/resp/value.js';
import { createGcra } from './gcra.js';
import { repliesOf } from './wire.js';

const ORIGIN = { owner: 'a:1', source: 'owner', degraded: false } as const;

/** A limiter of one client behind the command, on a clock that the caller gives. */
function createCell(): (nowMs: number, rule: readonly number[]) => unknown {
  const buckets = new Buckets();
  const writer = new DecisionWriter(new Counters());
  const pool = new WriterPool();
  return (nowMs, rule) => {
    const command = readThrottle(['CL.THROTTLE', 'key', ...rule.map(String)], WITHOUT_POLICIES);
    if (command instanceof ErrorText) throw new Error(command.text);
    const { check, reply } = command;
    const batch = CheckBatch.of([check]);
    batch.items[0]!.record(decide(buckets, check, nowMs), ORIGIN);
    const out = pool.take();
    writer.write(out, batch, [reply], 2);
    const [answer] = repliesOf(out.written().toString('latin1'));
    pool.giveBack(out);
    return answer;
  };
}

describe('CL.THROTTLE', () => {
  it('answers the example of the documentation of redis-cell', () => {
    const ask = createCell();
    expect(ask(0, [15, 30, 60])).to.deep.equal([0, 16, 15, -1, 2]);
    for (let i = 0; i < 15; i += 1) ask(0, [15, 30, 60]);
    expect(ask(0, [15, 30, 60])).to.deep.equal([1, 16, 0, 2, 32]);
    expect(ask(0, [15, 30, 60, 17]), 'more than a full bucket').to.deep.equal([1, 16, 0, -1, 32]);
    expect(ask(0, [15, 30, 60, 0]), 'a peek at an empty bucket').to.deep.equal([0, 16, 0, -1, 32]);
    expect(ask(2_000, [15, 30, 60])).to.deep.equal([0, 16, 0, -1, 32]);
  });

  it('answers as the model of redis-cell, for any rule, quantities, and times', () => {
    const rule = fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 1, max: 4_000 }));
    const step = fc.record({
      waitMs: fc.oneof(fc.constant(0), fc.nat(50), fc.nat(100_000)),
      quantity: fc.oneof(fc.constant(1), fc.nat(25)),
    });
    fc.assert(
      fc.property(rule, fc.array(step, { minLength: 1, maxLength: 40 }), ([burst, count, period], steps) => {
        const [cell, model] = [createCell(), createGcra()];
        let nowMs = 0;
        for (const { waitMs, quantity } of steps) {
          nowMs += waitMs;
          const asked = [burst, count, period, quantity] as const;
          expect(cell(nowMs, asked), `${asked.join(' ')} at ${nowMs}`).to.deep.equal(model(nowMs, asked));
        }
      }),
      { numRuns: 1_000, seed: 18 },
    );
  });

  it('is limited in a peek when more was taken than a smaller burst allows, as in redis-cell', () => {
    const [cell, model] = [createCell(), createGcra()];
    for (const asked of [
      [9, 1, 10, 10],
      [4, 1, 10, 0],
      [9, 1, 10, 0],
    ] as const)
      expect(cell(0, asked)).to.deep.equal(model(0, asked));
  });

  const refused: [args: string, error: string][] = [
    ['', 'Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]'],
    ['a 1 2', 'Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]'],
    ['a 1 2 3 4 5', 'Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]'],
    ['a x 2 3', "Couldn't parse as integer: x"],
    ['a 1 2.5 3', "Couldn't parse as integer: 2.5"],
    ['a 1 2 9223372036854775808', "Couldn't parse as integer: 9223372036854775808"],
    ['a 1 0 60', 'Zero rates are not supported'],
    ['a 1 1 0', 'Zero rates are not supported'],
  ];
  for (const [args, error] of refused) {
    it(`refuses "${args}" with the error of redis-cell`, () => {
      const answer = readThrottle(['CL.THROTTLE', ...(args === '' ? [] : args.split(' '))], WITHOUT_POLICIES);
      expect(answer).to.deep.equal(new ErrorText(`Cell error: Store error: ${error}`));
    });
  }

  for (const [args, field] of [
    ['a -1 1 1', 'max_burst'],
    ['a 1000000000 1 1', 'max_burst'],
    ['a 1 -1 1', 'count'],
    ['a 1 1 -1', 'period'],
    ['a 1 1 31622401', 'period'],
    ['a 1 1 1 -1', 'quantity'],
    ['a 1 1 1 9223372036854775807', 'quantity'],
    [`${'a'.repeat(257)} 1 1 1`, 'clientId'],
  ] as const) {
    it(`refuses ${field} in "${args.slice(0, 40)}", which is beyond the bounds here`, () => {
      expect(() => readThrottle(['CL.THROTTLE', ...args.split(' ')], WITHOUT_POLICIES))
        .to.throw(TokenringError)
        .that.includes({ code: 'invalid_request', field });
    });
  }

  it('reads numbers as redis-cell does, with a plus too', () => {
    const one = readThrottle(['CL.THROTTLE', 'a', '+1', '2', '3'], WITHOUT_POLICIES);
    const other = readThrottle(['CL.THROTTLE', 'a', '1', '2', '3'], WITHOUT_POLICIES);
    expect(one).to.deep.equal(other);
  });
});
