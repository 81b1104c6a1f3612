import { createRecordMac, TAG_BYTES } from './record-mac.js';

/*
 * A connection carries a stream of bytes each way in records, as TLS does:
 *
 *     length (4 bytes, little-endian) | that many bytes | tag (16 bytes, if the two ends share a secret)
 *
 * The tag covers the number of the record, its length, and its bytes. So nobody on the path can change, drop, repeat,
 * reorder, or add a record unnoticed. All frames that one turn of the event loop writes share a record, and its tag.
 */

const LENGTH_BYTES = 4;
/** Bytes of one record without length and tag. A tag over more bytes would block the event loop for longer. */
const MAX_BODY_BYTES = 64 * 1024;

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

/**
 * Takes arrived bytes in pieces of any size, and hands out the bytes of each record once its tag is verified.
 * @returns a failure after which the connection cannot be used
 */
export type Open = (chunk: Buffer) => OpenFailure | undefined;

/** @param take gets bytes that are valid only during the call; `false` stops */
export function createOpen(key: Buffer | undefined, take: (bytes: Buffer) => boolean): Open {
  const mac = key && createRecordMac(key, LENGTH_BYTES + MAX_BODY_BYTES);
  const tagBytes = mac === undefined ? 0 : TAG_BYTES;
  let sequence = 0;
  let rest: Buffer | undefined;
  return (chunk) => {
    const bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
    rest = undefined;
    let at = 0;
    while (bytes.length - at >= LENGTH_BYTES) {
      const length = bytes.readUInt32LE(at);
      if (length === 0 || length > MAX_BODY_BYTES) return 'bad_record';
      const end = at + LENGTH_BYTES + length;
      if (bytes.length < end + tagBytes) break;
      if (mac !== undefined && !isTag(mac(sequence, bytes, at, end), bytes, end)) return 'bad_tag';
      sequence += 1;
      if (!take(bytes.subarray(at + LENGTH_BYTES, end))) return undefined;
      at = end + tagBytes;
    }
    if (at < bytes.length) rest = bytes.subarray(at);
    return undefined;
  };
}

/** Compares in a time that does not reveal where the two differ. */
function isTag(tag: string, bytes: Buffer, at: number): boolean {
  let difference = 0;
  for (let i = 0; i < TAG_BYTES; i += 1) difference |= tag.charCodeAt(i) ^ bytes[at + i]!;
  return difference === 0;
}
