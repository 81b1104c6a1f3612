import { expect } from 'chai';
import fc from 'fast-check';
import { FrameReader, MAX_ARG_BYTES, MAX_ARGS, MAX_LINE_BYTES } from '../../src/server/resp/frame.js';
import { command } from './wire.js';

type Read = { args: string[]; end: number } | 'incomplete' | { broken: string };

function read(bytes: Buffer | string, at = 0): Read {
  const reader = new FrameReader();
  const input = Buffer.from(bytes);
  const done = reader.read(input, at);
  if (done !== 'complete') return done;
  const { count, starts, ends, end } = reader;
  const args = Array.from({ length: count }, (_, i) => input.toString('latin1', starts[i], ends[i]));
  return { args, end };
}

const broken = (bytes: Buffer | string): string | undefined => {
  const done = read(bytes);
  return typeof done === 'object' && 'broken' in done ? done.broken : undefined;
};

describe('the reader of commands', () => {
  it('reads arrays and lines', () => {
    expect(read('*2\r\n$4\r\nPING\r\n$0\r\n\r\nrest')).to.deep.equal({ args: ['PING', ''], end: 20 });
    expect(read('x*1\r\n$1\r\n\n\r\n', 1)).to.deep.equal({ args: ['\n'], end: 12 });
    expect(read('  ping   a \r\nrest')).to.deep.equal({ args: ['ping', 'a'], end: 13 });
    expect(read('ping\n')).to.deep.equal({ args: ['ping'], end: 5 });
  });

  it('takes empty arrays and lines for no command, as Redis does', () => {
    for (const empty of ['*0\r\n', '*-1\r\n', '\r\n', '\n'])
      expect(read(empty), empty).to.deep.equal({ args: [], end: empty.length });
  });

  const violations: [what: string, bytes: string, text: string][] = [
    ['a length of 2^31', '*1\r\n$2147483648\r\n', 'invalid bulk length'],
    ['a length above the bound', `*1\r\n$${MAX_ARG_BYTES + 1}\r\n`, 'invalid bulk length'],
    ['more digits than any bound has', '*1\r\n$00000000001', 'invalid bulk length'],
    ['a negative length', '*1\r\n$-1\r\n', 'invalid bulk length'],
    ['a length with a sign', '*+1\r\n', 'invalid multibulk length'],
    ['a length with a leading zero', '*01\r\n', 'invalid multibulk length'],
    ['no length', '*\r\n', 'invalid multibulk length'],
    ['a length below -1', '*-2\r\n', 'invalid multibulk length'],
    ['too many arguments', `*${MAX_ARGS + 1}\r\n`, 'invalid multibulk length'],
    ['2^31 arguments', '*2147483648\r\n', 'invalid multibulk length'],
    ['an array in an array', '*1\r\n*1\r\n', "expected '$', got '*'"],
    ['a line feed without a carriage return', '*1\n$4\r\n', 'invalid multibulk length'],
    ['an argument longer than its length', '*1\r\n$4\r\nPINGPONG', 'must end with CRLF'],
    ['a frame above the bound', `*5\r\n${`$16384\r\n${'a'.repeat(16_384)}\r\n`.repeat(4)}$9\r\n`, 'too big a command'],
    ['a line above the bound', 'a'.repeat(MAX_LINE_BYTES), 'too big inline request'],
    ['a line of too many words', `${'a '.repeat(MAX_ARGS + 1)}\r\n`, 'too many words'],
    ['a handshake of TLS', '\x16\x03\x01\x02', "got '\\x16'"],
    ['a NUL', '\0\r\n', "got '\\x00'"],
    ['a carriage return within a line', 'ping\rping\r\n', 'CR without LF'],
  ];
  for (const [what, bytes, text] of violations) {
    it(`refuses ${what} by the first byte that shows it`, () => {
      expect(broken(bytes)).to.include(text);
    });
  }

  it('reads on at each further byte, and never asks for more bytes than complete the command', () => {
    const whole = Buffer.concat([command('TR.ALLOW', 'a\r\nb', 'LIMIT', 10, 'WINDOW', '1m')]);
    const reader = new FrameReader();
    for (let length = 1; length < whole.length; length += 1) {
      expect(reader.read(whole.subarray(0, length), 0)).to.equal('incomplete');
      expect(reader.needed).to.be.within(length + 1, whole.length);
    }
    expect(reader.read(whole, 0)).to.equal('complete');
  });

  it('gives the same for 20,000 inputs however they are cut, and reads nothing outside of them', () => {
    const arg = fc.oneof(fc.string({ maxLength: 12 }), fc.constantFrom('\r\n', '$4', '*1\r\n', ''));
    const good = fc.array(arg, { maxLength: 5 }).map((args) => command(...args));
    const piece = fc.oneof(
      good,
      fc.constantFrom('*', '$', '\r', '\n', '\r\n', '-1', '0', '2147483648', 'PING\r\n', '*1\r\n', '$3\r\n'),
      fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes)),
    );
    const input = fc
      .array(piece, { minLength: 1, maxLength: 6 })
      .map((pieces) => Buffer.concat(pieces.map((one) => Buffer.from(one))));
    fc.assert(
      fc.property(input, fc.nat(), (bytes, cut) => {
        const one = read(bytes);
        const prefix = bytes.subarray(0, cut % (bytes.length + 1));
        const part = read(prefix);
        // A part is incomplete, or means already what the whole means.
        if (part !== 'incomplete') expect(part).to.deep.equal(one);
        if (typeof one === 'object' && 'end' in one) expect(one.end).to.be.within(1, bytes.length);
        expect(read(Buffer.concat([Buffer.from('zz'), bytes]), 2)).to.deep.equal(
          typeof one === 'object' && 'end' in one ? { ...one, end: one.end + 2 } : one,
        );
      }),
      { numRuns: 20_000, seed: 18 },
    );
  });
});
