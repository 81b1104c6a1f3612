import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LastingClient, type StoreResult, StoreError } from '../../src/store/store.js';
import { type Log, systemClock } from '../../src/lib/system.js';
import { parseRedisAddress } from '../../src/store/redis-address.js';
import { RedisStore } from '../../src/store/redis.js';
import { shardOf } from '../../src/store/shard-writer.js';
import { eventually } from '../support/eventually.js';
import { owing, readAll } from '../support/stored.js';
import { startValkey, type Valkey } from '../support/valkey.js';
import { describeWith } from '../support/programs.js';

const HOUR_MS = 3_600_000;
const DONE = { kind: 'done', left: [], lost: false };

describeWith('the Redis store', 'valkey-server', function () {
  let valkey: Valkey;
  const stores: RedisStore[] = [];
  const log: Log = { info: () => undefined, warn: () => undefined };
  before(async () => (valkey = await startValkey()));
  after(() => valkey.remove());
  beforeEach(() => cli('FLUSHALL'));
  afterEach(() => Promise.all(stores.splice(0).map((store) => store.close())));

  function cli(...args: string[]): string {
    const { status, stdout, stderr } = spawnSync('valkey-cli', ['-p', String(valkey.port), ...args], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(stderr);
    return stdout.trim();
  }

  async function open(options: Parameters<typeof RedisStore.open>[2] = {}, url = valkey.url): Promise<RedisStore> {
    const store = await RedisStore.open(parseRedisAddress(url)!, { log, clock: systemClock }, options);
    stores.push(store);
    return store;
  }

  /** Tokens that each client owes, rounded up, since some refill meanwhile. */
  async function owed(store: RedisStore): Promise<Map<string, number>> {
    const { clients } = await readAll(store);
    return new Map([...clients].map(([id, [bucket]]) => [id, bucket!.state[0]! + (bucket!.state[1]! > 0 ? 1 : 0)]));
  }

  async function writeAll(store: RedisStore, clients: readonly LastingClient[]): Promise<void> {
    for (let waiting = clients; waiting.length > 0;) {
      const result: StoreResult = await store.write(waiting, []);
      if (result.kind === 'failed') throw new Error(result.reason);
      const left = new Set(result.left);
      waiting = waiting.filter(([id]) => left.has(id));
    }
  }

  it('returns what was written to another node, less what time has refilled', async () => {
    const a = await open();
    expect(
      await a.write([owing('alice', 80), owing('__proto__', 3, HOUR_MS), owing('}💧{', 1, HOUR_MS)], []),
    ).to.deep.equal(DONE);
    await sleep(300);
    const found = await owed(await open());
    expect(found.get('alice')).to.be.within(70, 77);
    expect(found.get('__proto__')).to.equal(3);
    expect(found.get('}💧{')).to.equal(1);
  });

  it('lets clients expire', async () => {
    const store = await open();
    await store.write([owing('alice', 20), owing('bob', 5, HOUR_MS)], []);
    const exists = (): string => cli('EXISTS', `tokenring:{${shardOf('alice')}}:c:alice`);
    expect(exists()).to.equal('1');
    expect(await eventually(exists, (answer) => answer === '0')).to.equal('0');
    expect(Number(cli('PTTL', `tokenring:{${shardOf('bob')}}:c:bob`))).to.be.within(HOUR_MS / 2 - 5_000, HOUR_MS / 2);
  });

  it('keeps the stricter state, whichever node writes last', async () => {
    const [a, b] = [await open(), await open()];
    await a.write([owing('alice', 50, HOUR_MS), owing('bob', 1, HOUR_MS)], []);
    await b.write([owing('alice', 1, HOUR_MS), owing('bob', 50, HOUR_MS)], []);
    expect(await owed(b)).to.deep.equal(
      new Map([
        ['alice', 50],
        ['bob', 50],
      ]),
    );
  });

  it('removes a forgotten client', async () => {
    const store = await open();
    await store.write([owing('alice', 50, HOUR_MS), owing('bob', 50, HOUR_MS)], []);
    await sleep(5);
    expect(await store.write([owing('alice', 2, HOUR_MS)], ['alice', 'bob', 'nobody'])).to.deep.equal(DONE);
    expect(await owed(store)).to.deep.equal(new Map([['alice', 2]]));
  });

  it('refuses data of another version, and counts records that it cannot read', async () => {
    const store = await open();
    await store.write([owing('alice', 50, HOUR_MS)], []);
    cli('SET', `tokenring:{${shardOf('bob')}}:c:bob`, 'nothing');
    cli('SET', 'somebody:else', 'x');
    expect(await owed(store)).to.deep.equal(new Map([['alice', 50]]));
    expect(store.unreadable()).to.equal(1);
    cli('SET', 'tokenring:format', '1');
    const error = await open().catch((caught: unknown) => caught);
    expect(error).to.be.instanceOf(StoreError);
    expect((error as Error).message)
      .to.include('"1"')
      .and.to.include('reads 2');
  });

  it('keeps two clusters apart by their prefix', async () => {
    const [a, b] = [await open({}, `${valkey.url}?prefix=a`), await open({}, `${valkey.url}?prefix=b`)];
    await a.write([owing('alice', 50, HOUR_MS)], []);
    expect((await owed(b)).size).to.equal(0);
    expect((await owed(a)).size).to.equal(1);
  });

  it('logs in with the user of its address, and names the reason if the server refuses', async () => {
    const user = ['--user', 'me', 'on', '>p@ss/word', '~tokenring:*', '+@all'];
    const strict = await startValkey('--requirepass', 'of the default user', ...user);
    const at = `127.0.0.1:${strict.port}`;
    try {
      const store = await open({}, `redis://me:p%40ss%2Fword@${at}`);
      expect(await store.write([owing('alice', 7, HOUR_MS)], [])).to.deep.equal(DONE);
      expect((await readAll(await open({}, `redis://:of%20the%20default%20user@${at}`))).clients.size).to.equal(1);
      const outsider = await open({}, `redis://${at}`);
      const wrong = await open({}, `redis://me:wrong@${at}`);
      const results = await Promise.all([outsider, wrong].map((one) => one.write([owing('bob', 1, HOUR_MS)], [])));
      const reasons = results.map((result) => (result.kind === 'failed' ? result.reason : result.kind));
      expect(reasons[0]).to.match(/^NOAUTH /);
      expect(reasons[1]).to.match(/^WRONGPASS /);
    } finally {
      await strict.remove();
    }
  });

  it('loses none of 10,000 updates of five writers in a split brain, while the server restarts', async function () {
    this.timeout(90_000);
    await valkey.remove();
    valkey = await startValkey('--appendonly', 'yes', '--appendfsync', 'always');
    const writers = await Promise.all([1, 2, 3, 4, 5].map(() => open()));
    const most = new Map<string, number>();
    let updates = 0;
    let refusals = 0;
    let seed = 1;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
    const writer = async (store: RedisStore): Promise<void> => {
      // Each writer believes that it owns all clients, and does not know the others.
      const own = new Map<string, number>();
      for (let done = 0; done < 2_000;) {
        const batch = new Map<string, LastingClient>();
        for (let i = 0; i < 20; i += 1) {
          const id = `client ${random(100)}`;
          own.set(id, (own.get(id) ?? 0) + random(3));
          batch.set(id, owing(id, own.get(id)!, 100 * HOUR_MS));
        }
        const result = await store.write([...batch.values()], []);
        if (result.kind === 'failed') {
          refusals += 1;
          await sleep(20);
          continue;
        }
        const left = new Set(result.left);
        for (const [id, [, [bucket]]] of batch) {
          if (left.has(id)) continue;
          done += 1;
          updates += 1;
          most.set(id, Math.max(most.get(id) ?? 0, bucket!.state[0]!));
        }
      }
    };
    const writing = Promise.all(writers.map(writer));
    while (updates < 5_000) await sleep(5);
    await valkey.kill();
    await sleep(100);
    await valkey.start();
    await writing;
    expect(updates).to.be.at.least(10_000);
    expect(refusals).to.be.above(0);
    const found = await owed(await open());
    for (const [id, tokens] of most) expect(found.get(id), id).to.be.at.least(tokens);
    const contended = writers.reduce((sum, { lock }) => sum + lock.contended, 0);
    expect(contended, 'they were in each other’s way').to.be.above(0);
    for (const { lock } of writers) expect(lock.held).to.equal(0);
  });

  it('refuses a writer that was frozen beyond the end of its lock', async function () {
    this.timeout(20_000);
    // Only a process of its own can be frozen.
    const { start } = await import('../e2e/processes.js');
    const script = new URL('../support/frozen-writer.ts', import.meta.url).pathname;
    const frozen = start(['--import', 'tsx', script, valkey.url]);
    await frozen.line('holds');
    frozen.child.kill('SIGSTOP');
    await sleep(500);
    const other = await open();
    await writeAll(other, [owing('alice', 50, HOUR_MS)]);
    frozen.child.kill('SIGCONT');
    const said = await frozen.line('written');
    expect(said['result']).to.deep.equal({ kind: 'done', left: ['alice'], lost: false });
    expect(said['lost']).to.equal(1);
    expect(await owed(other)).to.deep.equal(new Map([['alice', 50]]));
    await frozen.ended;
  });

  it('fails in bounded time while the server hangs, and goes on when it is back', async function () {
    this.timeout(20_000);
    const store = await open({ timeoutMs: 200 });
    await store.write([owing('alice', 5, HOUR_MS)], []);
    valkey.signal('SIGSTOP');
    try {
      for (let i = 0; i < 3; i += 1) {
        const startedMs = performance.now();
        const result = await store.write(
          Array.from({ length: 200 }, (_, j) => owing(`client ${j}`, 5, HOUR_MS)),
          [],
        );
        expect(result.kind).to.equal('failed');
        expect(performance.now() - startedMs).to.be.below(1_000);
      }
    } finally {
      valkey.signal('SIGCONT');
    }
    let last: StoreResult | undefined;
    for (let i = 0; i < 100 && last?.kind !== 'done'; i += 1) {
      await sleep(50);
      last = await store.write([owing('bob', 5, HOUR_MS)], []);
      if (last.kind === 'done' && last.left.length > 0) last = undefined;
    }
    expect(last).to.deep.equal(DONE);
    expect((await owed(store)).get('alice')).to.equal(5);
    await sleep(50);
    expect(store.lock.held).to.equal(0);
  });

  it('reports the loss of its data once for each shard that is written', async () => {
    const store = await open();
    for (let i = 0; i < 3; i += 1) await store.write([owing('alice', 5 + i, HOUR_MS)], []);
    cli('FLUSHALL');
    expect(await store.write([owing('alice', 9, HOUR_MS)], [])).to.deep.equal({ kind: 'done', left: [], lost: true });
    expect(await store.write([owing('alice', 9, HOUR_MS)], [])).to.deep.equal(DONE);
  });

  it('reports the loss of its data right after the first write', async () => {
    const store = await open();
    expect(await store.write([owing('alice', 5, HOUR_MS)], [])).to.deep.equal(DONE);
    cli('FLUSHALL');
    expect(await store.write([owing('alice', 5, HOUR_MS)], [])).to.deep.equal({ kind: 'done', left: [], lost: true });
  });

  it('keeps what another node has written after a client was forgotten', async () => {
    // A minute passes at this node between the request and its execution.
    let nowMs = 0;
    const slow = await RedisStore.open(parseRedisAddress(valkey.url)!, { log, clock: { nowMs: () => nowMs } });
    stores.push(slow);
    await (await open()).write([owing('alice', 50, HOUR_MS), owing('bob', 50, HOUR_MS)], []);
    const forgetting = slow.write([], ['alice']);
    nowMs = 60_000;
    expect(await forgetting).to.deep.equal(DONE);
    await sleep(5);
    expect(await slow.write([], ['bob'])).to.deep.equal(DONE);
    expect([...(await owed(slow)).keys()]).to.deep.equal(['alice']);
  });

  it('fails while the server is full, and keeps what is stored', async () => {
    const store = await open();
    await store.write([owing('alice', 5, HOUR_MS)], []);
    cli('CONFIG', 'SET', 'maxmemory', '1');
    const result = await store.write([owing('bob', 5, HOUR_MS)], []);
    cli('CONFIG', 'SET', 'maxmemory', '0');
    expect(result.kind).to.equal('failed');
    expect(await owed(store)).to.deep.equal(new Map([['alice', 5]]));
  });
});
