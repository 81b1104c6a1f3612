import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Settings } from '../src/app/settings/setting-table.js';
import { publicUrlOf, reachableAt, readSettings, SettingsError } from '../src/app/settings/settings.js';

/** Each setting that takes plain text: what a good one means, some bad ones, and what is expected. */
const SETTINGS: [name: keyof Settings, good: [text: string, value: unknown], bad: string[], expected: string][] = [
  ['host', ['0.0.0.0', '0.0.0.0'], ['', 'a b', 'http://x', 'x/y'], 'a host name or address'],
  ['port', ['8081', 8081], ['', '-1', '65536', '80.5', '0x50', '1e3', ' 80', '80\n', 'http'], '0 to 65535'],
  ['peerHost', ['127.0.0.2', '127.0.0.2'], ['', 'a b', '::1]'], 'a host name or address'],
  ['peerPort', ['0', 0], ['65536', 'x', '-0'], '0 to 65535'],
  [
    'advertise',
    ['node-1.local:9080', 'node-1.local:9080'],
    ['node-1', ':9080', 'x:', 'x:0', 'x:99999', '::1:9080', 'x:1:2'],
    'host:port',
  ],
  ['peers', ['a:1, b:2,[::1]:3', ['a:1', 'b:2', '[::1]:3']], ['', 'a', 'a:1,', 'a:1;b:2', 'a:70000'], 'host:port'],
  [
    'publicUrl',
    ['https://limits.example:8443', 'https://limits.example:8443'],
    [
      '',
      'limits.example:8443',
      'http://a:0',
      'http://a/x',
      'http://a:1/',
      'http://u:p@a',
      'http://a b',
      'ftp://a',
      '::1',
    ],
    'http://host:port, https://host:port, or none',
  ],
  [
    'allowedHosts',
    ['ring.example, [2001:db8::1],*', ['ring.example', '[2001:db8::1]', '*']],
    ['', 'a,', 'http://a', 'a:80', 'a b', '*.a', '::1'],
    'host names or addresses',
  ],
  ['discovery', ['static', 'static'], ['', 'Static', 'consul'], 'static or dns or etcd'],
  [
    'etcdEndpoints',
    ['http://a:2379, https://[::1]:2379', ['http://a:2379', 'https://[::1]:2379']],
    ['', 'a:2379', 'http://a', 'ftp://a:1', 'http://a:2379/x', 'http://a:1,'],
    'http://host:port or https://host:port',
  ],
  ['etcdPrefix', ['/a/', '/a/'], ['', '/a', 'a b/', '/\u00e4/'], 'printable ASCII that ends with /'],
  ['etcdLeaseMs', ['10000', 10_000], ['0', '1000', '2500', '1000000', '5s'], 'whole seconds'],
  ['replicas', ['2', 2], ['0', '-1', '99', 'one'], 'a whole number'],
  ['replicationIntervalMs', ['100', 100], ['0', '50ms', '1e3'], 'a whole number'],
  ['suspectAfterMs', ['500', 500], ['1', '1s'], 'a whole number'],
  ['onUnavailable', ['closed', 'closed'], ['', 'fail'], 'local or open or closed'],
  ['maxConnectionsPerAddress', ['100', 100], ['-1', 'none', '1000001', '1e2'], '0 to 1000000'],
  ['maxClients', ['1000', 1000], ['0', '16777217', '1_000', '1k'], '1 to 16777216'],
  ['workers', ['4', 4], ['', '0', '257', 'all', 'AUTO', '2.5'], 'auto or a whole number from 1 to 256'],
  ['workerPort', ['9000', 9000], ['', '-1', '65536', 'auto'], 'a whole number from 0 to 65535, or none'],
  ['policies', ['a/policies.json', 'a/policies.json'], [''], 'the path of a JSON file, or none'],
  ['policiesState', ['none', 'none'], [''], 'a path, or none'],
  ['deniedStatus', ['200', 200], ['0', '403', '2000'], '200 or 429'],
  ['logLevel', ['warn', 'warn'], ['', 'WARN', 'verbose'], 'fatal, error, warn'],
];

