import { charCodeAt } from '../../lib/char-code-at.js';
import { TokenringError } from '../../lib/error.js';

/**
 * Reads and writes the wire format of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/), as far as
 * the messages of this folder need it.
 */

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const GROUP = 3;
const END_OF_GROUP = 4;
const FIXED32 = 5;
/** Depth of groups within groups that are skipped. */
const MAX_DEPTH = 32;

/** A place in a message. The hot path makes one reader for each message and moves it. */
export interface Reader {
  readonly bytes: Buffer;
  at: number;
  /** End of the message that is being read. */
  end: number;
}

/** The tag of a varint field: its number and its wire type, as the wire has them. */
export const varintTag = (field: number): number => field * 8 + VARINT;
/** The tag of a field of bytes: a text, or a nested message. */
export const bytesTag = (field: number): number => field * 8 + BYTES;

/**
 * Reads the tag of the next field. A known field of another wire type has another tag, so it is skipped as unknown.
 * @throws TokenringError `invalid_request` if it is none
 */
export function readTag(reader: Reader): number {
  const tag = readVarint(reader);
  if (tag < 8 || tag > 0xffffffff) throw malformed('a field has no valid number');
  return tag;
}

/** Skips the value of a field. @throws TokenringError `invalid_request` if it is malformed */
export function skipField(tag: number, reader: Reader): void {
  skip(Math.floor(tag / 8), tag % 8, reader, 0);
}

/** Enters a nested message: `reader.end` is then its end. @returns the end to set again behind it */
export function enterMessage(reader: Reader): number {
  const { end } = reader;
  reader.end = readEnd(reader);
  return end;
}

/** @returns the value, exact up to 2^53, or 2^64 at most */
export function readVarint(reader: Reader): number {
  const { bytes, at } = reader;
  const first = at < reader.end ? bytes[at]! : 0x80;
  if (first >= 0x80) return readLongVarint(reader);
  reader.at = at + 1;
  return first;
}

function readLongVarint(reader: Reader): number {
  const { bytes } = reader;
  let value = 0;
  let factor = 1;
  for (let i = 0; i < 10; i += 1) {
    if (reader.at >= reader.end) throw malformed('it ends within a number');
    const byte = bytes[reader.at]!;
    reader.at += 1;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return value;
    factor *= 128;
  }
  throw malformed('a number has more than 10 bytes');
}

/** Reads a uint32 or an enum. As parsers of Protocol Buffers do, it keeps the lower 32 bits. */
export function readUint32(reader: Reader): number {
  const start = reader.at;
  const value = readVarint(reader);
  if (value <= 0xffffffff) return value;
  // Only the first five bytes hold the lower 32 bits.
  let low = 0;
  for (let i = 0; i < 5; i += 1) low += (reader.bytes[start + i]! & 0x7f) * 2 ** (7 * i);
  return low % 2 ** 32;
}

/**
 * Reads a text. Bytes that are not UTF-8 become U+FFFD, where parsers of Protocol Buffers refuse the message: a caller
 * of Envoy may choose the bytes of a header, and an error lets its request pass an Envoy that fails open.
 */
export function readText(reader: Reader): string {
  const end = readEnd(reader);
  const text = reader.bytes.toString('utf8', reader.at, end);
  reader.at = end;
  return text;
}

function readEnd(reader: Reader): number {
  const length = readVarint(reader);
  const end = reader.at + length;
  if (end > reader.end) throw malformed('a field is longer than its message');
  return end;
}

function skip(field: number, wireType: number, reader: Reader, depth: number): void {
  switch (wireType) {
    case VARINT:
      readVarint(reader);
      return;
    case FIXED64:
      return skipBytes(reader, 8);
    case BYTES:
      reader.at = readEnd(reader);
      return;
    case GROUP:
      return skipGroup(field, reader, depth + 1);
    case FIXED32:
      return skipBytes(reader, 4);
    default:
      throw malformed('a field has no valid type');
  }
}

