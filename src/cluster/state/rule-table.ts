import { compareStrictness, sameBucket } from '../../core/bucket/rule.js';
import type { Rule } from '../../core/bucket/rule.js';

interface Entry {
  readonly rule: Rule;
  readonly hash: number;
  readonly index: number;
  /** Clients whose bucket has this rule. */
  uses: number;
  /** The next entry with the same hash. */
  next: Entry | undefined;
}

/**
 * Holds each rule of the buckets once, under a number. A bucket holds that number instead of the rule. A rule is
 * removed with its last bucket.
 */
export interface RuleTable {
  /** Counts one more use. @returns the rule's number, at least 1 */
  acquire(rule: Rule): number;
  release(index: number): void;
  at(index: number): Rule;
  size(): number;
}

export function createRuleTable(): RuleTable {
  /** Entries by index, from 1. */
  const entries: (Entry | undefined)[] = [undefined];
  const freeIndices: number[] = [];
  const byHash = new Map<number, Entry>();
  let latest: Entry | undefined;

  function find(rule: Rule, hash: number): Entry | undefined {
    let entry = byHash.get(hash);
    while (entry !== undefined && !isSame(entry.rule, rule)) entry = entry.next;
    return entry;
  }

  function add(rule: Rule, hash: number): Entry {
    const index = freeIndices.pop() ?? entries.length;
    const entry = { rule, hash, index, uses: 0, next: byHash.get(hash) };
    entries[index] = entry;
    byHash.set(hash, entry);
    return entry;
  }

  function remove(entry: Entry): void {
    entries[entry.index] = undefined;
    freeIndices.push(entry.index);
    if (latest === entry) latest = undefined;
    let before = byHash.get(entry.hash)!;
    if (before === entry) {
      if (entry.next === undefined) byHash.delete(entry.hash);
      else byHash.set(entry.hash, entry.next);
      return;
    }
    while (before.next !== entry) before = before.next!;
    before.next = entry.next;
  }

  return {
    acquire(rule) {
      if (latest?.rule !== rule) {
        const hash = hashOf(rule);
        latest = find(rule, hash) ?? add(rule, hash);
      }
      latest.uses += 1;
      return latest.index;
    },
    release(index) {
      const entry = entries[index]!;
      entry.uses -= 1;
      if (entry.uses === 0) remove(entry);
    },
    at: (index) => entries[index]!.rule,
    size: () => entries.length - 1 - freeIndices.length,
  };
}

export function isSame(a: Rule, b: Rule): boolean {
  return a === b || (sameBucket(a, b) && compareStrictness(a, b) === 0);
}

function hashOf({ limit, windowMs, capacity }: Rule): number {
  return (Math.imul(limit, 0x9e3779b1) ^ Math.imul(windowMs, 0x85ebca77) ^ Math.imul(capacity, 0xc2b2ae3d)) | 0;
}
