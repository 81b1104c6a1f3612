import { charCodeAt } from '../../../lib/char-code-at.js';
import { isUtf8 } from 'node:buffer';
import { malformed } from '../wire.js';

const INITIAL_BYTES = 16 * 1024;
/** `clear` frees the memory of a writer that a large message has grown above this size. */
const KEPT_BYTES = 1024 * 1024;
/** The largest whole number on the wire is below 2^67, so it takes ten groups of seven bits. */
const MAX_NUMBER_BYTES = 10;
const MAX_UTF8_PER_UNIT = 3;
/** Above this many characters, one native call is faster than a loop. */
const LOOP_CHARACTERS = 64;

/** Collects the bytes of messages. Successive messages reuse the same memory. */
export class ByteWriter {
  bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  /** Number of bytes written. */
  length = 0;

  /** Starts a new message. */
  clear(): void {
    this.length = 0;
    if (this.bytes.length > KEPT_BYTES) this.bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  }

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
  }

  /** Writes a value from 0 to 255. */
  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length] = value;
    this.length += 1;
  }

  /** Writes a whole number of at least 0 in groups of seven bits, lowest first (unsigned LEB128). */
  whole(value: number): void {
    this.reserve(MAX_NUMBER_BYTES);
    const { bytes } = this;
    let at = this.length;
    let rest = value;
    // Bit operators would cut off a number of more than 31 bits. Division by 128 is exact for every double.
    for (; rest > 0x7fff_ffff; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 0x80;
    for (; rest > 0x7f; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80;
    bytes[at++] = rest;
    this.length = at;
  }

  /** Writes the number of bytes of a string, then its UTF-8. */
  text(value: string): void {
    const { length } = value;
    if (length <= LOOP_CHARACTERS) {
      this.reserve(1 + length);
      const { bytes } = this;
      const start = this.length + 1;
      let i = 0;
      for (; i < length; i += 1) {
        const code = charCodeAt(value, i);
        if (code > 0x7f) break;
        bytes[start + i] = code;
      }
      if (i === length) {
        bytes[this.length] = length;
        this.length = start + length;
        return;
      }
    }
    this.whole(Buffer.byteLength(value));
    this.rawText(value);
  }

  /** Writes the UTF-8 of a string, without the number of its bytes. */
  rawText(value: string): void {
    this.reserve(value.length * MAX_UTF8_PER_UNIT);
    this.length += this.bytes.write(value, this.length);
  }

  /** Writes bytes unchanged. */
  append(more: Uint8Array): void {
    this.reserve(more.length);
    this.bytes.set(more, this.length);
    this.length += more.length;
  }
}

/** Reads the bytes of a `ByteWriter`. Every method that needs more bytes than are left throws MalformedMessage. */
export class ByteReader {
  /** Place of the next byte. */
  at: number;
  readonly bytes: Buffer;

  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  byte(what: string): number {
    const value = this.bytes[this.at];
    if (value === undefined) throw malformed(what, 'a byte more');
    this.at += 1;
    return value;
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

  /** Reads a well-formed string of `minBytes` to `maxBytes` in UTF-8. */
  text(minBytes: number, maxBytes: number, what: string): string {
    const length = this.whole(minBytes, maxBytes, what);
    const { bytes, at: start } = this;
    const end = start + length;
    if (end > bytes.length) throw malformed(what, `${length} bytes of text`);
    this.at = end;
    for (let i = start; i < end; i += 1) {
      if (bytes[i]! > 0x7f) return readUtf8(bytes.subarray(start, end), what);
    }
    return bytes.toString('latin1', start, end);
  }

  /** Reads all bytes that are left. */
  remaining(): Buffer {
    const rest = this.bytes.subarray(this.at);
    this.at = this.bytes.length;
    return rest;
  }

  /** @throws MalformedMessage when bytes are left */
  end(): void {
    if (this.at !== this.bytes.length) throw malformed('message', 'nothing behind it');
  }
}

/** Refuses invalid UTF-8. Decoding would turn it into U+FFFD, which could turn one id into another. */
function readUtf8(bytes: Buffer, what: string): string {
  if (!isUtf8(bytes)) throw malformed(what, 'UTF-8');
  return bytes.toString('utf8');
}
