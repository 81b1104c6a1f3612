import { expect } from 'chai';
import { ClientIds } from '../../src/state/client-ids.js';

describe('the ids of clients outside the heap', () => {
  const IDS = ['a', 'alice', 'alicf', 'alic', 'ä', 'äb', 'a\u007f', '\u{1F511}', 'x'.repeat(256), 'é'.repeat(128)];

  it('are read as they were written, and equal their own text and bytes alone', () => {
    const ids = new ClientIds();
    const written = IDS.map((id) => ({ id, cell: ids.write(id), bytes: ids.writtenBytes() }));
    for (const { id, cell, bytes } of written) {
      expect(bytes).to.equal(Buffer.byteLength(id));
      expect(ids.read(cell, bytes)).to.equal(id);
      for (const other of IDS) {
        expect(ids.equals(cell, bytes, other), `${id} ${other}`).to.equal(id === other);
        const framed = Buffer.from(`-${other}`.padEnd(300));
        const isPrefix = framed.subarray(1, 1 + bytes).equals(Buffer.from(id));
        expect(ids.equalsBytes(cell, bytes, framed, 1), `${id} ${other}`).to.equal(isPrefix);
      }
    }
  });

  it('differ from texts of as many characters or bytes, and of fewer', () => {
    const ids = new ClientIds();
    const cell = ids.write('abc');
    for (const other of ['ab', 'abd', 'abcd', 'äbc', 'aä', 'ä', 'abä'])
      expect(ids.equals(cell, 3, other)).to.equal(false);
    const accented = ids.write('aä');
    for (const other of ['abc', 'aö', 'aä ', 'a', 'ää']) expect(ids.equals(accented, 3, other)).to.equal(false);
  });

  it('are copied to their place, and nowhere else', () => {
    const ids = new ClientIds();
    const cell = ids.write('alice');
    const target = Buffer.alloc(8, '-');
    ids.copy(cell, 5, target, 2);
    expect(target.toString()).to.equal('--alice-');
  });

  it('hold the bytes of their cells until they are released', () => {
    const ids = new ClientIds();
    const cell = ids.write('x'.repeat(37));
    expect(ids.cellBytes(37)).to.equal(40);
    expect(ids.heldBytes()).to.equal(40);
    ids.release(cell, 37);
    expect(ids.heldBytes()).to.equal(0);
    expect(ids.write('y'.repeat(40))).to.equal(cell);
  });
});
