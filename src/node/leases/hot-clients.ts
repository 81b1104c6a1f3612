import type { ClientKey } from '../../limits/ring/client-hash.js';

/** Rows of counters; a client has one counter in each. */
const ROWS = 4;
/** Counters in a row. One byte each: 8 KiB in all, which stay in the processor's cache. */
const COLUMNS = 2048;
const COLUMN_BITS = 11;
const MAX_COUNT = 255;
/** After this many counts, all counters are halved. So a counter holds at most 8 counts on average. */
const SAMPLE = 4 * COLUMNS;

/** Counts how often each client came lately, in constant memory. */
interface HotClients {
  /**
   * Counts a client.
   * @returns how often it came in the present window, at most 255. Halving makes it lower. It is too high only if other
   * clients share its counter in each row.
   */
  count(client: Pick<ClientKey, 'hashHigh' | 'hashLow'>, nowMs: number): number;
  /** Ms for which the counts have been taken, at least 0. */
  countedMs(nowMs: number): number;
}

/**
 * A count-min sketch (Cormode and Muthukrishnan, "An improved data stream summary", 2005) with conservative update
 * (Estan and Varghese, 2002): a client raises only those of its counters that are the lowest. Old counts decay as in
 * TinyLFU (Einziger, Friedman and Manes, 2017): all are halved after a number of counts. They also end with the window.
 * @param windowMs after so long, counting starts afresh
 */
export function createHotClients({ windowMs }: { windowMs: number }): HotClients {
  const counters = new Uint8Array(ROWS * COLUMNS);
  const own = new Int32Array(ROWS);
  let startMs = -Infinity;
  let left = SAMPLE;

  function startAfresh(nowMs: number): void {
    counters.fill(0);
    startMs = nowMs;
    left = SAMPLE;
  }

  function halve(nowMs: number): void {
    for (let i = 0; i < counters.length; i += 1) counters[i]! >>= 1;
    startMs += (nowMs - startMs) / 2;
    left = SAMPLE / 2;
  }

  return {
    count({ hashHigh, hashLow }, nowMs) {
      if (nowMs - startMs > windowMs) startAfresh(nowMs);
      else if (left === 0) halve(nowMs);
      left -= 1;
      let lowest = MAX_COUNT;
      for (let row = 0; row < ROWS; row += 1) {
        // Two independent hashes make as many as are wanted (Kirsch and Mitzenmacher, 2006).
        const column = (hashHigh + Math.imul(row, hashLow | 1)) >>> (32 - COLUMN_BITS);
        own[row] = row * COLUMNS + column;
        lowest = Math.min(lowest, counters[own[row]!]!);
      }
      if (lowest === MAX_COUNT) return MAX_COUNT;
      for (const at of own) if (counters[at] === lowest) counters[at] = lowest + 1;
      return lowest + 1;
    },
    countedMs: (nowMs) => nowMs - startMs,
  };
}
