/** Entries of a shard. A split takes well under a millisecond. Growth costs no more than one split at a time. */
const SHARD_ENTRIES = 1024;
const ENTRY_MASK = SHARD_ENTRIES - 1;
/** A shard with more entries than this is split, so that probes stay short. */
const MAX_ENTRIES = SHARD_ENTRIES * 0.625;
/** Two shards of one parent are merged again if they hold no more than this together. */
const MERGE_ENTRIES = SHARD_ENTRIES * 0.25;
/** A lookup reads at most this many entries: 256 bytes, which are four cache lines. */
const MAX_PROBES = 64;
/** The index may be this much deeper than its size requires, to separate hashes that share many bits. */
const SPARE_DEPTH = 4;
const MIN_DEPTH = 1;
/** A hash has 32 bits. The lowest 10 choose the entry. */
const MAX_DEPTH = 22;

const SLOT_BITS = 24;
const SLOT_MASK = 2 ** SLOT_BITS - 1;

interface Shard {
  /** 0: empty; otherwise a tag of 7 bits, which is not 0, above the slot. */
  readonly entries: Int32Array;
  count: number;
  /** Number of the first bits of the hash that all entries of the shard share. */
  readonly depth: number;
}

/**
 * Finds slots by the hash of a client's id, with extendible hashing (Fagin and others, 1979). A directory finds a shard
 * by the first bits of the hash. A full shard is split alone. Linear probing places the entries in a shard.
 *
 * An attacker who knows the hash function can choose ids of which many share a place. Therefore the table mixes a
 * secret into the hash. A lookup also reads at most 64 entries for any ids: `add` refuses an entry that finds no place
 * among them.
 *
 * @param hashOf returns the hash, 32 bits, of the client at a slot
 * @param isSought returns whether the client at a slot is the one that the lookup seeks
 */
export class SlotIndex {
  private depth = MIN_DEPTH;
  private size = 0;
  private directory: Shard[];

  constructor(
    private readonly hashOf: (slot: number) => number,
    private readonly isSought: (slot: number) => boolean,
  ) {
    this.directory = Array.from({ length: 2 ** this.depth }, () => createShard(MIN_DEPTH));
  }

  /** @returns the slot of this hash and tag for which `isSought` is true, or −1 */
  find(hash: number, tag: number): number {
    const { entries } = this.shardOf(hash);
    for (let i = 0; i < MAX_PROBES; i += 1) {
      const entry = entries[(hash + i) & ENTRY_MASK]!;
      if (entry === 0) return -1;
      if (entry >>> SLOT_BITS === tag && this.isSought(entry & SLOT_MASK)) return entry & SLOT_MASK;
    }
    return -1;
  }

  /** @returns false if no place is left; one of `probeGroup(hash)` must then be removed first */
  add(hash: number, tag: number, slot: number): boolean {
    let shard = this.shardOf(hash);
    while (shard.count >= MAX_ENTRIES || !insert(shard, hash, (tag << SLOT_BITS) | slot)) {
      if (!this.maySplit(shard)) return false;
      this.split(hash, shard);
      shard = this.shardOf(hash);
    }
    this.size += 1;
    return true;
  }

  /** Returns the slots in the entries that a lookup for this hash reads. */
  probeGroup(hash: number): number[] {
    const { entries } = this.shardOf(hash);
    const read = Array.from({ length: MAX_PROBES }, (_, i) => entries[(hash + i) & ENTRY_MASK]!);
    return read.filter((entry) => entry !== 0).map((entry) => entry & SLOT_MASK);
  }

  remove(hash: number, slot: number): void {
    const shard = this.shardOf(hash);
    const { entries } = shard;
    let gap = hash & ENTRY_MASK;
    while ((entries[gap]! & SLOT_MASK) !== slot) gap = (gap + 1) & ENTRY_MASK;
    // A later entry moves up, unless it would come before its own place (Knuth, vol. 3, 6.4, algorithm R).
    for (let at = (gap + 1) & ENTRY_MASK; entries[at] !== 0; at = (at + 1) & ENTRY_MASK) {
      const own = this.hashOf(entries[at]! & SLOT_MASK) & ENTRY_MASK;
      if (((at - own) & ENTRY_MASK) < ((at - gap) & ENTRY_MASK)) continue;
      entries[gap] = entries[at]!;
      gap = at;
    }
    entries[gap] = 0;
    shard.count -= 1;
    this.size -= 1;
    if (shard.count < MERGE_ENTRIES / 2) this.mergeWithTwin(hash, shard);
  }

  private shardOf(hash: number): Shard {
    return this.directory[hash >>> (32 - this.depth)]!;
  }

  private lead(hash: number, { depth: bits }: Shard, zero: Shard, one: Shard): void {
    // Directory entries of one shard are neighbours.
    const width = 2 ** (this.depth - bits);
    const begin = ((hash >>> (32 - this.depth)) & -width) >>> 0;
    this.directory.fill(zero, begin, begin + width / 2);
    this.directory.fill(one, begin + width / 2, begin + width);
  }

  private split(hash: number, shard: Shard): void {
    if (shard.depth === this.depth) {
      this.directory = this.directory.flatMap((one) => [one, one]);
      this.depth += 1;
    }
    const [zero, one] = [createShard(shard.depth + 1), createShard(shard.depth + 1)];
    const bit = 31 - shard.depth;
    insertAll(shard, this.hashOf, (of) => ((of >>> bit) & 1 ? one : zero));
    this.lead(hash, shard, zero, one);
  }

  private mergeWithTwin(hash: number, shard: Shard): void {
    if (shard.depth === MIN_DEPTH) return;
    const bit = 32 - shard.depth;
    const twin = this.shardOf((hash ^ (1 << bit)) >>> 0);
    if (twin.depth !== shard.depth || shard.count + twin.count > MERGE_ENTRIES) return;
    const merged = createShard(shard.depth - 1);
    const fits = insertAll(shard, this.hashOf, () => merged) && insertAll(twin, this.hashOf, () => merged);
    if (fits) this.lead(hash, merged, merged, merged);
  }

  private maySplit(shard: Shard): boolean {
    const due = Math.max(MIN_DEPTH, Math.ceil(Math.log2(this.size / MAX_ENTRIES)));
    return shard.depth < Math.min(MAX_DEPTH, due + SPARE_DEPTH);
  }
}

function createShard(depth: number): Shard {
  return { entries: new Int32Array(SHARD_ENTRIES), count: 0, depth };
}

/** Puts an entry into the first empty place that a lookup reads. */
function insert(shard: Shard, hash: number, entry: number): boolean {
  const { entries } = shard;
  for (let i = 0; i < MAX_PROBES; i += 1) {
    const at = (hash + i) & ENTRY_MASK;
    if (entries[at] !== 0) continue;
    entries[at] = entry;
    shard.count += 1;
    return true;
  }
  return false;
}

/**
 * Inserts all entries of a shard into others. It begins behind a gap. So if the others were empty, each entry is then
 * no farther from its own place than before.
 */
function insertAll({ entries }: Shard, hashOf: (slot: number) => number, shardFor: (hash: number) => Shard): boolean {
  const gap = entries.indexOf(0);
  for (let i = 1; i < SHARD_ENTRIES; i += 1) {
    const entry = entries[(gap + i) & ENTRY_MASK]!;
    if (entry === 0) continue;
    const hash = hashOf(entry & SLOT_MASK);
    if (!insert(shardFor(hash), hash, entry)) return false;
  }
  return true;
}
