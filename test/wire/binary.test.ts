import { expect } from 'chai';
import fc from 'fast-check';
import type { Envelope, PeerAnswer, PeerMessage } from '../../src/protocol/messages.js';
import { MAX_WINDOW_MS, ruleOf } from '../../src/limits/bucket/rule.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import { ByteReader } from '../../src/lib/byte-reader.js';
import { ByteWriter } from '../../src/lib/byte-writer.js';
import {
  decodeAnswer,
  decodeMessage,
  encodeAnswer,
  encodeMessage,
  writeMessage,
} from '../../src/protocol/format/codec.js';
import { MalformedMessage } from '../../src/lib/byte-reader.js';
import { SENDER } from '../peer/support.js';
import { answers, messages, plainCheck } from './arbitraries.js';
import { expectSoundAnswer, expectSoundMessage } from './soundness.js';

const hotMessages = messages.filter(({ body }) => body.kind === 'decide' || body.kind === 'replicate');
const hotAnswers = answers.filter(({ body }) => body.kind === 'decided');
const RULE = ruleOf('token-bucket', 100, 1_000, 100, undefined);

function decide(checks: readonly { clientId: string; rule: Rule }[]): Envelope<PeerMessage> {
  const list = checks.map(({ clientId, rule }) => plainCheck(clientId, rule));
  return { sender: SENDER, body: { kind: 'decide', batchId: 'b', refused: [], checks: list } };
}

/** A message of one kind whose fields behind the sender and before the end are written by hand. */
function crafted(kind: 'decide' | 'replicate' | 'decided', write: (out: ByteWriter) => void): Buffer {
  const empty =
    kind === 'decided'
      ? encodeAnswer({ sender: SENDER, body: { kind, results: [], members: [] } })
      : encodeMessage(kind === 'decide' ? decide([]) : { sender: SENDER, body: { kind: 'replicate', clients: [] } });
  const out = new ByteWriter();
  // Each ends with the number of its items: `decided` with that of results, then of members.
  out.append(empty.subarray(0, empty.length - (kind === 'decided' ? 2 : 1)));
  write(out);
  if (kind === 'decided') out.whole(0);
  return out.bytes.subarray(0, out.length);
}

/** Numbers as such, strings as text. */
function fields(...values: (number | string)[]): (out: ByteWriter) => void {
  return (out) => {
    for (const value of values)
      if (typeof value === 'string') out.text(value);
      else out.whole(value);
  };
}

