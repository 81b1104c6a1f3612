import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientSnapshot } from '../cluster/messages.js';
import type { Clock, LastingClient, LockCounters, Log, Store, StoreResult } from '../cluster/ports.js';
import { agedBy } from '../core/snapshot.js';
import { createFencedLock, fenceKey, GUARD } from './fenced-lock.js';
import type { FencedLock, Hold } from './fenced-lock.js';
import { FORMAT, nextRecord, recall, tryRecord } from './record.js';
import type { StoredRecord } from './record.js';
import type { RedisAddress } from './redis-address.js';
import { connectRedis, defineScript } from './redis-client.js';
import type { RedisClient } from './redis-client.js';
import { StoreError } from './store-error.js';

/** Parts of the key space, each with a lock of its own, and each in one slot of a cluster. */
export const SHARDS = 64;
/** Longer than a write takes by far: whoever dies with a lock keeps the others from its shard for so long. */
const LOCK_TTL_MS = 2_000;
/** How long the server may take for one command. */
const TIMEOUT_MS = 1_000;
/** Clients that one script writes: a millisecond or two of the server's time. */
const BATCH = 250;
/** Shards that are written to at the same time. */
const AT_ONCE = 16;
/** How often a shard is tried that another node is writing to, and the longest pause between. */
const TRIES = 6;
const PAUSE_MS = 10;
/** Time left of a lock below which it is renewed before the next batch. */
const RENEW_AFTER_MS = LOCK_TTL_MS / 2;

/** Values, and the server's own time before them: `[seconds, microseconds, value…]`. */
const READ = defineScript(`
local time = redis.call('TIME')
local found = redis.call('MGET', unpack(KEYS))
table.insert(found, 1, time[2])
table.insert(found, 1, time[1])
return found
`);
/** For each key after the lock's two, its value, '' to remove it, and the ms after which it leaves. */
const WRITE = defineScript(`${GUARD}
for i = 3, #KEYS do
  local value = ARGV[2 * i - 3]
  if value == '' then redis.call('DEL', KEYS[i]) else redis.call('SET', KEYS[i], value, 'PX', ARGV[2 * i - 2]) end
end
return 1
`);

export interface RedisStore extends Store {
  readonly lock: LockCounters;
}

export interface RedisStoreDeps {
  readonly log: Log;
  readonly clock: Clock;
}

export interface RedisStoreOptions {
  readonly timeoutMs?: number;
  readonly lockTtlMs?: number;
}

/**
 * A Redis or Valkey that all nodes write to. Times in it are its own: no node's wall clock matters.
 * @throws StoreError when what it holds is of another version of this program
 */
export async function openRedisStore(
  { log, clock }: RedisStoreDeps,
  address: RedisAddress,
  { timeoutMs = TIMEOUT_MS, lockTtlMs = LOCK_TTL_MS }: RedisStoreOptions = {},
): Promise<RedisStore> {
  const redis = connectRedis(address, { timeoutMs });
  const lock = createFencedLock({ redis, elapsedMs: () => clock.nowMs() }, { ttlMs: lockTtlMs });
  const { prefix } = address;
  let unreadable = 0;
  let checked = false;

  /** Looks, once the server answers, whether this version may write there. @throws StoreError */
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

  // A server that does not answer is waited for as long as a connection takes: what it holds is read before the node is ready.
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
      // What is under way would be answered, and kept in memory until then, for as long as the server hangs.
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
    members: [],
    lock: lock.counters,
    load: (keep) =>
      guarded(async () => {
        for await (const keys of redis.scan(`${prefix}:{`)) {
          if (!(await loadKeys(keys.filter(isClientKey), keep))) break;
        }
        if (unreadable > 0)
          log.warn({ records: unreadable }, 'records of the store cannot be read, and count as absent');
        return { kind: 'done', left: [], lost: false };
      }),
    write(clients, forgotten) {
      const sampledMs = clock.nowMs();
      return guarded(() => write(clients, forgotten, sampledMs));
    },
    get unreadable() {
      return unreadable;
    },
    close: () => redis.close(),
  };
}

/** What is to be done in one shard. */
interface Work {
  readonly shard: number;
  readonly clients: LastingClient[];
  readonly forgotten: string[];
}

/** What one script writes: by client, what it owes, and whether what is stored is to be forgotten. */
type Batch = ReadonlyMap<string, { readonly client: LastingClient | undefined; readonly forget: boolean }>;

interface BatchRead {
  readonly keys: readonly string[];
  readonly values: readonly (string | null)[];
  /** The shard's fencing number, the server's wall ms, and the age of the states, when these were the values. */
  readonly fence: number;
  readonly atMs: number;
  readonly ageMs: number;
}

function batchesOf({ clients, forgotten }: Work): Batch[] {
  const all = new Map(forgotten.map((id) => [id, { client: undefined as LastingClient | undefined, forget: true }]));
  for (const client of clients) all.set(client[0], { client, forget: all.has(client[0]) });
  const entries = [...all];
  return Array.from({ length: Math.ceil(entries.length / BATCH) }, (_, i) => {
    return new Map(entries.slice(i * BATCH, (i + 1) * BATCH));
  });
}

type ShardResult = { readonly left: readonly string[]; readonly lost: boolean };

