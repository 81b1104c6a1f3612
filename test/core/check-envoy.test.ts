import { expect } from 'chai';
import { checkPolicyFile } from '../../src/policy/policy-file.js';

const policies = { api: { limit: 10, window: '1m' } };
const mistakes = (rule: object): string[] =>
  checkPolicyFile({ policies, envoy: { edge: [rule] } }).map(({ detail }) => detail);

describe('the check of rules for Envoy', () => {
  it('accepts each form of a rule', () => {
    const rules = [
      { entries: ['remote_address'], policy: 'api' },
      { entries: ['generic_key=login', 'path=/a/*'], policy: 'api', client: 'c:{path}', shadow: true, headers: true },
      { entries: ['remote_address=10.0.0.1'], unlimited: true, name: 'probe', replaces: ['api'] },
    ];
    expect(checkPolicyFile({ policies, envoy: { edge: rules, 'a domain': rules } })).to.deep.equal([]);
  });

  it('names the field of each mistake', () => {
    const rows: [object, string][] = [
      [{ policy: 'api' }, 'envoy.edge[0].entries is missing; use a list of 1 to 16 entries'],
      [{ entries: [], policy: 'api' }, 'envoy.edge[0].entries: a list is not valid; use a list of 1 to 16 entries'],
      [
        { entries: ['=x'], policy: 'api' },
        'envoy.edge[0].entries[0]: "=x" is not an entry; use "key", "key=value", or "key=prefix*"',
      ],
      [{ policy: 'api', client: '{a}' }, 'envoy.edge[0].entries is missing; use a list of 1 to 16 entries'],
      [{ entries: ['a'] }, 'envoy.edge[0].policy is missing; use the name of a policy, or unlimited'],
      [
        { entries: ['a'], policy: 'other' },
        'envoy.edge[0].policy: "other" is not valid; use the name of a policy of this file',
      ],
      [
        { entries: ['a'], policy: 'api', unlimited: true },
        'envoy.edge[0].policy is not allowed beside unlimited; remove it',
      ],
      [{ entries: ['a'], unlimited: false }, 'envoy.edge[0].unlimited: false is not valid; use true, or leave it out'],
      [
        { entries: ['a'], policy: 'api', client: '{b}' },
        'envoy.edge[0].client: "{b}" is not an entry of this rule; use {a}',
      ],
      [
        { entries: ['a'], policy: 'api', client: '{a' },
        'envoy.edge[0].client: "{a" is not valid; use {key} with both braces',
      ],
      [{ entries: ['a'], policy: 7 }, 'envoy.edge[0].policy: 7 is not valid; use the name of a policy of this file'],
      [
        { entries: ['a'], policy: 'api', name: 'a b' },
        'envoy.edge[0].name: "a b" is not a name; use letters, digits, "_", ".", ":" and "-", at most 128 of them',
      ],
      [
        { entries: ['a', 'b'], policy: 'api', client: '{c}' },
        'envoy.edge[0].client: "{c}" is not an entry of this rule; use {a} or {b}',
      ],
      [
        { entries: ['a'], policy: 'api', headers: 'yes' },
        'envoy.edge[0].headers: "yes" is not valid; use true or false',
      ],
      [{ entries: ['a'], policy: 'api', shadow: 1 }, 'envoy.edge[0].shadow: 1 is not valid; use true or false'],
      [
        { entries: ['a'], policy: 'api', replaces: 'x' },
        'envoy.edge[0].replaces: "x" is not valid; use a list of at most 16 names of rules',
      ],
      [{ entries: ['a'], policy: 'api', polcy: 'x' }, 'envoy.edge[0]: unknown field "polcy"; did you mean "policy"?'],
    ];
    for (const [rule, expected] of rows) expect(mistakes(rule)).to.deep.equal([expected]);
  });

  it('accepts rules of 127 KiB as JSON in a domain, and no more', () => {
    const of = (bytes: number): { envoy: object; policies: object } => {
      const rules = Array.from({ length: 252 }, (_, i) => ({ entries: [`${i}`.padEnd(480, 'x')], unlimited: true }));
      const more = bytes - JSON.stringify([...rules, { entries: [''], unlimited: true }]).length;
      return { policies, envoy: { edge: [...rules, { entries: ['y'.repeat(more)], unlimited: true }] } };
    };
    expect(checkPolicyFile(of(127 * 1024))).to.deep.equal([]);
    expect(checkPolicyFile(of(127 * 1024 + 1)).map(({ detail }) => detail)).to.deep.equal([
      'envoy.edge: the rules are too long; use at most 130048 bytes as JSON',
    ]);
  });

  it('refuses the same entries twice, as the second rule would never apply', () => {
    const rule = { entries: ['a'], policy: 'api' };
    expect(checkPolicyFile({ policies, envoy: { edge: [rule, rule] } }).map(({ detail }) => detail)).to.deep.equal([
      'envoy.edge[1].entries: the same as envoy.edge[0]; remove one of them',
    ]);
  });

  it('accepts each list and text up to its bound, and no longer one', () => {
    const texts = (count: number, length = 5) => Array.from({ length: count }, (_, i) => `${i}`.padEnd(length, 'x'));
    const rule = (more: object) => ({ entries: ['a'], policy: 'api', ...more });
    const rows: [object, object, string][] = [
      [rule({ replaces: texts(16) }), rule({ replaces: texts(17) }), 'a list of at most 16 names of rules'],
      [rule({ replaces: [] }), rule({ replaces: ['fine', 'a b'] }), 'a list of at most 16 names of rules'],
      [rule({ entries: texts(16) }), rule({ entries: texts(17) }), 'a list of 1 to 16 entries'],
      [rule({ entries: texts(1, 512) }), rule({ entries: texts(1, 513) }), '"key", "key=value", or "key=prefix*"'],
      [rule({}), rule({ entries: [7] }), '"key", "key=value", or "key=prefix*"'],
      [
        rule({ client: 'x'.repeat(256) }),
        rule({ client: 'x'.repeat(257) }),
        'a text of 1 to 256 bytes, with {key} for the value of an entry',
      ],
      [rule({}), rule({ client: 7 }), 'a text of 1 to 256 bytes, with {key} for the value of an entry'],
      [rule({}), rule({ client: '' }), 'a text of 1 to 256 bytes, with {key} for the value of an entry'],
    ];
    for (const [valid, invalid, expected] of rows) {
      expect(checkPolicyFile({ policies, envoy: { edge: [valid] } })).to.deep.equal([]);
      expect(mistakes(invalid).map((detail) => detail.slice(detail.indexOf('; use ') + 6))).to.deep.equal([expected]);
    }
    const many = (count: number) => ({ edge: texts(count).map((entry) => ({ entries: [entry], policy: 'api' })) });
    expect(checkPolicyFile({ policies, envoy: many(1_000) })).to.deep.equal([]);
    expect(checkPolicyFile({ policies, envoy: many(1_001) }).map(({ expected }) => expected)).to.deep.equal([
      'a list of 1 to 1000 rules',
    ]);
  });

  it('refuses domains and lists of other forms', () => {
    const fields = (envoy: unknown): string[] => checkPolicyFile({ policies, envoy }).map(({ field }) => field);
    const expected = (envoy: unknown): string[] => checkPolicyFile({ policies, envoy }).map((one) => one.expected);
    expect(expected([])).to.deep.equal(['an object of rules by domain']);
    expect(expected({ '': [{ entries: ['a'], policy: 'api' }] })).to.deep.equal([
      '1 to 128 bytes of well-formed Unicode',
    ]);
    expect(expected({ edge: ['a'] })).to.deep.equal(['an object with entries and a policy']);
    const rule = { entries: ['a'], policy: 'api' };
    expect(expected({ edge: [rule, rule] })).to.deep.equal(['other entries than envoy.edge[0]']);
    expect(fields({ edge: [rule, rule] })).to.deep.equal(['envoy.edge[1].entries']);
    expect(checkPolicyFile({ policies, envoy: { '': [rule] } }).map(({ detail }) => detail)).to.deep.equal([
      'envoy.: "" is not a domain; use 1 to 128 bytes of well-formed Unicode',
    ]);
    expect(fields([])).to.deep.equal(['envoy']);
    expect(fields({ edge: {} })).to.deep.equal(['envoy.edge']);
    expect(fields({ edge: [] })).to.deep.equal(['envoy.edge']);
    expect(fields({ '': [{ entries: ['a'], policy: 'api' }] })).to.deep.equal(['envoy.']);
    expect(fields({ edge: ['a'] })).to.deep.equal(['envoy.edge[0]']);
  });
});