describe('binary wire form', () => {
  it('takes three bytes and the client id for a check of one token under a rule that came before', () => {
    const one = encodeMessage(decide([{ clientId: 'alice', rule: RULE }]));
    const two = encodeMessage(
      decide([
        { clientId: 'alice', rule: RULE },
        { clientId: 'carol', rule: RULE },
      ]),
    );
    expect(two.length - one.length).to.equal(3 + 'carol'.length);
  });

  it('reads rules with the same numbers as the same object, as a million buckets share a few', () => {
    // Made anew: other rules may have taken its place among the recent ones since this file was loaded.
    const rule = ruleOf('token-bucket', 100, 60_000, 100, undefined);
    const { body } = decodeMessage(encodeMessage(decide([{ clientId: 'a', rule }])));
    expect(body.kind === 'decide' && body.checks[0]!.rules[0]).to.equal(rule);
  });

  it('carries a whole number of any size exactly', () => {
    const sizes = fc.oneof(
      fc.maxSafeNat(),
      fc.nat(),
      fc.nat(300),
      fc.constantFrom(2 ** 31, 2 ** 31 - 1, 2 ** 32, 2 ** 53, 2e9 * MAX_WINDOW_MS, 2 ** 66 - 2 ** 14),
    );
    fc.assert(
      fc.property(sizes, (value) => {
        const out = new ByteWriter();
        out.whole(value);
        const from = new ByteReader(out.written());
        expect(from.whole(0, Infinity, 'value')).to.equal(value);
        from.finish();
      }),
    );
  });

  it('writes one message after another into the same memory, also after one that had to grow it', () => {
    const out = new ByteWriter();
    fc.assert(
      fc.property(messages, fc.boolean(), (message, large) => {
        out.clear();
        if (large) out.append(new Uint8Array(2 * 1024 * 1024));
        if (large) out.clear();
        writeMessage(out, message);
        expect(decodeMessage(Buffer.from(out.bytes.subarray(0, out.length)))).to.deep.equal(message);
      }),
      { numRuns: 300 },
    );
  });

  it('reads the sender of a message whatever senders it read before', () => {
    fc.assert(
      fc.property(fc.array(hotMessages, { minLength: 2, maxLength: 6 }), (list) => {
        for (const message of [...list, ...list]) {
          expect(decodeMessage(encodeMessage(message)).sender).to.deep.equal(message.sender);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('refuses a message or an answer that is cut short at any byte, or has one more', () => {
    fc.assert(
      fc.property(hotMessages, hotAnswers, (message, answer) => {
        const cases: [Buffer, (bytes: Buffer) => unknown][] = [
          [encodeMessage(message), decodeMessage],
          [encodeAnswer(answer), decodeAnswer],
        ];
        for (const [bytes, decode] of cases) {
          for (let length = 0; length < bytes.length; length += 1) {
            if (attempt(() => decode(bytes.subarray(0, length))))
              expect.fail(`read ${length} of ${bytes.length} bytes`);
          }
          expect(() => decode(Buffer.concat([bytes, Buffer.from([0])]))).to.throw(MalformedMessage);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('reads a message into which doubles that are no numbers were written as nothing, or as one that is sound', () => {
    const doubles = [NaN, Infinity, -Infinity, -0, 2 ** 63].map((value) => {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleLE(value);
      return bytes;
    });
    const property = fc.property(hotMessages, hotAnswers, fc.nat(), fc.constantFrom(...doubles), (...args) => {
      const [message, answer, at, double] = args;
      for (const [whole, read] of [
        [encodeMessage(message), (bytes: Buffer) => expectSoundMessage(decodeMessage(bytes))],
        [encodeAnswer(answer), (bytes: Buffer) => expectSoundAnswer(decodeAnswer(bytes))],
      ] as const) {
        const bytes = Buffer.from(whole);
        double.copy(bytes, 1 + (at % bytes.length));
        try {
          read(bytes);
        } catch (error) {
          expect(error).to.be.instanceOf(MalformedMessage);
        }
      }
    });
    fc.assert(property, { numRuns: 100 });
  });

  it('reads a message with any bit flipped as nothing, or as one in which every type and range holds', () => {
    fc.assert(
      fc.property(hotMessages, hotAnswers, (message, answer) => {
        flipEach(encodeMessage(message), (bytes) => expectSoundMessage(decodeMessage(bytes)));
        flipEach(encodeAnswer(answer), (bytes) => expectSoundAnswer(decodeAnswer(bytes)));
      }),
      { numRuns: 20 },
    );
  });

  it('reads any bytes as nothing, or as a message in which every type and range holds', () => {
    const [decideHead, replicateHead, decidedHead] = (['decide', 'replicate', 'decided'] as const).map((kind) =>
      crafted(kind, () => undefined),
    );
    fc.assert(
      fc.property(fc.constantFrom(decideHead!, replicateHead!, decidedHead!), fc.uint8Array(), (head, tail) => {
        for (const bytes of [Buffer.concat([head, tail]), Buffer.from(tail)]) {
          attempt(() => expectSoundMessage(decodeMessage(bytes)));
          attempt(() => expectSoundAnswer(decodeAnswer(bytes)));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  const rule = [0, 10, 1_000];
  const malformed: [what: string, kind: 'decide' | 'replicate' | 'decided', ...fields: (number | string)[]][] = [
    ['more checks than any sender puts in one', 'decide', 16_385],
    ['an unknown flag of a check', 'decide', 1, 64, 0, ...rule, 'alice'],
    ['a check under a rule that is not in the table', 'decide', 1, 0, 1, 'alice'],
    ['a check with no rules', 'decide', 1, 32, 0, 'alice'],
    ['a check with nine rules', 'decide', 1, 32, 9],
    ['a check with two rules for one bucket', 'decide', 1, 32, 2, 0, ...rule, 1, 0, 20, 1_000, 'alice'],
    ['an unknown flag of a rule', 'decide', 1, 0, 0, 8, 10, 1_000, 'alice'],
    ['a limit beyond 1e9', 'decide', 1, 0, 0, 0, 1e9 + 1, 1_000, 'alice'],
    ['a window of 0', 'decide', 1, 0, 0, 0, 10, 0, 'alice'],
    ['a window beyond 366 days', 'decide', 1, 0, 0, 0, 10, MAX_WINDOW_MS + 1, 'alice'],
    ['a token bucket without capacity', 'decide', 1, 0, 0, 2, 10, 1_000, 0, 'alice'],
    ['a sliding window with a burst', 'decide', 1, 0, 0, 3, 10, 1_000, 20, 'alice'],
    ['an empty client id', 'decide', 1, 0, 0, ...rule, ''],
    ['a client id of 257 bytes', 'decide', 1, 0, 0, ...rule, 'é'.repeat(128) + 'x'],
    ['a cost of 0', 'decide', 1, 4, 0, ...rule, 'alice', 0],
    ['a cost beyond 1e9', 'decide', 1, 4, 0, ...rule, 'alice', 1e9 + 1],
    ['an empty request id', 'decide', 1, 8, 0, ...rule, 'alice', ''],
    ['a bucket under a limit of 0, in which nothing could decay', 'replicate', 1, 'a', 2, 0, 2, 0, 1_000, 5, 0, 1, 0],
    ['a debt with a part of a whole window', 'replicate', 1, 'a', 2, 0, ...rule, 0, 1, 1_000],
    ['an unknown flag of a bucket', 'replicate', 1, 'a', 2, 0, ...rule, 4, 1, 0],
    ['a step that counts for longer than any can', 'replicate', 1, 'a', 2, 0, 1, 5, 1_000, 0, 1, 4_001, 1],
    ['a step that has ended', 'replicate', 1, 'a', 2, 0, 1, 5, 1_000, 0, 1, 0, 1],
    ['steps out of order', 'replicate', 1, 'a', 2, 0, 1, 5, 1_000, 0, 2, 500, 1, 400, 1],
    ['a step of nothing', 'replicate', 1, 'a', 2, 0, 1, 5, 1_000, 0, 1, 500, 0],
    ['a bucket whose rule changed less than once, yet says so', 'replicate', 1, 'a', 2, 0, ...rule, 1, 1, 0, 0],
    ['a lease of nothing', 'replicate', 1, 'a', 2, 0, ...rule, 2, 1, 0, 1, 'lease', 0, 0, 0],
    ['a request id without its decision', 'replicate', 1, 'a', 1, 1, 'r-1', 5, 0, 0],
    ['a reservation without rules', 'replicate', 1, 'a', 1, 0, 1, 'r', 0, 5, 1, 0],
    ['an unknown flag of a result', 'decided', 1, 129, 10, 9, 8],
    ['a result that is denied, and reserved nothing', 'decided', 1, 65, 10, 9, 8, 7],
    ['flags of a result that nobody decided', 'decided', 1, 2, 10, 9, 8],
    ['a result that is allowed, and never', 'decided', 1, 19, 10, 9, 8],
    ['a result that is allowed, and revocable', 'decided', 1, 11, 10, 9, 8],
    ['a result that is degraded, and revocable', 'decided', 1, 13, 10, 9, 8, 7],
    ['a result of no limits', 'decided', 1, 35, 10, 9, 8, 0],
    ['more results than any peer gives in one answer', 'decided', 16_385],
  ];
  for (const [what, kind, ...values] of malformed) {
    it(`refuses ${what}`, () => {
      const decode: (bytes: Buffer) => Envelope<PeerMessage | PeerAnswer> =
        kind === 'decided' ? decodeAnswer : decodeMessage;
      expect(() => decode(crafted(kind, fields(...values)))).to.throw(MalformedMessage, /expected/);
    });
  }

  it('refuses text that is no UTF-8', () => {
    const bytes = crafted('decide', fields(1, 0, 0, ...rule, 'alicé'));
    bytes[bytes.length - 1] = 0x20;
    expect(() => decodeMessage(bytes)).to.throw(MalformedMessage, 'UTF-8');
  });

  it('refuses an unknown kind, and a number without end', () => {
    const bytes = encodeMessage(decide([]));
    bytes[0] = 9;
    expect(() => decodeMessage(bytes)).to.throw(MalformedMessage, 'kind of message');
    expect(() => decodeAnswer(bytes)).to.throw(MalformedMessage, 'kind of answer');
    expect(() => decodeMessage(Buffer.alloc(20, 0xff))).to.throw(MalformedMessage);
  });
});

/** Flips up to 300 bits, one after the other, spread over the bytes. */
function flipEach(bytes: Buffer, read: (bytes: Buffer) => void): void {
  const stride = Math.max(1, Math.floor((8 * bytes.length) / 300)) | 1;
  for (let bit = 0; bit < 8 * bytes.length; bit += stride) {
    const place = bit >> 3;
    bytes[place]! ^= 1 << (bit & 7);
    attempt(() => read(bytes));
    bytes[place]! ^= 1 << (bit & 7);
  }
}

/** @returns whether it did not throw; anything but a MalformedMessage is a mistake */
function attempt(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    if (!(error instanceof MalformedMessage)) throw error;
    return false;
  }
}
