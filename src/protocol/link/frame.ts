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
export class FrameReader {
  /** The bytes from the current frame on, beginning at `at`, and the pieces that came after them. */
  private bytes: Buffer = Buffer.alloc(0);
  private at = 0;
  private parts: Buffer[] = [];
  /** Bytes of all of them, and of the current frame as far as its head is known. */
  private held = 0;
  private needed = HEAD_BYTES;
  /** Number of the frame that `next` returned last. */
  number = 0;

  /** @param maxBytes bound of a payload; after a larger one, the stream cannot be read on */
  constructor(private readonly maxBytes: number) {}

  /** Bytes of frames that have arrived in part; 0 between two frames. */
  get heldBytes(): number {
    return this.held;
  }

  /** Adds the next bytes of the stream. To be called once `next` has found no further frame. */
  push(more: Buffer): void {
    // A part of a chunk would keep all of the chunk in memory until the frame is there.
    if (this.held > 0) this.parts.push(Buffer.from(more));
    else {
      this.bytes = more;
      this.at = 0;
    }
    this.held += more.length;
  }

  /** @returns the payload of the next frame that has arrived in full */
  next(): Buffer | 'too_large' | undefined {
    if (this.held < this.needed) return undefined;
    this.join();
    if (this.needed === HEAD_BYTES) {
      const length = this.bytes.readUInt32LE(this.at);
      if (length > this.maxBytes) return 'too_large';
      this.needed = HEAD_BYTES + length;
      if (this.held < this.needed) return undefined;
    }
    this.number = this.bytes.readUInt32LE(this.at + 4);
    const payload = this.bytes.subarray(this.at + HEAD_BYTES, this.at + this.needed);
    this.at += this.needed;
    this.held -= this.needed;
    this.needed = HEAD_BYTES;
    return payload;
  }

  private join(): void {
    if (this.parts.length === 0) return;
    this.bytes = Buffer.concat([this.bytes.subarray(this.at), ...this.parts]);
    this.at = 0;
    this.parts = [];
  }
}
