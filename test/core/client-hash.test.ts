import { expect } from 'chai';
import { clientKey, hashClientBytes, hashClientId } from '../../src/limits/ring/client-hash.js';

/** HalfSipHash with 64 bits of output, as its paper writes it: not as the program does. */
function halfSipHash(bytes: Uint8Array, [k0, k1]: [number, number], [c, d]: [number, number]): [number, number] {
  const v = [k0, k1 ^ 0xee, 0x6c796765 ^ k0, 0x74656462 ^ k1] as [number, number, number, number];
  const rotate = (x: number, by: number): number => (x << by) | (x >>> (32 - by));
  const rounds = (count: number): void => {
    for (let i = 0; i < count; i += 1) {
      v[0] = (v[0] + v[1]) | 0;
      v[1] = rotate(v[1], 5) ^ v[0];
      v[0] = rotate(v[0], 16);
      v[2] = (v[2] + v[3]) | 0;
      v[3] = rotate(v[3], 8) ^ v[2];
      v[0] = (v[0] + v[3]) | 0;
      v[3] = rotate(v[3], 7) ^ v[0];
      v[2] = (v[2] + v[1]) | 0;
      v[1] = rotate(v[1], 13) ^ v[2];
      v[2] = rotate(v[2], 16);
    }
  };
  const padded = Buffer.concat([bytes, Buffer.alloc(4 - (bytes.length % 4))]);
  padded[padded.length - 1] = bytes.length;
  for (let at = 0; at < padded.length; at += 4) {
    const word = padded.readInt32LE(at);
    v[3] ^= word;
    rounds(c);
    v[0] ^= word;
  }
  v[2] ^= 0xee;
  rounds(d);
  const first = v[1] ^ v[3];
  v[1] ^= 0xdd;
  rounds(d);
  return [first, v[1] ^ v[3]];
}

/** Outputs of HalfSipHash-2-4 under the key 00 to 07, over the bytes 00, 01, 02, …: the authors' vectors of lengths 0 to 5. */
const VECTORS = [
  '218d1f59b9b83cc8',
  'be552412f8387315',
  '064f39ef7c50eb57',
  'ce0f1a45f7060679',
  'd5e78a175be52ea1',
  'cb9d7c3f2f3db580',
];

const KEY: [number, number] = [Buffer.from('token').readInt32LE(), Buffer.from('ring').readInt32LE()];

function hashOf(clientId: string): [number, number] {
  const { hashHigh, hashLow } = clientKey(clientId);
  return [hashHigh, hashLow];
}

const popcount = (word: number): number => (word >>> 0).toString(2).replaceAll('0', '').length;

describe('the hash of a client id', () => {
  it('is HalfSipHash-1-3 of its UTF-8, under a key that every member and caller knows', () => {
    for (const [length, vector] of VECTORS.entries()) {
      const [first, second] = halfSipHash(
        Uint8Array.from({ length }, (_, i) => i),
        [0x03020100, 0x07060504],
        [2, 4],
      );
      const bytes = Buffer.alloc(8);
      bytes.writeInt32LE(first, 0);
      bytes.writeInt32LE(second, 4);
      expect(bytes.toString('hex')).to.equal(vector);
    }
    const ids = [
      '',
      'a',
      'ab',
      'abc',
      'abcd',
      'alice',
      '__proto__',
      'x'.repeat(256),
      'é',
      'naïve',
      '客户',
      '💧',
      'abc💧',
    ];
    for (const id of ids) expect(hashOf(id), id).to.deep.equal(halfSipHash(Buffer.from(id), KEY, [1, 3]));
  });

  it('is the same for a text and for its bytes, wherever these are', () => {
    const out = new Int32Array(2);
    for (const id of ['', 'a', 'client-0000000000001', 'ключ', 'x'.repeat(5_000), '\u007f\u0080', 'z']) {
      const bytes = Buffer.from(`before${id}after`);
      hashClientBytes(bytes, 6, bytes.length - 5, out);
      expect([...out], id).to.deep.equal(hashOf(id));
      hashClientId(id, out);
      expect([...out], id).to.deep.equal(hashOf(id));
    }
  });

  it('tells apart ids that differ in length, in their last character, or in zeros at the end', () => {
    const ids = ['', '\0', '\0\0', '\0\0\0', '\0\0\0\0', 'a', 'a\0', 'b', 'aaaa', 'aaaaa', 'aaaab', 'Aaaaa'];
    expect(new Set(ids.map((id) => hashOf(id).join())).size).to.equal(ids.length);
  });

  it('changes in half of its bits, each of them as often, when one bit of the id changes', () => {
    const flips = new Array<number>(64).fill(0);
    const changed: number[] = [];
    for (let i = 0; i < 500; i += 1) {
      const id = Buffer.from(`client ${i}`);
      const [high, low] = hashOf(id.toString());
      for (let bit = 0; bit < 7 * id.length; bit += 1) {
        const other = Buffer.from(id);
        other[Math.floor(bit / 7)]! ^= 1 << (bit % 7);
        const [otherHigh, otherLow] = hashOf(other.toString());
        const [differHigh, differLow] = [high ^ otherHigh, low ^ otherLow];
        changed.push(popcount(differHigh) + popcount(differLow));
        for (let b = 0; b < 32; b += 1) {
          flips[b]! += (differHigh >>> b) & 1;
          flips[32 + b]! += (differLow >>> b) & 1;
        }
      }
    }
    const mean = changed.reduce((a, b) => a + b, 0) / changed.length;
    expect(mean).to.be.within(31.8, 32.2);
    for (const [bit, count] of flips.entries()) expect(count / changed.length, `bit ${bit}`).to.be.within(0.48, 0.52);
  });

  it('spreads numbered ids evenly, by its upper bits and by its lower ones', () => {
    const CELLS = 256;
    const PER_CELL = 200;
    const cells = { high: new Array<number>(CELLS).fill(0), low: new Array<number>(CELLS).fill(0) };
    for (let i = 0; i < CELLS * PER_CELL; i += 1) {
      const [high, low] = hashOf(`user:${i}`);
      cells.high[high >>> 24]! += 1;
      cells.low[low & 255]! += 1;
    }
    for (const counts of Object.values(cells)) {
      const chiSquare = counts.reduce((sum, count) => sum + (count - PER_CELL) ** 2 / PER_CELL, 0);
      // 255 degrees of freedom: within five standard deviations of the mean, on both sides.
      expect(chiSquare).to.be.within(255 - 5 * Math.sqrt(510), 255 + 5 * Math.sqrt(510));
    }
  });
});
