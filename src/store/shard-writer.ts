import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../lib/system.js';
import type { LastingClient, StoreResult } from './store.js';
import { agedBy } from '../limits/bucket/snapshot.js';
import { fenceKey, GUARD, type FencedLock, type LockHandle } from './fenced-lock.js';
import { nextRecord, tryRecord, type StoredRecord } from './record.js';
import { defineScript, type RedisClient } from './redis-client.js';

/** Parts of the key space. Each has its own lock and is in one slot of a cluster. */
const SHARDS = 64;
/** Clients that one script writes, which takes one or two milliseconds of the server's time. */
const BATCH = 250;
/** Shards that are written at the same time. */
const AT_ONCE = 16;
/** Attempts to lock a shard that another node is writing, and the longest pause between two. */
const TRIES = 6;
const PAUSE_MS = 10;

/** @returns the server's time and the values: `[seconds, microseconds, value…]` */
const READ = defineScript(`
local time = redis.call('TIME')
local found = redis.call('MGET', unpack(KEYS))
table.insert(found, 1, time[2])
table.insert(found, 1, time[1])
return found
`);
/**
 * The arguments for each key after the lock's two are its value, or '' to remove it, and the ms after which it expires.
 */
const WRITE = defineScript(`${GUARD}
for i = 3, #KEYS do
  local value = ARGV[2 * i - 3]
  if value == '' then redis.call('DEL', KEYS[i]) else redis.call('SET', KEYS[i], value, 'PX', ARGV[2 * i - 2]) end
end
return 1
`);

/** The changes of one shard. */
interface Work {
  readonly shard: number;
  readonly clients: LastingClient[];
  readonly forgotten: string[];
}

/** The changes that one script writes, by client id. With `forget`, the stored record does not count. */
type Batch = ReadonlyMap<string, { readonly client: LastingClient | undefined; readonly forget: boolean }>;

interface BatchRead {
  readonly keys: readonly string[];
  readonly values: readonly (Buffer | null)[];
  /** The shard's fencing number at the read. */
  readonly fence: number;
  /** Wall ms of the server at the read. */
  readonly atMs: number;
  /** Age of the clients' states at the read. */
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

/** `left`: clients that could not be written now. `lost`: the server has lost the data of the shard. */
type ShardResult = { readonly left: readonly string[]; readonly lost: boolean };

/** Writes to a shared store. Reads, merges, and writes each shard under its own lock. */
export class ShardWriter {
  /** The last fencing number of each shard. A server that does not return a higher one has lost its data. */
  private readonly fences = new Map<number, number>();

  constructor(
    private readonly parts: {
      readonly redis: RedisClient;
      readonly lock: FencedLock;
      readonly clock: Clock;
      readonly prefix: string;
      /** Time after which a lock that is held is renewed. */
      readonly renewAfterMs: number;
      /** Called for each stored record that cannot be read. */
      readonly unreadable: () => void;
    },
  ) {}

