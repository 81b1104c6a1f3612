import type { ByteWriter } from '../wire/binary/bytes.js';

/*
 * A frame is one message, or one answer:
 *
 *     length of the payload (4 bytes, little-endian) | number (4 bytes) | payload
 *
 * The sender numbers its messages from 1, and an answer has the number of its message. A frame may span records.
 */

const HEAD_BYTES = 8;

/** Adds a frame whose payload `write` makes from `value`. @returns the bytes of the payload */
export function writeFrame<T>(
  out: ByteWriter,
  number: number,
  write: (out: ByteWriter, value: T) => void,
  value: T,
): number {
  const start = out.length;
  out.reserve(HEAD_BYTES);
  out.length += HEAD_BYTES;
  write(out, value);
  const length = out.length - start - HEAD_BYTES;
  out.bytes.writeUInt32LE(length, start);
  out.bytes.writeUInt32LE(number, start + 4);
  return length;
}

/** Takes bytes of the stream. @returns `false` when a frame is too large; the connection cannot be used any more */
type TakeBytes = (bytes: Buffer) => boolean;

/**
 * Hands out each frame once it has arrived in full.
 * @param take gets a payload that is valid only during the call; `false` stops
 */
export function createFrameReader(maxBytes: number, take: (number: number, payload: Buffer) => boolean): TakeBytes {
  /** The pieces of the current frame, their bytes, and the frame's length as far as its head is known. */
  let parts: Buffer[] = [];
  let held = 0;
  let needed = HEAD_BYTES;

  return (more) => {
    let bytes = more;
    if (held > 0) {
      // The bytes of a record are valid only during the call.
      parts.push(Buffer.from(more));
      held += more.length;
      if (held < needed) return true;
      bytes = Buffer.concat(parts);
    }
    let at = 0;
    needed = HEAD_BYTES;
    while (bytes.length - at >= HEAD_BYTES) {
      const length = bytes.readUInt32LE(at);
      if (length > maxBytes) return false;
      needed = HEAD_BYTES + length;
      if (bytes.length - at < needed) break;
      if (!take(bytes.readUInt32LE(at + 4), bytes.subarray(at + HEAD_BYTES, at + needed))) return true;
      at += needed;
      needed = HEAD_BYTES;
    }
    held = bytes.length - at;
    parts = held === 0 ? [] : [Buffer.from(bytes.subarray(at))];
    return true;
  };
}
