import { createHmac, hash } from 'node:crypto';

/** Of SHA-256, in bytes. */
const BLOCK = 64;
const DIGEST = 32;
/** Texts up to here are hashed in one go. */
const SCRATCH = 64 * 1024;
const MAX_UTF8_PER_UNIT = 3;

/** HMAC-SHA256 of `head`, which is ASCII, and `body` behind it; in base64url, 43 characters. */
export type Hmac = (head: string, body: Buffer | string) => string;

/**
 * HMAC (RFC 2104) from two one-shot hashes, as a message needs four, and `createHmac` makes an object each: 4 µs where this
 * takes 2, a sixth of the whole round trip of a small message.
 * @param key of 32 bytes, made by a hash itself
 */
export function createHmac256(key: Buffer): Hmac {
  const scratch = Buffer.alloc(SCRATCH);
  const outer = Buffer.alloc(BLOCK + DIGEST);
  for (let i = 0; i < BLOCK; i += 1) {
    scratch[i] = (key[i] ?? 0) ^ 0x36;
    outer[i] = (key[i] ?? 0) ^ 0x5c;
  }
  return (head, body) => {
    const most = BLOCK + head.length + (typeof body === 'string' ? body.length * MAX_UTF8_PER_UNIT : body.length);
    if (most > SCRATCH) return createHmac('sha256', key).update(head).update(body).digest('base64url');
    let end = BLOCK + scratch.write(head, BLOCK, 'latin1');
    end += typeof body === 'string' ? scratch.write(body, end, 'utf8') : body.copy(scratch, end);
    // As text: handing over a buffer takes longer than the hash.
    outer.write(hash('sha256', scratch.subarray(0, end), 'binary'), BLOCK, 'latin1');
    return hash('sha256', outer, 'base64url');
  };
}
