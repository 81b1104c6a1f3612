import { expect } from 'chai';
import fc from 'fast-check';
import { RuleTable, isSame } from '../../src/state/rule-table.js';
import type { Rule } from '../../src/limits/bucket/rule.js';

const rule = (limit: number, policy?: string, more: Partial<Rule> = {}): Rule => ({
  algorithm: 'token-bucket',
  limit,
  windowMs: 1_000,
  capacity: limit,
  policy,
  scope: undefined,
  ...more,
});

/** Bytes of a rule without a scope. */
const BYTES = 180;

describe('the table of rules', () => {
  it('holds equal rules once, from number 1, and counts those in use', () => {
    const table = new RuleTable();
    expect(table.bytes()).to.equal(0);
    expect([table.acquire(rule(1)), table.acquire(rule(2)), table.acquire(rule(1))]).to.deep.equal([1, 2, 1]);
    expect(table.bytes()).to.equal(2 * BYTES);
    expect(table.at(2)).to.deep.equal(rule(2));
    table.release(1);
    expect(table.at(1)).to.deep.equal(rule(1));
    table.release(1);
    expect(table.bytes()).to.equal(BYTES);
    expect(table.acquire(rule(3))).to.equal(1);
    expect(table.at(1)).to.deep.equal(rule(3));
  });

  it('tells rules of the same figures apart by policy, in whatever order they come and go', () => {
    const policies = ['a', 'b', 'c', 'd', undefined];
    const steps = fc.array(fc.record({ policy: fc.constantFrom(...policies), releases: fc.boolean() }), {
      maxLength: 40,
    });
    const property = fc.property(steps, (list) => {
      const table = new RuleTable();
      const uses = new Map<string | undefined, number[]>();
      for (const { policy, releases } of list) {
        const numbers = uses.get(policy) ?? [];
        uses.set(policy, numbers);
        if (!releases) numbers.push(table.acquire(rule(5, policy)));
        else if (numbers.length > 0) table.release(numbers.pop()!);
        const used = [...uses].filter(([, some]) => some.length > 0);
        expect(table.bytes()).to.equal(BYTES * used.length);
        for (const [name, some] of used) {
          expect(new Set(some).size).to.equal(1);
          expect(table.at(some[0]!).policy).to.equal(name);
        }
      }
    });
    fc.assert(property, { numRuns: 300 });
  });

  it('counts the bytes of scopes, as callers choose them', () => {
    const table = new RuleTable();
    const plain = table.acquire(rule(5));
    const long = table.acquire(rule(5, undefined, { scope: 'x'.repeat(100) }));
    expect(long).to.not.equal(plain);
    expect(table.bytes()).to.be.at.least(2 * BYTES + 100);
    table.release(long);
    expect(table.bytes()).to.equal(BYTES);
  });

  it('takes for the same only rules that agree in everything', () => {
    const one = rule(5, 'a');
    expect(isSame(one, { ...one })).to.equal(true);
    for (const other of [{ limit: 6 }, { capacity: 6 }, { windowMs: 1 }, { policy: 'b' }, { scope: 's' }])
      expect(isSame(one, { ...one, ...other })).to.equal(false);
    expect(isSame(one, { ...one, algorithm: 'sliding-window' })).to.equal(false);
  });
});
