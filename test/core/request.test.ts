import { expect } from 'chai';
import fc from 'fast-check';
import { batchItemId, MAX_BATCH_ID_BYTES, readBatchItemId } from '../../src/limits/request/request.js';

describe('the request id of an item of a batch', () => {
  it('names its batch and its index, whatever the id of the batch', () => {
    const batchId = fc.oneof(fc.string({ minLength: 1, unit: 'binary' }), fc.stringMatching(/^[#0-9\n]{1,9}$/));
    fc.assert(
      fc.property(batchId, fc.nat(999), (id, index) => {
        expect(readBatchItemId(batchItemId(id, index))).to.deep.equal({ batchId: id, index });
      }),
    );
  });

  it('has at most 128 bytes, as every request id', () => {
    expect(batchItemId('x'.repeat(MAX_BATCH_ID_BYTES), 999)).to.have.lengthOf(128);
  });

  for (const id of ['', 'a', '#1', 'a#', 'a#01', 'a#1000', 'a#-1', 'a#1 ', 'a#1\n', 'a#x', 'a1'])
    it(`is none of ${JSON.stringify(id)}`, () => expect(readBatchItemId(id)).to.equal(undefined));
});
