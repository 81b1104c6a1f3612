import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientSnapshot } from '../state/client-snapshot.js';
import type { Clock } from '../lib/clock.js';
import type { LockCounters, Store, StoreResult } from './store.js';
import type { Log } from '../lib/log.js';
import { FencedLock } from './fenced-lock.js';
import { FORMAT, recall, tryRecord } from './record.js';
import type { RedisAddress } from './redis-address.js';
import { connectRedis } from './redis-client.js';
import { createShardWriter, readValues } from './shard-writer.js';
import { StoreError } from './store-error.js';

/** Lifetime of a lock, much longer than a write takes. A node that dies with a lock blocks its shard for this long. */
const LOCK_TTL_MS = 2_000;
/** Timeout of one command. */
const TIMEOUT_MS = 1_000;

export interface RedisStore extends Store {
  readonly lock: LockCounters;
}

interface RedisStoreDeps {
  readonly log: Log;
  readonly clock: Clock;
}

export interface RedisStoreOptions {
  readonly timeoutMs?: number;
  readonly lockTtlMs?: number;
}

/**
 * Opens a Redis or Valkey to which all nodes write. All times are of the server's clock; the clocks of nodes do not
 * matter.
 * @throws StoreError when another version of this program wrote to it
 */
export async function openRedisStore(
  { log, clock }: RedisStoreDeps,
  address: RedisAddress,
  { timeoutMs = TIMEOUT_MS, lockTtlMs = LOCK_TTL_MS }: RedisStoreOptions = {},
): Promise<RedisStore> {
  const redis = connectRedis(address, { timeoutMs });
  const lock = new FencedLock(redis, () => clock.nowMs(), lockTtlMs);
  const { prefix } = address;
  let unreadable = 0;
  let checked = false;

  /** Checks the version of the stored data, once the server answers. @throws StoreError */
  async function check(): Promise<void> {
    if (checked) return;
    const key = `${prefix}:format`;
    const found = await redis.get(key);
    if (found === null) await redis.setNew(key, String(FORMAT));
    else if (found !== String(FORMAT)) {
      throw new StoreError(`TOKENRING_STORE: ${key} is ${JSON.stringify(found)}, and this version reads ${FORMAT}`);
    }
    checked = true;
  }

  // The start waits for a connection, so that the node reads the store before it is ready.
  for (const giveUpAtMs = clock.nowMs() + 2 * timeoutMs; ;) {
    try {
      await check();
      break;
    } catch (error) {
      if (error instanceof StoreError) {
        await redis.close();
        throw error;
      }
      if (clock.nowMs() >= giveUpAtMs) break;
      await sleep(50);
    }
  }

  async function guarded(work: () => Promise<StoreResult>): Promise<StoreResult> {
    try {
      await check();
      return await work();
    } catch (error) {
      const { message } = error as Error;
      // While the server hangs, the pending commands would stay in memory.
      if (message.includes('timed out')) redis.reconnect();
      return { kind: 'failed', reason: message };
    }
  }

  const write = createShardWriter({ redis, lock, clock, unreadable: () => (unreadable += 1) }, { prefix, lockTtlMs });

  async function loadKeys(
    keys: readonly string[],
    keep: (clients: readonly ClientSnapshot[]) => boolean,
  ): Promise<boolean> {
    const byShard = new Map<string, string[]>();
    for (const key of keys) {
      const shard = key.slice(0, key.indexOf('}'));
      const together = byShard.get(shard);
      if (together === undefined) byShard.set(shard, [key]);
      else together.push(key);
    }
    const read = await Promise.all([...byShard.values()].map((some) => readValues(redis, some)));
    const clients: ClientSnapshot[] = [];
    for (const { values, atMs } of read) {
      for (const value of values) {
        if (value === null) continue;
        const record = tryRecord(value);
        if (record === undefined) unreadable += 1;
        else clients.push(recall(record, atMs));
      }
    }
    return keep(clients.filter(([, buckets]) => buckets.length > 0));
  }

  return {
    shared: true,
    members: () => [],
    lock: lock.counters,
    load: (keep) =>
      guarded(async () => {
        for await (const keys of redis.scan(`${prefix}:{`)) {
          if (!(await loadKeys(keys.filter(isClientKey), keep))) break;
        }
        if (unreadable > 0) log.warn({ records: unreadable }, 'ignoring records of the store that cannot be read');
        return { kind: 'done', left: [], lost: false };
      }),
    write(clients, forgotten) {
      const sampledMs = clock.nowMs();
      return guarded(() => write(clients, forgotten, sampledMs));
    },
    unreadable: () => unreadable,
    close: () => redis.close(),
  };
}

function isClientKey(key: string): boolean {
  return /^[^}]*\{\d+\}:c:/.test(key);
}
