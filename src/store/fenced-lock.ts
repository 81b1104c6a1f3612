import { randomBytes } from 'node:crypto';
import type { LockCounters } from '../cluster/ports.js';
import { defineScript } from './redis-client.js';
import type { RedisClient, Script } from './redis-client.js';

/**
 * A lease lock in one Redis or Valkey, with a fencing number that only grows.
 *
 * Who acquires a lock sets `NAME:lock` to a random value that nobody else knows, for `ttlMs` (`SET NX PX`), and counts `NAME:fence` up by
 * one, in one script. Both go with whatever the holder writes: the script that writes begins with `GUARD`, which refuses where the
 * value is not the lock's any more or the number is not the latest. So a holder that was frozen beyond the end of its lock, or whose write
 * was long under way, writes nothing, whether or not somebody else has acquired the lock since: the server judges, at the
 * moment of the write, by its own clock. No clock of a holder matters.
 *
 * What it does not do: it is one primary's lock. A failover to a replica that lacks the last writes forgets locks, fencing numbers and
 * what was written under them. A holder that the new primary does not know is refused there; but what it had been told was written, and had
 * not reached the replica, is gone. Who acquires can see it, as `NAME:fence` fell back: `fence` is not above the last one it saw.
 * Nor is it fair: who comes first after a release gets it.
 */
export interface FencedLock {
  /** @returns `undefined` when somebody else holds it. Rejects when the server does not answer. */
  acquire(name: string): Promise<Hold | undefined>;
  readonly counters: LockCounters;
}

export interface Hold {
  readonly fence: number;
  /** For a script that begins with `GUARD`: its first two keys, and its first two arguments. */
  readonly keys: readonly [lock: string, fence: string];
  readonly args: readonly [value: string, fence: string];
  /** Makes it last `ttlMs` from now. @returns whether it was still held */
  renew(): Promise<boolean>;
  /** Lets others have it, if it is still held. Rejects when the server does not answer: then it ends by itself. */
  release(): Promise<void>;
  /** To be told when a script's `GUARD` has refused. */
  refused(): void;
}

/** Where the fencing number of the latest holder is. Who reads it together with what the lock guards knows under whom it read. */
export const fenceKey = (name: string): string => `${name}:fence`;

/** Lua, with the keys and arguments of a hold in front: ends the script with false where the lock is held no more. */
export const GUARD = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2] then return false end
`;

const ACQUIRE = defineScript(`
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
return redis.call('INCR', KEYS[2])
`);
const RENEW = defineScript(`${GUARD} return redis.call('PEXPIRE', KEYS[1], ARGV[3])`);
const RELEASE = defineScript(`${GUARD} return redis.call('DEL', KEYS[1])`);

export function createFencedLock(
  { redis, elapsedMs }: { redis: RedisClient; elapsedMs: () => number },
  { ttlMs }: { ttlMs: number },
): FencedLock {
  const counters = { acquired: 0, contended: 0, renewed: 0, lost: 0, held: 0, heldMs: 0 };

  function holdOf(keys: readonly [string, string], value: string, fence: number): Hold {
    const args = [value, String(fence)] as const;
    const sinceMs = elapsedMs();
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      counters.held -= 1;
      counters.heldMs += elapsedMs() - sinceMs;
    };
    const lose = (): void => {
      if (!over) counters.lost += 1;
      end();
    };
    const run = (script: Script, ...more: string[]): Promise<unknown> => redis.run(script, keys, [...args, ...more]);
    return {
      fence,
      keys,
      args,
      async renew() {
        const held = (await run(RENEW, String(ttlMs))) === 1;
        if (held) counters.renewed += 1;
        else lose();
        return held;
      },
      async release() {
        if (over) return;
        end();
        await run(RELEASE);
      },
      refused: lose,
    };
  }

  return {
    counters,
    async acquire(name) {
      const keys = [`${name}:lock`, fenceKey(name)] as const;
      const value = randomBytes(16).toString('hex');
      const fence = await redis.run(ACQUIRE, keys, [value, String(ttlMs)]);
      if (typeof fence !== 'number') {
        counters.contended += 1;
        return undefined;
      }
      counters.acquired += 1;
      counters.held += 1;
      return holdOf(keys, value, fence);
    },
  };
}
