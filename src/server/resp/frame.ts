/** Bound of the arguments of one command, its name included. `TR.ALLOW` with every option has 18. */
export const MAX_ARGS = 64;
/** Bound of the bytes of one argument. Tokens and reservations are the longest. */
export const MAX_ARG_BYTES = 16 * 1024;
/** Bound of the bytes of one command as an array. */
const MAX_FRAME_BYTES = 64 * 1024;
/** Bound of the bytes of one command as a line. */
export const MAX_LINE_BYTES = 1024;

const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
const DOLLAR = 0x24;
const ASTERISK = 0x2a;
const ZERO = 0x30;
const NINE = 0x39;
const MINUS = 0x2d;
const DELETE = 0x7f;
/** Digits of a length. Each of the bounds has fewer. */
const MAX_DIGITS = 9;

/** Results of `readLength` in place of a length. */
const INCOMPLETE = -1;
const NOT_VALID = -2;

/** `broken`: what the sender violates. Nothing that follows can be read. */
type ReadFrame = 'complete' | 'incomplete' | { readonly broken: string };

/**
 * Reads commands as clients send them: arrays of bulk strings, and lines. RESP2 and RESP3 are equal there
 * (https://redis.io/docs/latest/develop/reference/protocol-spec/). It refuses a command by the first byte that exceeds
 * a bound, so a length that was only announced takes no memory. The fields tell of the command that was read last.
 */
export class FrameReader {
  /** Number of arguments, the name included; 0 for an empty command, which has no answer. */
  count = 0;
  /** The places of the arguments. */
  readonly starts = new Int32Array(MAX_ARGS);
  readonly ends = new Int32Array(MAX_ARGS);
  /** Place behind the command. */
  end = 0;
  /** Whether the command is a line, as people type it, and no array. */
  isLine = false;
  /** Smallest number of bytes, from the beginning of the command, that may complete it. */
  needed = 0;
  /** Place behind the length that was read last. */
  private lengthEnd = 0;

  /** Reads the command at `at`. Copies nothing. */
  read(bytes: Buffer, at: number): ReadFrame {
    this.isLine = bytes[at] !== ASTERISK;
    return this.isLine ? this.readLine(bytes, at) : this.readArray(bytes, at);
  }

  /** Reads digits and CRLF. Like Redis, it takes no sign, no leading zero, and no space. */
  private readLength(bytes: Buffer, at: number): number {
    let value = 0;
    let next = at;
    for (; next < bytes.length; next += 1) {
      const byte = bytes[next]!;
      if (byte < ZERO || byte > NINE) break;
      if (next - at >= MAX_DIGITS || (next > at && value === 0)) return NOT_VALID;
      value = 10 * value + byte - ZERO;
    }
    if (next === bytes.length) return INCOMPLETE;
    if (next === at || bytes[next] !== CR) return NOT_VALID;
    if (next + 1 === bytes.length) return INCOMPLETE;
    if (bytes[next + 1] !== LF) return NOT_VALID;
    this.lengthEnd = next + 2;
    return value;
  }

  private incomplete(needed: number): ReadFrame {
    this.needed = needed;
    return 'incomplete';
  }

  private readArray(bytes: Buffer, at: number): ReadFrame {
    // A null array is an empty command, as in Redis.
    const isNull = bytes[at + 1] === MINUS;
    const count = this.readLength(bytes, isNull ? at + 2 : at + 1);
    if (count === INCOMPLETE) return this.incomplete(bytes.length - at + 1);
    if (count === NOT_VALID || count > MAX_ARGS || (isNull && count !== 1))
      return { broken: `invalid multibulk length; use at most ${MAX_ARGS}` };
    this.count = isNull ? 0 : count;
    let next = this.lengthEnd;
    for (let i = 0; i < this.count; i += 1) {
      if (next >= bytes.length) return this.incomplete(next - at + 1);
      if (bytes[next] !== DOLLAR) return { broken: `expected '$', got '${shown(bytes[next]!)}'` };
      const length = this.readLength(bytes, next + 1);
      if (length === INCOMPLETE) return this.incomplete(bytes.length - at + 1);
      if (length === NOT_VALID || length > MAX_ARG_BYTES)
        return { broken: `invalid bulk length; use at most ${MAX_ARG_BYTES}` };
      const end = this.lengthEnd + length;
      if (end + 2 - at > MAX_FRAME_BYTES) return { broken: `too big a command; use at most ${MAX_FRAME_BYTES} bytes` };
      if (end + 2 > bytes.length) return this.incomplete(end + 2 - at);
      if (bytes[end] !== CR || bytes[end + 1] !== LF) return { broken: 'a bulk string must end with CRLF' };
      this.starts[i] = this.lengthEnd;
      this.ends[i] = end;
      next = end + 2;
    }
    this.end = next;
    return 'complete';
  }

  /** Reads a line of words. Quotes have no meaning: none of the commands needs a space in an argument. */
  private readLine(bytes: Buffer, at: number): ReadFrame {
    const last = Math.min(bytes.length, at + MAX_LINE_BYTES);
    let next = at;
    let start = -1;
    this.count = 0;
    for (; next < last; next += 1) {
      const byte = bytes[next]!;
      if (byte > SPACE && byte < DELETE) {
        if (start < 0) start = next;
        continue;
      }
      if (start >= 0) {
        if (this.count === MAX_ARGS) return { broken: `too many words; use at most ${MAX_ARGS}` };
        this.starts[this.count] = start;
        this.ends[this.count] = next;
        this.count += 1;
        start = -1;
      }
      if (byte === LF) break;
      if (byte === CR && next + 1 < bytes.length && bytes[next + 1] !== LF) return { broken: 'CR without LF' };
      if (byte !== SPACE && byte !== CR) return { broken: `expected a command, got '${shown(byte)}'` };
    }
    if (next === at + MAX_LINE_BYTES) return { broken: `too big inline request; use at most ${MAX_LINE_BYTES} bytes` };
    if (next === bytes.length) return this.incomplete(bytes.length - at + 1);
    this.end = next + 1;
    return 'complete';
  }
}

function shown(byte: number): string {
  return byte >= SPACE && byte < DELETE ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
}
