/**
 * A model of the generic cell rate algorithm as redis-cell documents it: `count` tokens per `period`, with at most
 * `max_burst + 1` at once. It keeps the time at which the key is full again, in parts of a millisecond, exactly.
 */
export function createGcra(): (
  nowMs: number,
  [maxBurst, count, period, quantity]: readonly [number, number, number, number],
) => number[] {
  /** The theoretical arrival time in ms, times `count`. */
  let fullAt = 0n;
  return (nowMs, [maxBurst, count, period, quantity]) => {
    const now = BigInt(nowMs) * BigInt(count);
    // Times of one token, of the request, and of the whole burst, in ms times `count`.
    const interval = BigInt(period) * 1_000n;
    const increment = interval * BigInt(quantity);
    const tolerance = interval * BigInt(maxBurst + 1);
    const from = fullAt > now ? fullAt : now;
    const waits = from + increment - tolerance - now;
    const limited = waits > 0n;
    if (!limited) fullAt = from + increment;
    const rest = (limited ? from : fullAt) - now;
    const left = tolerance > rest ? (tolerance - rest) / interval : 0n;
    const seconds = (parts: bigint): number => Math.ceil(Number(parts) / count / 1_000);
    const retry = limited && increment <= tolerance ? seconds(waits) : -1;
    return [limited ? 1 : 0, maxBurst + 1, Number(left), retry, seconds(rest)];
  };
}