  async write(
    clients: readonly LastingClient[],
    forgotten: readonly string[],
    sampledMs: number,
  ): Promise<StoreResult> {
    const works = new Map<number, Work>();
    const workOf = (clientId: string): Work => {
      const shard = shardOf(clientId);
      let work = works.get(shard);
      if (work === undefined) works.set(shard, (work = { shard, clients: [], forgotten: [] }));
      return work;
    };
    for (const client of clients) workOf(client[0]).clients.push(client);
    for (const id of forgotten) workOf(id).forgotten.push(id);
    // Nodes begin at random shards, so that they do not wait for each other at one lock after the other.
    const waiting = rotated([...works.values()], Math.floor(Math.random() * works.size));
    const ends: ShardResult[] = [];
    const work = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop())
        ends.push(await this.writeShard(next, sampledMs));
    };
    // Waits for all, so that no write goes on after a failure is returned.
    const workers = await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
    for (const worker of workers) if (worker.status === 'rejected') throw worker.reason;
    return { kind: 'done', left: ends.flatMap(({ left }) => left), lost: ends.some(({ lost }) => lost) };
  }

  private shardName(shard: number): string {
    return `${this.parts.prefix}:{${shard}}`;
  }

  private keyOf(shard: number, clientId: string): string {
    return `${this.shardName(shard)}:c:${clientId}`;
  }

  /** Writes one shard under its lock. If the script refuses a batch, it and the later ones are left. */
  private async writeShard(work: Work, sampledMs: number): Promise<ShardResult> {
    const batches = batchesOf(work);
    const leftFrom = (at: number): readonly string[] => batches.slice(at).flatMap((batch) => [...batch.keys()]);
    const began = await this.begin(work.shard, batches[0]!, sampledMs);
    if (began === undefined) return { left: leftFrom(0), lost: false };
    const { handle } = began;
    const lost = handle.fence <= (this.fences.get(work.shard) ?? 0);
    this.fences.set(work.shard, handle.fence);
    const { clock, renewAfterMs } = this.parts;
    try {
      let freshAtMs = clock.nowMs();
      for (const [at, batch] of batches.entries()) {
        if (clock.nowMs() - freshAtMs > renewAfterMs) {
          if (!(await handle.renew())) return { left: leftFrom(at), lost };
          freshAtMs = clock.nowMs();
        }
        let read = at === 0 ? began.read : await this.readBatch(work.shard, batch, sampledMs);
        // The first read was sent together with the lock, so the server may have executed it before.
        if (read.fence !== handle.fence) read = await this.readBatch(work.shard, batch, sampledMs);
        if (read.fence !== handle.fence || !(await this.writeBatch(batch, handle, read)))
          return { left: leftFrom(at), lost };
      }
    } finally {
      // If the server does not answer, the lock expires.
      void handle.release().catch(() => undefined);
    }
    return { left: [], lost };
  }

  /** Acquires the lock and reads the first batch in one round trip, so that the lock is held for less time. */
  private async begin(
    shard: number,
    batch: Batch,
    sampledMs: number,
  ): Promise<{ handle: LockHandle; read: BatchRead } | undefined> {
    for (let tries = 1; ; tries += 1) {
      const [acquired, read] = await Promise.allSettled([
        this.parts.lock.acquire(this.shardName(shard)),
        this.readBatch(shard, batch, sampledMs),
      ]);
      if (acquired.status === 'rejected') throw acquired.reason;
      const handle = acquired.value;
      if (handle !== undefined) {
        if (read.status === 'fulfilled') return { handle, read: read.value };
        void handle.release().catch(() => undefined);
      }
      if (read.status === 'rejected') throw read.reason;
      if (tries === TRIES) return undefined;
      await sleep(1 + Math.random() * PAUSE_MS);
    }
  }

  private async readBatch(shard: number, batch: Batch, sampledMs: number): Promise<BatchRead> {
    const keys = [...batch.keys()].map((id) => this.keyOf(shard, id));
    // The age is taken before the server reads its time, as an age that is too small can only deny more.
    const ageMs = this.parts.clock.nowMs() - sampledMs;
    const { values, atMs } = await readValues(this.parts.redis, [fenceKey(this.shardName(shard)), ...keys]);
    return { keys, values: values.slice(1), fence: Number(values[0]?.toString() ?? 0), atMs, ageMs };
  }

  /** Merges and writes. The script refuses if another node has written since the read. @returns whether it wrote */
  private async writeBatch(
    batch: Batch,
    handle: LockHandle,
    { keys, values, atMs, ageMs }: BatchRead,
  ): Promise<boolean> {
    const args: (string | Buffer)[] = [];
    [...batch].forEach(([clientId, { client, forget }], i) => {
      const value = values[i] ?? null;
      let stored: StoredRecord | undefined = value === null ? undefined : tryRecord(value);
      if (value !== null && stored === undefined) this.parts.unreadable();
      if (forget && stored !== undefined && stored.atMs <= atMs - ageMs) stored = undefined;
      const next = nextRecord(stored, [clientId, agedBy(client?.[1] ?? [], ageMs)], atMs);
      args.push(next?.bytes ?? '', String(next?.restMs ?? 0));
    });
    const written = await this.parts.redis.runBytes(WRITE, [...handle.keys, ...keys], [...handle.args, ...args]);
    if (written !== 1) handle.refused();
    return written === 1;
  }
}

/** The shard of a client. */
export function shardOf(clientId: string): number {
  return Number.parseInt(hash('md5', clientId).slice(0, 2), 16) % SHARDS;
}

/** Reads keys of one shard. @returns their values and the wall ms of the server */
export async function readValues(
  redis: RedisClient,
  keys: readonly string[],
): Promise<{ values: readonly (Buffer | null)[]; atMs: number }> {
  const [seconds, micros, ...values] = (await redis.runBytes(READ, keys, [])) as [Buffer, Buffer, ...(Buffer | null)[]];
  return { values, atMs: Number(seconds.toString()) * 1_000 + Math.floor(Number(micros.toString()) / 1_000) };
}

function rotated<T>(list: readonly T[], by: number): T[] {
  return [...list.slice(by), ...list.slice(0, by)];
}
