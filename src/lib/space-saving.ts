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
 * The largest counts of a stream, in constant memory.
 *
 * Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data
 * streams", 2005): a newcomer takes the place of the smallest count and starts from it, so a count is too high by at
 * most the count that it replaced. Counts decay exponentially by forward decay (Cormode, Shkapenyuk, Srivastava and
 * Xu, 2009): instead of lowering old counts, new amounts weigh more, which keeps the order of the counts.
 * @param options.size largest number of counts
 * @param options.nameBytes largest sum of the lengths of client ids and policies, in UTF-16 code units: where names
 * are long, there are fewer counts
 * @param options.decayMs a count falls to 1/e in this time
 */
export class Summary {
  private readonly hashes: Int32Array;
  private readonly counts: Float64Array;
  private readonly errors: Float64Array;
  private readonly variances: Float64Array;
  /** The parts of `counts` that clients with the SDK report. */
  private readonly reported: Float64Array;
  private readonly keys: SummaryKey[] = [];
  private names = 0;
  /** In the unit of `counts`: no client without a count has more. */
  private lost = 0;
  private originMs = 0;

  constructor(private readonly options: { size: number; nameBytes: number; decayMs: number }) {
    this.hashes = new Int32Array(options.size);
    this.counts = new Float64Array(options.size);
    this.errors = new Float64Array(options.size);
    this.variances = new Float64Array(options.size);
    this.reported = new Float64Array(options.size);
  }

  /**
   * Adds to the count of a client.
   * @param hash 32 bits of a hash of the client and the policy, as int32
   * @param variance of `amount`, if it is an estimate; 0 if it is exact
   * @param source default: `node`
   */
  add(
    key: SummaryKey,
    amount: number,
    variance: number,
    nowMs: number,
    source: keyof Counted['source'] = 'node',
  ): void {
    const weight = this.weightAt(nowMs);
    let at = this.find(key);
    if (at < 0) at = this.insert(key);
    this.counts[at]! += amount * weight;
    this.variances[at]! += variance * weight * weight;
    if (source === 'sdk') this.reported[at]! += amount * weight;
  }

  /** Returns the counts, largest first. */
  list(nowMs: number): Counted[] {
    const weight = this.weightAt(nowMs);
    const listed = this.keys.map(({ clientId, policy }, i): Counted => {
      const error = (this.errors[i]! + DEVIATIONS * Math.sqrt(this.variances[i]!)) / weight;
      const count = this.counts[i]! / weight;
      const source = sourceOf(count, this.reported[i]! / weight);
      return { clientId, ...(policy !== undefined && { policy }), count, error, source };
    });
    return listed.sort((a, b) => b.count - a.count);
  }

  /** An upper bound of the count of every client that is not in the list. */
  floor(nowMs: number): number {
    return this.lost / this.weightAt(nowMs);
  }

  /** The weight of an amount of now, in the unit of `counts`. */
  private weightAt(nowMs: number): number {
    const exponent = (nowMs - this.originMs) / this.options.decayMs;
    if (exponent <= MAX_EXPONENT) return Math.exp(exponent);
    const scale = Math.exp(-exponent);
    for (let i = 0; i < this.keys.length; i += 1) {
      this.counts[i]! *= scale;
      this.errors[i]! *= scale;
      this.variances[i]! *= scale * scale;
      this.reported[i]! *= scale;
    }
    this.lost *= scale;
    this.originMs = nowMs;
    return 1;
  }

  private find(key: SummaryKey): number {
    for (
      let at = this.hashes.indexOf(key.hash);
      at >= 0 && at < this.keys.length;
      at = this.hashes.indexOf(key.hash, at + 1)
    ) {
      if (this.keys[at]!.clientId === key.clientId && this.keys[at]!.policy === key.policy) return at;
    }
    return -1;
  }

  private removeSmallest(): void {
    let smallest = 0;
    for (let i = 1; i < this.keys.length; i += 1) if (this.counts[i]! < this.counts[smallest]!) smallest = i;
    this.lost = Math.max(this.lost, this.counts[smallest]!);
    this.names -= lengthOf(this.keys[smallest]!);
    const last = this.keys.pop()!;
    if (smallest === this.keys.length) return;
    this.keys[smallest] = last;
    for (const column of [this.hashes, this.counts, this.errors, this.variances, this.reported])
      column[smallest] = column[this.keys.length]!;
  }

  private insert(key: SummaryKey): number {
    const length = lengthOf(key);
    while (
      this.keys.length > 0 &&
      (this.keys.length === this.options.size || this.names + length > this.options.nameBytes)
    )
      this.removeSmallest();
    const at = this.keys.push(key) - 1;
    this.names += length;
    this.hashes[at] = key.hash;
    this.counts[at] = this.errors[at] = this.lost;
    this.variances[at] = this.reported[at] = 0;
    return at;
  }
}

/** Parts a count. @param sdk the part that clients with the SDK report */
export function sourceOf(count: number, sdk: number): Counted['source'] {
  return { node: Math.max(0, count - sdk), sdk };
}

function lengthOf({ clientId, policy = '' }: SummaryKey): number {
  return clientId.length + policy.length;
}
