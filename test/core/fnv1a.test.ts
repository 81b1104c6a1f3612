import { expect } from 'chai';
import { fnv1a } from '../../src/limits/ring/fnv1a.js';

describe('FNV-1a', () => {
  it('gives the hashes of the reference code', () => {
    const hashes = ['', 'a', 'foobar'].map((text) => (fnv1a(text) >>> 0).toString(16));
    expect(hashes).to.deep.equal(['811c9dc5', 'e40c292c', 'bf9cf968']);
  });
});
