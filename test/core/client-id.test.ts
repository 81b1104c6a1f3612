import { expect } from 'chai';
import { isClientId, isText } from '../../src/limits/client-id.js';

describe('a client id', () => {
  it('is a text of 1 to 256 bytes in UTF-8, whatever its characters take', () => {
    for (const [char, bytes] of [
      ['a', 1],
      ['\u007f', 1],
      ['\u0080', 2],
      ['\u07ff', 2],
      ['\u0800', 3],
      ['\uffff', 3],
      ['\u{10000}', 4],
      ['\u{10ffff}', 4],
    ] as const) {
      const most = char.repeat(Math.floor(256 / bytes));
      expect(Buffer.byteLength(most)).to.be.within(254, 256);
      expect(isClientId(most), char).to.equal(true);
      expect(isClientId(`${most}${char}`), `${char} too often`).to.equal(false);
      expect([isText(char, bytes), isText(char, bytes - 1)], char).to.deep.equal([true, false]);
    }
  });

  it('is not empty, has no lone surrogate, and is no other value', () => {
    for (const value of ['', '\ud800', 'a\udc00b', 5, null, undefined, ['a'], { length: 1 }]) {
      expect(isClientId(value), JSON.stringify(value)).to.equal(false);
    }
  });
});
