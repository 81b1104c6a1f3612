/**
 * MD5 (RFC 1321), for the points of ketama rings only, where it need not be secure. `node:crypto` does not exist in
 * every runtime of the client.
 */

/** Left rotations of the steps of each of the four rounds. */
const SHIFTS = [
  [7, 12, 17, 22],
  [5, 9, 14, 20],
  [4, 11, 16, 23],
  [6, 10, 15, 21],
] as const;
const BLOCK_BYTES = 64;

const constants = Int32Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));
const rotations = Uint8Array.from({ length: 64 }, (_, i) => SHIFTS[i >> 4]![i & 3]!);
/** The word of the block that each step takes. */
const wordOfStep = Uint8Array.from({ length: 64 }, (_, i) => [i, 5 * i + 1, 3 * i + 5, 7 * i][i >> 4]! & 15);
const words = new Int32Array(BLOCK_BYTES / 4);
const state = new Int32Array(4);
const encoder = new TextEncoder();

/**
 * Hashes a text in UTF-8.
 * @param out receives the digest as four little-endian words
 */
export function md5(text: string, out: Uint32Array): void {
  const bytes = encoder.encode(text);
  const { length } = bytes;
  state.set([0x67452301, 0xefcdab89 | 0, 0x98badcfe | 0, 0x10325476]);
  // The padding is one bit and, in the last two words, the length in bits.
  const blocks = ((length + 8) >> 6) + 1;
  for (let block = 0; block < blocks; block += 1) {
    words.fill(0);
    const start = block * BLOCK_BYTES;
    const end = Math.min(length - start, BLOCK_BYTES);
    for (let i = 0; i < end; i += 1) words[i >> 2]! |= bytes[start + i]! << ((i & 3) << 3);
    const left = length - start;
    if (left >= 0 && left < BLOCK_BYTES) words[left >> 2]! |= 0x80 << ((left & 3) << 3);
    if (block === blocks - 1) {
      words[14] = length << 3;
      words[15] = length >>> 29;
    }
    mixBlock();
  }
  out.set(state);
}

/** @returns 32 hex digits */
export function md5Hex(text: string): string {
  const digest = new Uint32Array(4);
  md5(text, digest);
  const bytes = Array.from({ length: 16 }, (_, i) => (digest[i >> 2]! >>> ((i & 3) << 3)) & 0xff);
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function mixBlock(): void {
  let a = state[0]!;
  let b = state[1]!;
  let c = state[2]!;
  let d = state[3]!;
  for (let i = 0; i < 64; i += 1) {
    let mixed: number;
    if (i < 16) mixed = (b & c) | (~b & d);
    else if (i < 32) mixed = (d & b) | (~d & c);
    else if (i < 48) mixed = b ^ c ^ d;
    else mixed = c ^ (b | ~d);
    const sum = (a + mixed + constants[i]! + words[wordOfStep[i]!]!) | 0;
    const rotation = rotations[i]!;
    a = d;
    d = c;
    c = b;
    b = (b + ((sum << rotation) | (sum >>> (32 - rotation)))) | 0;
  }
  state[0] = (state[0]! + a) | 0;
  state[1] = (state[1]! + b) | 0;
  state[2] = (state[2]! + c) | 0;
  state[3] = (state[3]! + d) | 0;
}