const flag = (name: string): string => `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
const variable = (name: string): string => `TOKENRING_${flag(name).slice(2).replaceAll('-', '_').toUpperCase()}`;

function errorOf(args: string[], env: Record<string, string> = {}): string {
  try {
    readSettings(args, env);
  } catch (error) {
    expect(error).to.be.instanceOf(SettingsError);
    expect((error as Error).message).not.to.match(/[\r\n]/);
    return (error as Error).message;
  }
  return expect.fail(`accepted ${args.join(' ')} ${JSON.stringify(env)}`);
}

describe('settings', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  let files = 0;
  function configFile(content: unknown): string {
    files += 1;
    const path = join(folder, `config-${files}.json`);
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  }

  it('are those of the contract where nothing is given', () => {
    expect(readSettings([], { PATH: '/bin' })).to.include({
      host: '127.0.0.1',
      port: 8080,
      peerHost: '127.0.0.1',
      peerPort: 9080,
      advertise: undefined,
      discovery: 'static',
      replicas: 1,
      replicationIntervalMs: 50,
      suspectAfterMs: 1000,
      onUnavailable: 'local',
      maxClients: 1_000_000,
      workers: 1,
      deniedStatus: 429,
      adminToken: undefined,
      peerSecret: undefined,
    });
  });

  it('name an address in the way of its family', () => {
    expect(reachableAt('127.0.0.2', 9080)).to.equal('127.0.0.2:9080');
    expect(reachableAt('::1', 9080)).to.equal('[::1]:9080');
    expect(reachableAt('0.0.0.0', 9080)).to.match(/^(?!127\.)[\d.]+:9080$/);
  });

  it('say where callers reach a node, where that can be known', () => {
    const at = { publicUrl: undefined, host: '127.0.0.1', port: 8080, tlsCert: undefined };
    const table: [more: object, id: string, url?: string][] = [
      [{}, '127.0.0.1:9080', 'http://127.0.0.1:8080'],
      [{ host: '::1' }, '[::1]:9080', 'http://[::1]:8080'],
      [{ host: '0.0.0.0' }, '10.0.0.1:9080', 'http://10.0.0.1:8080'],
      [{ host: '::' }, '[2001:db8::1]:9080', 'http://[2001:db8::1]:8080'],
      [{ host: '0.0.0.0', tlsCert: 'a.pem' }, 'node-1.local:9080', 'https://node-1.local:8080'],
      // Callers come by another network than peers.
      [{ host: '192.0.2.1' }, '10.0.0.1:9080', 'http://192.0.2.1:8080'],
      // Only who is on the same machine gets there, and from elsewhere it would be another machine's.
      [{}, '10.0.0.1:9080'],
      [{ host: 'localhost' }, 'node-1.local:9080'],
      [{ port: 0 }, '127.0.0.1:9080'],
      [{ publicUrl: 'https://limits.example' }, '10.0.0.1:9080', 'https://limits.example'],
      [{ publicUrl: 'none', host: '0.0.0.0' }, '10.0.0.1:9080'],
    ];
    for (const [more, id, url] of table) expect(publicUrlOf({ ...at, ...more }, id), id).to.equal(url);
  });

  for (const [name, [text, value], bad, expected] of SETTINGS) {
    it(`${flag(name)} is read from a flag, the environment and the file, or refused with what is expected`, () => {
      const config = configFile({ [name]: text });
      for (const settings of [
        readSettings([flag(name), text], {}),
        readSettings([`${flag(name)}=${text}`], {}),
        readSettings([], { [variable(name)]: text }),
        readSettings([], { TOKENRING_CONFIG: config }),
        readSettings(['--config', config], {}),
      ]) {
        expect(settings[name]).to.deep.equal(value);
      }
      for (const wrong of bad) {
        const shown = JSON.stringify(wrong);
        const path = configFile({ [name]: wrong });
        for (const [message, from] of [
          [errorOf([`${flag(name)}=${wrong}`]), flag(name)],
          [errorOf([], { [variable(name)]: wrong }), variable(name)],
          [errorOf([], { TOKENRING_CONFIG: path }), `${path}: ${name}`],
        ] as const) {
          expect(message).to.include(`${from}: ${shown} is not valid, expected `).and.to.include(expected);
        }
      }
    });
  }

  it('come from flags before the environment, from that before the file, and from that before defaults', () => {
    const sources = fc.tuple(
      fc.option(fc.nat({ max: 65535 })),
      fc.option(fc.nat({ max: 65535 })),
      fc.option(fc.nat({ max: 65535 })),
    );
    const property = fc.property(sources, ([inFlag, inEnvironment, inFile]) => {
      const args = inFlag === null ? [] : ['--port', String(inFlag)];
      const env: Record<string, string> = inEnvironment === null ? {} : { TOKENRING_PORT: String(inEnvironment) };
      if (inFile !== null) env['TOKENRING_CONFIG'] = configFile({ port: inFile });
      expect(readSettings(args, env).port).to.equal(inFlag ?? inEnvironment ?? inFile ?? 8080);
    });
    fc.assert(property, { numRuns: 100 });
  });

  it('of etcd are refused where they need each other', () => {
    expect(errorOf(['--discovery', 'etcd'])).to.include('TOKENRING_ETCD_ENDPOINTS');
    expect(errorOf(['--strict', 'true']))
      .to.include('TOKENRING_STRICT')
      .and.to.include('TOKENRING_DISCOVERY etcd');
    const etcd = ['--discovery', 'etcd', '--etcd-endpoints', 'http://127.0.0.1:2379'];
    expect(errorOf([...etcd, '--etcd-user', 'a'])).to.include('TOKENRING_ETCD_PASSWORD');
    expect(errorOf([...etcd, '--etcd-password', 'hidden']))
      .to.include('TOKENRING_ETCD_USER')
      .and.not.to.include('hidden');
    expect(errorOf(['--etcd-password', ''])).not.to.include('""');
    expect(readSettings([...etcd, '--strict', 'true'], {})).to.include({ strict: true, etcdPrefix: '/tokenring/' });
  });

  it('are refused by name where they are unknown', () => {
    expect(errorOf(['--prot', '1'])).to.equal('--prot: there is no such setting; did you mean --port?');
    expect(errorOf(['8080'])).to.include('8080');
    expect(errorOf([], { TOKENRING_PROT: '1' })).to.equal(
      'TOKENRING_PROT: there is no such setting; did you mean TOKENRING_PORT?',
    );
    expect(errorOf([], { TOKENRING_: '1' })).to.include('TOKENRING_');
    expect(errorOf([], { TOKENRING_CONFIG: configFile({ prot: 1 }) })).to.include('"prot"');
    expect(errorOf([], { TOKENRING_CONFIG: configFile('{"__proto__":1}') })).to.include('"__proto__"');
  });

  it('are refused where a flag has no value, or one that looks like a flag', () => {
    expect(errorOf(['--port']))
      .to.include('--port')
      .and.to.include('argument missing');
    expect(errorOf(['--port', '-1'])).to.include('--port=');
    expect(errorOf(['--port', '--host', 'x'])).to.include('--port');
  });

  it('are refused where the file cannot be read, or is no object of settings', () => {
    expect(errorOf([], { TOKENRING_CONFIG: '/nowhere/x.json' }))
      .to.include('/nowhere/x.json')
      .and.to.include('ENOENT');
    expect(errorOf([], { TOKENRING_CONFIG: '' })).to.include('TOKENRING_CONFIG');
    for (const content of [
      '',
      '{',
      '[]',
      'null',
      '7',
      '"x"',
      '{"port":null}',
      '{"port":[1]}',
      '{"port":{}}',
      '{\n"port":\n1,\n}',
    ]) {
      const path = configFile(content);
      expect(errorOf([], { TOKENRING_CONFIG: path }))
        .to.include(path)
        .and.to.include('expected');
    }
  });

  it('do not let others than this machine be peers without a secret', () => {
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.org', '127.0.0.1.example.org']) {
      expect(errorOf(['--peer-host', host]))
        .to.include('TOKENRING_PEER_HOST')
        .and.to.include('TOKENRING_PEER_SECRET');
      expect(readSettings(['--peer-host', host, '--peer-secret', 's'], {}).peerHost).to.equal(host);
    }
    for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '::1']) {
      expect(readSettings(['--peer-host', host], {}).peerHost).to.equal(host);
    }
  });

  it('count the cores where there are to be as many workers as these', () => {
    expect(readSettings(['--workers', 'auto'], {}).workers).to.equal(availableParallelism());
  });

  it('are refused where there is no port for each worker', () => {
    expect(readSettings(['--workers', '4', '--peer-port', '65532'], {}).peerPort).to.equal(65_532);
    expect(errorOf(['--workers', '4', '--peer-port', '65533'])).to.include('TOKENRING_PEER_PORT');
    expect(errorOf(['--workers', '4', '--advertise', 'x:65533'])).to.include('TOKENRING_ADVERTISE');
    expect(readSettings(['--workers', '4', '--advertise', '[::1]:65532'], {}).advertise).to.equal('[::1]:65532');
    expect(readSettings(['--workers', '4', '--worker-port', '65532'], {}).workerPort).to.equal(65_532);
    expect(errorOf(['--workers', '4', '--worker-port', '65533'])).to.include('TOKENRING_WORKER_PORT');
    expect(readSettings(['--workers', '4', '--port', '65531'], {}).port).to.equal(65_531);
    expect(errorOf(['--workers', '4', '--port', '65532'])).to.include('TOKENRING_PORT: port 65532 is not valid');
    expect(readSettings(['--workers', '4', '--port', '65535', '--worker-port', 'none'], {}).port).to.equal(65_535);
    expect(readSettings(['--port', '65535'], {}).port).to.equal(65_535);
  });

  it('are refused where one needs another', () => {
    expect(errorOf(['--discovery', 'dns'])).to.include('TOKENRING_DNS_NAME');
    const pem = configFile('pem');
    expect(errorOf(['--tls-cert', pem])).to.include('TOKENRING_TLS_KEY');
    expect(errorOf(['--peer-tls-key', pem])).to.include('TOKENRING_PEER_TLS_CERT');
    expect(errorOf(['--peer-tls-require-client-cert', 'true'])).to.include('TOKENRING_PEER_TLS_REQUIRE_CLIENT_CERT');
    expect(errorOf(['--tls-cert', '/nowhere.pem']))
      .to.include('/nowhere.pem')
      .and.to.include('PEM');
  });

  describe('that are secret', () => {
    const SECRET = 'hunter2 \u00e9';

    it('are not shown when they are wrong', () => {
      expect(errorOf(['--admin-token', SECRET]))
        .to.include('--admin-token')
        .and.not.to.include('hunter2');
      expect(errorOf([], { TOKENRING_ADMIN_TOKEN: SECRET })).not.to.include('hunter2');
      const path = configFile({ adminToken: SECRET });
      expect(errorOf([], { TOKENRING_CONFIG: path })).not.to.include('hunter2');
    });

    it('are one secret or several; none empty, twice, more than four, or with white space around it', () => {
      const read = (text: string): unknown => readSettings([], { TOKENRING_PEER_SECRET: text }).peerSecret;
      for (const text of ['hunter2', 'hunter2,hunter3', 'a b,c', 'a,b,c,d']) expect(read(text)).to.equal(text);
      for (const text of [
        '',
        ',',
        'hunter2,',
        ',hunter2',
        'hunter2,,x',
        'hunter2, x',
        'hunter2\n',
        'hunter2,hunter2',
        'hunter2,b,c,d,e',
      ]) {
        expect(errorOf([], { TOKENRING_PEER_SECRET: text }), JSON.stringify(text)).to.equal(
          'TOKENRING_PEER_SECRET: the value given is not valid, expected one secret, or up to 4 different ones ' +
            'separated by commas, none of them empty or with white space around it',
        );
      }
    });

    it('are not shown when the file with them is broken', () => {
      for (const broken of [
        `{"adminToken": hunter2}`,
        `{"adminToken": "hunter2",}`,
        `{"peerSecret": "hunter2`,
        'hunter2',
      ]) {
        expect(errorOf([], { TOKENRING_CONFIG: configFile(broken) })).not.to.include('hunter2');
      }
    });

    it('are not shown beside another that is wrong', () => {
      const env = { TOKENRING_ADMIN_TOKEN: 'hunter2', TOKENRING_PEER_SECRET: 'hunter2', TOKENRING_PORT: 'x' };
      expect(errorOf([], env)).to.include('TOKENRING_PORT').and.not.to.include('hunter2');
    });
  });
});
