import { expect } from 'chai';
import { ArrivingBytes } from '../../src/server/edge/arriving.js';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('the memory for bodies that are still arriving', () => {
  /** Holds bodies of this size until one does not fit, and says how many did. */
  const fill = (arriving: ArrivingBytes, bytes: number, addressOf: (i: number) => string): number => {
    for (let i = 0; ; i += 1) {
      const body = arriving.begin(addressOf(i));
      if (body.add(bytes)) continue;
      body.release();
      return i;
    }
  };
  const anyAddress = (i: number): string => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;

  it('gives large bodies half, however many addresses they come from, and small ones the rest', () => {
    const arriving = new ArrivingBytes(64 * MIB);
    expect(fill(arriving, MIB, anyAddress)).to.equal(32);
    expect(fill(arriving, 64 * KIB, anyAddress)).to.equal((32 * MIB) / (64 * KIB));
  });

  it('gives one address half of each part: the others find room', () => {
    const arriving = new ArrivingBytes(64 * MIB);
    expect(fill(arriving, MIB, () => '10.0.0.1')).to.equal(16);
    expect(fill(arriving, 64 * KIB, () => '10.0.0.1')).to.equal((16 * MIB) / (64 * KIB));
    expect(arriving.begin('10.0.0.2').add(MIB)).to.equal(true);
  });

  it('takes all addresses of one /64 for one', () => {
    const arriving = new ArrivingBytes(64 * MIB);
    expect(fill(arriving, MIB, (i) => `2001:db8:0:1::${(i + 1).toString(16)}`)).to.equal(16);
  });

  it('counts a body that grows large as large, and has all room again once bodies are released', () => {
    const arriving = new ArrivingBytes(64 * MIB);
    for (let round = 0; round < 3; round += 1) {
      const bodies = Array.from({ length: 17 }, () => arriving.begin('10.0.0.1'));
      for (const body of bodies) expect(body.add(64 * KIB)).to.equal(true);
      const grown = bodies.map((body) => body.add(MIB - 64 * KIB));
      expect(grown.filter((fits) => fits)).to.have.length(16);
      for (const body of bodies) body.release();
    }
  });
});
