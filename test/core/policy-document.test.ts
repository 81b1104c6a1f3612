import { expect } from 'chai';
import fc from 'fast-check';
import { rulesFor, type PolicySet } from '../../src/policy/policy.js';
import {
  readWritten,
  writtenOf,
  checkPolicyFile,
  entriesOf,
  type PolicyFileText,
} from '../../src/policy/policy-file.js';
import {
  assembling,
  change,
  changing,
  defaultKey,
  documentOf,
  fitting,
  envoyKey,
  fileKey,
  hasRoomFor,
  isEntry,
  isSuccessor,
  isTagged,
  listKey,
  merge,
  merging,
  NO_DOCUMENT,
  NOTHING_YET,
  overwrittenKeys,
  overrideKey,
  policySetOf,
  preparing,
  tierKey,
  type PolicyDocument,
} from '../../src/policy/policy-document.js';
import { lineOf, policyKey, type Entry, type EntryValue } from '../../src/policy/policy-entry.js';
import { finish } from '../../src/lib/turns.js';
import { findRule } from '../../src/policy/envoy-table.js';

const limit = (n: number): EntryValue => ({ limit: n, window: '1m' });
const LONG = Array.from({ length: 8 }, (_, i) => ({
  limit: 1_000,
  window: 1_000 + i,
  algorithm: 'sliding-window' as const,
}));
const write = (document: PolicyDocument, key: string, value: EntryValue | null, writer = 'a:1'): PolicyDocument =>
  change(document, new Map([[key, value]]), writer);

const overwritten = (before: PolicyDocument, after: PolicyDocument): string[] => finish(overwrittenKeys(before, after));
const isLater = (later: PolicyDocument, earlier: PolicyDocument): boolean => finish(isSuccessor(later, earlier));

/** Writes and merges of a few nodes, none of which receives everything. */
const histories = fc.array(
  fc.record({
    node: fc.nat(3),
    key: fc.constantFrom(policyKey('p'), policyKey('q'), defaultKey(), listKey('c')),
    value: fc.option(fc.nat(3)),
    from: fc.option(fc.nat(3)),
  }),
  { maxLength: 25 },
);

function documentsOf(history: typeof histories extends fc.Arbitrary<infer T> ? T : never): PolicyDocument[] {
  const documents = new Array<PolicyDocument>(4).fill(NO_DOCUMENT);
  for (const { node, key, value, from } of history) {
    if (from !== null) documents[node] = merge(documents[node]!, documents[from]!);
    documents[node] = write(documents[node]!, key, value === null ? null : limit(value), `n:${node + 1}`);
  }
  return documents;
}

/** Counts the bytes of the entries that are read of a document. */
function countReads({ version, totals, digest, bytes, entries }: PolicyDocument): {
  document: PolicyDocument;
  read: number;
} {
  class Counted extends Map<string, Entry> {
    override *[Symbol.iterator](): MapIterator<[string, Entry]> {
      for (const [key, entry] of this.entries()) {
        counted.read += lineOf(key, entry).bytes;
        yield [key, entry];
      }
    }
  }
  const counted = { document: { version, totals, digest, bytes, entries: new Counted(entries) }, read: 0 };
  return counted;
}

/** @returns the most bytes that are read in one step; an entry is read before the step that it ends */
function longestStep(counted: { read: number }, work: Iterator<unknown>): number {
  let longest = 0;
  for (let done: boolean | undefined = false; done !== true;) {
    counted.read = 0;
    done = work.next().done;
    longest = Math.max(longest, counted.read);
  }
  return longest;
}

