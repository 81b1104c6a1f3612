import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { parseAllDocuments } from 'yaml';
import { envoyDomainOf, findRule } from '../../src/policy/envoy-table.js';
import { checkPolicyFile, type PolicyFileText } from '../../src/policy/policy-file.js';

const [, from = ''] = readFileSync('docs/protocols.md', 'utf8').split("\n## Envoy's rate limit service\n");
const [section = ''] = from.split('\n## ');
const policies = /```json\n(.*?)```/s.exec(section)![1]!;
const configurations = ['envoy', 'istio'].map((name) => readFileSync(`config/gateways/${name}-ratelimit.yaml`, 'utf8'));

describe('the documented configuration of the rate limit service', () => {
  it('is valid: the policies, and each YAML', () => {
    expect(checkPolicyFile(JSON.parse(policies))).to.deep.equal([]);
    for (const text of configurations)
      expect(parseAllDocuments(text).flatMap(({ errors }) => errors)).to.deep.equal([]);
  });

  it('asks only for domains and descriptors that the policies name', () => {
    const { envoy = {} } = JSON.parse(policies) as PolicyFileText;
    for (const text of configurations) {
      const [domain] = [...text.matchAll(/^ *domain: (\w+)$/gm)].map(([, name]) => name!);
      const rules = envoyDomainOf(domain!, envoy[domain!]!);
      const actions = [...text.matchAll(/actions: \[\{ (\w+): \{\} \}\]/g)].map(([, key]) => key!);
      expect(actions).not.to.deep.equal([]);
      for (const key of actions) expect(findRule(rules, [{ key, value: '192.0.2.1' }])?.policy).to.equal('per-address');
    }
  });
});
