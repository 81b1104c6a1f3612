import { expect } from 'chai';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StoreResult } from '../../src/store/store.js';
import { parseRedisAddress } from '../../src/store/redis-address.js';
import { RedisStore } from '../../src/store/redis.js';
import { systemClock } from '../../src/lib/system.js';
import { owing, readAll } from '../support/stored.js';
import { freePort } from '../support/ports.js';
import { startValkey, VALKEY, type Valkey } from '../support/valkey.js';
import { describeWith } from '../support/programs.js';

const HOUR_MS = 3_600_000;
/** Timeout of servers, and of replicas at their primaries. */
const PASSWORD = 'known-here';
const LOGIN = ['--requirepass', PASSWORD, '--masterauth', PASSWORD];
const LOG = { info: () => undefined, warn: () => undefined };

describe('the address of a Redis', () => {
  const parsed = (text: string): object => {
    const { hosts, ...rest } = parseRedisAddress(text)!;
    return { ...rest, hosts: hosts.map(({ host, port }) => `${host} ${port}`).join() };
  };

  it('is a server, a cluster, or the sentinels of one', () => {
    expect(parsed('redis://valkey')).to.include({ kind: 'single', hosts: 'valkey 6379', tls: false, db: 0 });
    expect(parsed('rediss://me:pass%40word@10.0.0.1:6380/3?prefix=a')).to.deep.equal({
      kind: 'single',
      hosts: '10.0.0.1 6380',
      tls: true,
      username: 'me',
      password: 'pass@word',
      db: 3,
      sentinelName: undefined,
      prefix: 'a',
    });
    expect(parsed('redis://:secret@[::1]:1')).to.include({ password: 'secret', username: undefined, hosts: '::1 1' });
    expect(parsed('redis://a,b:7000,c')).to.include({ kind: 'cluster', hosts: 'a 6379,b 7000,c 6379' });
    expect(parsed('redis://a?cluster=true')).to.include({ kind: 'cluster', hosts: 'a 6379' });
    expect(parsed('redis://a,b/2?sentinel=main')).to.include({
      kind: 'sentinel',
      hosts: 'a 26379,b 26379',
      sentinelName: 'main',
      db: 2,
    });
  });

  it('is refused if it is not valid', () => {
    for (const text of [
      'redis:',
      'redis://',
      'http://a',
      'redis://a:0',
      'redis://a:99999',
      'redis://a,/',
      'redis://a/x',
      'redis://a?tls=true',
      'redis://a?cluster=no',
      'redis://a,b/1',
      'redis://a?prefix={x}',
      'redis://a?sentinel=',
      'redis://a b',
    ]) {
      expect(parseRedisAddress(text), text).to.equal(undefined);
    }
  });
});

describeWith('the Redis store, of more than one server,', 'valkey-server', () => {
  const servers: Valkey[] = [];
  const stores: RedisStore[] = [];
  afterEach(async () => {
    await Promise.all(stores.splice(0).map((store) => store.close()));
    await Promise.all(servers.splice(0).map((server) => server.remove()));
  });

  function cli(port: number, ...args: string[]): string {
    const env = { ...process.env, REDISCLI_AUTH: PASSWORD };
    const { status, stdout, stderr } = spawnSync('valkey-cli', ['-p', String(port), ...args], {
      encoding: 'utf8',
      env,
    });
    if (status !== 0) throw new Error(`${stdout}${stderr}`);
    return stdout.trim();
  }

  async function until(what: () => boolean | Promise<boolean>): Promise<void> {
    for (let tries = 0; tries < 300; tries += 1) {
      if (await what()) return;
      await sleep(50);
    }
    throw new Error('it does not come to be');
  }

  async function open(url: string): Promise<RedisStore> {
    const store = await RedisStore.open(parseRedisAddress(url)!, { log: LOG, clock: systemClock });
    stores.push(store);
    return store;
  }

  const clients = Array.from({ length: 300 }, (_, i) => owing(`client ${i}`, 1 + (i % 9), HOUR_MS));

  async function expectWrittenAndRead(url: string): Promise<void> {
    const store = await open(url);
    let result: StoreResult | undefined;
    await until(async () => (result = await store.write(clients, [])).kind === 'done');
    expect(result).to.deep.equal({ kind: 'done', left: [], lost: false });
    const read = await readAll(await open(url));
    expect(read.result).to.include({ kind: 'done' });
    expect(read.clients.size).to.equal(clients.length);
    for (const [id, [bucket]] of clients)
      expect(read.clients.get(id)![0]!.state[0], id).to.be.within(bucket!.state[0]! - 1, bucket!.state[0]!);
  }

  it('reaches a cluster with a password through any of its servers, and uses all of them', async function () {
    this.timeout(40_000);
    const options = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', ...LOGIN];
    for (let i = 0; i < 3; i += 1) servers.push(await startValkey(...options));
    const slots = [0, 5_461, 10_923, 16_384];
    servers.forEach(({ port }, i) =>
      cli(port, 'CLUSTER', 'ADDSLOTSRANGE', String(slots[i]), String(slots[i + 1]! - 1)),
    );
    for (const { port } of servers.slice(1)) cli(port, 'CLUSTER', 'MEET', '127.0.0.1', String(servers[0]!.port));
    await until(() => servers.every(({ port }) => cli(port, 'CLUSTER', 'INFO').includes('cluster_state:ok')));
    await expectWrittenAndRead(`redis://:${PASSWORD}@127.0.0.1:${servers[1]!.port}?cluster=true`);
    for (const { port } of servers) expect(Number(cli(port, 'DBSIZE'))).to.be.above(20);
  });

  it('finds a primary with a password through its sentinels, and follows it to the next one', async function () {
    this.timeout(60_000);
    const [primary, replica] = [await startValkey(...LOGIN), await startValkey(...LOGIN)];
    servers.push(primary, replica);
    cli(replica.port, 'REPLICAOF', '127.0.0.1', String(primary.port));
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-sentinel-'));
    const port = await freePort();
    const config = join(folder, 'sentinel.conf');
    writeFileSync(
      config,
      `port ${port}\nbind 127.0.0.1\ndir ${folder}\nsentinel monitor main 127.0.0.1 ${primary.port} 1\n` +
        `sentinel auth-pass main ${PASSWORD}\n` +
        'sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n',
    );
    const sentinel: ChildProcess = spawn(VALKEY, [config, '--sentinel'], { stdio: 'ignore' });
    const atEnd = (): boolean => sentinel.kill('SIGKILL');
    process.once('exit', atEnd);
    try {
      await until(() => {
        try {
          return cli(port, 'SENTINEL', 'REPLICAS', 'main').includes(String(replica.port));
        } catch {
          return false;
        }
      });
      const url = `redis://:${PASSWORD}@127.0.0.1:${port}?sentinel=main`;
      await expectWrittenAndRead(url);
      const store = stores[0]!;
      await until(() => Number(cli(replica.port, 'DBSIZE')) === Number(cli(primary.port, 'DBSIZE')));
      await primary.kill();
      const [first] = clients;
      await until(async () => {
        const result = await store.write([owing(first![0], 9, HOUR_MS)], []);
        return result.kind === 'done' && result.left.length === 0;
      });
      expect(cli(replica.port, 'ROLE')).to.include('master');
      expect((await readAll(await open(url))).clients.size).to.equal(clients.length);
    } finally {
      atEnd();
      process.off('exit', atEnd);
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
