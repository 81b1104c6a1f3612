import { ByteReader, malformed, MalformedMessage } from '../../lib/byte-reader.js';
import { ByteWriter } from '../../lib/byte-writer.js';
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

/** The tag of a varint field: its number and its wire type, as the wire has them. */
export const varintTag = (field: number): number => field * 8 + VARINT;
/** The tag of a field of bytes: a text, or a nested message. */
export const bytesTag = (field: number): number => field * 8 + BYTES;

/** Reads a message. @throws TokenringError `invalid_request` where `read` throws MalformedMessage */
export function readMessage<T>(bytes: Buffer, read: (from: ByteReader) => T): T {
  try {
    return read(new ByteReader(bytes));
  } catch (error) {
    if (!(error instanceof MalformedMessage)) throw error;
    throw new TokenringError('invalid_request', { expected: 'a message of Protocol Buffers', detail: error.message });
  }
}

/** Reads the tag of the next field. A known field of another wire type has another tag, so it is skipped as unknown. */
export function readTag(from: ByteReader): number {
  return from.whole(8, 0xffff_ffff, 'a tag');
}

/** Skips the value of a field. */
export function skipField(tag: number, from: ByteReader): void {
  skip(Math.floor(tag / 8), tag % 8, from, 0);
}

/** Enters a nested message: `from.end` is then its end. @returns the end to set again behind it */
export function enterMessage(from: ByteReader): number {
  const { end } = from;
  from.end = readEnd(from);
  return end;
}

/** @returns the value, exact up to 2^53, or 2^64 at most */
export function readVarint(from: ByteReader): number {
  return from.whole(0, Infinity, 'a number');
}

/** Reads a uint32 or an enum. As parsers of Protocol Buffers do, it keeps the lower 32 bits. */
export function readUint32(from: ByteReader): number {
  const start = from.at;
  const value = readVarint(from);
  if (value <= 0xffff_ffff) return value;
  // Only the first five bytes hold the lower 32 bits.
  let low = 0;
  for (let i = 0; i < 5; i += 1) low += (from.bytes[start + i]! & 0x7f) * 2 ** (7 * i);
  return low % 2 ** 32;
}

/**
 * Reads a text. Bytes that are not UTF-8 become U+FFFD, where parsers of Protocol Buffers refuse the message: a caller
 * of Envoy may choose the bytes of a header, and an error lets its request pass an Envoy that fails open.
 */
export function readText(from: ByteReader): string {
  const end = readEnd(from);
  const text = from.bytes.toString('utf8', from.at, end);
  from.at = end;
  return text;
}

function readEnd(from: ByteReader): number {
  const length = from.whole(0, Infinity, 'a length');
  if (length > from.left) throw malformed('a field', `at most ${from.left} bytes`);
  return from.at + length;
}

function skip(field: number, wireType: number, from: ByteReader, depth: number): void {
  switch (wireType) {
    case VARINT:
      readVarint(from);
      return;
    case FIXED64:
      from.skip(8, 'a field');
      return;
    case BYTES:
      from.at = readEnd(from);
      return;
    case GROUP:
      return skipGroup(field, from, depth + 1);
    case FIXED32:
      from.skip(4, 'a field');
      return;
    default:
      throw malformed('a field', 'a known type');
  }
}

function skipGroup(group: number, from: ByteReader, depth: number): void {
  if (depth > MAX_DEPTH) throw malformed('groups', `at most ${MAX_DEPTH} in each other`);
  while (from.left > 0) {
    const tag = readVarint(from);
    const field = Math.floor(tag / 8);
    if (tag % 8 === END_OF_GROUP) {
      if (field !== group) break;
      return;
    }
    skip(field, tag % 8, from, depth);
  }
  throw malformed('a group', 'an end');
}

/** Writes messages, one after the other. Fields with their default value are left out, as proto3 demands. */
export class ProtobufWriter {
  private readonly out = new ByteWriter();

  /** Begins a message, after room for `prefix` bytes. */
  begin(prefix: number): void {
    this.out.clear();
    this.out.reserve(prefix);
    this.out.length += prefix;
  }

  /** @returns what was written since `begin`, with the prefix, in memory of its own */
  end(): Buffer {
    return this.out.copy();
  }

  uint(field: number, value: number): void {
    if (value === 0) return;
    this.out.whole(varintTag(field));
    this.out.whole(value);
  }

  text(field: number, value: string): void {
    if (value === '') return;
    this.out.whole(bytesTag(field));
    this.out.text(value);
  }

  /** Begins a nested message; an empty one is written too. @returns its place, for `close` */
  open(field: number): number {
    this.out.whole(bytesTag(field));
    this.out.byte(0);
    return this.out.length;
  }

  /** Ends the nested message that began at `place`. One byte was left for its length, usually enough. */
  close(place: number): void {
    const { out } = this;
    const length = out.length - place;
    let more = 0;
    for (let rest = length; rest > 127; rest = Math.floor(rest / 128)) more += 1;
    if (more > 0) {
      out.reserve(more);
      out.bytes.copyWithin(place + more, place, out.length);
    }
    out.length = place - 1;
    out.whole(length);
    out.length += length;
  }
}
