import { expect } from 'chai';
import fc from 'fast-check';
import type { Envelope, PeerAnswer, PeerMessage } from '../../src/protocol/messages.js';
import { MAX_LIMIT, MAX_WINDOW_MS } from '../../src/limits/bucket/rule.js';
import { decodeAnswer, decodeMessage, encodeAnswer, encodeMessage } from '../../src/protocol/format/codec.js';
import { MalformedMessage } from '../../src/lib/byte-reader.js';
import { answers, messages } from './arbitraries.js';
import { expectSoundAnswer, expectSoundMessage } from './soundness.js';
import { SENDER } from '../peer/support.js';

const answerOf = (body: PeerAnswer): Envelope<PeerAnswer> => ({ sender: SENDER, body });
const readMessage = (text: string | Buffer): Envelope<PeerMessage> => decodeMessage(Buffer.from(text));
const readAnswer = (text: string | Buffer): Envelope<PeerAnswer> => decodeAnswer(Buffer.from(text));
/** Those that go as JSON. */
const jsonMessages = messages.filter(({ body }) => body.kind !== 'decide' && body.kind !== 'replicate');
const jsonAnswers = answers.filter(({ body }) => body.kind !== 'decided');

describe('wire form', () => {
  it('gives every message back as it was', () => {
    fc.assert(
      fc.property(messages, (message) => {
        expect(readMessage(encodeMessage(message))).to.deep.equal(message);
      }),
      { numRuns: 2_000 },
    );
  });

  it('refuses clients of more than three MiB in one answer unread, and all other JSON of more than a few parts', () => {
    const clients = Array.from({ length: 13_000 }, (_, i) => [`${i}`.padEnd(256, 'x'), []] as const);
    const huge = encodeAnswer(answerOf({ kind: 'handed', clients, more: false, total: 1 }));
    expect(huge.length).to.be.above(3 * 1024 * 1024);
    expect(() => decodeAnswer(huge)).to.throw(MalformedMessage, 'clients');
    for (const kind of ['p', 'g', 'w', ' h', 'unknown']) {
      const long = Buffer.from(JSON.stringify([kind, 'x'.repeat(208 * 1024)]).replace('[" ', '[ "'));
      for (const decode of [decodeAnswer, decodeMessage])
        expect(() => decode(long), kind).to.throw(MalformedMessage, 'JSON: expected at most');
    }
    for (const kind of ['h', 'l']) {
      const long = Buffer.from(JSON.stringify([kind, 'x'.repeat(208 * 1024)]));
      for (const decode of [decodeAnswer, decodeMessage])
        expect(() => decode(long), kind)
          .to.throw(MalformedMessage)
          .with.property('message')
          .not.includes('JSON');
    }
  });

  it('gives every answer back as it was', () => {
    fc.assert(
      fc.property(answers, (answer) => {
        expect(readAnswer(encodeAnswer(answer))).to.deep.equal(answer);
      }),
      { numRuns: 2_000 },
    );
  });

  it('turns garbage into nothing but one kind of error, or a message in which every type and range holds', () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string(), tagged()), (text) => {
        attempt(() => expectSoundMessage(readMessage(text)));
        attempt(() => expectSoundAnswer(readAnswer(text)));
      }),
      { numRuns: 3_000 },
    );
  });

  it('turns a valid message with one value changed into that error, or a message in which every type and range holds', () => {
    let refused = 0;
    let changed = 0;
    fc.assert(
      fc.property(jsonMessages, fc.nat(), values(), (message, at, value) => {
        const text = mutate(String(encodeMessage(message)), at, value);
        if (!attempt(() => expectSoundMessage(readMessage(text)))) refused += 1;
        changed += 1;
      }),
      { numRuns: 5_000 },
    );
    expect(refused / changed).to.be.within(0.3, 0.99);
  });

  it('turns a valid answer with one value changed into that error, or an answer in which every type and range holds', () => {
    fc.assert(
      fc.property(jsonAnswers, fc.nat(), values(), (answer, at, value) => {
        const text = mutate(String(encodeAnswer(answer)), at, value);
        attempt(() => expectSoundAnswer(readAnswer(text)));
      }),
      { numRuns: 5_000 },
    );
  });

  it('reads no number that is endless, which JSON can write as 1e999', () => {
    const endless = (text: string, place: number, value: string): string => {
      const chosen = place % numbersIn(JSON.parse(text));
      let at = -1;
      const marked = JSON.stringify(JSON.parse(text), (_key, one: unknown) =>
        typeof one === 'number' && (at += 1) === chosen ? 'endless number' : one,
      );
      return marked.replace('"endless number"', value);
    };
    const property = fc.property(
      jsonMessages,
      jsonAnswers,
      fc.nat(),
      fc.constantFrom('1e999', '-1e999'),
      (message, answer, place, value) => {
        const sent = endless(String(encodeMessage(message)), place, value);
        expect(() => readMessage(sent), sent).to.throw(MalformedMessage);
        const answered = endless(String(encodeAnswer(answer)), place, value);
        expect(() => readAnswer(answered), answered).to.throw(MalformedMessage);
      },
    );
    fc.assert(property, { numRuns: 1_000 });
  });

  it('takes no message that was cut short or has bytes behind it', () => {
    fc.assert(
      fc.property(jsonMessages, fc.nat(), (message, at) => {
        const text = String(encodeMessage(message));
        expect(() => readMessage(text.slice(0, at % text.length))).to.throw(MalformedMessage);
        expect(() => readMessage(`${text}]`)).to.throw(MalformedMessage);
      }),
    );
  });

  const rule = [10, 1_000];
  const sender = ['127.0.0.1:9080', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'];
  const handed = (rules: unknown, clients: unknown): unknown => ['h', sender, 1, 0, rules, clients];
  const malformed: [what: string, wire: unknown][] = [
    ['a message from a later version with a field more', ['f', sender, 'alice', 1]],
    ['an unknown kind', ['x', sender]],
    ['an object for a list', { 0: 'f', 1: sender, 2: 'alice', length: 3 }],
    ['a member id that is no address', ['f', ['evil@host:1/path', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'], 'alice']],
    ['a member id with a host of five numbers', ['f', ['1.2.3.4.5:1', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'], 'alice']],
    ['a member id with a port beyond 65535', ['f', ['host:65536', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'], 'alice']],
    ['a url of anything but an origin', ['f', ['h:1', 1, 1, 7, '0.1.0', 0, 'http://u@h:1/x', 'abc', '0f'], 'alice']],
    ['a member without a state', ['f', ['host:1', 1, 8, 7, '0.1.0', 0, '', 'abc', '0f'], 'alice']],
    ['an empty client id', ['f', sender, '']],
    ['a client id of 257 bytes', ['f', sender, 'é'.repeat(128) + 'x']],
    ['a cost with a fraction', ['t', sender, 'alice', 'r', 1.5]],
    ['a cost below 0', ['t', sender, 'alice', 'r', -1]],
    ['requests under nine rules', ['l', sender, range(9).map((i) => [1, i + 1]), [['alice', range(9), 1]], []]],
    ['a request under two rules for one bucket', ['l', sender, [rule, [20, 1_000]], [['alice', [0, 1], 1]], []]],
    ['a request under a rule that is not in the table', ['l', sender, [rule], [['alice', [1], 1]], []]],
    ['a limit beyond 1e9', ['l', sender, [[1e9 + 1, 1_000]], [], []]],
    ['a window of 0', ['l', sender, [[1, 0]], [], []]],
    ['a window beyond 366 days', ['l', sender, [[1, MAX_WINDOW_MS + 1]], [], []]],
    ['a token bucket without capacity', ['l', sender, [[1, 1_000, 0]], [], []]],
    ['a sliding window with a burst', ['l', sender, [[1, 1_000, 2, 1]], [], []]],
  ];
  const malformedAnswers: [what: string, wire: unknown][] = [
    ['a bucket under a limit of 0, in which nothing could decay', handed([[0, 1_000, 5]], [['alice', 0, 1, 0]])],
    ['a debt with a part of a whole window', handed([rule], [['alice', 0, 1, 1_000]])],
    ['a debt below 0', handed([rule], [['alice', 0, -1, 0]])],
    ['a debt without its part', handed([rule], [['alice', 0, 1]])],
    ['a step that counts for longer than any can', handed([[5, 1_000, 5, 1]], [['alice', 0, 4_001, 1]])],
    ['a step that has ended', handed([[5, 1_000, 5, 1]], [['alice', 0, 0, 1]])],
    ['steps out of order', handed([[5, 1_000, 5, 1]], [['alice', 0, 500, 1, 400, 1]])],
    ['a bucket whose rule changed less than once, yet says so', handed([rule], [['alice', 0, 1, 0, 0]])],
    ['a request id without its decision', handed([rule], [[['alice', ['r-1', 5, [0]]], 0, 1, 0]])],
    ['a request id with two decisions', handed([rule], [[['alice', ['r-1', 5, [1, 2, 1, 0, 1, 2, 1, 0]]], 0, 1, 0]])],
    ['a step of nothing', handed([[5, 1_000, 5, 1]], [['alice', 0, 500, 0]])],
  ];
  for (const [what, wire] of malformed) {
    it(`refuses ${what}`, () => {
      expect(() => readMessage(JSON.stringify(wire))).to.throw(MalformedMessage);
    });
  }

  for (const [what, wire] of malformedAnswers) {
    it(`refuses ${what}`, () => {
      expect(() => readAnswer(JSON.stringify(wire))).to.throw(MalformedMessage);
    });
  }

  const malformedResults: [what: string, results: unknown][] = [
    ['a result that is cut off', [1, 10, 9]],
    ['an unknown result', [5, 10, 9, 8]],
    ['a result of text', ['1', 10, 9, 8]],
    ['an allowed result that says to wait', [[1, 0, 10, 9, 8, 7, [[0, 1_000, 10, 9, 0, 8]]]]],
    ['a negative wait', [2, 10, 0, 8, -1]],
  ];
  for (const [what, results] of malformedResults) {
    it(`refuses ${what}`, () => {
      expect(() => readAnswer(JSON.stringify(['l', sender, [['lease', 1, results]]]))).to.throw(MalformedMessage);
    });
  }

  it('refuses infinite numbers, lone surrogates and bytes that are not UTF-8', () => {
    const forget = (id: string): string => `["f",${JSON.stringify(sender)},${id}]`;
    expect(() => readMessage(`["t",${JSON.stringify(sender)},"alice","r",1e999]`)).to.throw(MalformedMessage);
    expect(() => readMessage(forget('"\\ud800"'))).to.throw(MalformedMessage);
    expect(() => readMessage(forget('"\\uDFFF"'))).to.throw(MalformedMessage);
    expect(readMessage(forget('"\\ud83d\\ude00"')).body).to.deep.equal({ kind: 'forget', clientId: '😀' });
    expect(() => decodeMessage(Buffer.from(forget('"\xff"'), 'latin1'))).to.throw(MalformedMessage);
  });

  it('survives a text of nothing but opening brackets', () => {
    expect(() => readMessage('['.repeat(1_000_000))).to.throw(MalformedMessage);
    expect(() => readMessage(`["\\ud83d\\ude00",${'['.repeat(100_000)}${']'.repeat(100_000)}]`)).to.throw(
      MalformedMessage,
    );
  });

  it('carries a wait that is beyond 2^53 ms', () => {
    const resetMs = MAX_LIMIT * MAX_WINDOW_MS;
    const verdict = { allowed: true, limit: 1, remaining: 0, retryAfterMs: 0, resetMs, limits: undefined };
    const answer = answerOf({
      kind: 'decided',
      results: [{ verdict, degraded: false, revocable: false }],
      members: [],
    });
    expect(readAnswer(encodeAnswer(answer))).to.deep.equal(answer);
  });
});

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}

/** @returns whether it did not throw; anything but a MalformedMessage is a mistake */
function attempt(read: () => void): boolean {
  try {
    read();
    return true;
  } catch (error) {
    if (!(error instanceof MalformedMessage)) throw error;
    return false;
  }
}

/** JSON that begins like a message. */
function tagged(): fc.Arbitrary<string> {
  const rest = fc.array(fc.jsonValue({ maxDepth: 4 }), { maxLength: 5 });
  return fc
    .tuple(fc.constantFrom('d', 'h', 'r', 'o', 'a', 's', 'f', 'm', 'k', 'n', 'p', 'w', 't', 'x', 'y'), rest)
    .map(([tag, fields]) => JSON.stringify([tag, ['127.0.0.1:9080', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'], ...fields]));
}

function numbersIn(value: unknown): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, one) => sum + numbersIn(one), 0);
  if (typeof value === 'object' && value !== null) return numbersIn(Object.values(value));
  return typeof value === 'number' ? 1 : 0;
}

function values(): fc.Arbitrary<unknown> {
  const numbers = fc.constantFrom(0, -0, -1, 0.5, 1, 2, 1e9 + 1, 2 ** 53, 1e300, MAX_WINDOW_MS + 1);
  const others = fc.constantFrom(
    null,
    true,
    '',
    'x',
    '__proto__',
    [],
    [[]],
    {},
    'x'.repeat(600),
    [0, 0],
    ['x', 0, 1, 0],
  );
  return fc.oneof(numbers, others, fc.jsonValue());
}

/** Replaces, removes or doubles one of the values of a JSON text, lists included. */
function mutate(text: string, at: number, value: unknown): string {
  const root = JSON.parse(text) as unknown[];
  const places: [list: unknown[], index: number][] = [];
  const visit = (list: unknown[]): void => {
    list.forEach((item, i) => {
      places.push([list, i]);
      if (Array.isArray(item)) visit(item);
    });
  };
  visit(root);
  const [list, index] = places[at % places.length]!;
  const how = at % 7;
  if (how === 0) list.splice(index, 1);
  else if (how === 1) list.splice(index, 0, list[index]);
  else list[index] = value;
  return JSON.stringify(root);
}
