import { expect } from 'chai';
import type { ClientSnapshot } from '../../src/state/client-snapshot.js';
import { inParts, MAX_COPIES_BYTES, weightOf } from '../../src/state/weight.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';

const CHARACTER = 6;
const NUMBER = 17;
const rule = ruleOf('token-bucket', 10, 1_000, 10, 'abc');
const bucket = { ...rule, ruleChanges: 0, state: [1, 0] };

describe('the weight of a client', () => {
  it('grows with each lease, number, and character', () => {
    const lease = { id: '12345', tokens: 1, leftMs: 1, spent: undefined };
    const weigh = (more: object): number => weightOf(['a', [{ ...bucket, ...more }]]);
    const one = weigh({});
    expect(one).to.equal(weightOf(['', []]) + 4 * CHARACTER + 9 * NUMBER);
    expect(weigh({ state: [1, 0, 1, 0] }) - one).to.equal(2 * NUMBER);
    expect(weigh({ leases: Array(16).fill(lease) }) - one).to.equal(16 * (5 * CHARACTER + 4 * NUMBER));
    expect(weigh({ policy: undefined }) - one).to.equal(-3 * CHARACTER);
  });

  it('grows with each reservation, and each of its rules', () => {
    const of = (rules: number, count = 1): number => {
      const least = Array.from({ length: rules }, () => [1, 0] as const);
      const reserved = { id: '1234', cost: 1, rules: Array(rules).fill(rule), ageMs: 1, least, settled: undefined };
      return weightOf(['a', [], [], Array(count).fill(reserved)]);
    };
    expect(of(8) - of(1)).to.equal(7 * (3 * CHARACTER + 8 * NUMBER));
    expect(of(1, 3) - of(1)).to.equal(2 * (7 * CHARACTER + 16 * NUMBER));
  });
});

describe('copies for several messages', () => {
  const client = (i: number, characters: number): ClientSnapshot => [`${i}`.padEnd(characters, 'x'), []];

  it('have all clients in their order, in as few parts of half a MiB as that allows', () => {
    const clients = Array.from({ length: 1_000 }, (_, i) => client(i, 200));
    const parts = inParts(clients);
    expect(parts.flat()).to.deep.equal(clients);
    const sizes = parts.map((part) => part.reduce((bytes, one) => bytes + weightOf(one), 0));
    expect(Math.max(...sizes)).to.be.at.most(MAX_COPIES_BYTES);
    expect(parts).to.have.length(Math.ceil((1_000 * weightOf(client(0, 200))) / MAX_COPIES_BYTES));
    expect(inParts([])).to.deep.equal([]);
  });

  it('fill a part to the last byte, and a client above the bound has a part of its own', () => {
    const full = [21_842, 21_842, 21_842, 21_844].map((characters, i) => client(i, characters));
    expect(full.reduce((bytes, one) => bytes + weightOf(one), 0)).to.equal(MAX_COPIES_BYTES);
    expect(inParts(full)).to.have.length(1);
    expect(inParts([...full, client(4, 1)]).map((part) => part.length)).to.deep.equal([4, 1]);
    const large = client(0, MAX_COPIES_BYTES / CHARACTER);
    expect(inParts([client(1, 1), large, client(2, 1)]).map((part) => part.length)).to.deep.equal([1, 1, 1]);
  });
});
