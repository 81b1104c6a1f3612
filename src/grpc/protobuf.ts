import { TokenringError } from '../core/error.js';

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

/** Reads the value of a field. @returns false if the field is unknown; it is then skipped */
type ReadField = (field: number, wireType: number, reader: Reader) => boolean;

/**
 * Reads the fields of a message up to `reader.end`. Unknown fields, and known ones of another wire type, are skipped.
 * @throws TokenringError `invalid_request` if the bytes are no message
 */
export function readMessage(reader: Reader, read: ReadField): void {
  while (reader.at < reader.end) {
    const tag = readVarint(reader);
    const field = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (field === 0 || tag > 0xffffffff) throw malformed('a field has no valid number');
    if (!read(field, wireType, reader)) skip(field, wireType, reader, 0);
  }
}

/** Reads a message within the message. */
export function readNested(reader: Reader, read: ReadField): void {
  const { end } = reader;
  reader.end = readEnd(reader);
  readMessage(reader, read);
  reader.end = end;
}

/** @returns the value, exact up to 2^53, or 2^64 at most */
export function readVarint(reader: Reader): number {
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

export const isVarint = (wireType: number): boolean => wireType === VARINT;
export const isBytes = (wireType: number): boolean => wireType === BYTES;

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

/** Collects a message. Fields with their default value are left out, as proto3 demands. */
export class Writer {
  private bytes = Buffer.allocUnsafe(1_024);
  private at = 0;

  /** Begins a message, after room for `prefix` bytes. */
  begin(prefix: number): void {
    this.at = prefix;
  }

  /** @returns a copy of what was written since `begin` */
  end(): Buffer {
    return Buffer.from(this.bytes.subarray(0, this.at));
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
    this.varint(field * 8 + BYTES);
    const start = this.at;
    this.close(start, this.bytes.write(value, start + 1));
  }

  /** @param write writes the fields of the nested message; an empty one is written too */
  nested(field: number, write: (writer: this) => void): void {
    this.reserve(10);
    this.varint(field * 8 + BYTES);
    const start = this.at;
    this.at += 1;
    write(this);
    this.reserve(5);
    this.close(start, this.at - start - 1);
  }

  /** Writes the length at `start`, before `length` bytes. One byte was left for it, which is usually enough. */
  private close(start: number, length: number): void {
    const more = varintBytes(length) - 1;
    if (more > 0) this.bytes.copyWithin(start + 1 + more, start + 1, start + 1 + length);
    this.at = start;
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

  private reserve(more: number): void {
    if (this.at + more <= this.bytes.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.at + more));
    this.bytes.copy(larger, 0, 0, this.at);
    this.bytes = larger;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let left = value; left > 127; left = Math.floor(left / 128)) bytes += 1;
  return bytes;
}
