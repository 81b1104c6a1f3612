import { expect } from 'chai';
import { change, NO_DOCUMENT, tierKey } from '../../src/policy/policy-document.js';
import { policyKey } from '../../src/policy/policy-entry.js';
import { readWritten, writtenOf } from '../../src/policy/policy-file.js';

const DOCUMENT = change(
  change(NO_DOCUMENT, new Map([[policyKey('p'), { limit: 1, window: '1m' }]]), 'a:1'),
  new Map([
    [tierKey('alice'), 'pro'],
    [policyKey('p'), null],
  ]),
  'b:1',
);

describe('a written document of policies', () => {
  it('is the same document when it is read again, with its deletions', () => {
    const written = writtenOf(DOCUMENT);
    expect(written).to.deep.equal({
      version: 2,
      entries: [
        ['policy p', null, 2, 'b:1'],
        ['tier alice', 'pro', 2, 'b:1'],
      ],
    });
    expect(readWritten(JSON.parse(JSON.stringify(written)))).to.deep.equal(DOCUMENT);
    expect(readWritten({ version: 0, entries: [] }).digest).to.equal(NO_DOCUMENT.digest);
    expect(readWritten({ version: 2 ** 52, entries: [] }).version).to.equal(2 ** 52);
  });

  it('is refused without a version and entries', () => {
    for (const value of [
      null,
      [],
      {},
      { version: 2 },
      { entries: [] },
      { version: -1, entries: [] },
      { version: 2 ** 52 + 1, entries: [] },
      { version: '2', entries: [] },
      { version: 2, entries: {} },
    ]) {
      expect(() => readWritten(value), JSON.stringify(value)).to.throw('no version and entries of policies');
    }
  });

  it('is refused with the name of the first entry that is not valid', () => {
    const long = `tier ${'x'.repeat(300)}`;
    for (const [entry, name] of [
      [['tier alice', 5, 1, 'a:1'], '"tier alice"'],
      [['tier alice', 'pro', 0, 'a:1'], '"tier alice"'],
      [['tier alice', 'pro', 3, 'a:1'], '"tier alice"'],
      [['tier alice', 'pro', 1, 7], '"tier alice"'],
      [['tier alice', 'pro', 1], '"tier alice"'],
      [[], 'null'],
      ['tier alice', 'null'],
      [[long, 'pro', 1, 'a:1'], JSON.stringify(long).slice(0, 100)],
    ] as const) {
      const value = { version: 2, entries: [['tier bob', 'pro', 2, 'a:1'], entry] };
      expect(() => readWritten(value)).to.throw(new RegExp(`^an entry that is not valid: ${name}$`));
    }
  });
});
