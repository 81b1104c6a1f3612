import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock, LastingClient, StoreResult } from '../cluster/ports.js';
import { agedBy } from '../core/snapshot.js';
import { fenceKey, GUARD } from './fenced-lock.js';
import type { FencedLock, Hold } from './fenced-lock.js';
import { nextRecord, tryRecord } from './record.js';
import type { StoredRecord } from './record.js';
import { defineScript } from './redis-client.js';
import type { RedisClient } from './redis-client.js';

/** Parts of the key space, each with a lock of its own, and each in one slot of a cluster. */
const SHARDS = 64;
/** Clients that one script writes: a millisecond or two of the server's time. */
const BATCH = 250;
/** Shards that are written to at the same time. */
const AT_ONCE = 16;
/** How often a shard is tried that another node is writing to, and the longest pause between. */
const TRIES = 6;
const PAUSE_MS = 10;

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

/** Writes to a shared store, shard by shard, each under its lock: what is there is read, joined with, and written. */
export function createShardWriter(
  deps: { redis: RedisClient; lock: FencedLock; clock: Clock; unreadable: () => void },
  { prefix, lockTtlMs }: { prefix: string; lockTtlMs: number },
): (clients: readonly LastingClient[], forgotten: readonly string[], sampledMs: number) => Promise<StoreResult> {
  const { redis, lock, clock, unreadable } = deps;
  const renewAfterMs = lockTtlMs / 2;
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
      const [acquired, read] = await Promise.allSettled([
        lock.acquire(shardName(shard)),
        readBatch(shard, batch, sampledMs),
      ]);
      if (acquired.status === 'rejected') throw acquired.reason;
      const hold = acquired.value;
      if (hold !== undefined) {
        if (read.status === 'fulfilled') return { hold, read: read.value };
        void hold.release().catch(() => undefined);
      }
      if (read.status === 'rejected') throw read.reason;
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

/** Values of keys of one shard, and what the server's clock said. */
export async function readValues(
  redis: RedisClient,
  keys: readonly string[],
): Promise<{ values: readonly (string | null)[]; atMs: number }> {
  const [seconds, micros, ...values] = (await redis.run(READ, keys, [])) as [string, string, ...(string | null)[]];
  return { values, atMs: Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000) };
}

function rotated<T>(list: readonly T[], by: number): T[] {
  return [...list.slice(by), ...list.slice(0, by)];
}