function skipBytes(reader: Reader, bytes: number): void {
  reader.at += bytes;
  if (reader.at > reader.end) throw malformed('it ends within a field');
}

function skipGroup(group: number, reader: Reader, depth: number): void {
  if (depth > MAX_DEPTH) throw malformed('its groups are too deep');
  while (reader.at < reader.end) {
    const tag = readVarint(reader);
    const field = Math.floor(tag / 8);
    if (tag % 8 === END_OF_GROUP) {
      if (field !== group) break;
      return;
    }
    skip(field, tag % 8, reader, depth);
  }
  throw malformed('a group does not end');
}

function malformed(detail: string): TokenringError {
  return new TokenringError('invalid_request', { expected: 'a message of Protocol Buffers', detail });
}

/** Bytes that messages share until they are full. A message that waits for a slow reader keeps all of them. */
const SLAB_BYTES = 8 * 1_024;
/** Room that a message needs at its start, beside its prefix. */
const LEAST_BYTES = 256;
const SHORT_TEXT = 64;

/** Collects messages, one after the other. Fields with their default value are left out, as proto3 demands. */
export class Writer {
  private bytes = Buffer.allocUnsafeSlow(SLAB_BYTES);
  private start = 0;
  private at = 0;

  /** Begins a message, after room for `prefix` bytes. */
  begin(prefix: number): void {
    this.start = this.at;
    this.reserve(prefix + LEAST_BYTES);
    this.at += prefix;
  }

  /** @returns what was written since `begin`, with the prefix. The bytes stay as they are. */
  end(): Buffer {
    return this.bytes.subarray(this.start, this.at);
  }

  uint(field: number, value: number): void {
    if (value === 0) return;
    this.reserve(15);
    this.varint(field * 8 + VARINT);
    this.varint(value);
  }

  text(field: number, value: string): void {
    if (value === '') return;
    // A UTF-16 unit takes at most 3 bytes.
    this.reserve(10 + 3 * value.length);
    const place = this.open(field);
    if (!this.ascii(value)) this.at += this.bytes.write(value, this.at);
    this.close(place);
  }

  /** Writes a short text of ASCII, in less time than a call of `write` takes. @returns false if it is none */
  private ascii(value: string): boolean {
    const { bytes, at } = this;
    const { length } = value;
    if (length > SHORT_TEXT) return false;
    for (let i = 0; i < length; i += 1) {
      const code = charCodeAt(value, i);
      if (code > 127) return false;
      bytes[at + i] = code;
    }
    this.at = at + length;
    return true;
  }

  /** Begins a nested message; an empty one is written too. @returns its place, for `close` */
  open(field: number): number {
    this.reserve(10);
    this.varint(field * 8 + BYTES);
    this.at += 1;
    return this.at - this.start;
  }

  /** Ends the text or nested message that began at `place`. One byte was left for its length, usually enough. */
  close(place: number): void {
    this.reserve(5);
    const begin = this.start + place;
    const length = this.at - begin;
    const more = varintBytes(length) - 1;
    if (more > 0) this.bytes.copyWithin(begin + more, begin, this.at);
    this.at = begin - 1;
    this.varint(length);
    this.at += length;
  }

  private varint(value: number): void {
    let left = value;
    while (left > 127) {
      this.bytes[this.at] = (left % 128) + 128;
      this.at += 1;
      left = Math.floor(left / 128);
    }
    this.bytes[this.at] = left;
    this.at += 1;
  }

  /** Makes room for `more` bytes, in a new slab if this one is full. */
  private reserve(more: number): void {
    if (this.at + more <= this.bytes.length) return;
    const written = this.at - this.start;
    const larger = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, 2 * (written + more)));
    this.bytes.copy(larger, 0, this.start, this.at);
    this.bytes = larger;
    this.start = 0;
    this.at = written;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let left = value; left > 127; left = Math.floor(left / 128)) bytes += 1;
  return bytes;
}
