import type { ByteWriter } from '../../lib/byte-writer.js';

/*
 * A frame is one message, or one answer:
 *
 *     length of the payload (4 bytes, little-endian) | number (4 bytes) | payload
 *
 * The sender numbers its messages from 1, and an answer has the number of its message. A frame may span records, all but
 * the last of which are full.
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

/** Finds the frames in the bytes of a stream. */
interface FrameReader {
  /** Adds the next bytes of the stream. To be called once `next` has found no further frame. */
  push(bytes: Buffer): void;
  /** @returns the payload of the next frame that has arrived in full, whose number is `number` */
  next(): Buffer | 'too_large' | undefined;
  /** Number of the frame that `next` returned last. */
  number(): number;
  /** Bytes of frames that have arrived in part; 0 between two frames. */
  heldBytes(): number;
}

/** @param maxBytes bound of a payload; after a larger one, the stream cannot be read on */
export function createFrameReader(maxBytes: number): FrameReader {
  /** The bytes from the current frame on, beginning at `at`, and the pieces that came after them. */
  let bytes: Buffer = Buffer.alloc(0);
  let at = 0;
  let parts: Buffer[] = [];
  /** Bytes of all of them, and of the current frame as far as its head is known. */
  let held = 0;
  let needed = HEAD_BYTES;
  let number = 0;

  function join(): void {
    if (parts.length === 0) return;
    bytes = Buffer.concat([bytes.subarray(at), ...parts]);
    at = 0;
    parts = [];
  }

  return {
    push(more) {
      // A part of a chunk would keep all of the chunk in memory until the frame is there.
      if (held > 0) parts.push(Buffer.from(more));
      else [bytes, at] = [more, 0];
      held += more.length;
    },
    next() {
      if (held < needed) return undefined;
      join();
      if (needed === HEAD_BYTES) {
        const length = bytes.readUInt32LE(at);
        if (length > maxBytes) return 'too_large';
        needed = HEAD_BYTES + length;
        if (held < needed) return undefined;
      }
      number = bytes.readUInt32LE(at + 4);
      const payload = bytes.subarray(at + HEAD_BYTES, at + needed);
      at += needed;
      held -= needed;
      needed = HEAD_BYTES;
      return payload;
    },
    number: () => number,
    heldBytes: () => held,
  };
}
