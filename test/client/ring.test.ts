import { expect } from 'chai';
import fc from 'fast-check';
import { createRing as createNodesRing } from '../../src/limits/ring/rings.js';
import { createRing } from '../../src/client/nodes/topology.js';

describe('the ring of a client', () => {
  it('is the ring of the nodes: the same points, so the same owner for every client', () => {
    const sets = [
      ['10.0.0.1:9080', '10.0.0.2:9080', '[::1]:9080'],
      ['__proto__', 'a b', 'ü:1'],
    ];
    const check = (ids: readonly string[]): void => {
      const ours = createRing(ids);
      const theirs = createNodesRing(ids);
      expect(ours.checksum).to.equal(theirs.checksum);
      expect(ours.points.values).to.deep.equal(theirs.points.values);
      expect(ours.points.owners).to.deep.equal(theirs.points.owners);
    };
    sets.forEach(check);
    fc.assert(fc.property(fc.uniqueArray(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 4 }), check), {
      numRuns: 20,
    });
  });
});
