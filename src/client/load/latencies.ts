/** Durations of one interval, in constant memory. */
export interface Latencies {
  /** Durations since the last `clear`. */
  count(): number;
  add(ms: number): void;
  /** The mean; 0 without any duration. */
  mean(): number;
  /**
   * The duration that this fraction of them does not exceed, at most 5% above the exact one; 0 without any duration.
   */
  percentile(part: number): number;
  clear(): void;
}

/** The end of the first histogram bucket. Each bucket ends 5% above the one before, from 0.1 ms to above a day. */
const FIRST_MS = 0.1;
const GROWTH = 1.05;
const BUCKETS = 1 + Math.ceil(Math.log(86_400_000 / FIRST_MS) / Math.log(GROWTH));

export function createLatencies(): Latencies {
  const counts = new Uint32Array(BUCKETS);
  let count = 0;
  let sumMs = 0;

  return {
    count: () => count,
    add(ms) {
      const above = Math.ceil(Math.log(Math.max(ms, FIRST_MS) / FIRST_MS) / Math.log(GROWTH));
      counts[Math.min(above, BUCKETS - 1)]! += 1;
      count += 1;
      sumMs += ms;
    },
    mean: () => (count === 0 ? 0 : sumMs / count),
    percentile(part) {
      if (count === 0) return 0;
      let left = Math.ceil(part * count);
      let bucket = 0;
      while ((left -= counts[bucket]!) > 0) bucket += 1;
      return FIRST_MS * GROWTH ** bucket;
    },
    clear() {
      counts.fill(0);
      count = 0;
      sumMs = 0;
    },
  };
}
