import type { ClientKey } from '../../limits/ring/client-hash.js';

/** Rows of counters; a client has one counter in each. */
const ROWS = 4;
/** Counters in a row. One byte each: 8 KiB in all, which stay in the processor's cache. */
const COLUMNS = 2048;
const COLUMN_BITS = 11;
const MAX_COUNT = 255;
/** After this many counts, all counters are halved. So a counter holds at most 8 counts on average. */
const SAMPLE = 4 * COLUMNS;

/**
 * Counts how often each client came lately, in constant memory.
 *
 * A count-min sketch (Cormode and Muthukrishnan, "An improved data stream summary", 2005) with conservative update
 * (Estan and Varghese, 2002): a client raises only those of its counters that are the lowest. Old counts decay as in
 * TinyLFU (Einziger, Friedman and Manes, 2017): all are halved after a number of counts. They also end with the window.
 */
export class HotClients {
  private readonly counters = new Uint8Array(ROWS * COLUMNS);
  private readonly own = new Int32Array(ROWS);
  private startMs = -Infinity;
  private left = SAMPLE;

  /** @param windowMs after so long, counting starts afresh */
  constructor(private readonly windowMs: number) {}

  /**
   * Counts a client.
   * @returns how often it came in the present window, at most 255. Halving makes it lower. It is too high only if other
   * clients share its counter in each row.
   */
  count({ hashHigh, hashLow }: Pick<ClientKey, 'hashHigh' | 'hashLow'>, nowMs: number): number {
    if (nowMs - this.startMs > this.windowMs) this.startAfresh(nowMs);
    else if (this.left === 0) this.halve(nowMs);
    this.left -= 1;
    let lowest = MAX_COUNT;
    for (let row = 0; row < ROWS; row += 1) {
      // Two independent hashes make as many as are wanted (Kirsch and Mitzenmacher, 2006).
      const column = (hashHigh + Math.imul(row, hashLow | 1)) >>> (32 - COLUMN_BITS);
      this.own[row] = row * COLUMNS + column;
      lowest = Math.min(lowest, this.counters[this.own[row]!]!);
    }
    if (lowest === MAX_COUNT) return MAX_COUNT;
    for (const at of this.own) if (this.counters[at] === lowest) this.counters[at] = lowest + 1;
    return lowest + 1;
  }

  /** Ms for which the counts have been taken, at least 0. */
  countedMs(nowMs: number): number {
    return nowMs - this.startMs;
  }

  private startAfresh(nowMs: number): void {
    this.counters.fill(0);
    this.startMs = nowMs;
    this.left = SAMPLE;
  }

  private halve(nowMs: number): void {
    for (let i = 0; i < this.counters.length; i += 1) this.counters[i]! >>= 1;
    this.startMs += (nowMs - this.startMs) / 2;
    this.left = SAMPLE / 2;
  }
}
