import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { parse } from 'yaml';
import { SETTINGS, variable } from '../../src/app/settings/setting-table.js';
import { readSettings } from '../../src/app/settings/settings.js';

interface Service {
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string | null>>;
}

/** Settings that the file leaves to the image, or to each node; its comment says why. */
const LEFT_OUT = /^TOKENRING_(?:(?:PEER_)?(?:HOST|PORT)|ADVERTISE|TLS_.*)$/;

const text = readFileSync('docker/docker-compose.yml', 'utf8');
const { services } = parse(text) as { readonly services: Readonly<Record<string, Service>> };
const passed = services['node']!.environment!;

/** All assignments of .env.example, also those in comments. */
const example = [...readFileSync('docker/.env.example', 'utf8').matchAll(/^#?([A-Z][A-Z_]*)=(.*)$/gm)].map(
  ([, name, value]) => [name!, value!] as const,
);

describe('the Compose file', () => {
  it('passes on every setting that does not belong to the image or to one node, and no other', () => {
    const names = Object.keys(SETTINGS).map(variable);
    const wanted = [...names.filter((name) => !LEFT_OUT.test(name)), 'TOKENRING_CONFIG'];
    expect(Object.keys(passed).sort()).to.deep.equal(wanted.sort());
  });

  it('takes each value from the environment, except that of a name which it makes itself', () => {
    const own = Object.entries(passed).filter(([name, value]) => value !== null && !value.startsWith(`\${${name}:`));
    expect(own).to.deep.equal([['TOKENRING_DNS_NAME', 'node:9080']]);
  });

  it('uses all that .env.example names, and its profiles', () => {
    const names = new Set([...Object.keys(passed), ...[...text.matchAll(/\$\{(\w+)/g)].map(([, name]) => name!)]);
    const profiles = Object.values(services).flatMap((service) => service.profiles ?? []);
    for (const [name, value] of example) {
      if (name === 'COMPOSE_PROFILES') expect(profiles).to.include(value);
      else expect([...names], name).to.include(name);
    }
    const shown = example.filter(([name]) => name === 'COMPOSE_PROFILES').map(([, value]) => value);
    expect([...new Set(profiles)].sort()).to.deep.equal(shown.sort());
    for (const [, name] of text.matchAll(/\$\{(?!TOKENRING_)(\w+)/g))
      expect(example.map(([one]) => one)).to.include(name);
  });

  it('has a .env.example whose values a node takes, and whose defaults are those of the file', () => {
    const settings = example.filter(([name, value]) => name.startsWith('TOKENRING_') && value !== '');
    const env = { ...Object.fromEntries(settings), TOKENRING_ETCD_ENDPOINTS: 'http://etcd:2379' };
    expect(() => readSettings([], env)).not.to.throw();
    const defaults = new Map([...text.matchAll(/\$\{(\w+):-([^}]*)\}/g)].map(([, name, value]) => [name!, value!]));
    for (const name of ['BALANCER_PUBLISH', 'CONFIG_FOLDER', 'NODE_MEMORY', 'PROMETHEUS_PUBLISH', 'GRAFANA_PUBLISH'])
      expect(example).to.deep.include([name, defaults.get(name)]);
    expect(example).to.deep.include(['TOKENRING_POLICIES_STATE', defaults.get('TOKENRING_POLICIES_STATE')]);
  });
});
