import { expect } from 'chai';
import { setTimeout as sleep } from 'node:timers/promises';
import { FencedLock, GUARD, type LockHandle } from '../../src/store/fenced-lock.js';
import { parseRedisAddress } from '../../src/store/redis-address.js';
import { defineScript, RedisClient } from '../../src/store/redis-client.js';
import { startValkey, type Valkey } from '../support/valkey.js';
import { describeWith } from '../support/programs.js';

const SET = defineScript(`${GUARD} redis.call('SET', KEYS[3], ARGV[3]) return 1`);
const WRITERS = 5;
const UPDATES = 10_000;

describeWith('the fenced lock', 'valkey-server', () => {
  let valkey: Valkey;
  const clients: RedisClient[] = [];
  before(async () => (valkey = await startValkey()));
  after(() => valkey.remove());
  afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())));

  async function connect(timeoutMs = 1_000): Promise<RedisClient> {
    const client = new RedisClient(parseRedisAddress(valkey.url)!, timeoutMs);
    clients.push(client);
    for (let tries = 0; tries < 100; tries += 1) {
      if ((await client.get('ping').catch(() => 'none')) !== 'none') break;
      await sleep(20);
    }
    return client;
  }

  const lockOf = (redis: RedisClient, ttlMs: number): FencedLock =>
    new FencedLock(redis, () => performance.now(), ttlMs);
  const set = async (redis: RedisClient, hold: LockHandle, key: string, value: string): Promise<boolean> =>
    (await redis.run(SET, [...hold.keys, key], [...hold.args, value])) === 1;

  it('has one holder until it is released, and its fencing number only grows', async () => {
    const redis = await connect();
    const [a, b] = [lockOf(redis, 10_000), lockOf(redis, 10_000)];
    const first = (await a.acquire('{one}'))!;
    expect(await b.acquire('{one}')).to.equal(undefined);
    expect(await b.acquire('{two}')).not.to.equal(undefined);
    await first.release();
    const second = (await b.acquire('{one}'))!;
    expect(second.fence).to.be.above(first.fence);
    // The previous holder cannot release it any more.
    await first.release();
    expect(await first.renew()).to.equal(false);
    expect(await a.acquire('{one}')).to.equal(undefined);
    expect(b.counters).to.include({ acquired: 2, contended: 1, held: 2 });
    expect(a.counters).to.include({ acquired: 1, contended: 1, held: 0 });
  });

  it('lasts while it is renewed, and then expires', async () => {
    const redis = await connect();
    const lock = lockOf(redis, 150);
    const hold = (await lock.acquire('{renewed}'))!;
    for (let i = 0; i < 4; i += 1) {
      await sleep(60);
      expect(await hold.renew()).to.equal(true);
    }
    expect(await lock.acquire('{renewed}')).to.equal(undefined);
    await sleep(200);
    expect(await hold.renew()).to.equal(false);
    expect(await lock.acquire('{renewed}')).not.to.equal(undefined);
    expect(lock.counters).to.include({ renewed: 4, lost: 1, held: 1 });
  });

  it('refuses writes of a holder that was away beyond its end, whether or not it has a new holder', async () => {
    const redis = await connect();
    const lock = lockOf(redis, 100);
    const frozen = (await lock.acquire('{away}'))!;
    expect(await set(redis, frozen, '{away}:x', 'in time')).to.equal(true);
    await sleep(150);
    expect(await set(redis, frozen, '{away}:x', 'too late')).to.equal(false);
    const next = (await lock.acquire('{away}'))!;
    expect(await set(redis, frozen, '{away}:x', 'too late')).to.equal(false);
    expect(await set(redis, next, '{away}:x', 'next')).to.equal(true);
    await next.release();
    expect(await set(redis, next, '{away}:x', 'released')).to.equal(false);
    expect(await redis.get('{away}:x')).to.equal('next');
  });

  it('refuses an older fencing number even if the value of the lock is the same', async () => {
    const redis = await connect();
    const lock = lockOf(redis, 10_000);
    const hold = (await lock.acquire('{older}'))!;
    const older: LockHandle = { ...hold, args: [hold.args[0], String(hold.fence - 1)] };
    expect(await set(redis, older, '{older}:x', 'older')).to.equal(false);
    expect(await set(redis, hold, '{older}:x', 'now')).to.equal(true);
  });

  it(`loses none of ${UPDATES} updates of ${WRITERS} writers that each read, add one and write`, async function () {
    this.timeout(60_000);
    let refused = 0;
    const writer = async (): Promise<void> => {
      const redis = await connect();
      const lock = lockOf(redis, 2_000);
      for (let done = 0; done < UPDATES / WRITERS;) {
        const hold = await lock.acquire('{sum}');
        if (hold === undefined) {
          await sleep(Math.random() * 2);
          continue;
        }
        // Several writes under one lock, as in a batch.
        for (let i = 0; i < 20 && done < UPDATES / WRITERS; i += 1) {
          const value = Number((await redis.get('{sum}:x')) ?? 0);
          if (await set(redis, hold, '{sum}:x', String(value + 1))) done += 1;
          else refused += 1;
        }
        await hold.release();
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, writer));
    const redis = await connect();
    expect(await redis.get('{sum}:x')).to.equal(String(UPDATES));
    expect(refused).to.equal(0);
  });

  it('is free after a restart of the server, which refuses the old holders', async () => {
    const redis = await connect();
    const lock = lockOf(redis, 60_000);
    const before = (await lock.acquire('{restarted}'))!;
    await valkey.kill();
    let failed = false;
    await lock.acquire('{restarted}').catch(() => (failed = true));
    expect(failed).to.equal(true);
    await valkey.start();
    const again = await connect();
    expect(await set(again, before, '{restarted}:x', 'before')).to.equal(false);
    const after = (await lockOf(again, 60_000).acquire('{restarted}'))!;
    // The server had saved nothing. The next holder notices.
    expect(after.fence).to.be.at.most(before.fence);
    expect(await set(again, before, '{restarted}:x', 'before')).to.equal(false);
    expect(await set(again, after, '{restarted}:x', 'after')).to.equal(true);
  });
});