describe('the document of policies', () => {
  it('has the same size and digest whether it was changed bit by bit or came as a whole, in any order', () => {
    const limit = (i: number): EntryValue => ({ limit: i, window: '1m' });
    let document = NO_DOCUMENT;
    for (let i = 0; i < 50; i += 1)
      document = change(document, new Map([[policyKey(`p${i % 20}`), i % 7 === 6 ? null : limit(i)]]), 'a:1');
    const copied = JSON.parse(JSON.stringify([...document.entries])) as [string, Entry][];
    const whole = documentOf(document.version, new Map(copied.reverse()));
    expect(whole).to.include({ digest: document.digest, bytes: document.bytes });
    // The same entry under another key is another document.
    const [[key, entry], ...others] = [...document.entries] as [[string, Entry], ...[string, Entry][]];
    const moved = documentOf(document.version, new Map([[`${key}x`, entry], ...others]));
    expect(moved.digest).not.to.equal(document.digest);
    expect(moved.bytes).to.equal(document.bytes + 1);
  });

  it('is read in steps of at most half a MiB, and is hashed, or read anew, in steps of at most 64 KiB', () => {
    const entries = Array.from({ length: 8_000 }, (_, i): [string, EntryValue] => [
      overrideKey('api', `client ${i}`.padEnd(100, 'x')),
      limit(i + 1),
    ]);
    const changes = new Map<string, EntryValue>([[policyKey('api'), limit(1)], ...entries]);
    const mine = change(NO_DOCUMENT, changes, 'a:1');
    const values = new Map([...changes].map(([key]) => [key, limit(9)]));
    const theirs = change(mine, new Map(values), 'b:1');
    const counted = countReads(mine);
    const other = countReads(theirs);
    const KIB = 1024;
    expect(longestStep(counted, assembling(1, counted.document.entries))).to.be.within(60 * KIB, 65 * KIB);
    expect(longestStep(counted, preparing(counted.document))).to.be.within(60 * KIB, 65 * KIB);
    expect(longestStep(counted, overwrittenKeys(counted.document, theirs))).to.be.within(60 * KIB, 65 * KIB);
    expect(longestStep(other, isSuccessor(other.document, counted.document))).to.be.within(400 * KIB, 513 * KIB);
    expect(longestStep(other, merging(mine, other.document))).to.be.within(400 * KIB, 513 * KIB);
    const steps = (work: Iterator<unknown>): number => {
      let count = 1;
      while (work.next().done !== true) count += 1;
      return count;
    };
    // Entries that are written are hashed, once with the changes and once with the document.
    expect(steps(changing(mine, new Map(values), 'b:1'))).to.be.above(mine.bytes / (33 * KIB));
    expect(steps(fitting(mine, new Map(values), Infinity))).to.be.above(mine.bytes / (64 * KIB));
    // A change of one policy copies the document, and ends that step.
    expect(steps(changing(mine, new Map([[policyKey('api'), limit(2)]]), 'b:1'))).to.equal(2);
  });

  it('takes as many steps of work as its size needs, and no more', () => {
    const keys = Array.from({ length: 2_400 }, (_, i) => overrideKey('api', `client ${i}`.padEnd(200, 'x')));
    const all = (n: number) => new Map<string, EntryValue>(keys.map((key) => [key, limit(n)]));
    const mine = change(NO_DOCUMENT, all(1), 'a:1');
    const theirs = change(mine, all(2), 'b:1');
    const stepsOf = (work: Iterator<unknown>): number => {
      let count = 1;
      while (work.next().done !== true) count += 1;
      return count;
    };
    const parts = Math.ceil(mine.bytes / (64 * 1024));
    expect(parts).to.be.within(9, 11);
    for (const work of [
      assembling(1, mine.entries),
      preparing(mine),
      overwrittenKeys(mine, theirs),
      fitting(mine, all(2), Infinity),
    ])
      expect(stepsOf(work)).to.be.within(parts, parts + 1);
    // The changed entries are found, the others are copied, and the changed ones are counted.
    expect(stepsOf(changing(mine, all(2), 'b:1'))).to.be.within(2 * parts, 2 * parts + 2);
    expect(stepsOf(isSuccessor(theirs, mine))).to.equal(2);
    expect(stepsOf(merging(mine, theirs))).to.be.within(parts + 3, parts + 6);
  });

  it('merges to the same document in any order, and when documents come again', () => {
    const property = fc.property(histories, fc.array(fc.nat(3), { maxLength: 8 }), (history, order) => {
      const documents = documentsOf(history);
      const all = (places: number[]): PolicyDocument =>
        places.reduce((known, place) => merge(known, documents[place]!), NO_DOCUMENT);
      const one = all([0, 1, 2, 3]);
      const other = all([...order, 3, 2, 1, 0]);
      expect([...other.entries].sort()).to.deep.equal([...one.entries].sort());
      // The others adopt the highest version.
      const agreed = merge(one, other);
      expect(merge(other, one).digest).to.equal(agreed.digest);
      expect(merge(agreed, one)).to.equal(agreed);
      expect(merge(agreed, agreed)).to.equal(agreed);
    });
    fc.assert(property, { numRuns: 500 });
  });

  it('keeps the later of two writes of one policy, and both writes of two policies', () => {
    const base = write(NO_DOCUMENT, policyKey('p'), limit(1));
    const left = write(write(base, policyKey('p'), limit(2)), policyKey('p'), limit(3));
    const right = write(write(base, policyKey('p'), limit(9), 'b:1'), policyKey('q'), limit(4), 'b:1');
    for (const merged of [merge(left, right), merge(right, left)]) {
      expect(merged.entries.get(policyKey('p'))?.value).to.deep.equal(limit(3));
      expect(merged.entries.get(policyKey('q'))?.value).to.deep.equal(limit(4));
      expect(merged.version).to.be.above(Math.max(left.version, right.version));
    }
  });

  it('does not bring back a deleted policy from an older copy', () => {
    const before = write(NO_DOCUMENT, policyKey('p'), limit(1));
    const deleted = write(before, policyKey('p'), null);
    expect(policySetOf(merge(before, deleted)).policies.size).to.equal(0);
    expect(policySetOf(merge(deleted, before)).policies.size).to.equal(0);
  });

  it('remembers the latest 5,000 deletions, whichever node made them, and drops the oldest', () => {
    const keys = Array.from({ length: 5_010 }, (_, i) => tierKey(`client ${i}`));
    // Nine keys are deleted later than the others, although they come first in the document.
    const late = new Set(keys.slice(0, 9));
    const set = (value: string | null, some: string[]): [string, string | null][] => some.map((key) => [key, value]);
    let document = change(NO_DOCUMENT, new Map(set('free', keys)), 'a:1');
    const early = keys.filter((key) => !late.has(key));
    document = change(document, new Map(set(null, early.slice(0, 6))), 'a:1');
    document = change(document, new Map(set(null, early.slice(6))), 'a:1');
    const before = document;
    const few = change(NO_DOCUMENT, new Map(set('free', keys)), 'a:1');
    expect(change(few, new Map(set(null, early.slice(0, 4_999))), 'a:1').entries.size).to.equal(5_010);
    document = change(document, new Map(set(null, [...late])), 'b:1');
    expect(document.entries.size).to.equal(5_000);
    for (const key of late) expect(document.entries.get(key)).to.include({ value: null, version: 4 });
    for (const key of early.slice(0, 6)) expect(document.entries.has(key), key).to.equal(false);
    expect(merge(before, document).digest).to.equal(document.digest);
  });

  it('tells a later document of the same history from one of another history', () => {
    const one = write(NO_DOCUMENT, policyKey('p'), limit(1));
    const two = write(one, policyKey('p'), limit(2), 'b:1');
    const three = write(two, policyKey('q'), limit(3));
    for (const later of [one, two, three]) expect(isLater(later, one)).to.equal(true);
    expect(isLater(write(one, policyKey('p'), null), one)).to.equal(true);
    expect(isLater(three, NO_DOCUMENT)).to.equal(true);
    const other = write(write(NO_DOCUMENT, policyKey('x'), limit(1), 'z:1'), policyKey('p'), limit(2), 'z:1');
    expect(isLater(other, one), 'it has another first change').to.equal(false);
    expect(isLater(one, two), 'it is older').to.equal(false);
    expect(isLater(write(one, policyKey('p'), limit(9), 'z:1'), two), 'it has another second change').to.equal(false);
    expect(isLater(documentOf(9, new Map()), one), 'it lacks the first change').to.equal(false);
    expect(overwritten(three, write(two, policyKey('p'), limit(4)))).to.deep.equal(['policy p', 'policy q']);
    expect(overwritten(write(three, policyKey('p'), null), one)).to.deep.equal(['policy q']);
    expect(overwritten(write(one, fileKey(), '0123456789abcdef'), one)).to.deep.equal([]);
  });

  it('decides between two writes of one version by writer, then by value', () => {
    const by = (writer: string, n: number): PolicyDocument => write(NO_DOCUMENT, policyKey('p'), limit(n), writer);
    const valueOf = (document: PolicyDocument): unknown => document.entries.get(policyKey('p'))!.value;
    for (const [winner, loser] of [
      [by('b:1', 1), by('a:1', 2)],
      // One node may write one version twice: in a partition, after a restart without its state.
      [by('a:1', 2), by('a:1', 1)],
    ] as const) {
      for (const merged of [merge(winner, loser), merge(loser, winner)]) {
        expect(valueOf(merged)).to.deep.equal(valueOf(winner));
        expect(merged.version, 'two documents had the first version').to.equal(2);
      }
    }
  });

  it('matches `*` if it has every changed entry, and `none` if it has none of them', () => {
    const document = write(NO_DOCUMENT, policyKey('p'), limit(1));
    const changes = (...names: string[]): Map<string, EntryValue> =>
      new Map(names.map((name) => [policyKey(name), limit(2)]));
    const matches = (names: string[], tag: string): boolean => isTagged(document, changes(...names), [tag]);
    expect([['p'], ['p', 'q'], ['q']].map((names) => matches(names, '*'))).to.deep.equal([true, false, false]);
    expect([['p'], ['p', 'q'], ['q']].map((names) => matches(names, NOTHING_YET))).to.deep.equal([false, false, true]);
    expect(matches(['p'], '1')).to.equal(true);
    expect(matches(['p'], '2')).to.equal(false);
  });

  it('keeps its version if nothing changes', () => {
    const document = write(NO_DOCUMENT, policyKey('p'), limit(1));
    expect(write(document, policyKey('p'), limit(1), 'b:1')).to.equal(document);
    expect(write(document, policyKey('x'), null)).to.equal(document);
    expect(write(document, policyKey('p'), limit(2)).version).to.equal(document.version + 1);
  });

  it('is one of two that are merged if it has all of both at the higher version, else it has a version of its own', () => {
    const [p, q] = [policyKey('p'), policyKey('q')].map((key): [string, Entry] => {
      return [key, { value: limit(1), version: 1, writer: 'a:1' }];
    }) as [[string, Entry], [string, Entry]];
    const of = (version: number, ...entries: [string, Entry][]): PolicyDocument =>
      documentOf(version, new Map(entries));
    for (const [one, other, version] of [
      [of(2, p, q), of(1, p), 2],
      [of(2, p, q), of(1, q), 2],
      [of(5, p), of(3, p), 5],
      [of(5), of(3), 5],
    ] as const) {
      expect(merge(one, other)).to.equal(one);
      expect(merge(other, one)).to.equal(one);
      expect(one.version).to.equal(version);
    }
    for (const [one, other, version] of [
      [of(1, p), of(1, q), 2],
      [of(3, p), of(1, p, q), 4],
      [of(2, p), of(2, p, q), 3],
      [of(4, p), of(3, q), 5],
    ] as const) {
      for (const merged of [merge(one, other), merge(other, one)]) {
        expect([merged.version, merged.entries.size]).to.deep.equal([version, 2]);
      }
    }
  });

  it('matches any one of the tags of a condition: its version, with or without its digest, or what is there', () => {
    const document = write(write(NO_DOCUMENT, policyKey('p'), limit(1)), policyKey('q'), limit(2));
    const gone = write(document, policyKey('q'), null);
    const of = (...names: string[]) => new Map(names.map((name) => [policyKey(name), null] as const));
    const { version, digest } = document;
    for (const [changes, tags, matches] of [
      [of('p'), undefined, true],
      [of('p'), [], false],
      [of('p'), [`${version}`], true],
      [of('p'), [`${version - 1}`], false],
      [of('p'), [`${version}-${digest}`], true],
      [of('p'), [`${version}-${digest}0`], false],
      [of('p'), [`-${digest}`, ''], false],
      [of('p'), ['1', `${version}`, '7'], true],
      [of('p', 'q'), ['*'], true],
      [of('p', 'x'), ['*'], false],
      [of('p', 'x'), [NOTHING_YET], false],
      [of('x', 'y'), [NOTHING_YET], true],
    ] as const) {
      expect(isTagged(document, changes, tags), String(tags)).to.equal(matches);
    }
    expect(isTagged(gone, of('q'), ['*'])).to.equal(false);
    expect(isTagged(gone, of('q'), [NOTHING_YET])).to.equal(true);
  });

  it('ignores, when it is put in force, what it does not know and what refers to a policy that is gone', () => {
    const document = documentOf(
      1,
      new Map<string, Entry>(
        [
          ['policy p', limit(1)],
          ['policy gone', null],
          ['default', 'gone'],
          ['tier alice', 'pro'],
          ['tier bob', null],
          ['list mallory', 'deny'],
          ['override p alice', { limit: 5 }],
          ['override p two words', { limit: 6 }],
          ['override gone alice', { limit: 7 }],
          ['file', '0123456789abcdef'],
          ['of tomorrow', 'x'],
          ['tomorrow', 'x'],
        ].map(([key, value]) => [key as string, { value: value as EntryValue | null, version: 1, writer: 'a:1' }]),
      ),
    );
    const { policies, tiers, listed, overrides, default: standard } = policySetOf(document);
    expect([...policies.keys()]).to.deep.equal(['p']);
    expect([...tiers]).to.deep.equal([['alice', 'pro']]);
    expect([...listed]).to.deep.equal([['mallory', 'deny']]);
    expect([...overrides].map(([name, of]) => [name, [...of.keys()]])).to.deep.equal([['p', ['alice', 'two words']]]);
    expect(standard).to.equal(undefined);
    expect(policySetOf(write(document, defaultKey(), 'p')).default).to.equal('p');
    expect(policySetOf(NO_DOCUMENT).policies.size).to.equal(0);
  });

  it('has a digest of 16 digits, and another if anything differs', () => {
    expect(write(NO_DOCUMENT, policyKey('p'), limit(1)).digest).to.match(/^[\da-f]{16}$/);
    const a = write(NO_DOCUMENT, policyKey('p'), limit(1));
    expect(documentOf(a.version, new Map(a.entries)).digest).to.equal(a.digest);
    for (const other of [
      write(NO_DOCUMENT, policyKey('p'), limit(2)),
      write(NO_DOCUMENT, policyKey('q'), limit(1)),
      write(NO_DOCUMENT, policyKey('p'), limit(1), 'b:1'),
      documentOf(2, a.entries),
    ]) {
      expect(other.digest).not.to.equal(a.digest);
    }
  });
});