function createShardWriter(
  deps: { redis: RedisClient; lock: FencedLock; clock: Clock; unreadable: () => void },
  { prefix, lockTtlMs }: { prefix: string; lockTtlMs: number },
): (clients: readonly LastingClient[], forgotten: readonly string[], sampledMs: number) => Promise<StoreResult> {
  const { redis, lock, clock, unreadable } = deps;
  const renewAfterMs = Math.min(RENEW_AFTER_MS, lockTtlMs / 2);
  /** Of each shard, the last fencing number seen: a server that gives a lower one has forgotten what it had. */
  const fences = new Map<number, number>();

  const shardName = (shard: number): string => `${prefix}:{${shard}}`;
  const keyOf = (shard: number, clientId: string): string => `${shardName(shard)}:c:${clientId}`;

  /** Everything of one shard, under its lock. A batch that the script refuses is left for another time. */
  async function writeShard(work: Work, sampledMs: number): Promise<ShardResult> {
    const batches = batchesOf(work);
    const leftFrom = (at: number): readonly string[] => batches.slice(at).flatMap((batch) => [...batch.keys()]);
    const began = await begin(work.shard, batches[0]!, sampledMs);
    if (began === undefined) return { left: leftFrom(0), lost: false };
    const { hold } = began;
    const lost = hold.fence <= (fences.get(work.shard) ?? 0);
    fences.set(work.shard, hold.fence);
    try {
      let freshAtMs = clock.nowMs();
      for (const [at, batch] of batches.entries()) {
        if (clock.nowMs() - freshAtMs > renewAfterMs) {
          if (!(await hold.renew())) return { left: leftFrom(at), lost };
          freshAtMs = clock.nowMs();
        }
        let read = at === 0 ? began.read : await readBatch(work.shard, batch, sampledMs);
        // What was read before the lock was acquired, as may be where the two were sent on different ways, is of no use.
        if (read.fence !== hold.fence) read = await readBatch(work.shard, batch, sampledMs);
        if (read.fence !== hold.fence || !(await writeBatch(batch, hold, read))) return { left: leftFrom(at), lost };
      }
    } finally {
      // Ends by itself where the server cannot be told.
      void hold.release().catch(() => undefined);
    }
    return { left: [], lost };
  }

  /** Acquires the lock and reads what the first batch is to be joined into, in one go: others are kept waiting for less. */
  async function begin(
    shard: number,
    batch: Batch,
    sampledMs: number,
  ): Promise<{ hold: Hold; read: BatchRead } | undefined> {
    for (let tries = 1; ; tries += 1) {
      const [hold, read] = await Promise.all([lock.acquire(shardName(shard)), readBatch(shard, batch, sampledMs)]);
      if (hold !== undefined) return { hold, read };
      if (tries === TRIES) return undefined;
      await sleep(1 + Math.random() * PAUSE_MS);
    }
  }

  async function readBatch(shard: number, batch: Batch, sampledMs: number): Promise<BatchRead> {
    const keys = [...batch.keys()].map((id) => keyOf(shard, id));
    // The states are as old as this when the server says what time it is, at least: later would owe less.
    const ageMs = clock.nowMs() - sampledMs;
    const { values, atMs } = await readValues(redis, [fenceKey(shardName(shard)), ...keys]);
    return { keys, values: values.slice(1), fence: Number(values[0] ?? 0), atMs, ageMs };
  }

  /** Merges here, and writes: nobody else has written since the read, or else the script refuses. */
  async function writeBatch(batch: Batch, hold: Hold, { keys, values, atMs, ageMs }: BatchRead): Promise<boolean> {
    const args: string[] = [];
    [...batch].forEach(([clientId, { client, forget }], i) => {
      const value = values[i] ?? null;
      let stored: StoredRecord | undefined = value === null ? undefined : tryRecord(value);
      if (value !== null && stored === undefined) unreadable();
      if (forget && stored !== undefined && stored.atMs <= atMs - ageMs) stored = undefined;
      const next = nextRecord(stored, [clientId, agedBy(client?.[1] ?? [], ageMs)], atMs);
      args.push(next?.text ?? '', String(next?.restMs ?? 0));
    });
    const written = await redis.run(WRITE, [...hold.keys, ...keys], [...hold.args, ...args]);
    if (written !== 1) hold.refused();
    return written === 1;
  }

  return async (clients, forgotten, sampledMs) => {
    const works = new Map<number, Work>();
    const workOf = (clientId: string): Work => {
      const shard = shardOf(clientId);
      let work = works.get(shard);
      if (work === undefined) works.set(shard, (work = { shard, clients: [], forgotten: [] }));
      return work;
    };
    for (const client of clients) workOf(client[0]).clients.push(client);
    for (const id of forgotten) workOf(id).forgotten.push(id);
    // From a shard of each node's own, so that they do not follow each other from lock to lock.
    const waiting = rotated([...works.values()], Math.floor(Math.random() * works.size));
    const ends: ShardResult[] = [];
    const work = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop())
        ends.push(await writeShard(next, sampledMs));
    };
    // All come to their end, so that nothing goes on after a failure has been told.
    const workers = await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
    for (const worker of workers) if (worker.status === 'rejected') throw worker.reason;
    return { kind: 'done', left: ends.flatMap(({ left }) => left), lost: ends.some(({ lost }) => lost) };
  };
}

/** The shard of a client. */
export function shardOf(clientId: string): number {
  return Number.parseInt(hash('md5', clientId).slice(0, 2), 16) % SHARDS;
}

function isClientKey(key: string): boolean {
  return /^[^}]*\{\d+\}:c:/.test(key);
}

async function readValues(
  redis: RedisClient,
  keys: readonly string[],
): Promise<{ values: readonly (string | null)[]; atMs: number }> {
  const [seconds, micros, ...values] = (await redis.run(READ, keys, [])) as [string, string, ...(string | null)[]];
  return { values, atMs: Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000) };
}

function rotated<T>(list: readonly T[], by: number): T[] {
  return [...list.slice(by), ...list.slice(0, by)];
}
