import { expect } from 'chai';
import fc from 'fast-check';
import type { Envelope, PeerAnswer, PeerMessage } from '../../src/cluster/messages.js';
import { MAX_LIMIT, MAX_WINDOW_MS, ruleOf } from '../../src/core/rule.js';
import type { Rule } from '../../src/core/rule.js';
import { decodeAnswer, decodeMessage, encodeAnswer, encodeMessage } from '../../src/wire/codec.js';
import { MalformedMessage } from '../../src/wire/wire.js';
import { answers, messages, plainCheck } from './arbitraries.js';
import { expectSoundAnswer, expectSoundMessage } from './soundness.js';
import { SENDER } from '../peer/support.js';

const messageOf = (body: PeerMessage): Envelope<PeerMessage> => ({ sender: SENDER, body });
const answerOf = (body: PeerAnswer): Envelope<PeerAnswer> => ({ sender: SENDER, body });
const readMessage = (text: string): Envelope<PeerMessage> => decodeMessage(Buffer.from(text));
const readAnswer = (text: string): Envelope<PeerAnswer> => decodeAnswer(Buffer.from(text));

describe('wire form', () => {
  it('gives every message back as it was', () => {
    fc.assert(
      fc.property(messages, (message) => {
        expect(readMessage(encodeMessage(message))).to.deep.equal(message);
      }),
      { numRuns: 2_000 },
    );
  });

  it('gives every answer back as it was', () => {
    fc.assert(
      fc.property(answers, (answer) => {
        expect(readAnswer(encodeAnswer(answer))).to.deep.equal(answer);
      }),
      { numRuns: 2_000 },
    );
  });

  it('says a check of one rule and one token with nothing but the client id, and a rule once for all its checks', () => {
    const [often, seldom] = [
      ruleOf('token-bucket', 100, 1_000, 100, undefined),
      ruleOf('sliding-window', 5, 9, 5, 'p'),
    ];
    const under: [string, Rule][] = [
      ['alice', often],
      ['bob', often],
      ['carol', seldom],
      ['dave', seldom],
      ['erin', often],
    ];
    const checks = under.map(([clientId, rule]) => plainCheck(clientId, rule));
    const text = encodeMessage(messageOf({ kind: 'decide', batchId: 'b', refused: [], checks }));
    expect(JSON.parse(text)).to.deep.equal([
      'd',
      ['127.0.0.1:9080', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'],
      'b',
      [],
      [
        [100, 1_000],
        [5, 9, 5, 1, 'p'],
      ],
      ['alice', 'bob', 1, 'carol', 'dave', 0, 'erin'],
    ]);
  });

  it('says a result with a few numbers', () => {
    const verdict = { allowed: true, limit: 9, remaining: 8, retryAfterMs: 0, resetMs: 7, limits: undefined };
    const denied = { ...verdict, allowed: false, remaining: 0, retryAfterMs: null };
    const results = [
      { verdict, degraded: false, revocable: false },
      null,
      { verdict: denied, degraded: true, revocable: false },
      { verdict: denied, degraded: false, revocable: true },
    ];
    const wire = JSON.parse(encodeAnswer(answerOf({ kind: 'decided', results, members: [] }))) as unknown[];
    expect(wire[2]).to.deep.equal([1, 9, 8, 7, 0, 4, 9, 0, 7, null, 5, 9, 0, 7, null]);
  });

  it('gives checks under the same figures the same rule object, as a million buckets share a few', () => {
    const rule = ruleOf('token-bucket', 77, 7_777, 78, undefined);
    const message = messageOf({ kind: 'decide', batchId: 'b', refused: [], checks: [plainCheck('a', rule)] });
    const { body } = readMessage(encodeMessage(message));
    expect(body.kind === 'decide' && body.checks[0]!.rules[0]).to.equal(rule);
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
      fc.property(messages, fc.nat(), values(), (message, at, value) => {
        const text = mutate(encodeMessage(message), at, value);
        if (!attempt(() => expectSoundMessage(readMessage(text)))) refused += 1;
        changed += 1;
      }),
      { numRuns: 5_000 },
    );
    expect(refused / changed).to.be.within(0.3, 0.99);
  });

  it('turns a valid answer with one value changed into that error, or an answer in which every type and range holds', () => {
    fc.assert(
      fc.property(answers, fc.nat(), values(), (answer, at, value) => {
        const text = mutate(encodeAnswer(answer), at, value);
        attempt(() => expectSoundAnswer(readAnswer(text)));
      }),
      { numRuns: 5_000 },
    );
  });

  it('takes no message that was cut short or has bytes behind it', () => {
    fc.assert(
      fc.property(messages, fc.nat(), (message, at) => {
        const text = encodeMessage(message);
        expect(() => readMessage(text.slice(0, at % text.length))).to.throw(MalformedMessage);
        expect(() => readMessage(`${text}]`)).to.throw(MalformedMessage);
      }),
    );
  });

  const rule = [10, 1_000];
  const sender = ['127.0.0.1:9080', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'];
  const decide = (rules: unknown, checks: unknown): unknown => ['d', sender, 'b', [], rules, checks];
  const replicate = (rules: unknown, clients: unknown): unknown => ['r', sender, rules, clients];
  const malformed: [what: string, wire: unknown][] = [
    ['a message from a later version with a field more', ['f', sender, 'alice', 1]],
    ['an unknown kind', ['x', sender]],
    ['an object for a list', { 0: 'f', 1: sender, 2: 'alice', length: 3 }],
    ['a member id that is no address', ['f', ['evil@host:1/path', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'], 'alice']],
    ['a member id with a port beyond 65535', ['f', ['host:65536', 1, 1, 7, '0.1.0', 0, '', 'abc', '0f'], 'alice']],
    ['a url of anything but an origin', ['f', ['h:1', 1, 1, 7, '0.1.0', 0, 'http://u@h:1/x', 'abc', '0f'], 'alice']],
    ['a member without a state', ['f', ['host:1', 1, 4, 7, '0.1.0', 0, '', 'abc', '0f'], 'alice']],
    ['an empty client id', ['f', sender, '']],
    ['a client id of 257 bytes', ['f', sender, 'é'.repeat(128) + 'x']],
    ['a check without a rule', decide([], ['alice'])],
    ['a check under a rule that is not in the table', decide([rule], [1, 'alice'])],
    ['a check with no rules', decide([rule], [['alice', [], 1, 0]])],
    ['a check with two rules for one bucket', decide([rule, [20, 1_000]], [['alice', [0, 1], 1, 0]])],
    [
      'a check with nine rules',
      decide(
        range(9).map((i) => [1, i + 1]),
        [['alice', range(9), 1, 0]],
      ),
    ],
    ['a cost of 0', decide([rule], [['alice', 0, 0, 0]])],
    ['a cost beyond 1e9', decide([rule], [['alice', 0, 1e9 + 1, 0]])],
    ['a cost with a fraction', decide([rule], [['alice', 0, 1.5, 0]])],
    ['a flag that does not exist', decide([rule], [['alice', 0, 1, 4]])],
    ['an empty request id', decide([rule], [['alice', 0, 1, 0, '']])],
    ['a limit beyond 1e9', decide([[1e9 + 1, 1_000]], ['alice'])],
    ['a window of 0', decide([[1, 0]], ['alice'])],
    ['a window beyond 366 days', decide([[1, MAX_WINDOW_MS + 1]], ['alice'])],
    ['a token bucket without capacity', decide([[1, 1_000, 0]], ['alice'])],
    ['a sliding window with a burst', decide([[1, 1_000, 2, 1]], ['alice'])],
    ['more checks than any sender puts in one', decide([rule], range(16_385).map(String))],
    ['a bucket under a limit of 0, in which nothing could decay', replicate([[0, 1_000, 5]], [['alice', 0, 1, 0]])],
    ['a debt with a part of a whole window', replicate([rule], [['alice', 0, 1, 1_000]])],
    ['a debt below 0', replicate([rule], [['alice', 0, -1, 0]])],
    ['a debt without its part', replicate([rule], [['alice', 0, 1]])],
    ['a step that counts for longer than any can', replicate([[5, 1_000, 5, 1]], [['alice', 0, 4_001, 1]])],
    ['a step that has ended', replicate([[5, 1_000, 5, 1]], [['alice', 0, 0, 1]])],
    ['steps out of order', replicate([[5, 1_000, 5, 1]], [['alice', 0, 500, 1, 400, 1]])],
    ['a bucket whose rule changed less than once, yet says so', replicate([rule], [['alice', 0, 1, 0, 0]])],
    ['a request id without its decision', replicate([rule], [[['alice', ['r-1', 5, [0]]], 0, 1, 0]])],
    [
      'a request id with two decisions',
      replicate([rule], [[['alice', ['r-1', 5, [1, 2, 1, 0, 1, 2, 1, 0]]], 0, 1, 0]]),
    ],
    ['a step of nothing', replicate([[5, 1_000, 5, 1]], [['alice', 0, 500, 0]])],
  ];
  for (const [what, wire] of malformed) {
    it(`refuses ${what}`, () => {
      expect(() => readMessage(JSON.stringify(wire))).to.throw(MalformedMessage);
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
      expect(() => readAnswer(JSON.stringify(['d', sender, results, []]))).to.throw(MalformedMessage);
    });
  }

  it('refuses infinite numbers, lone surrogates and bytes that are not UTF-8', () => {
    const forget = (id: string): string => `["f",${JSON.stringify(sender)},${id}]`;
    expect(() => readMessage(JSON.stringify(decide([rule], ['a'])).replace('1000', '1e999'))).to.throw(
      MalformedMessage,
    );
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
