import { createHash } from 'node:crypto';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { RedisAddress } from './redis-address.js';

/** A Lua script and the hash by which the server caches it. */
export interface Script {
  readonly text: string;
  readonly sha: string;
}

export function defineScript(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

const CONNECT_TIMEOUT_MS = 2_000;
const MAX_RETRY_MS = 1_000;
/** Keys that one step of a scan reads. */
const SCAN = 1_000;

/** Sends commands to a single Redis, a cluster, or a primary behind sentinels. All reject within `timeoutMs`. */
export class RedisClient {
  private readonly redis: Redis | Cluster;
  /** The last connection error, until a connection is made. */
  private trouble: Refusal | undefined;

  constructor(address: RedisAddress, timeoutMs: number) {
    this.redis = connect(address, timeoutMs);
    // An error event without a listener would end the program.
    this.redis.on('error', (error: Refusal) => (this.trouble = error));
    this.redis.on('node error', (error: Refusal) => (this.trouble = error));
    this.redis.on('ready', () => (this.trouble = undefined));
  }

  async run({ text, sha }: Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    try {
      return await this.explained(this.redis.evalsha(sha, keys.length, ...keys, ...args));
    } catch (error) {
      if (!(error as Error).message.startsWith('NOSCRIPT')) throw error;
      return this.redis.eval(text, keys.length, ...keys, ...args);
    }
  }

  /** Like `run`, for scripts whose arguments and answers are bytes. Numbers stay numbers. */
  async runBytes({ text, sha }: Script, keys: readonly string[], args: readonly (string | Buffer)[]): Promise<unknown> {
    try {
      return await this.explained(this.redis.callBuffer('evalsha', sha, keys.length, ...keys, ...args));
    } catch (error) {
      if (!(error as Error).message.startsWith('NOSCRIPT')) throw error;
      return this.redis.callBuffer('eval', text, keys.length, ...keys, ...args);
    }
  }

  get(key: string): Promise<string | null> {
    return this.explained(this.redis.get(key));
  }

  async setNew(key: string, value: string): Promise<void> {
    await this.redis.set(key, value, 'NX');
  }

  /** Lists all keys with a prefix, in chunks. A key may come more than once. */
  async *scan(prefix: string): AsyncIterable<string[]> {
    const { redis } = this;
    // Each primary of a cluster holds a part of the keys.
    const servers = redis instanceof Cluster ? redis.nodes('master') : [redis];
    // The primaries of a cluster are known after the first command.
    if (servers.length === 0) throw new Error('no primary of the cluster is known');
    const match = `${prefix.replaceAll(/[\\*?[\]]/g, '\\$&')}*`;
    for (const server of servers) {
      let cursor = '0';
      do {
        const [next, keys] = await server.scan(cursor, 'MATCH', match, 'COUNT', SCAN);
        cursor = next;
        yield keys;
      } while (cursor !== '0');
    }
  }

  /** Drops the connections and the commands that wait on them, and connects again. */
  reconnect(): void {
    if (this.redis instanceof Cluster) for (const node of this.redis.nodes()) node.disconnect(true);
    else this.redis.disconnect(true);
  }

  close(): Promise<void> {
    this.redis.disconnect();
    return Promise.resolve();
  }

  /** Replaces the error with that of the connection. Without a connection, ioredis rejects without a reason. */
  private async explained<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (!(error as Error).message.includes('enableOfflineQueue')) throw error;
      const reason = this.trouble === undefined ? 'there is no connection yet' : reasonOf(this.trouble);
      throw new Error(reason, { cause: error });
    }
  }
}

/** An error of ioredis. For a cluster, or a name with several addresses, the last attempt has the cause. */
interface Refusal extends Error {
  readonly lastNodeError?: Error;
  readonly errors?: readonly Error[];
}

function reasonOf({ message, lastNodeError, errors }: Refusal): string {
  return (lastNodeError ?? errors?.at(-1))?.message ?? message;
}

function connect(address: RedisAddress, timeoutMs: number): Redis | Cluster {
  const { kind, hosts, tls, username, password, db, sentinelName } = address;
  const retry = (times: number): number => Math.min(MAX_RETRY_MS, 50 * 2 ** Math.min(times, 10));
  const options: Omit<RedisOptions, 'replyMapping'> = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls ? { tls: {} } : {}),
    db,
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: timeoutMs,
    // Commands without a connection fail at once. Changes wait in the write-behind, whose queue is bounded.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: retry,
  };
  switch (kind) {
    case 'single':
      return new Redis({ ...options, ...hosts[0]! });
    case 'sentinel':
      return new Redis({
        ...options,
        sentinels: hosts.map((host) => ({ ...host })),
        name: sentinelName!,
        sentinelRetryStrategy: retry,
        ...(tls ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
      });
    case 'cluster':
      return new Cluster(
        hosts.map((host) => ({ ...host })),
        {
          redisOptions: options,
          enableOfflineQueue: false,
          clusterRetryStrategy: retry,
          slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
        },
      );
  }
}
