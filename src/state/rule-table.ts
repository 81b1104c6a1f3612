import { compareStrictness, sameBucket } from '../limits/bucket/rule.js';
import type { Rule } from '../limits/bucket/rule.js';
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

/**
 * Holds each rule of the buckets once, under a number. A bucket holds that number instead of the rule. A rule is
 * removed with its last bucket.
 */
export interface RuleTable {
  /** Counts one more use. @returns the rule's number, at least 1 */
  acquire(rule: Rule): number;
  release(index: number): void;
  at(index: number): Rule;
  /** Upper bound of the bytes on the heap. */
  bytes(): number;
}

/** Measured bytes on the heap of a rule that only one record has, without its scope. */
const RULE_BYTES = 180;

export function createRuleTable(): RuleTable {
  /** Entries by index, from 1. */
  const entries: (Entry | undefined)[] = [undefined];
  const freeIndices: number[] = [];
  const byHash = new Map<number, Entry>();
  let latest: Entry | undefined;
  let bytes = 0;

  function find(rule: Rule, hash: number): Entry | undefined {
    let entry = byHash.get(hash);
    while (entry !== undefined && !isSame(entry.rule, rule)) entry = entry.next;
    return entry;
  }

  function add(rule: Rule, hash: number): Entry {
    const index = freeIndices.pop() ?? entries.length;
    const entry = { rule, hash, index, uses: 0, bytes: RULE_BYTES + scopeBytes(rule.scope), next: byHash.get(hash) };
    bytes += entry.bytes;
    entries[index] = entry;
    byHash.set(hash, entry);
    return entry;
  }

  function remove(entry: Entry): void {
    entries[entry.index] = undefined;
    bytes -= entry.bytes;
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
    bytes: () => bytes,
  };
}

export function isSame(a: Rule, b: Rule): boolean {
  return a === b || (sameBucket(a, b) && compareStrictness(a, b) === 0);
}

function hashOf({ limit, windowMs, capacity, scope }: Rule): number {
  const hash = Math.imul(limit, 0x9e3779b1) ^ Math.imul(windowMs, 0x85ebca77) ^ Math.imul(capacity, 0xc2b2ae3d);
  return scope === undefined ? hash | 0 : hash ^ fnv1a(scope);
}
