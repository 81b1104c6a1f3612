import { setTimeout as sleep } from 'node:timers/promises';

const STEP_MS = 25;
const TRIES = 200;

/**
 * Reads until what is read is as wanted, for 5 s at most: for what other processes do, in their own time.
 * @returns what was read last
 */
export async function eventually<T>(read: () => T | Promise<T>, wanted: (value: T) => boolean): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    const value = await read();
    if (wanted(value) || tries === TRIES) return value;
    await sleep(STEP_MS);
  }
}
