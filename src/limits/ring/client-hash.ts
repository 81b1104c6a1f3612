import { MAX_UNIT_BYTES } from '../client-id.js';
import { charCodeAt } from '../../lib/text.js';

/**
 * A client's name with its hash. The hash is computed once, where the name enters the node, and is passed on with the
 * name. It finds the client's place on the ring and in every table.
 */
export interface ClientKey {
  /** 1 to 256 bytes of well-formed Unicode. */
  readonly clientId: string;
  /** The upper half of the hash, as int32: V8 keeps an int32 in an object without a box. The ring uses this half. */
  readonly hashHigh: number;
  /** The lower half, as int32. */
  readonly hashLow: number;
}

/** The name of the hash function. Members with different hash functions would place clients differently. */
export const CLIENT_HASH = 'halfsiphash-1-3-64';

// The keys are "toke" and "ring". The constants are those of HalfSipHash.
const KEY_0 = 0x656b6f74;
const KEY_1 = 0x676e6972;
const CONSTANT_2 = 0x6c796765;
const CONSTANT_3 = 0x74656462;
/** Rounds after the last word, before each half of the result. */
const FINAL_ROUNDS = 3;

/** The words of the name that is being hashed. The array grows with the longest name. */
let words = new Int32Array(128);
const halves = new Int32Array(2);
/** The name that is being hashed, in UTF-8, if it is not all ASCII. Grows with the longest name. */
let encoded = new Uint8Array(512);
const encoder = new TextEncoder();

/** Hashes a client's name. About 50 ns for 20 ASCII characters. */
export function clientKey(clientId: string): ClientKey {
  hashClientId(clientId, halves);
  return { clientId, hashHigh: halves[0]!, hashLow: halves[1]! };
}

/**
 * Hashes the UTF-8 bytes of a client's name to 64 bits with HalfSipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast
 * short-input PRF", 2012; its variant of 32-bit words, 2016). It costs 10 to 20 ns more than two lanes of MurmurHash3.
 * For MurmurHash3, anyone can compute many names of one hash.
 *
 * The key is public, because callers that know the ring compute the same hash. So an attacker can search for names:
 * - Names of one member, or of one slot of a table with 2^k slots, take 2^k tries each. They put load on one member, as
 *   names do under any public placement. A table has to bound its probes, or mix a secret into the hash.
 * - Two names that share all 64 bits take 2^32 tries, and a chain of sixteen names about 2^60. Tables compare whole
 *   names, so such names stay different clients.
 *
 * Neither attack admits more requests: an attacker who may choose names has fresh buckets anyway.
 * @param out receives the upper and the lower half, as int32
 */
export function hashClientId(clientId: string, out: Int32Array): void {
  if (packAscii(clientId)) return mix(clientId.length, out);
  const room = clientId.length * MAX_UNIT_BYTES;
  if (room > encoded.length) encoded = new Uint8Array(room);
  hashClientBytes(encoded, 0, encoder.encodeInto(clientId, encoded).written, out);
}

/** Computes the same hash for a name in UTF-8, from `start` (inclusive) to `end` (exclusive). */
export function hashClientBytes(bytes: Uint8Array, start: number, end: number, out: Int32Array): void {
  const length = end - start;
  reserve(length);
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    const from = start + at;
    words[at >> 2] = bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16) | (bytes[from + 3]! << 24);
  }
  let last = 0;
  for (let i = at; i < length; i += 1) last |= bytes[start + i]! << ((i - at) << 3);
  words[length >> 2] = last | (length << 24);
  mix(length, out);
}

/** Packs a name into `words`, four characters in each. @returns false if the name is not all ASCII */
function packAscii(text: string): boolean {
  const { length } = text;
  reserve(length);
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    const first = charCodeAt(text, at);
    const second = charCodeAt(text, at + 1);
    const third = charCodeAt(text, at + 2);
    const fourth = charCodeAt(text, at + 3);
    if ((first | second | third | fourth) > 127) return false;
    words[at >> 2] = first | (second << 8) | (third << 16) | (fourth << 24);
  }
  let last = 0;
  for (let i = at; i < length; i += 1) {
    const code = charCodeAt(text, i);
    if (code > 127) return false;
    last |= code << ((i - at) << 3);
  }
  words[length >> 2] = last | (length << 24);
  return true;
}

function reserve(bytes: number): void {
  if (bytes >> 2 >= words.length) words = new Int32Array((bytes >> 2) + 1);
}

/**
 * Hashes `words`. The last word holds up to three bytes and the length. The final rounds run in the same loop, over
 * words of 0.
 */
function mix(length: number, out: Int32Array): void {
  let v0 = KEY_0;
  let v1 = KEY_1 ^ 0xee;
  let v2 = CONSTANT_2 ^ KEY_0;
  let v3 = CONSTANT_3 ^ KEY_1;
  const last = length >> 2;
  const rounds = last + 1 + 2 * FINAL_ROUNDS;
  for (let i = 0; i < rounds; i += 1) {
    const word = i <= last ? words[i]! : 0;
    if (i === last + 1) v2 ^= 0xee;
    else if (i === last + 1 + FINAL_ROUNDS) {
      out[0] = v1 ^ v3;
      v1 ^= 0xdd;
    }
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  out[1] = v1 ^ v3;
}