describe('a policy', () => {
  const file: PolicyFileText = {
    policies: {
      api: { limit: 10, window: '1m' },
      login: {
        limits: [
          { limit: 5, window: '1m' },
          { limit: 50, window: '1d', algorithm: 'sliding-window' },
        ],
      },
      tiered: {
        tiers: { free: { limit: 10, window: '1m' }, pro: { limit: 100, window: '1m', burst: 200 } },
        defaultTier: 'free',
      },
    },
    default: 'api',
    clients: {
      alice: { tier: 'pro', overrides: { api: { limit: 7 }, tiered: { limit: 1000, window: '1s' } } },
      bob: { tier: 'pro' },
      carol: { tier: 'gold' },
      ['__proto__']: { overrides: { api: { limit: 3 } } },
    },
    allow: ['probe'],
    deny: ['mallory'],
  };
  const setOf = (text: PolicyFileText): PolicySet => policySetOf(change(NO_DOCUMENT, entriesOf(text), 'a:1'));
  const figures = (name: string, clientId: string, set = setOf(file)): unknown[] =>
    rulesFor(set, set.policies.get(name)!, clientId).map(({ limit: n, windowMs, capacity }) => [n, windowMs, capacity]);

  it('is valid as in the example file', () => {
    expect(checkPolicyFile(file)).to.deep.equal([]);
  });

  it('gives a client its override, else the limit of its tier, else the limit of the policy', () => {
    expect(figures('api', 'dave')).to.deep.equal([[10, 60_000, 10]]);
    expect(figures('api', 'alice')).to.deep.equal([[7, 60_000, 7]]);
    expect(figures('api', '__proto__')).to.deep.equal([[3, 60_000, 3]]);
    expect(figures('login', 'alice')).to.deep.equal([
      [5, 60_000, 5],
      [50, 86_400_000, 50],
    ]);
    expect(figures('tiered', 'alice')).to.deep.equal([[1000, 1_000, 1000]]);
    expect(figures('tiered', 'bob')).to.deep.equal([[100, 60_000, 200]]);
    expect(figures('tiered', 'carol')).to.deep.equal([[10, 60_000, 10]]);
    expect(figures('tiered', 'dave')).to.deep.equal([[10, 60_000, 10]]);
  });

  it('has its limits, windows, algorithms, bursts, and terms as they are written', () => {
    const text: PolicyFileText = {
      policies: {
        plain: { limit: 10, window: 500 },
        burst: { limit: 10, windowMs: 500, burst: 30, shadow: true, onUnavailable: 'open', durability: 'async' },
        sliding: { limit: 10, window: '1h', algorithm: 'sliding-window', durability: 'replicated' },
        load: { limit: 10, window: '1s', adaptive: { target: 0.7, min: 0.1 } },
      },
      clients: {
        own: {
          overrides: {
            sliding: { limit: 4 },
            plain: { limit: 4, window: '1m' },
            burst: { limit: 4, windowMs: 7, algorithm: 'sliding-window' },
            load: { limit: 4, burst: 9 },
          },
        },
      },
    };
    const set = setOf(text);
    const terms = [...set.policies.values()].map(({ shadow, onUnavailable, replicated, adaptive }) => {
      return [shadow, onUnavailable, replicated, adaptive];
    });
    expect(terms).to.deep.equal([
      [false, undefined, false, undefined],
      [true, 'open', false, undefined],
      [false, undefined, true, undefined],
      [false, undefined, false, { target: 0.7, min: 0.1 }],
    ]);
    const rulesOf = (clientId: string): unknown[] =>
      [...set.policies.values()].map((policy) => rulesFor(set, policy, clientId)[0]);
    const rule = (policy: string, algorithm: string, limit: number, windowMs: number, capacity: number): object => {
      return { algorithm, limit, windowMs, capacity, policy, scope: undefined };
    };
    expect(rulesOf('dave')).to.deep.equal([
      rule('plain', 'token-bucket', 10, 500, 10),
      rule('burst', 'token-bucket', 10, 500, 30),
      rule('sliding', 'sliding-window', 10, 3_600_000, 10),
      rule('load', 'token-bucket', 10, 1_000, 10),
    ]);
    expect(rulesOf('own')).to.deep.equal([
      rule('plain', 'token-bucket', 4, 60_000, 4),
      rule('burst', 'sliding-window', 4, 7, 4),
      rule('sliding', 'sliding-window', 4, 3_600_000, 4),
      rule('load', 'token-bucket', 4, 1_000, 9),
    ]);
  });

  it('has the default policy and the allow and deny lists', () => {
    const set = setOf(file);
    expect(set.default).to.equal('api');
    expect([...set.listed]).to.have.deep.members([
      ['probe', 'allow'],
      ['mallory', 'deny'],
    ]);
  });

  it('that is deleted takes its overrides and the default with it, until it is written again', () => {
    const document = change(NO_DOCUMENT, entriesOf(file), 'a:1');
    const without = write(document, policyKey('api'), null);
    expect(policySetOf(without).default).to.equal(undefined);
    expect(policySetOf(without).overrides.has('api')).to.equal(false);
    expect(policySetOf(write(without, policyKey('api'), limit(9))).default).to.equal('api');
  });

  it('is refused with the name of each wrong field', () => {
    const wrong = {
      policies: {
        'a b': { limit: 1, window: '1m' },
        none: {},
        text: 'x',
        api: {
          limit: -1,
          window: '1 minute',
          burst: 0,
          algorithm: 'leaky',
          shadow: 'yes',
          onUnavailable: 'fail',
          x: 1,
        },
        both: { limit: 1, window: '1m', windowMs: 5 },
        twins: { limits: [{ limit: 1, window: '60s' }, { limit: 2, windowMs: 60_000 }, { limit: 3 }] },
        burst: { limit: 1, window: '1m', burst: 4, algorithm: 'sliding-window' },
        tiers: { limit: 4, tiers: { free: { limit: 1.5, window: '1m' } }, defaultTier: 'gold' },
        load: { limit: 1, window: 1, adaptive: { target: 2, min: 0, speed: 3 }, durability: 'disk' },
      },
      default: 'nothing',
      allow: ['x', ''],
      deny: ['x', '\ud800'],
      extra: true,
    };
    expect(checkPolicyFile(wrong).map(({ field }) => field)).to.have.members([
      'extra',
      'policies.a b',
      'policies.none.limit',
      'policies.none.window',
      'policies.text',
      'policies.api.limit',
      'policies.api.window',
      'policies.api.burst',
      'policies.api.algorithm',
      'policies.api.shadow',
      'policies.api.onUnavailable',
      'policies.api.x',
      'policies.both.windowMs',
      'policies.twins.limits[1].window',
      'policies.twins.limits[2].window',
      'policies.burst.burst',
      'policies.tiers.limit',
      'policies.tiers.tiers.free.limit',
      'policies.tiers.defaultTier',
      'policies.load.adaptive.target',
      'policies.load.adaptive.min',
      'policies.load.adaptive.speed',
      'policies.load.durability',
      'default',
      'allow[1]',
      'deny[0]',
      'deny[1]',
    ]);
    for (const value of [null, 5, [], 'x']) expect(checkPolicyFile(value)).to.have.length(1);
  });

  it('is refused if there are too many', () => {
    const many = (count: number): object =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { limit: 1, window: 1 }]));
    expect(checkPolicyFile({ policies: many(1_000) })).to.deep.equal([]);
    expect(checkPolicyFile({ policies: many(1_001) }).map(({ field }) => field)).to.deep.equal(['policies']);
    const allow = Array.from({ length: 20_000 }, (_, i) => `client ${i}`);
    expect(checkPolicyFile({ allow: allow.slice(1) })).to.deep.equal([]);
    expect(checkPolicyFile({ allow }).map(({ field }) => field)).to.deep.equal(['file']);
    const document = change(
      NO_DOCUMENT,
      new Map([...Array(1_000).keys()].map((i) => [policyKey(`p${i}`), limit(1)])),
      'a:1',
    );
    const lists = new Map(Array.from({ length: 19_000 }, (_, i) => [listKey(`client ${i}`), 'allow'] as const));
    expect(hasRoomFor(document, lists)).to.equal(true);
    expect(hasRoomFor(document, new Map([...lists, [listKey('one more'), 'allow']]))).to.equal(false);
    expect(hasRoomFor(document, new Map([[policyKey('p1'), limit(2)]]))).to.equal(true);
    expect(hasRoomFor(document, new Map([[policyKey('q'), limit(2)]]))).to.equal(false);
    expect(
      hasRoomFor(
        document,
        new Map([
          [policyKey('q'), limit(2)],
          [policyKey('p1'), null],
        ]),
      ),
    ).to.equal(true);
  });

  it('is refused if the document becomes too large for one message, unless it makes it smaller', () => {
    const tiers = (count: number): EntryValue => ({
      tiers: Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, { limits: LONG }])),
      defaultTier: 't0',
    });
    let document = NO_DOCUMENT;
    for (let i = 0; i < 1_000; i += 100) {
      const hundred = new Map(Array.from({ length: 100 }, (_, n) => [policyKey(`p${i + n}`), tiers(32)]));
      if (!hasRoomFor(document, hundred)) break;
      document = change(document, hundred, 'a:1');
    }
    const { entries, bytes } = document;
    expect(JSON.stringify([...entries]).length).to.be.within(5 * 1024 * 1024, 8 * 1024 * 1024);
    expect(bytes).to.be.within(5 * 1024 * 1024, 7 * 1024 * 1024);
    const full = { ...document, bytes: 8 * 1024 * 1024 };
    expect(hasRoomFor(full, new Map([[policyKey('p1'), tiers(31)]]))).to.equal(true);
    expect(hasRoomFor(full, new Map([[policyKey('p1'), null]]))).to.equal(true);
    expect(hasRoomFor(full, new Map([['tier alice', 'gold']]))).to.equal(false);
    const policies = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`p${i}`, tiers(32)]));
    expect(checkPolicyFile({ policies }).map(({ field }) => field)).to.deep.equal(['file']);
  });

  it('is accepted in a full document if it is no larger than what it replaces', () => {
    const small = change(NO_DOCUMENT, new Map([[policyKey('p'), limit(5)]]), 'a:1');
    const full = { ...small, bytes: 8 * 1024 * 1024 };
    const has = (key: string, value: EntryValue | null): boolean => hasRoomFor(full, new Map([[key, value]]));
    expect([limit(7), limit(50), null].map((value) => has(policyKey('p'), value))).to.deep.equal([true, false, true]);
    expect([limit(7), null].map((value) => has(policyKey('q'), value))).to.deep.equal([false, false]);
  });

  it('is refused if it exceeds the bytes that a node of less memory plans with', () => {
    const document = change(NO_DOCUMENT, new Map([[policyKey('p'), limit(1)]]), 'a:1');
    const more = new Map([[policyKey('q'), limit(2)]]);
    const { bytes } = change(document, more, 'a:1');
    expect(hasRoomFor(document, more, bytes + 10)).to.equal(true);
    expect(hasRoomFor(document, more, bytes - 10)).to.equal(false);
    expect(checkPolicyFile({ policies: { p: limit(1) } }, 100)).to.deep.equal([]);
    expect(checkPolicyFile({ policies: { p: limit(1), q: limit(1), r: limit(1) } }, 100)).to.deep.equal([
      {
        field: 'file',
        expected: 'at most 100 bytes of all, as JSON, or give the node more memory',
        detail:
          'file: too much for all policies together; use at most 100 bytes of all, as JSON, or give the node more memory',
      },
    ]);
  });

  it('may be named by the clients of its file, whose overrides may use its window', () => {
    const policies = { many: file.policies!['login']!, one: file.policies!['api']! };
    const fields = (clients: unknown): string[] => checkPolicyFile({ policies, clients }).map(({ field }) => field);
    expect(fields({ a: { overrides: { one: { limit: 1 } } } })).to.deep.equal([]);
    expect(fields({ a: { overrides: { many: { limit: 1 } } } })).to.deep.equal(['clients.a.overrides.many.window']);
    expect(fields({ a: { overrides: { other: { limit: 1, window: 1 } } } })).to.deep.equal([
      'clients.a.overrides.other',
    ]);
    expect(fields({ a: { tier: '', more: 1 }, b: 7 })).to.deep.equal(['clients.a.more', 'clients.a.tier', 'clients.b']);
  });

  it('is accepted from peers and files only in a valid form', () => {
    const good: [string, unknown][] = [
      [policyKey('p'), limit(1)],
      [policyKey('p'), null],
      [overrideKey('p', 'a client with spaces'), { limit: 3 }],
      [tierKey('x'), 'pro'],
      [listKey('x'), 'deny'],
      [envoyKey('my domain'), [{ entries: ['a'], policy: 'p' }]],
      [defaultKey(), 'p'],
      [fileKey(), '0123456789abcdef'],
      [listKey('x'), 'allow'],
      ...[listKey('x'), tierKey('x'), overrideKey('p', 'x'), defaultKey()].map((key): [string, null] => [key, null]),
    ];
    for (const [key, value] of good) expect(isEntry(key, value), key).to.equal(true);
    const bad: [unknown, unknown][] = [
      ['policy ', limit(1)],
      ['policy p', {}],
      ['policy p', 'x'],
      ['override p ', { limit: 3 }],
      ['override p', { limit: 3 }],
      ['override p x', {}],
      ['override p! x', { limit: 3 }],
      ['tier x', 5],
      ['list x', 'maybe'],
      ['default x', 'p'],
      ['default ', 'p'],
      ['default', 5],
      ['list x', true],
      ['other', null],
      ['file', null],
      ['file ', '0123456789abcdef'],
      ['file', '0123456789abcdefa'],
      ['file', 'a0123456789abcdef'],
      ['file', 1_234_567_890_123_456],
      ['file', '0123456789ABCDEF'],
      ['tier \ud800', 'pro'],
      [5, null],
      [`tier ${'x'.repeat(257)}`, 'pro'],
      ['envoy ', [{ entries: ['a'], policy: 'p' }]],
      [envoyKey('edge'), [{ entries: ['a'] }]],
    ];
    for (const [key, value] of bad) expect(isEntry(key, value), String(key)).to.equal(false);
  });

  it('keeps the rules for Envoy, written and read again, and puts them in force', () => {
    const rules = [{ entries: ['user'], policy: 'p', shadow: true }];
    const file: PolicyFileText = { policies: { p: { limit: 1, window: '1m' } }, envoy: { 'my domain': rules } };
    const document = change(NO_DOCUMENT, entriesOf(file), 'a:1');
    const again = readWritten(JSON.parse(JSON.stringify(writtenOf(document))));
    expect(again.digest).to.equal(document.digest);
    const domain = policySetOf(again).envoy.get('my domain')!;
    expect(findRule(domain, [{ key: 'user', value: 'x' }])).to.include({ policy: 'p', shadow: true });
    const gone = change(document, new Map([[envoyKey('my domain'), null]]), 'a:1');
    expect(policySetOf(gone).envoy.size).to.equal(0);
  });
});
