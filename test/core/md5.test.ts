import { createHash } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import { md5Hex } from '../../src/limits/ring/md5.js';

const reference = (text: string): string => createHash('md5').update(text, 'utf8').digest('hex');

describe('an MD5 digest', () => {
  it('is that of RFC 1321', () => {
    expect(md5Hex('')).to.equal('d41d8cd98f00b204e9800998ecf8427e');
    expect(md5Hex('message digest')).to.equal('f96b697d7cb7938d525a2f31aaf161d0');
  });

  it('is that of node:crypto for every length around the end of a block, and for any text', () => {
    for (let length = 0; length <= 260; length += 1)
      expect(md5Hex('a'.repeat(length)), `${length}`).to.equal(reference('a'.repeat(length)));
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => md5Hex(text) === reference(text)));
  });
});
