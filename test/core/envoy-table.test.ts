import { expect } from 'chai';
import { isClientId } from '../../src/limits/client-id.js';
import {
  defaultClientId,
  envoyDomainOf,
  findRule,
  type DescriptorEntry,
  type EnvoyRuleText,
} from '../../src/policy/envoy-table.js';

const entriesOf = (...pairs: string[]): DescriptorEntry[] =>
  pairs.map((pair) => {
    const at = pair.indexOf('=');
    return { key: pair.slice(0, at), value: pair.slice(at + 1) };
  });

const found = (rules: EnvoyRuleText[], ...pairs: string[]): string | undefined =>
  findRule(envoyDomainOf('edge', rules), entriesOf(...pairs))?.policy;

const idOf = (rule: Partial<EnvoyRuleText> & Pick<EnvoyRuleText, 'entries'>, ...pairs: string[]): string =>
  findRule(envoyDomainOf('edge', [{ policy: 'p', ...rule }]), entriesOf(...pairs))!.clientId(entriesOf(...pairs));

describe('the rules of a domain of Envoy', () => {
  it('match the entries in their order and number', () => {
    const rules = [
      { entries: ['a', 'b'], policy: 'both' },
      { entries: ['a'], policy: 'one' },
    ];
    expect(found(rules, 'a=1', 'b=2')).to.equal('both');
    expect(found(rules, 'a=1')).to.equal('one');
    expect(found(rules, 'b=2', 'a=1')).to.equal(undefined);
    expect(found(rules, 'a=1', 'b=2', 'c=3')).to.equal(undefined);
    expect(found(rules, 'b=2')).to.equal(undefined);
  });

  it('apply in order, so that the first match wins', () => {
    const rules = [
      { entries: ['path=/login'], policy: 'login' },
      { entries: ['path=/api/*'], policy: 'api' },
      { entries: ['path'], policy: 'rest' },
    ];
    expect(found(rules, 'path=/login')).to.equal('login');
    expect(found(rules, 'path=/api/users')).to.equal('api');
    expect(found(rules, 'path=/login/')).to.equal('rest');
    expect(found(rules, 'path=')).to.equal('rest');
  });

  it('take * for any characters, at any place and several times', () => {
    const matches = (pattern: string, value: string): boolean =>
      found([{ entries: [`k=${pattern}`], policy: 'p' }], `k=${value}`) === 'p';
    expect(matches('value*', 'value')).to.equal(true);
    expect(matches('value*', 'valu')).to.equal(false);
    expect(matches('/api/*/action', '/api/123/action')).to.equal(true);
    expect(matches('/api/*/action', '/api//action')).to.equal(true);
    expect(matches('/api/*/action', '/api/action')).to.equal(false);
    expect(matches('/api/*/action', '/api/123/other')).to.equal(false);
    expect(matches('/api/*/resource/*/action', '/api/v1/resource/123/action')).to.equal(true);
    expect(matches('/api/*/resource/*/action', '/api/v1/resource/action')).to.equal(false);
    expect(matches('*ab*ab*', 'abab')).to.equal(true);
    expect(matches('*ab*ab*', 'aba')).to.equal(false);
    expect(matches('a*a', 'a')).to.equal(false);
    expect(matches('*', '')).to.equal(true);
    expect(matches('a.c', 'abc')).to.equal(false);
  });

  it('do not take a key with the separator of the table for two keys', () => {
    expect(found([{ entries: ['a', 'b'], policy: 'p' }], 'a\0b=1')).to.equal(undefined);
    expect(found([{ entries: ['a', 'b', 'c'], policy: 'p' }], 'a\0b=1', 'c=2')).to.equal(undefined);
  });

  it('name each descriptor of each domain as a client of its own by default', () => {
    expect(idOf({ entries: ['generic_key=login', 'address'] }, 'generic_key=login', 'address=10.0.0.1')).to.equal(
      'edge|generic_key=login|address=10.0.0.1',
    );
    const one = defaultClientId('edge', entriesOf('a=1|b=2'));
    const two = defaultClientId('edge', entriesOf('a=1', 'b=2'));
    expect(one).not.to.equal(two);
    expect(defaultClientId('edge', entriesOf('a=1\\'))).not.to.equal(defaultClientId('edge', entriesOf('a=1')));
  });

  it('make the id of a client from the values of entries', () => {
    expect(idOf({ entries: ['address'], client: '{address}' }, 'address=a|b')).to.equal('a|b');
    expect(idOf({ entries: ['tenant', 'user'], client: 'user:{user}' }, 'tenant=t', 'user=alice')).to.equal(
      'user:alice',
    );
    expect(idOf({ entries: ['path=/files/*'], client: 'files' }, 'path=/files/a')).to.equal('files');
  });

  it('escape several values, so that no value poses as two', () => {
    const rule = { entries: ['a', 'b'], client: '{a}|{b}' };
    expect(idOf(rule, 'a=1|2', 'b=3')).not.to.equal(idOf(rule, 'a=1', 'b=2|3'));
    expect(idOf(rule, 'a=1', 'b=2')).to.equal('1|2');
  });

  it('name a client by a hash where its id would be empty or too long', () => {
    const rule = { entries: ['path'], client: '{path}' };
    const long = idOf(rule, `path=${'x'.repeat(300)}`);
    expect(long).to.match(/^sha256:[\da-f]{64}$/);
    expect(long).not.to.equal(idOf(rule, `path=${'x'.repeat(301)}`));
    expect(isClientId(idOf(rule, 'path='))).to.equal(true);
    expect(idOf({ entries: ['path'] }, `path=${'é'.repeat(130)}`)).to.match(/^sha256:/);
  });
});
