import { parseRedisAddress } from '../../src/store/redis-address.js';
import { RedisStore } from '../../src/store/redis.js';
import { systemClock } from '../../src/lib/system.js';
import { owing } from './stored.js';

/**
 * Writes one client, under a lock that lasts for 300 ms. Says so when it holds the lock, and is busy then, so that nothing happens before
 * it is frozen; and says what came of it. Run as a process of its own.
 */
const HOUR_MS = 3_600_000;
const BUSY_MS = 250;
const say = (msg: string, fields: object = {}): void =>
  void process.stdout.write(`${JSON.stringify({ ...fields, msg })}\n`);

const opened: { store?: RedisStore } = {};
let holds = false;
const clock = {
  nowMs(): number {
    const nowMs = systemClock.nowMs();
    if (!holds && opened.store?.lock.held === 1) {
      holds = true;
      say('holds');
      while (systemClock.nowMs() < nowMs + BUSY_MS);
    }
    return nowMs;
  },
};
const log = { info: () => undefined, warn: () => undefined };
const store = await RedisStore.open(parseRedisAddress(process.argv[2]!)!, { log, clock }, { lockTtlMs: 300 });
opened.store = store;
const result = await store.write([owing('alice', 2, HOUR_MS)], []);
say('written', { result, lost: store.lock.lost });
await store.close();
