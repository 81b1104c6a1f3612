import { expect } from 'chai';
import { createRing } from '../../src/limits/ring/rings.js';

/** Names that no earlier ring of this process has. */
let names = 0;
const newName = (): string => `${process.hrtime.bigint()}-${(names += 1)}:1`;

describe('rings', () => {
  it('are one object for the same members in any order, and made for members that none had before', () => {
    const members = [newName(), newName(), newName()];
    const ring = createRing(members);
    expect(ring.members).to.deep.equal([...members].sort());
    expect(createRing([...members].reverse())).to.equal(ring);
  });

  it('stay the same objects while others are made', () => {
    const rings = Array.from({ length: 3 }, () => createRing([newName(), newName()]));
    for (const ring of rings) expect(createRing(ring.members)).to.equal(ring);
    expect(new Set(rings).size).to.equal(3);
  });
});
