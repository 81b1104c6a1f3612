import { randomBytes } from 'node:crypto';
import type { LockCounters } from './store.js';
import { defineScript, type RedisClient, type Script } from './redis-client.js';

export interface LockHandle {
  readonly fence: number;
  /** The first two keys and the first two arguments of a script that begins with `GUARD`. */
  readonly keys: readonly [lock: string, fence: string];
  readonly args: readonly [value: string, fence: string];
  /** Extends the lock to `ttlMs` from now. @returns whether it was still held */
  renew(): Promise<boolean>;
  /** Releases the lock if it is still held. Rejects if the server does not answer; then the lock expires. */
  release(): Promise<void>;
  /** Call this when the `GUARD` of a script has refused. */
  refused(): void;
}

/**
 * Returns the key of the fencing number. If a value is read together with the number, the holder with that number or an
 * earlier one wrote the value.
 */
export const fenceKey = (name: string): string => `${name}:fence`;

/** Lua: ends the script with false if the lock is not held any more. Needs the keys and arguments of the handle first. */
export const GUARD = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2] then return false end
`;

const ACQUIRE = defineScript(`
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
return redis.call('INCR', KEYS[2])
`);
const RENEW = defineScript(`${GUARD} return redis.call('PEXPIRE', KEYS[1], ARGV[3])`);
const RELEASE = defineScript(`${GUARD} return redis.call('DEL', KEYS[1])`);

/**
 * A lock with a time limit in one Redis or Valkey, and a fencing number that only grows.
 *
 * One script acquires the lock: it sets `NAME:lock` to a random value for `ttlMs` (`SET NX PX`) and increments
 * `NAME:fence`. Every write of the holder is a script that begins with `GUARD`, which refuses if the lock has another
 * value or the fencing number is not the latest. So a holder that was frozen beyond the end of its lock, or whose write
 * arrives late, writes nothing. The server decides this by its own clock at the moment of the write; the clock of a
 * holder does not matter.
 *
 * The lock belongs to one primary. A failover to a replica that lacks the last writes loses locks, fencing numbers, and
 * data written under them. The new primary refuses holders that it does not know, but acknowledged writes may be lost.
 * The next holder notices this: its `fence` is not above the last one that it saw. The lock is not fair: the first
 * attempt after a release gets it.
 */
export class FencedLock {
  readonly counters: { -readonly [K in keyof LockCounters]: number } = {
    acquired: 0,
    contended: 0,
    renewed: 0,
    lost: 0,
    held: 0,
    heldMs: 0,
  };

  constructor(
    private readonly redis: RedisClient,
    private readonly elapsedMs: () => number,
    private readonly ttlMs: number,
  ) {}

  /** @returns `undefined` if another holds the lock. Rejects if the server does not answer. */
  async acquire(name: string): Promise<LockHandle | undefined> {
    const keys = [`${name}:lock`, fenceKey(name)] as const;
    const value = randomBytes(16).toString('hex');
    const fence = await this.redis.run(ACQUIRE, keys, [value, String(this.ttlMs)]);
    if (typeof fence !== 'number') {
      this.counters.contended += 1;
      return undefined;
    }
    this.counters.acquired += 1;
    this.counters.held += 1;
    return this.handleOf(keys, value, fence);
  }

  private handleOf(keys: readonly [string, string], value: string, fence: number): LockHandle {
    const args = [value, String(fence)] as const;
    const sinceMs = this.elapsedMs();
    let isOver = false;
    const end = (): void => {
      if (isOver) return;
      isOver = true;
      this.counters.held -= 1;
      this.counters.heldMs += this.elapsedMs() - sinceMs;
    };
    const lose = (): void => {
      if (!isOver) this.counters.lost += 1;
      end();
    };
    const run = (script: Script, ...more: string[]): Promise<unknown> =>
      this.redis.run(script, keys, [...args, ...more]);
    return {
      fence,
      keys,
      args,
      renew: async () => {
        const held = (await run(RENEW, String(this.ttlMs))) === 1;
        if (held) this.counters.renewed += 1;
        else lose();
        return held;
      },
      async release() {
        if (isOver) return;
        end();
        await run(RELEASE);
      },
      refused: lose,
    };
  }
}
