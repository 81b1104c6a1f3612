import { expect } from 'chai';
import { TokenringError, knownCode } from '../../src/lib/error.js';

describe('an error', () => {
  const [title, status] = ['The request is not valid', 400];

  it('says what is wrong in one message, with advice where there is any', () => {
    for (const [details, detail] of [
      [{}, ''],
      [{ field: 'window' }, 'window'],
      [{ expected: 'a window' }, 'use a window'],
      [{ field: 'window', expected: 'a window' }, 'window is not valid; use a window'],
      [{ field: 'window', expected: 'a window', detail: 'window: 5 is not a window' }, 'window: 5 is not a window'],
    ] as const) {
      const error = new TokenringError('invalid_request', details);
      expect(error.detail).to.equal(detail);
      expect(error.message).to.equal(detail === '' ? title : `${title}: ${detail}`);
      expect(error).to.include({ code: 'invalid_request', status, item: undefined }).and.not.have.property('cause');
    }
  });

  it('is the same error for one item of a batch', () => {
    const cause = new Error('below');
    const error = new TokenringError('invalid_request', { status: 422, field: 'cost', expected: 'more' }, { cause });
    const ofItem = error.of(7);
    expect(ofItem.cause).to.equal(cause);
    expect(ofItem.message).to.equal(error.message);
    expect(ofItem).to.include({ code: 'invalid_request', status: 422, field: 'cost', expected: 'more', item: 7 });
  });

  it('is a problem of RFC 9457 as JSON, without what it does not have', () => {
    const error = new TokenringError('invalid_request', { field: 'cost', expected: 'more' });
    expect(error.toJSON()).to.deep.equal({
      type: 'urn:tokenring:problem:invalid_request',
      code: 'invalid_request',
      status,
      title,
      detail: 'cost is not valid; use more',
      field: 'cost',
      expected: 'more',
    });
    expect(Object.keys(JSON.parse(JSON.stringify(new TokenringError('overloaded'))) as object)).to.deep.equal([
      'type',
      'code',
      'status',
      'title',
    ]);
  });

  it('of a newer version has a code of its own', () => {
    expect([knownCode('overloaded'), knownCode('of_tomorrow'), knownCode('toString')]).to.deep.equal([
      'overloaded',
      'unknown_error',
      'unknown_error',
    ]);
  });
});
