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

/** Sends commands to a single Redis, a cluster, or a primary behind sentinels. All reject within `timeoutMs`. */
export interface RedisClient {
  run(script: Script, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** Like `run`, for scripts whose arguments and answers are bytes. Numbers stay numbers. */
  runBytes(script: Script, keys: readonly string[], args: readonly (string | Buffer)[]): Promise<unknown>;
  get(key: string): Promise<string | null>;
  setNew(key: string, value: string): Promise<void>;
  /** Lists all keys with a prefix, in chunks. A key may come more than once. */
  scan(prefix: string): AsyncIterable<string[]>;
  /** Drops the connections and the commands that wait on them, and connects again. */
  reconnect(): void;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 2_000;
const MAX_RETRY_MS = 1_000;
/** Keys that one step of a scan reads. */
const SCAN = 1_000;

export function connectRedis(address: RedisAddress, { timeoutMs }: { timeoutMs: number }): RedisClient {
  const redis = connect(address, timeoutMs);
  /** The last connection error, until a connection is made. */
  let trouble: Refusal | undefined;
  // An error event without a listener would end the program.
  redis.on('error', (error: Refusal) => (trouble = error));
  redis.on('node error', (error: Refusal) => (trouble = error));
  redis.on('ready', () => (trouble = undefined));

  /**
   * Replaces the error with that of the connection. Without a connection, ioredis rejects commands without a reason.
   */
  async function explained<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (!(error as Error).message.includes('enableOfflineQueue')) throw error;
      throw new Error(trouble === undefined ? 'there is no connection yet' : reasonOf(trouble), { cause: error });
    }
  }

  async function run({ text, sha }: Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    try {
      return await explained(redis.evalsha(sha, keys.length, ...keys, ...args));
    } catch (error) {
      if (!(error as Error).message.startsWith('NOSCRIPT')) throw error;
      return redis.eval(text, keys.length, ...keys, ...args);
    }
  }

  async function runBytes(
    { text, sha }: Script,
    keys: readonly string[],
    args: readonly (string | Buffer)[],
  ): Promise<unknown> {
    try {
      return await explained(redis.callBuffer('evalsha', sha, keys.length, ...keys, ...args));
    } catch (error) {
      if (!(error as Error).message.startsWith('NOSCRIPT')) throw error;
      return redis.callBuffer('eval', text, keys.length, ...keys, ...args);
    }
  }

  return {
    run,
    runBytes,
    get: (key) => explained(redis.get(key)),
    async setNew(key, value) {
      await redis.set(key, value, 'NX');
    },
    async *scan(prefix) {
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
    },
    reconnect() {
      if (redis instanceof Cluster) for (const node of redis.nodes()) node.disconnect(true);
      else redis.disconnect(true);
    },
    async close() {
      redis.disconnect();
      return Promise.resolve();
    },
  };
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
