/** A client under one policy, with its count. */
export interface Counted {
  readonly clientId: string;
  /** Absent if the request named its own limits. */
  readonly policy?: string;
  /** The sum of the amounts, decayed. At a steady rate, it is the amount in one decay time. */
  readonly count: number;
  /** The true count differs from `count` by at most this much. */
  readonly error: number;
  /** The parts of `count` that nodes have answered, and that clients with the SDK report to have answered by themselves. */
  readonly source: { readonly node: number; readonly sdk: number };
}

/** The largest counts of a stream, in constant memory. */
export interface Summary {
  /**
   * Adds to the count of a client.
   * @param hash 32 bits of a hash of the client and the policy, as int32
   * @param variance of `amount`, if it is an estimate; 0 if it is exact
   * @param source default: `node`
   */
  add(key: SummaryKey, amount: number, variance: number, nowMs: number, source?: keyof Counted['source']): void;
  /** Returns the counts, largest first. */
  list(nowMs: number): Counted[];
  /** An upper bound of the count of every client that is not in the list. */
  floor(nowMs: number): number;
}

export interface SummaryKey {
  readonly clientId: string;
  readonly policy: string | undefined;
  /** 32 bits of a hash of both, as int32. */
  readonly hash: number;
}

/** Weights grow with time by this exponent at most before all of them are scaled down again. A double holds e^709. */
const MAX_EXPONENT = 100;
/** An estimate is off by more than two standard deviations in one case of twenty. */
const DEVIATIONS = 2;

/**
 * Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data
 * streams", 2005): a newcomer takes the place of the smallest count and starts from it, so a count is too high by at
 * most the count that it replaced. Counts decay exponentially by forward decay (Cormode, Shkapenyuk, Srivastava and
 * Xu, 2009): instead of lowering old counts, new amounts weigh more, which keeps the order of the counts.
 * @param options.size largest number of counts
 * @param options.nameBytes largest sum of the lengths of client ids and policies, in UTF-16 code units: where names
 * are long, there are fewer counts
 * @param options.decayMs a count falls to 1/e in this time
 */
export function createSummary(options: { size: number; nameBytes: number; decayMs: number }): Summary {
  const { size, nameBytes, decayMs } = options;
  const hashes = new Int32Array(size);
  const counts = new Float64Array(size);
  const errors = new Float64Array(size);
  const variances = new Float64Array(size);
  /** The parts of `counts` that clients with the SDK report. */
  const reported = new Float64Array(size);
  const keys: SummaryKey[] = [];
  let names = 0;
  /** In the unit of `counts`: no client without a count has more. */
  let lost = 0;
  let originMs = 0;

  /** The weight of an amount of now, in the unit of `counts`. */
  function weightAt(nowMs: number): number {
    const exponent = (nowMs - originMs) / decayMs;
    if (exponent <= MAX_EXPONENT) return Math.exp(exponent);
    const scale = Math.exp(-exponent);
    for (let i = 0; i < keys.length; i += 1) {
      counts[i]! *= scale;
      errors[i]! *= scale;
      variances[i]! *= scale * scale;
      reported[i]! *= scale;
    }
    lost *= scale;
    originMs = nowMs;
    return 1;
  }

  function find(key: SummaryKey): number {
    for (let at = hashes.indexOf(key.hash); at >= 0 && at < keys.length; at = hashes.indexOf(key.hash, at + 1)) {
      if (keys[at]!.clientId === key.clientId && keys[at]!.policy === key.policy) return at;
    }
    return -1;
  }

  function removeSmallest(): void {
    let smallest = 0;
    for (let i = 1; i < keys.length; i += 1) if (counts[i]! < counts[smallest]!) smallest = i;
    lost = Math.max(lost, counts[smallest]!);
    names -= lengthOf(keys[smallest]!);
    const last = keys.pop()!;
    if (smallest === keys.length) return;
    keys[smallest] = last;
    for (const column of [hashes, counts, errors, variances, reported]) column[smallest] = column[keys.length]!;
  }

  function insert(key: SummaryKey): number {
    const length = lengthOf(key);
    while (keys.length > 0 && (keys.length === size || names + length > nameBytes)) removeSmallest();
    const at = keys.push(key) - 1;
    names += length;
    hashes[at] = key.hash;
    counts[at] = errors[at] = lost;
    variances[at] = reported[at] = 0;
    return at;
  }

  return {
    add(key, amount, variance, nowMs, source = 'node') {
      const weight = weightAt(nowMs);
      let at = find(key);
      if (at < 0) at = insert(key);
      counts[at]! += amount * weight;
      variances[at]! += variance * weight * weight;
      if (source === 'sdk') reported[at]! += amount * weight;
    },
    list(nowMs) {
      const weight = weightAt(nowMs);
      const listed = keys.map(({ clientId, policy }, i): Counted => {
        const error = (errors[i]! + DEVIATIONS * Math.sqrt(variances[i]!)) / weight;
        const count = counts[i]! / weight;
        const source = sourceOf(count, reported[i]! / weight);
        return { clientId, ...(policy !== undefined && { policy }), count, error, source };
      });
      return listed.sort((a, b) => b.count - a.count);
    },
    floor: (nowMs) => lost / weightAt(nowMs),
  };
}

/** Parts a count. @param sdk the part that clients with the SDK report */
export function sourceOf(count: number, sdk: number): Counted['source'] {
  return { node: Math.max(0, count - sdk), sdk };
}

function lengthOf({ clientId, policy = '' }: SummaryKey): number {
  return clientId.length + policy.length;
}
