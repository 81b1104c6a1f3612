import { expect } from 'chai';
import { EtcdError, isUnavailable, isUndone, readAnswer } from '../../src/membership/discovery/etcd-wire.js';

const NO_SPACE = 8;

describe('an error of etcd', () => {
  it('leaves open whether the write was made if etcd is full: the write that fills it is made', () => {
    const answer = '{"error":"mvcc: database space exceeded","code":8,"message":"mvcc: database space exceeded"}';
    expect(() => readAnswer(429, answer)).to.throw(EtcdError, 'space exceeded');
    const full = new EtcdError(NO_SPACE, 'mvcc: database space exceeded');
    expect(isUndone(full)).to.equal(false);
    expect(isUnavailable(full)).to.equal(true);
  });

  it('says that a write was not made if etcd refused it, or was not reached', () => {
    for (const code of [3, 7, 9, 16]) expect(isUndone(new EtcdError(code, 'refused')), `code ${code}`).to.equal(true);
    for (const code of [2, 4, 5, 13, 14])
      expect(isUndone(new EtcdError(code, 'failed')), `code ${code}`).to.equal(false);
    expect(isUndone(Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }))).to.equal(true);
    expect(isUndone(Object.assign(new Error('read'), { code: 'ECONNRESET' }))).to.equal(false);
    expect(isUndone(new Error('no answer in time'))).to.equal(false);
  });
});
