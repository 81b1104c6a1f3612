import { isUtf8 } from 'node:buffer';

const MAX_NUMBER_BYTES = 10;

/** Thrown when bytes from outside have a wrong shape, type, or range. Nothing of the message has been used. */
export class MalformedMessage extends Error {
  override readonly name = 'MalformedMessage';
}

export function malformed(what: string, expected: string): MalformedMessage {
  return new MalformedMessage(`${what}: expected ${expected}`);
}

/** Reads the bytes of a `ByteWriter`. Every method throws MalformedMessage if the bytes have no such value. */
export class ByteReader {
  constructor(
    readonly bytes: Buffer,
    /** Place of the next byte. */
    public at = 0,
    /** Place behind the last byte. A reader of nested messages sets it. */
    public end = bytes.length,
  ) {}

  /** Bytes that are left. */
  get left(): number {
    return this.end - this.at;
  }

  byte(what: string): number {
    const { at } = this;
    if (at >= this.end) throw malformed(what, 'a byte more');
    this.at = at + 1;
    return this.bytes[at]!;
  }

  /** Reads flags, of which `known` are all that there are. */
  flags(known: number, what: string): number {
    const flags = this.byte(what);
    if ((flags & ~known) !== 0) throw malformed(what, `no bits but ${known}`);
    return flags;
  }

  whole(min: number, max: number, what: string): number {
    let value = this.byte(what);
    if (value > 0x7f) value = this.rest(value & 0x7f, what);
    if (value >= min && value <= max) return value;
    throw malformed(what, `a whole number, ${min} to ${max}`);
  }

  private rest(lowest: number, what: string): number {
    let value = lowest;
    let scale = 128;
    for (let i = 1; i < MAX_NUMBER_BYTES; i += 1, scale *= 128) {
      const byte = this.byte(what);
      value += (byte & 0x7f) * scale;
      if (byte <= 0x7f) return value;
    }
    throw malformed(what, `a number of at most ${MAX_NUMBER_BYTES} bytes`);
  }

  /** Reads a number from `min` to `max`. */
  double(min: number, max: number, what: string): number {
    const start = this.skip(8, what);
    const value = this.bytes.readDoubleLE(start);
    if (value >= min && value <= max) return value;
    throw malformed(what, `${min} to ${max}`);
  }

  /** Reads a well-formed string of `minBytes` to `maxBytes` in UTF-8. */
  text(minBytes: number, maxBytes: number, what: string): string {
    const start = this.skip(this.whole(minBytes, maxBytes, what), what);
    const { bytes, at: end } = this;
    for (let i = start; i < end; i += 1) {
      if (bytes[i]! <= 0x7f) continue;
      requireUtf8(bytes.subarray(start, end), what);
      return bytes.toString('utf8', start, end);
    }
    return bytes.toString('latin1', start, end);
  }

  /** Reads past a well-formed string of `minBytes` to `maxBytes` in UTF-8. @returns its first place; `at` is behind it */
  skipText(minBytes: number, maxBytes: number, what: string): number {
    const start = this.skip(this.whole(minBytes, maxBytes, what), what);
    const { bytes, at: end } = this;
    for (let i = start; i < end; i += 1) {
      if (bytes[i]! <= 0x7f) continue;
      requireUtf8(bytes.subarray(start, end), what);
      break;
    }
    return start;
  }

  /** Reads past `count` bytes. @returns the place of the first */
  skip(count: number, what: string): number {
    const start = this.at;
    if (count > this.end - start) throw malformed(what, `${count} bytes`);
    this.at = start + count;
    return start;
  }

  /** Reads all bytes that are left. */
  remaining(): Buffer {
    const start = this.at;
    this.at = this.end;
    return this.bytes.subarray(start, this.end);
  }

  /** Requires that no byte is left. */
  finish(): void {
    if (this.at !== this.end) throw malformed('message', 'nothing behind it');
  }
}

/** Refuses invalid UTF-8. Decoding would turn it into U+FFFD, which could turn one id into another. */
function requireUtf8(bytes: Buffer, what: string): void {
  if (!isUtf8(bytes)) throw malformed(what, 'UTF-8');
}
