import { charCodeAt } from './text.js';

const INITIAL_BYTES = 16 * 1024;
/** `clear` frees the memory of a writer that a large message has grown above this size. */
const KEPT_BYTES = 1024 * 1024;
/** The largest whole number that is written is below 2^67, so it takes ten groups of seven bits. */
const MAX_NUMBER_BYTES = 10;
const MAX_UTF8_PER_UNIT = 3;
/** Above this many characters, one native call is faster than a loop. */
const LOOP_CHARACTERS = 64;
const ZERO = 0x30;
const MAX_INT32 = 0x7fff_ffff;

/** A constant text, as words that are written one by one. Zeros fill the last word. */
export interface Fragment {
  readonly words: Int32Array;
  readonly length: number;
}

export function fragmentOf(ascii: string): Fragment {
  const { length } = ascii;
  const bytes = Buffer.alloc(4 * Math.ceil(length / 4));
  bytes.write(ascii, 'latin1');
  return { words: Int32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i)), length };
}

/**
 * Collects bytes. Successive messages reuse the same memory. Numbers and texts of the binary format make their own room;
 * the caller of `fragment`, `decimal`, and `ascii`, which write an answer in many small parts, makes room for all of them
 * with one `reserve`.
 */
export class ByteWriter {
  bytes: Buffer;
  /** Place of the next byte. */
  length: number;
  private view: DataView;

  /** @param headBytes room in front for a head that is known only at the end; see `withHead` */
  constructor(
    private readonly headBytes = 0,
    initialBytes = INITIAL_BYTES,
  ) {
    this.bytes = Buffer.allocUnsafeSlow(initialBytes);
    this.view = viewOf(this.bytes);
    this.length = headBytes;
  }

  /** Starts a new message. */
  clear(): void {
    this.length = this.headBytes;
    if (this.bytes.length > KEPT_BYTES) this.use(Buffer.allocUnsafeSlow(INITIAL_BYTES));
  }

  /** Number of bytes written, without a head. */
  get size(): number {
    return this.length - this.headBytes;
  }

  /** The bytes written so far, in the memory of this writer. */
  written(): Buffer {
    return this.bytes.subarray(this.headBytes, this.length);
  }

  /** A copy of the bytes written so far. */
  copy(): Buffer {
    return Buffer.from(this.written());
  }

  /** @param head in ASCII @returns it and the bytes written, in the memory of this writer if there is room for it */
  withHead(head: string): Buffer {
    const start = this.headBytes - head.length;
    if (start < 0) return Buffer.concat([Buffer.from(head, 'latin1'), this.written()]);
    this.bytes.write(head, start, 'latin1');
    return this.bytes.subarray(start, this.length);
  }

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length));
    this.bytes.copy(larger, 0, 0, this.length);
    this.use(larger);
  }

  private use(memory: Buffer): void {
    this.bytes = memory;
    this.view = viewOf(memory);
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
    for (; rest > MAX_INT32; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 0x80;
    for (; rest > 0x7f; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80;
    bytes[at++] = rest;
    this.length = at;
  }

  /** Writes a number in 8 bytes, lowest first (IEEE 754). */
  double(value: number): void {
    this.reserve(8);
    this.view.setFloat64(this.length, value, true);
    this.length += 8;
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
    this.utf8(value);
  }

  /** Writes the UTF-8 of a string, without the number of its bytes. */
  utf8(value: string): void {
    this.reserve(value.length * MAX_UTF8_PER_UNIT);
    this.length += this.bytes.write(value, this.length);
  }

  /** Writes bytes unchanged. */
  append(more: Uint8Array): void {
    this.reserve(more.length);
    this.bytes.set(more, this.length);
    this.length += more.length;
  }

  /** Writes a constant text. Up to three bytes behind it are overwritten, so the caller reserves them too. */
  fragment({ words, length }: Fragment): void {
    const { view, length: at } = this;
    for (let i = 0; i < words.length; i += 1) view.setInt32(at + 4 * i, words[i]!, true);
    this.length = at + length;
  }

  /** Writes a text of ASCII. */
  ascii(text: string): void {
    this.length += this.bytes.write(text, this.length, 'latin1');
  }

  /** Writes a whole number of at least 0 in decimal digits. */
  decimal(value: number): void {
    if (value > MAX_INT32) return this.ascii(String(value));
    const { bytes } = this;
    let digits = 1;
    for (let bound = 10; value >= bound; bound *= 10) digits += 1;
    let rest = value | 0;
    for (let at = this.length + digits - 1; at >= this.length; at -= 1) {
      const tens = (rest / 10) | 0;
      bytes[at] = ZERO + rest - 10 * tens;
      rest = tens;
    }
    this.length += digits;
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
