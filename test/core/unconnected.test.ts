import { expect } from 'chai';
import { isUnconnected } from '../../src/lib/error.js';

describe('the code of a failed request', () => {
  it('tells that the other side received nothing only if there was no connection', () => {
    for (const code of [
      'ECONNREFUSED',
      'EHOSTUNREACH',
      'ENETUNREACH',
      'ENOTFOUND',
      'EAI_AGAIN',
      'UND_ERR_CONNECT_TIMEOUT',
    ]) {
      expect(isUnconnected(code), code).to.equal(true);
    }
    for (const code of ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'UND_ERR_SOCKET', '', undefined, 5]) {
      expect(isUnconnected(code), String(code)).to.equal(false);
    }
  });
});
