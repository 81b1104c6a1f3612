import { expect } from 'chai';
import { checkPolicyFile } from '../../src/core/policy/policy-file.js';

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

  it('refuses domains and lists of other forms', () => {
    const fields = (envoy: unknown): string[] => checkPolicyFile({ policies, envoy }).map(({ field }) => field);
    expect(fields([])).to.deep.equal(['envoy']);
    expect(fields({ edge: {} })).to.deep.equal(['envoy.edge']);
    expect(fields({ edge: [] })).to.deep.equal(['envoy.edge']);
    expect(fields({ '': [{ entries: ['a'], policy: 'api' }] })).to.deep.equal(['envoy.']);
    expect(fields({ edge: ['a'] })).to.deep.equal(['envoy.edge[0]']);
  });
});
