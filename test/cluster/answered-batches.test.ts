import { expect } from 'chai';
import { AnsweredBatches } from '../../src/node/peer-handler.js';

describe('answered batches', () => {
  it('have their answers until the time is over', () => {
    let nowMs = 0;
    const answered = new AnsweredBatches({ nowMs: () => nowMs }, 100, 1_000);
    const results = ['not-mine' as const];
    answered.add('a', results, 1);
    nowMs = 99;
    expect(answered.get('a')).to.equal(results);
    expect(answered.get('b')).to.equal(undefined);
    nowMs = 100;
    expect(answered.get('a')).to.equal(undefined);
  });

  it('lose the oldest answers beyond the bound of bytes, and no other', () => {
    const answered = new AnsweredBatches({ nowMs: () => 0 }, 100, 10);
    const held = (): number[] =>
      Array.from({ length: 100 }, (_, i) => i).filter((i) => answered.get(`${i}`) !== undefined);
    for (let i = 0; i < 100; i += 1) {
      answered.add(`${i}`, [], 3);
      expect(held()).to.deep.equal([i - 2, i - 1, i].filter((one) => one >= 0));
    }
    answered.add('large', [], 11);
    expect(answered.get('large')).to.equal(undefined);
    expect(held()).to.deep.equal([]);
  });

  it('keep the later answer where a batch comes again after the time of the first', () => {
    let nowMs = 0;
    const answered = new AnsweredBatches({ nowMs: () => nowMs }, 100, 1_000);
    answered.add('a', [], 1);
    nowMs = 100;
    const again = ['not-mine' as const];
    answered.add('a', again, 1);
    answered.add('b', [], 1);
    expect(answered.get('a')).to.equal(again);
  });
});
