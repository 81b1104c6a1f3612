import { charCodeAt } from '../../lib/char-code-at.js';
import { createRecordMac, TAG_BYTES } from './record-mac.js';

/*
 * A connection carries a stream of bytes each way in records, as TLS does:
 *
 *     length (4 bytes, little-endian) | that many bytes | tag (16 bytes, if the two ends share a secret)
 *
 * The tag covers the number of the record, its length, and its bytes. So nobody on the path can change, drop, repeat,
 * reorder, or add a record unnoticed. All frames that one turn of the event loop writes share a record, and its tag. A
 * record ends where a frame ends, unless it is full: each costs a tag, so a frame may not come in crumbs.
 */

const LENGTH_BYTES = 4;
/** Bytes of one record without length and tag. A tag over more bytes would block the event loop for longer. */
export const MAX_BODY_BYTES = 64 * 1024;

/** Puts bytes into records. */
type Seal = (bytes: Buffer, length: number) => Buffer;

/** @param key of 32 bytes; without it records have no tag */
export function createSeal(key: Buffer | undefined): Seal {
  const mac = key && createRecordMac(key, LENGTH_BYTES + MAX_BODY_BYTES);
  const tagBytes = mac === undefined ? 0 : TAG_BYTES;
  let sequence = 0;
  return (bytes, length) => {
    const count = Math.ceil(length / MAX_BODY_BYTES);
    const records = Buffer.allocUnsafe(length + count * (LENGTH_BYTES + tagBytes));
    let at = 0;
    for (let from = 0; from < length; from += MAX_BODY_BYTES) {
      const to = Math.min(length, from + MAX_BODY_BYTES);
      records.writeUInt32LE(to - from, at);
      const end = at + LENGTH_BYTES + bytes.copy(records, at + LENGTH_BYTES, from, to);
      if (mac !== undefined) records.write(mac(sequence, records, at, end), end, 'latin1');
      sequence += 1;
      at = end + tagBytes;
    }
    return records;
  };
}

type OpenFailure = 'bad_record' | 'bad_tag';

/** Finds the records in arrived bytes. */
interface RecordReader {
  /** Adds arrived bytes: pieces of any size. */
  push(chunk: Buffer): void;
  /** @returns the bytes of the next record, whose tag is right; or a failure after which nothing can be read on */
  next(): Buffer | OpenFailure | undefined;
}

/** @param key of 32 bytes; without it records have no tag */
export function createRecordReader(key: Buffer | undefined): RecordReader {
  const mac = key && createRecordMac(key, LENGTH_BYTES + MAX_BODY_BYTES);
  const tagBytes = mac === undefined ? 0 : TAG_BYTES;
  let sequence = 0;
  let bytes: Buffer = Buffer.alloc(0);
  let at = 0;
  return {
    push(chunk) {
      bytes = at < bytes.length ? Buffer.concat([bytes.subarray(at), chunk]) : chunk;
      at = 0;
    },
    next() {
      if (bytes.length - at < LENGTH_BYTES) return undefined;
      const length = bytes.readUInt32LE(at);
      if (length === 0 || length > MAX_BODY_BYTES) return 'bad_record';
      const start = at + LENGTH_BYTES;
      const end = start + length;
      if (bytes.length < end + tagBytes) return undefined;
      if (mac !== undefined && !isTag(mac(sequence, bytes, at, end), bytes, end)) return 'bad_tag';
      sequence += 1;
      at = end + tagBytes;
      return bytes.subarray(start, end);
    },
  };
}

/** Compares in a time that does not reveal where the two differ. */
function isTag(tag: string, bytes: Buffer, at: number): boolean {
  let difference = 0;
  for (let i = 0; i < TAG_BYTES; i += 1) difference |= charCodeAt(tag, i) ^ bytes[at + i]!;
  return difference === 0;
}
