import { expect } from 'chai';
import fc from 'fast-check';
import { createHash } from 'node:crypto';
import type { Envelope, PeerAnswer, PeerMessage } from '../../src/protocol/messages.js';
import { MAX_LIMIT, MAX_WINDOW_MS, ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import { ByteReader, MalformedMessage } from '../../src/lib/byte-reader.js';
import { ByteWriter } from '../../src/lib/byte-writer.js';
import {
  decodeAnswer,
  decodeMessage,
  inspect,
  WIRE_VERSION,
  writeMessage,
} from '../../src/protocol/format/messages.js';
import { encodeClients } from '../../src/state/client-format.js';
import { SENDER } from '../peer/support.js';
import { encodeAnswer, encodeMessage, NO_CLIENTS } from '../support/wire.js';
import { answers, messages, plainCheck } from './arbitraries.js';
import { expectSoundAnswer, expectSoundMessage } from './soundness.js';

const RULE = ruleOf('token-bucket', 100, 1_000, 100, undefined);
const RULE_FIELDS = [0, 10, 1_000];

function decide(checks: readonly { clientId: string; rule: Rule }[]): Envelope<PeerMessage> {
  const list = checks.map(({ clientId, rule }) => plainCheck(clientId, rule));
  return { sender: SENDER, body: { kind: 'decide', messageId: 'b', refused: [], checks: list } };
}

const messageOf = (body: PeerMessage): Envelope<PeerMessage> => ({ sender: SENDER, body });
const answerOf = (body: PeerAnswer): Envelope<PeerAnswer> => ({ sender: SENDER, body });

/** One of each kind of which bytes are written by hand, for its number. */
const MESSAGES = {
  decide: decide([]),
  replicate: messageOf({ kind: 'replicate', clients: NO_CLIENTS }),
  heartbeat: messageOf({ kind: 'heartbeat', members: [] }),
  lease: messageOf({ kind: 'lease', requests: [], returns: [] }),
  forget: messageOf({ kind: 'forget', clientId: 'a' }),
  settle: messageOf({ kind: 'settle', clientId: 'a', reservation: 'r', cost: 1 }),
  load: messageOf({ kind: 'load', name: 'p', load: 1 }),
  'write-policies': messageOf({ kind: 'write-policies', writeId: 'w', changes: null, ifMatch: undefined }),
} as const;
const ANSWERS = {
  decided: answerOf({ kind: 'decided', results: [], members: [] }),
  leased: answerOf({ kind: 'leased', grants: [] }),
  handed: answerOf({ kind: 'handed', clients: NO_CLIENTS, more: false, total: 0 }),
  described: answerOf({ kind: 'described', client: { clientId: 'a', owner: 'h:1', buckets: [] } }),
  settled: answerOf({ kind: 'settled', settled: null }),
} as const;
type MessageKind = keyof typeof MESSAGES;
type AnswerKind = keyof typeof ANSWERS;
type Field = number | string | Buffer;

/** Numbers as such, strings as text, and bytes unchanged. */
function write(out: ByteWriter, fields: readonly Field[]): void {
  for (const value of fields)
    if (typeof value === 'string') out.text(value);
    else if (typeof value === 'number') out.whole(value);
    else out.append(value);
}

/** A message of a kind, with these fields behind the sender. */
function crafted(kind: MessageKind, ...fields: readonly Field[]): Buffer {
  const out = new ByteWriter();
  out.append(encodeMessage(messageOf({ kind: 'report' })));
  out.bytes[1] = encodeMessage(MESSAGES[kind])[1]!;
  if (kind === 'decide') write(out, ['b', 0]);
  write(out, fields);
  return out.copy();
}

function craftedAnswer(kind: AnswerKind, ...fields: readonly Field[]): Buffer {
  const out = new ByteWriter();
  out.append(encodeAnswer(answerOf({ kind: 'kept' })));
  out.bytes[1] = encodeAnswer(ANSWERS[kind])[1]!;
  write(out, fields);
  if (kind === 'decided') out.whole(0);
  return out.copy();
}

function doubleBytes(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

describe('messages between nodes', () => {
  it('have the bytes of their version: raise WIRE_VERSION when they change, then write down their digest here', () => {
    const sampled = { numRuns: 300, seed: 1 };
    const hash = createHash('sha256');
    for (const message of fc.sample(messages, sampled)) hash.update(encodeMessage(message));
    for (const answer of fc.sample(answers, sampled)) hash.update(encodeAnswer(answer));
    expect([WIRE_VERSION, hash.digest('hex').slice(0, 16)]).to.deep.equal([8, '7d991da00d2a26a2']);
  });

  it('give everything back as it was', () => {
    fc.assert(
      fc.property(messages, answers, (message, answer) => {
        expect(decodeMessage(encodeMessage(message))).to.deep.equal(message);
        expect(decodeAnswer(encodeAnswer(answer))).to.deep.equal(answer);
      }),
      { numRuns: 2_000 },
    );
  });

  it('begin with the version of their format, and no other is read', () => {
    const [message, answer] = [encodeMessage(decide([])), encodeAnswer(answerOf({ kind: 'kept' }))];
    expect([message[0], answer[0]]).to.deep.equal([WIRE_VERSION, WIRE_VERSION]);
    for (const version of [0, WIRE_VERSION - 1, WIRE_VERSION + 1, 0x5b]) {
      [message[0], answer[0]] = [version, version];
      expect(() => decodeMessage(message)).to.throw(MalformedMessage, 'version');
      expect(() => decodeAnswer(answer)).to.throw(MalformedMessage, 'version');
    }
  });

  it('take three bytes and the client id for a check of one token under a rule that came before', () => {
    const one = encodeMessage(decide([{ clientId: 'alice', rule: RULE }]));
    const two = encodeMessage(
      decide([
        { clientId: 'alice', rule: RULE },
        { clientId: 'carol', rule: RULE },
      ]),
    );
    expect(two.length - one.length).to.equal(3 + 'carol'.length);
  });

  it('read rules with the same numbers as the same object, as a million buckets share a few', () => {
    // Made anew: other rules may have taken its place among the recent ones since this file was loaded.
    const rule = ruleOf('token-bucket', 100, 60_000, 100, undefined);
    const { body } = decodeMessage(encodeMessage(decide([{ clientId: 'a', rule }])));
    expect(body.kind === 'decide' && body.checks[0]!.rules[0]).to.equal(rule);
  });

  it('carry a whole number of any size exactly', () => {
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

  it('carry a wait that is beyond 2^53 ms', () => {
    const resetMs = MAX_LIMIT * MAX_WINDOW_MS;
    const verdict = { allowed: true, limit: 1, remaining: 0, retryAfterMs: 0, resetMs, limits: undefined };
    const results = [{ verdict, degraded: false, revocable: false }];
    const answer = answerOf({ kind: 'decided', results, members: [] });
    expect(decodeAnswer(encodeAnswer(answer))).to.deep.equal(answer);
  });

  it('go one after another into the same memory, also after one that had to grow it', () => {
    const out = new ByteWriter();
    fc.assert(
      fc.property(messages, fc.boolean(), (message, large) => {
        out.clear();
        if (large) out.append(new Uint8Array(2 * 1024 * 1024));
        if (large) out.clear();
        writeMessage(out, message);
        expect(decodeMessage(out.copy())).to.deep.equal(message);
      }),
      { numRuns: 300 },
    );
  });

  it('name their sender whatever senders came before', () => {
    fc.assert(
      fc.property(fc.array(messages, { minLength: 2, maxLength: 6 }), (list) => {
        for (const message of [...list, ...list])
          expect(decodeMessage(encodeMessage(message)).sender).to.deep.equal(message.sender);
      }),
      { numRuns: 300 },
    );
  });

  it('can be read by people', () => {
    const bucket = { ...RULE, ruleChanges: 0, state: [1, 0] };
    const clients = encodeClients([['alice', [bucket]]]);
    expect(JSON.parse(inspect({ kind: 'replicate', clients }))).to.deep.equal({
      kind: 'replicate',
      clients: [['alice', [JSON.parse(JSON.stringify(bucket))]]],
    });
    expect(inspect({ kind: 'forget', clientId: 'alice' })).to.equal('{"kind":"forget","clientId":"alice"}');
  });
});

describe('bytes from outside', () => {
  it('are no message where one is cut short at any byte, or has one more', () => {
    fc.assert(
      fc.property(messages, answers, (message, answer) => {
        const cases: [Buffer, (bytes: Buffer) => unknown][] = [
          [encodeMessage(message), decodeMessage],
          [encodeAnswer(answer), decodeAnswer],
        ];
        for (const [bytes, decode] of cases) {
          for (let length = 0; length < bytes.length; length += 1)
            if (attempt(() => decode(bytes.subarray(0, length))))
              expect.fail(`read ${length} of ${bytes.length} bytes`);
          expect(() => decode(Buffer.concat([bytes, Buffer.from([0])]))).to.throw(MalformedMessage);
        }
      }),
      { numRuns: 100 },
    );
  });

  it('are nothing, or sound, where doubles that are no numbers were written into a message', () => {
    const doubles = [NaN, Infinity, -Infinity, -0, -1, 1.5, 2 ** 63].map(doubleBytes);
    const property = fc.property(messages, answers, fc.nat(), fc.constantFrom(...doubles), (...args) => {
      const [message, answer, at, double] = args;
      for (const [whole, read] of [
        [encodeMessage(message), (bytes: Buffer) => expectSoundMessage(decodeMessage(bytes))],
        [encodeAnswer(answer), (bytes: Buffer) => expectSoundAnswer(decodeAnswer(bytes))],
      ] as const) {
        const bytes = Buffer.from(whole);
        double.copy(bytes, 1 + (at % bytes.length));
        attempt(() => read(bytes));
      }
    });
    fc.assert(property, { numRuns: 3_000 });
  });

  it('are nothing, or a message in which every type and range holds, where any bit was flipped', () => {
    fc.assert(
      fc.property(messages, answers, (message, answer) => {
        flipEach(encodeMessage(message), (bytes) => expectSoundMessage(decodeMessage(bytes)));
        flipEach(encodeAnswer(answer), (bytes) => expectSoundAnswer(decodeAnswer(bytes)));
      }),
      { numRuns: 60 },
    );
  });

  it('are nothing, or sound, where one byte was removed, doubled, or replaced', () => {
    let refused = 0;
    const runs = 5_000;
    fc.assert(
      fc.property(messages, fc.nat(), fc.nat(2), fc.nat(255), (message, at, how, value) => {
        const bytes = encodeMessage(message);
        const place = at % bytes.length;
        const middle = [[], [bytes[place]!, bytes[place]!], [value]][how]!;
        const changed = Buffer.concat([bytes.subarray(0, place), Buffer.from(middle), bytes.subarray(place + 1)]);
        if (!attempt(() => expectSoundMessage(decodeMessage(changed)))) refused += 1;
      }),
      { numRuns: runs },
    );
    expect(refused / runs).to.be.within(0.3, 0.99);
  });

  it('are nothing, or sound, whatever they are', () => {
    const heads = [
      ...(Object.keys(MESSAGES) as MessageKind[]).map((kind) => crafted(kind)),
      ...(Object.keys(ANSWERS) as AnswerKind[]).map((kind) => craftedAnswer(kind)),
    ];
    fc.assert(
      fc.property(fc.constantFrom(...heads), fc.uint8Array(), (head, tail) => {
        for (const bytes of [Buffer.concat([head, tail]), Buffer.from(tail)]) {
          attempt(() => expectSoundMessage(decodeMessage(bytes)));
          attempt(() => expectSoundAnswer(decodeAnswer(bytes)));
        }
      }),
      { numRuns: 3_000 },
    );
  });

  it('are refused unread above three MiB of clients, and above a few parts of policies for all short kinds', () => {
    const large = Buffer.alloc(3 * 1024 * 1024);
    expect(() => decodeAnswer(craftedAnswer('handed', 0, 0, large))).to.throw(MalformedMessage, 'bytes for its kind');
    const long = Buffer.alloc(208 * 1024);
    for (const kind of ['forget', 'settle', 'load', 'write-policies'] as const)
      expect(() => decodeMessage(crafted(kind, long)), kind).to.throw(MalformedMessage, 'bytes for its kind');
    expect(() => decodeAnswer(craftedAnswer('described', long))).to.throw(MalformedMessage, 'bytes for its kind');
    for (const kind of ['heartbeat', 'lease', 'decide'] as const)
      expect(() => decodeMessage(crafted(kind, long)), kind)
        .to.throw(MalformedMessage)
        .with.property('message')
        .not.includes('bytes for its kind');
  });

  const clients = (...fields: readonly Field[]): readonly Field[] => [Buffer.from([1, 1, 0]), ...fields];
  const rule = RULE_FIELDS;
  const bucket = (...fields: readonly Field[]): readonly Field[] => clients(2, 'a', 0, ...fields);
  const member = (id: string, state: number, url: string): readonly Field[] => [1, id, 1, state, '0.1', url, 1, 0];
  const malformed: readonly (readonly [what: string, kind: MessageKind, ...fields: readonly Field[]])[] = [
    ['a member id that is no address', 'heartbeat', ...member('evil@host:1/path', 1, '')],
    ['a member id with a host of five numbers', 'heartbeat', ...member('1.2.3.4.5:1', 1, '')],
    ['a member id with a port beyond 65535', 'heartbeat', ...member('host:65536', 1, '')],
    ['a url of anything but an origin', 'heartbeat', ...member('h:1', 1, 'http://u@h:1/x')],
    ['a member without a state', 'heartbeat', ...member('h:1', 8, '')],
    ['more checks than any sender puts in one', 'decide', 16_385],
    ['an unknown flag of a check', 'decide', 1, 2 ** 30, 0, ...rule, 'alice'],
    ['a check under a rule that is not in the table', 'decide', 1, 0, 1, 'alice'],
    ['a check with no rules', 'decide', 1, 32, 0, 'alice'],
    ['a check with nine rules', 'decide', 1, 32, 9],
    ['a check with two rules for one bucket', 'decide', 1, 32, 2, 0, ...rule, 1, 0, 20, 1_000, 'alice'],
    ['an unknown flag of a rule', 'decide', 1, 0, 0, 16, 10, 1_000, 'alice'],
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
    ['a request for leases under nine rules', 'lease', 1, 'alice', 9],
    ['a request under two rules for one bucket', 'lease', 1, 'alice', 2, 0, ...rule, 1, 0, 20, 1_000, 1, 0],
    ['a request for no tokens', 'lease', 1, 'alice', 1, 0, ...rule, 0, 0],
    ['a settlement beyond 1e9', 'settle', 'alice', 'r', 1e9 + 1],
    ['a load beyond 1', 'load', 'p', doubleBytes(1.01)],
    ['a load that is no number', 'load', 'p', doubleBytes(NaN)],
    ['a change of a key that no document has', 'write-policies', 'w', 1, 1, 'polici x', 'null', 0],
    ['a policy that is no JSON', 'write-policies', 'w', 1, 1, 'policy x', '{', 0],
    ['a client of a list with a lone surrogate', 'write-policies', 'w', 1, 1, 'tier a', '"\\ud800"', 0],
    ['a policy of nothing but brackets', 'write-policies', 'w', 1, 1, 'policy x', '['.repeat(60_000), 0],
    ['a policy of deep lists', 'write-policies', 'w', 1, 1, 'policy x', '['.repeat(6e4) + ']'.repeat(6e4), 0],
    ['a bucket under a limit of 0', 'replicate', ...bucket(2, 0, 1_000, 5, 0, 1, 0)],
    ['a debt with a part of a whole window', 'replicate', ...bucket(...rule, 0, 1, 1_000)],
    ['a debt beyond any', 'replicate', ...bucket(...rule, 0, 4e9 + 1, 0)],
    ['a debt without its part', 'replicate', ...bucket(...rule, 0, 1)],
    ['an unknown flag of a bucket', 'replicate', ...bucket(...rule, 4, 1, 0)],
    ['a step that counts for longer than any can', 'replicate', ...bucket(1, 5, 1_000, 0, 1, 4_001, 1)],
    ['a step that has ended', 'replicate', ...bucket(1, 5, 1_000, 0, 1, 0, 1)],
    ['steps out of order', 'replicate', ...bucket(1, 5, 1_000, 0, 2, 500, 1, 400, 1)],
    ['a step of nothing', 'replicate', ...bucket(1, 5, 1_000, 0, 1, 500, 0)],
    ['a bucket whose rule changed less than once, yet says so', 'replicate', ...bucket(...rule, 1, 1, 0, 0)],
    ['a lease of nothing', 'replicate', ...bucket(...rule, 2, 1, 0, 1, 'lease', 0, 0, 0)],
    ['a request id without its decision', 'replicate', ...clients(1, 'a', 1, 'r-1', 5)],
    ['a reservation without rules', 'replicate', ...clients(1, 'a', 0, 1, 'r', 0, 5, 1, 0)],
  ];
  for (const [what, kind, ...fields] of malformed) {
    it(`are refused with ${what}`, () => {
      expect(() => decodeMessage(crafted(kind, ...fields))).to.throw(MalformedMessage, /expected/);
    });
  }

  const verdict = [10, 9, 8];
  const malformedAnswers: readonly (readonly [what: string, kind: AnswerKind, ...fields: readonly Field[]])[] = [
    ['an unknown flag of a result', 'decided', 1, Buffer.of(0x89), ...verdict],
    ['a result that is denied, and reserved nothing', 'decided', 1, 0x48, ...verdict, 7],
    ['flags of a result that nobody decided', 'decided', 1, 1, ...verdict],
    ['a result that is allowed, and never', 'decided', 1, 11, ...verdict],
    ['a result that is allowed, and revocable', 'decided', 1, 0x29, ...verdict],
    ['a result that is degraded, and revocable', 'decided', 1, 0x38, ...verdict, 7],
    ['a result of no limits', 'decided', 1, 13, ...verdict, 0],
    ['a result that is cut off', 'decided', 1, 9, 10],
    ['more results than any peer gives in one answer', 'decided', 16_385],
    ['a grant of no tokens', 'leased', 1, 1, 'lease', 0, 1, ...verdict],
    ['a grant with a flag of a result', 'leased', 1, 1, 'lease', 5, 9, ...verdict],
    ['clients of another format', 'handed', 0, 0, Buffer.from([9, 0, 0])],
    ['a client that is missing', 'handed', 0, 0, Buffer.from([1, 1, 0])],
    ['a settlement of no reserved cost', 'settled', 1, 0, 1, 0, ...verdict],
    ['an unknown kind of a settlement', 'settled', 1, 3],
  ];
  for (const [what, kind, ...fields] of malformedAnswers) {
    it(`are refused with ${what}`, () => {
      expect(() => decodeAnswer(craftedAnswer(kind, ...fields))).to.throw(MalformedMessage, /expected/);
    });
  }

  it('are read where the fields are as they should be', () => {
    expect(decodeMessage(crafted('decide', 1, 0, 0, ...rule, 'alice')).body.kind).to.equal('decide');
    expect(decodeMessage(crafted('heartbeat', ...member('h:1', 1, 'http://h:1'))).body.kind).to.equal('heartbeat');
    expect(decodeMessage(crafted('replicate', ...bucket(...rule, 0, 1, 0))).body.kind).to.equal('replicate');
    expect(decodeMessage(crafted('lease', 1, 'alice', 1, 0, ...rule, 1, 0)).body.kind).to.equal('lease');
    expect(decodeMessage(crafted('write-policies', 'w', 1, 1, 'tier a', '"x"', 0)).body.kind).to.equal(
      'write-policies',
    );
    expect(decodeAnswer(craftedAnswer('decided', 1, 9, ...verdict)).body.kind).to.equal('decided');
    expect(decodeAnswer(craftedAnswer('leased', 1, 1, 'lease', 5, 1, ...verdict)).body.kind).to.equal('leased');
    expect(decodeAnswer(craftedAnswer('settled', 1, 0, 1, 1, ...verdict)).body.kind).to.equal('settled');
  });

  it('are refused with text that is no UTF-8', () => {
    const bytes = crafted('decide', 1, 0, 0, ...rule, 'alicé');
    bytes[bytes.length - 1] = 0x20;
    expect(() => decodeMessage(bytes)).to.throw(MalformedMessage, 'UTF-8');
  });

  it('are refused with an unknown kind, and with a number without end', () => {
    const bytes = encodeMessage(decide([]));
    bytes[1] = 99;
    expect(() => decodeMessage(bytes)).to.throw(MalformedMessage, 'kind of message');
    expect(() => decodeAnswer(bytes)).to.throw(MalformedMessage, 'kind of answer');
    const endless = Buffer.alloc(20, 0xff);
    endless[0] = WIRE_VERSION;
    endless[1] = 0;
    expect(() => decodeMessage(endless)).to.throw(MalformedMessage);
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
