import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientSnapshot } from '../state/client.js';
import type { Clock, Log } from '../lib/system.js';
import { type LastingClient, type LockCounters, type Store, type StoreResult, StoreError } from './store.js';
import { FencedLock } from './fenced-lock.js';
import { FORMAT, recall, tryRecord } from './record.js';
import type { RedisAddress } from './redis-address.js';
import { RedisClient } from './redis-client.js';
import { ShardWriter, readValues } from './shard-writer.js';

/** Lifetime of a lock, much longer than a write takes. A node that dies with a lock blocks its shard for this long. */
const LOCK_TTL_MS = 2_000;
/** Timeout of one command. */
const TIMEOUT_MS = 1_000;

/**
 * A Redis or Valkey to which all nodes write. All times are of the server's clock; the clocks of nodes do not matter.
 */
export class RedisStore implements Store {
  readonly shared = true;
  readonly lock: LockCounters;
  private readonly redis: RedisClient;
  private readonly writer: ShardWriter;
  private unreadableRecords = 0;
  private isChecked = false;

  private constructor(
    private readonly address: RedisAddress,
    private readonly log: Log,
    private readonly clock: Clock,
    private readonly timeoutMs: number,
    lockTtlMs: number,
  ) {
    this.redis = new RedisClient(address, timeoutMs);
    const lock = new FencedLock(this.redis, () => clock.nowMs(), lockTtlMs);
    this.lock = lock.counters;
    this.writer = new ShardWriter({
      redis: this.redis,
      lock,
      clock,
      prefix: address.prefix,
      renewAfterMs: lockTtlMs / 2,
      unreadable: () => (this.unreadableRecords += 1),
    });
  }

  /** @throws StoreError when another version of this program wrote to it */
  static async open(
    address: RedisAddress,
    { log, clock }: { log: Log; clock: Clock },
    { timeoutMs = TIMEOUT_MS, lockTtlMs = LOCK_TTL_MS }: { timeoutMs?: number; lockTtlMs?: number } = {},
  ): Promise<RedisStore> {
    const store = new RedisStore(address, log, clock, timeoutMs, lockTtlMs);
    await store.begin();
    return store;
  }

  /** Unknown: all nodes have the same store. */
  members(): readonly string[] {
    return [];
  }

  load(keep: (clients: readonly ClientSnapshot[]) => boolean): Promise<StoreResult> {
    return this.guarded(async () => {
      for await (const keys of this.redis.scan(`${this.address.prefix}:{`)) {
        if (!(await this.loadKeys(keys.filter(isClientKey), keep))) break;
      }
      const records = this.unreadableRecords;
      if (records > 0) this.log.warn({ records }, 'ignoring records of the store that cannot be read');
      return { kind: 'done', left: [], lost: false };
    });
  }

  write(clients: readonly LastingClient[], forgotten: readonly string[]): Promise<StoreResult> {
    const sampledMs = this.clock.nowMs();
    return this.guarded(() => this.writer.write(clients, forgotten, sampledMs));
  }

  unreadable(): number {
    return this.unreadableRecords;
  }

  close(): Promise<void> {
    return this.redis.close();
  }

  /** The start waits for a connection, so that the node reads the store before it is ready. */
  private async begin(): Promise<void> {
    for (const giveUpAtMs = this.clock.nowMs() + 2 * this.timeoutMs; ;) {
      try {
        return await this.check();
      } catch (error) {
        if (error instanceof StoreError) {
          await this.redis.close();
          throw error;
        }
        if (this.clock.nowMs() >= giveUpAtMs) return;
        await sleep(50);
      }
    }
  }

  /** Checks the version of the stored data, once the server answers. @throws StoreError */
  private async check(): Promise<void> {
    if (this.isChecked) return;
    const key = `${this.address.prefix}:format`;
    const found = await this.redis.get(key);
    if (found === null) await this.redis.setNew(key, String(FORMAT));
    else if (found !== String(FORMAT)) {
      throw new StoreError(`TOKENRING_STORE: ${key} is ${JSON.stringify(found)}, and this version reads ${FORMAT}`);
    }
    this.isChecked = true;
  }

  private async guarded(work: () => Promise<StoreResult>): Promise<StoreResult> {
    try {
      await this.check();
      return await work();
    } catch (error) {
      const { message } = error as Error;
      // While the server hangs, the pending commands would stay in memory.
      if (message.includes('timed out')) this.redis.reconnect();
      return { kind: 'failed', reason: message };
    }
  }

  private async loadKeys(
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
    const read = await Promise.all([...byShard.values()].map((some) => readValues(this.redis, some)));
    const clients: ClientSnapshot[] = [];
    for (const { values, atMs } of read) {
      for (const value of values) {
        if (value === null) continue;
        const record = tryRecord(value);
        if (record === undefined) this.unreadableRecords += 1;
        else clients.push(recall(record, atMs));
      }
    }
    return keep(clients.filter(([, buckets]) => buckets.length > 0));
  }
}

function isClientKey(key: string): boolean {
  return /^[^}]*\{\d+\}:c:/.test(key);
}
