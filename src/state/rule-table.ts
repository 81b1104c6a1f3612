import { compareStrictness, sameBucket, type Rule } from '../limits/bucket/rule.js';
import { scopeBytes } from '../limits/heap-bytes.js';
import { fnv1a } from '../limits/ring/fnv1a.js';

interface Entry {
  readonly rule: Rule;
  readonly hash: number;
  readonly index: number;
  /** Clients whose bucket has this rule. */
  uses: number;
  /** Bytes on the heap. */
  readonly bytes: number;
  /** The next entry with the same hash. */
  next: Entry | undefined;
}

/** Measured bytes on the heap of a rule that only one record has, without its scope. */
const RULE_BYTES = 180;

/**
 * Holds each rule of the buckets once, under a number. A bucket holds that number instead of the rule. A rule is
 * removed with its last bucket.
 */
export class RuleTable {
  /** Entries by index, from 1. */
  private readonly entries: (Entry | undefined)[] = [undefined];
  private readonly freeIndices: number[] = [];
  private readonly byHash = new Map<number, Entry>();
  private latest: Entry | undefined;
  private allBytes = 0;

  /** Counts one more use. @returns the rule's number, at least 1 */
  acquire(rule: Rule): number {
    if (this.latest?.rule !== rule) {
      const hash = hashOf(rule);
      this.latest = this.find(rule, hash) ?? this.add(rule, hash);
    }
    this.latest.uses += 1;
    return this.latest.index;
  }

  release(index: number): void {
    const entry = this.entries[index]!;
    entry.uses -= 1;
    if (entry.uses === 0) this.remove(entry);
  }

  at(index: number): Rule {
    return this.entries[index]!.rule;
  }

  /** Upper bound of the bytes on the heap. */
  bytes(): number {
    return this.allBytes;
  }

  private find(rule: Rule, hash: number): Entry | undefined {
    let entry = this.byHash.get(hash);
    while (entry !== undefined && !isSame(entry.rule, rule)) entry = entry.next;
    return entry;
  }

  private add(rule: Rule, hash: number): Entry {
    const index = this.freeIndices.pop() ?? this.entries.length;
    const entry = {
      rule,
      hash,
      index,
      uses: 0,
      bytes: RULE_BYTES + scopeBytes(rule.scope),
      next: this.byHash.get(hash),
    };
    this.allBytes += entry.bytes;
    this.entries[index] = entry;
    this.byHash.set(hash, entry);
    return entry;
  }

  private remove(entry: Entry): void {
    this.entries[entry.index] = undefined;
    this.allBytes -= entry.bytes;
    this.freeIndices.push(entry.index);
    if (this.latest === entry) this.latest = undefined;
    let before = this.byHash.get(entry.hash)!;
    if (before === entry) {
      if (entry.next === undefined) this.byHash.delete(entry.hash);
      else this.byHash.set(entry.hash, entry.next);
      return;
    }
    while (before.next !== entry) before = before.next!;
    before.next = entry.next;
  }
}

export function isSame(a: Rule, b: Rule): boolean {
  return a === b || (sameBucket(a, b) && compareStrictness(a, b) === 0);
}

function hashOf({ limit, windowMs, capacity, scope }: Rule): number {
  const hash = Math.imul(limit, 0x9e3779b1) ^ Math.imul(windowMs, 0x85ebca77) ^ Math.imul(capacity, 0xc2b2ae3d);
  return scope === undefined ? hash | 0 : hash ^ fnv1a(scope);
}
